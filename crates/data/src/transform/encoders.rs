//! The fitted features of one side: of users, of items, or of moments.

use serde::{Deserialize, Serialize};

use super::category::{Cross, Rows};
use super::cell::Cell;
use super::numeric::Scale;

/// A fitted number.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Numeric {
    pub(super) name: String,
    pub(super) column: String,
    pub(super) scale: Scale,
}

/// A fitted category or bucket.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Category {
    pub(super) name: String,
    pub(super) column: String,
    pub(super) rows: Rows,
}

/// Everything of one side, in the order it is written in.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Encoders {
    pub(super) numeric: Vec<Numeric>,
    pub(super) categories: Vec<Category>,
    /// Of these categories alone.
    pub(super) crosses: Vec<Cross>,
}

impl Encoders {
    /// Appends two numbers for each numeric feature (the value, and 1 where it is missing), and an index for each category and cross.
    pub(super) fn write<'a>(
        &self,
        value: impl Fn(&str) -> Option<Cell<'a>>,
        numeric: &mut Vec<f32>,
        categories: &mut Vec<u32>,
    ) {
        for feature in &self.numeric {
            let value = value(&feature.column).and_then(|cell| cell.as_number());
            numeric.extend([feature.scale.apply(value), f32::from(u8::from(value.is_none()))]);
        }
        let start = categories.len();
        for feature in &self.categories {
            categories.push(feature.rows.row(value(&feature.column).as_ref()));
        }
        for cross in &self.crosses {
            let row = cross.row(|place| categories.get(start + place as usize).copied().unwrap_or_default());
            categories.push(row);
        }
    }

    /// How many numbers [`write`](Self::write) appends.
    pub(super) fn numbers(&self) -> usize {
        2 * self.numeric.len()
    }

    /// How many indices [`write`](Self::write) appends.
    pub(super) fn indices(&self) -> usize {
        self.categories.len() + self.crosses.len()
    }

    /// Names of the numbers.
    pub(super) fn numeric_names(&self) -> impl Iterator<Item = String> {
        self.numeric.iter().flat_map(|feature| [feature.name.clone(), format!("{}.missing", feature.name)])
    }

    /// Names and table rows of the indices.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&str, u32)> {
        let categories = self.categories.iter().map(|feature| (feature.name.as_str(), feature.rows.count()));
        categories.chain(self.crosses.iter().map(|cross| (cross.name.as_str(), cross.count())))
    }

    /// The feature that is at fault, and why, where they were read from a file.
    pub(super) fn fault(&self) -> Option<(&str, &'static str)> {
        let numeric = self.numeric.iter().filter_map(|feature| Some((feature.name.as_str(), feature.scale.fault()?)));
        let categories =
            self.categories.iter().filter_map(|feature| Some((feature.name.as_str(), feature.rows.fault()?)));
        numeric.chain(categories).next()
    }
}

/// What was written for every row of a table.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) rows: u32,
    /// `rows` × [`Encoders::numbers`].
    pub(super) numeric: Vec<f32>,
    /// `rows` × [`Encoders::indices`].
    pub(super) categories: Vec<u32>,
}

impl Written {
    /// Writes all rows of a table; `value` reads a column of a row.
    pub(super) fn new<'a>(encoders: &Encoders, rows: usize, value: impl Fn(usize, &str) -> Option<Cell<'a>>) -> Self {
        let mut written = Self { rows: rows as u32, ..Self::default() };
        for row in 0..rows {
            encoders.write(|column| value(row, column), &mut written.numeric, &mut written.categories);
        }
        written
    }

    /// Appends one row; `false` where there is no such row.
    pub(super) fn copy(
        &self,
        encoders: &Encoders,
        row: u32,
        numeric: &mut Vec<f32>,
        categories: &mut Vec<u32>,
    ) -> bool {
        let slice = |width: usize| row as usize * width..(row as usize + 1) * width;
        let numbers = self.numeric.get(slice(encoders.numbers()));
        let indices = self.categories.get(slice(encoders.indices()));
        match (numbers, indices) {
            (Some(numbers), Some(indices)) if row < self.rows => {
                numeric.extend_from_slice(numbers);
                categories.extend_from_slice(indices);
                true
            }
            _ => false,
        }
    }

    /// Whether it has the shape that the encoders write.
    pub(super) fn fits(&self, encoders: &Encoders) -> bool {
        let rows = self.rows as usize;
        let shape = [self.numeric.len(), self.categories.len()];
        let inside = encoders.tables().map(|(_, rows)| rows).collect::<Vec<_>>();
        shape == [rows * encoders.numbers(), rows * encoders.indices()]
            && (inside.is_empty()
                || self
                    .categories
                    .chunks(inside.len())
                    .all(|row| row.iter().zip(&inside).all(|(index, rows)| index < rows)))
            && self.numeric.iter().all(|number| number.is_finite())
    }
}
