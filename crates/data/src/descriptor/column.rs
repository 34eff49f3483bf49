//! What to make of one raw column.

use serde::{Deserialize, Deserializer};

use super::short::Short;

/// Text: a column's name, or a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct TextSpec {
    pub(crate) column: String,
    /// Replaced in this order.
    pub(crate) replace: Vec<(String, String)>,
    /// Only what stands before the first of these is kept.
    pub(crate) before: Option<String>,
    /// Only what stands after the last of these is kept.
    pub(crate) after: Option<String>,
    /// Values that stand for "unknown", as the blank does.
    pub(crate) null: Vec<String>,
}

/// A number: a column's name, or a table. In this order: range check, scale, cap, threshold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NumberSpec {
    pub(crate) column: String,
    /// Raw values below are out of range.
    pub(crate) min: Option<f64>,
    /// Raw values above are out of range.
    pub(crate) max: Option<f64>,
    /// Multiplies the value.
    pub(crate) scale: f64,
    /// Larger values become this.
    pub(crate) cap: Option<f64>,
    /// Values from here on become 1, others 0.
    pub(crate) threshold: Option<f64>,
    /// Values that stand for "not observed", as the blank does.
    pub(crate) null: Vec<String>,
}

/// Feedback: a number that holds for every row, or a [`NumberSpec`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FeedbackSpec {
    Constant(f64),
    Column(NumberSpec),
}

/// A time: a column's name (seconds since 1970), or a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeSpec {
    pub(crate) column: String,
    pub(crate) unit: TimeUnit,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TimeUnit {
    /// Seconds since 1970.
    #[default]
    S,
    /// Milliseconds since 1970.
    Ms,
    /// Microseconds since 1970.
    Us,
    /// `2024-05-17`, `2024-05-17 13:45:00`, `2024-05-17T13:45:00.5+02:00`, …
    Iso,
}

impl Short for TextSpec {
    const EXPECTED: &'static str = "a column name, or a table with `column`";

    fn from_text(column: &str) -> Result<Self, String> {
        Ok(Self { column: column.to_owned(), ..Self::default() })
    }

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            column: String,
            #[serde(default)]
            replace: Vec<(String, String)>,
            before: Option<String>,
            after: Option<String>,
            #[serde(default)]
            null: Vec<String>,
        }
        let Long { column, replace, before, after, null } = Long::deserialize(table)?;
        if replace.iter().any(|(from, _)| from.is_empty()) {
            return Err(serde::de::Error::custom("`replace` replaces an empty text"));
        }
        Ok(Self { column, replace, before, after, null })
    }
}

impl Short for NumberSpec {
    const EXPECTED: &'static str = "a column name, or a table with `column`";

    fn from_text(column: &str) -> Result<Self, String> {
        Ok(Self {
            column: column.to_owned(),
            min: None,
            max: None,
            scale: 1.0,
            cap: None,
            threshold: None,
            null: Vec::new(),
        })
    }

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            column: String,
            min: Option<f64>,
            max: Option<f64>,
            #[serde(default = "one")]
            scale: f64,
            cap: Option<f64>,
            threshold: Option<f64>,
            #[serde(default)]
            null: Vec<String>,
        }
        fn one() -> f64 {
            1.0
        }
        let Long { column, min, max, scale, cap, threshold, null } = Long::deserialize(table)?;
        Ok(Self { column, min, max, scale, cap, threshold, null })
    }
}

impl Short for FeedbackSpec {
    const EXPECTED: &'static str = "a number, a column name, or a table with `column`";

    fn from_text(column: &str) -> Result<Self, String> {
        NumberSpec::from_text(column).map(Self::Column)
    }

    fn from_number(number: f64) -> Result<Self, String> {
        if !(number as f32).is_finite() {
            return Err(format!("{number} is no feedback; write a finite number"));
        }
        Ok(Self::Constant(number))
    }

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        NumberSpec::from_table(table).map(Self::Column)
    }
}

impl Short for TimeSpec {
    const EXPECTED: &'static str = "a column name, or a table with `column` and `unit`";

    fn from_text(column: &str) -> Result<Self, String> {
        Ok(Self { column: column.to_owned(), unit: TimeUnit::default() })
    }

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            column: String,
            #[serde(default)]
            unit: TimeUnit,
        }
        let Long { column, unit } = Long::deserialize(table)?;
        Ok(Self { column, unit })
    }
}
