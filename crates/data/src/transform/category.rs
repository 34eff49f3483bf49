//! Names and numbers as rows of a table of embeddings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::hash;
use super::quantile::{Sample, borders};
use super::spec::Levels;

/// The row of a missing value, in every table.
pub(super) const MISSING: u32 = 0;
/// The row of names that are rare or were never seen, in a vocabulary.
const OTHER: u32 = 1;

/// A fitted map from values to rows.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Rows {
    /// Row 1 + the number of borders that are not above the value.
    Borders { borders: Vec<f64> },
    /// A row for each known name, from 2 on.
    Vocabulary { known: BTreeMap<String, u32> },
    /// By a hash.
    Hash { rows: u32, seed: u64 },
}

impl Rows {
    /// Borders between buckets that are equally full of training rows.
    pub(super) fn buckets(buckets: u32, values: &[(f64, u64)]) -> Self {
        Self::Borders { borders: borders(&Sample::new(values.iter().copied()), buckets) }
    }

    /// Names, each with the number of training rows it stands in.
    pub(super) fn levels<'a>(levels: Levels, names: impl IntoIterator<Item = (Cell<'a>, u64)>) -> Self {
        let most = match levels {
            Levels::Hash { rows, seed } => return Self::Hash { rows, seed },
            Levels::Vocabulary { most } => most as usize,
        };
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in names.into_iter().filter(|(_, count)| *count > 0) {
            *counts.entry(name.as_name().into_owned()).or_default() += count;
        }
        let mut names: Vec<(String, u64)> = counts.into_iter().collect();
        // A stable sort: names that are equally frequent stay in their alphabetical order.
        names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        names.truncate(most);
        let known = names.into_iter().zip(OTHER + 1..).map(|((name, _), row)| (name, row)).collect();
        Self::Vocabulary { known }
    }

    /// The row of a value.
    pub(super) fn row(&self, value: Option<&Cell<'_>>) -> u32 {
        let Some(value) = value else {
            return MISSING;
        };
        match self {
            Self::Borders { borders } => value
                .as_number()
                .map_or(MISSING, |number| MISSING + 1 + borders.partition_point(|border| *border <= number) as u32),
            Self::Vocabulary { known } => known.get(value.as_name().as_ref()).copied().unwrap_or(OTHER),
            Self::Hash { rows, seed } => hash::row(*seed, *rows, value.as_name().bytes()),
        }
    }

    /// Rows of the table.
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::Borders { borders } => borders.len() as u32 + 2,
            Self::Vocabulary { known } => known.len() as u32 + OTHER + 1,
            Self::Hash { rows, .. } => hash::table(*rows),
        }
    }

    /// What is wrong with a map that was read from a file.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Borders { borders } => {
                let sound = borders.iter().all(|border| border.is_finite()) && borders.is_sorted();
                (!sound).then_some("its borders do not ascend")
            }
            Self::Vocabulary { known } => {
                let inside = |row: &u32| (OTHER + 1..known.len() as u32 + OTHER + 1).contains(row);
                (!known.values().all(inside)).then_some("its vocabulary points outside of its table")
            }
            Self::Hash { rows, .. } => {
                (!(1..=100_000_000).contains(rows)).then_some("its hash has no rows, or too many")
            }
        }
    }
}

/// Several categories at once: one row for each combination of rows, hashed; missing where any of them is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Cross {
    pub(super) name: String,
    /// Places of the parts among the categories of a row.
    pub(super) parts: Vec<u32>,
    pub(super) hash: u32,
    pub(super) seed: u64,
}

impl Cross {
    /// The row, given those of the parts by place.
    pub(super) fn row(&self, part: impl Fn(u32) -> u32) -> u32 {
        let rows: Vec<u32> = self.parts.iter().map(|place| part(*place)).collect();
        if rows.contains(&MISSING) {
            return MISSING;
        }
        hash::row(self.seed, self.hash, rows.into_iter().flat_map(u32::to_le_bytes))
    }

    /// Rows of the table.
    pub(super) fn count(&self) -> u32 {
        hash::table(self.hash)
    }
}
