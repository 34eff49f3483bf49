//! What a feature is, as the configuration says it.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::fields::Fields;
use crate::DataError;

/// One `[[features]]` section.
///
/// ```
/// use paretune_data::{FeatureKind, FeatureSpec, Normalise, Side};
///
/// let age: FeatureSpec = toml::from_str(
///     "name = \"age\"\nkind = \"numeric\"\nof = \"user\"\ncolumn = \"age\"\nnormalise = \"log\"",
/// )?;
/// let numeric = FeatureKind::Numeric { of: Side::User, column: "age".into(), normalise: Normalise::Log };
/// assert_eq!(age, FeatureSpec { name: "age".into(), kind: numeric });
///
/// let wrong = toml::from_str::<FeatureSpec>("name = \"age\"\nkind = \"bucket\"\nof = \"user\"\ncolumn = \"age\"\nbukets = 8");
/// assert!(wrong.unwrap_err().to_string().contains("feature \"age\", field `bukets`"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSpec {
    /// Its name, unlike that of every other feature.
    pub name: String,
    /// What it is made of, and how.
    pub kind: FeatureKind,
}

/// How a feature is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    /// A number, and a flag that says whether it is missing.
    Numeric {
        /// Whose column.
        of: Side,
        /// The column.
        column: String,
        /// How it is brought to a common scale.
        normalise: Normalise,
    },
    /// Which of so many equally full buckets a number falls into.
    Bucket {
        /// Whose column.
        of: Side,
        /// The column.
        column: String,
        /// Number of buckets; fewer come out where many training rows share a value.
        buckets: u32,
    },
    /// A name out of a set.
    Category {
        /// Whose column.
        of: Side,
        /// The column.
        column: String,
        /// How names become rows of a table.
        levels: Levels,
    },
    /// Several categories or buckets at once: one row for each combination, hashed.
    Cross {
        /// Names of the features.
        of: Vec<String>,
        /// Rows that combinations are hashed into.
        hash: u32,
        /// Seed of the hash.
        seed: u64,
    },
    /// A column of the items that a user last engaged with, newest first.
    Recent {
        /// The column of the items.
        column: String,
        /// How many items.
        last: u32,
        /// How names become rows of a table.
        levels: Levels,
    },
}

/// Whose column a feature reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The user, `"user"`: `user_id` and the columns of the users.
    User,
    /// The item, `"item"`: `item_id`, `provider`, `category`, `price`, `created_at` and the text fields of the items.
    Item,
    /// The moment of the request, `"event-context"`: `hour` (0–23), `weekday` (0 = Monday), `month` (1–12), all UTC, and `query`.
    EventContext,
}

impl Side {
    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Item => "item",
            Self::EventContext => "event-context",
        }
    }
}

/// How numbers are brought to a common scale. All is measured on training rows; values are clipped to ±5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalise {
    /// `"standard"`: less the mean, over the deviation.
    #[default]
    Standard,
    /// `"log"`: sign(x)·ln(1 + |x|), then standard. For counts, prices, durations.
    Log,
    /// `"quantile"`: the share of training rows below it, spread over ±√3 so that the deviation is 1. Knows no outliers.
    Quantile,
    /// `"none"`: as it is, not even clipped.
    None,
}

impl Normalise {
    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Log => "log",
            Self::Quantile => "quantile",
            Self::None => "none",
        }
    }
}

/// How names become rows of a table of embeddings. Row 0 is always that of a missing name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// `hash = 10_000`: by a seeded hash; different names may share a row, and none is unknown.
    Hash {
        /// Rows that names are hashed into.
        rows: u32,
        /// Seed of the hash.
        seed: u64,
    },
    /// `vocabulary = 5_000`: the most frequent names of the training rows have a row each; all others share row 1.
    Vocabulary {
        /// Names that get a row, at most.
        most: u32,
    },
}

impl Default for Levels {
    fn default() -> Self {
        Self::Vocabulary { most: 10_000 }
    }
}

/// Rows of one table, at most: indices stay far from the end of `u32`.
const MOST_ROWS: u64 = 100_000_000;

impl FeatureSpec {
    /// The spec in the fields of one section.
    pub(super) fn from_fields(mut fields: Fields) -> Result<Self, DataError> {
        let name = fields.name.clone();
        let kind = match fields.text("kind")?.as_str() {
            "numeric" => FeatureKind::Numeric {
                of: fields.side()?,
                column: fields.text("column")?,
                normalise: fields.choice(
                    "normalise",
                    &[Normalise::Standard, Normalise::Log, Normalise::Quantile, Normalise::None].map(|n| (n.name(), n)),
                )?,
            },
            "bucket" => FeatureKind::Bucket {
                of: fields.side()?,
                column: fields.text("column")?,
                buckets: fields.whole("buckets", 2, 65_536)?.unwrap_or(16) as u32,
            },
            "category" => FeatureKind::Category {
                of: fields.side()?,
                column: fields.text("column")?,
                levels: levels(&mut fields)?,
            },
            "cross" => FeatureKind::Cross {
                of: fields.names("of")?,
                hash: fields.whole("hash", 1, MOST_ROWS)?.unwrap_or(50_000) as u32,
                seed: fields.whole("seed", 0, u64::MAX)?.unwrap_or(0),
            },
            "recent" => FeatureKind::Recent {
                column: fields.text("column")?,
                last: fields.whole("last", 1, 1_000)?.unwrap_or(10) as u32,
                levels: levels(&mut fields)?,
            },
            other => {
                let problem = format!(
                    "{other:?} is no kind; take \"numeric\", \"bucket\", \"category\", \"cross\" or \"recent\""
                );
                return Err(fields.wrong("kind", problem));
            }
        };
        fields.finish(allowed(&kind))?;
        Ok(Self { name, kind })
    }

    /// The column it reads, and whose; a cross reads none of its own, `recent` one of the items.
    pub fn column(&self) -> Option<(Side, &str)> {
        match &self.kind {
            FeatureKind::Numeric { of, column, .. }
            | FeatureKind::Bucket { of, column, .. }
            | FeatureKind::Category { of, column, .. } => Some((*of, column)),
            FeatureKind::Recent { column, .. } => Some((Side::Item, column)),
            FeatureKind::Cross { .. } => None,
        }
    }

    /// An error about one of its fields.
    pub(super) fn wrong(&self, field: &str, problem: impl Into<String>) -> DataError {
        DataError::Feature { feature: self.name.clone(), field: field.to_owned(), problem: problem.into() }
    }
}

fn levels(fields: &mut Fields) -> Result<Levels, DataError> {
    let hash = fields.whole("hash", 1, MOST_ROWS)?;
    let most = fields.whole("vocabulary", 1, MOST_ROWS)?;
    let seed = fields.whole("seed", 0, u64::MAX)?;
    match (hash, most, seed) {
        (Some(_), Some(_), _) => Err(fields.wrong("vocabulary", "stands beside `hash`; leave one of them out")),
        (Some(rows), None, seed) => Ok(Levels::Hash { rows: rows as u32, seed: seed.unwrap_or(0) }),
        (None, _, Some(_)) => {
            Err(fields.wrong("seed", "is that of a hash, and there is none; add `hash`, or leave it out"))
        }
        (None, Some(most), None) => Ok(Levels::Vocabulary { most: most as u32 }),
        (None, None, None) => Ok(Levels::default()),
    }
}

/// The fields of each kind, for messages.
fn allowed(kind: &FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Numeric { .. } => "name, kind = \"numeric\", of, column, normalise",
        FeatureKind::Bucket { .. } => "name, kind = \"bucket\", of, column, buckets",
        FeatureKind::Category { .. } => "name, kind = \"category\", of, column, and hash (with seed) or vocabulary",
        FeatureKind::Cross { .. } => "name, kind = \"cross\", of, hash, seed",
        FeatureKind::Recent { .. } => "name, kind = \"recent\", column, last, and hash (with seed) or vocabulary",
    }
}

impl<'de> Deserialize<'de> for FeatureSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // By hand, since a derived form would not name the feature, nor take `of` for a name here and for a list there.
        Fields::deserialize(from).and_then(|fields| Self::from_fields(fields).map_err(D::Error::custom))
    }
}

impl Serialize for FeatureSpec {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        let mut column = |kind: &str, of: Side, column: &str| {
            map.serialize_entry("kind", kind)?;
            map.serialize_entry("of", of.name())?;
            map.serialize_entry("column", column)
        };
        match &self.kind {
            FeatureKind::Numeric { of, column: name, normalise } => {
                column("numeric", *of, name)?;
                map.serialize_entry("normalise", normalise.name())?;
            }
            FeatureKind::Bucket { of, column: name, buckets } => {
                column("bucket", *of, name)?;
                map.serialize_entry("buckets", buckets)?;
            }
            FeatureKind::Category { of, column: name, levels } => {
                column("category", *of, name)?;
                serialize_levels::<S>(&mut map, levels)?;
            }
            FeatureKind::Cross { of, hash, seed } => {
                map.serialize_entry("kind", "cross")?;
                map.serialize_entry("of", of)?;
                map.serialize_entry("hash", hash)?;
                map.serialize_entry("seed", seed)?;
            }
            FeatureKind::Recent { column: name, last, levels } => {
                map.serialize_entry("kind", "recent")?;
                map.serialize_entry("column", name)?;
                map.serialize_entry("last", last)?;
                serialize_levels::<S>(&mut map, levels)?;
            }
        }
        map.end()
    }
}

fn serialize_levels<S: Serializer>(map: &mut S::SerializeMap, levels: &Levels) -> Result<(), S::Error> {
    match levels {
        Levels::Hash { rows, seed } => {
            map.serialize_entry("hash", rows)?;
            map.serialize_entry("seed", seed)
        }
        Levels::Vocabulary { most } => map.serialize_entry("vocabulary", most),
    }
}
