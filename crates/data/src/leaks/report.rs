//! What was found, and how it is said.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DataError, FeatureSpec, Side};

/// What leaks.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "of", content = "name", rename_all = "kebab-case")]
pub enum Source {
    /// A column of the users.
    User(String),
    /// A column of the items.
    Item(String),
    /// A number or an index of the fitted features.
    Feature(String),
}

/// A measure of how well one value foretells another.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Area under the ROC curve, for binary labels.
    Auc,
    /// Spearman's rank correlation, for graded ones.
    RankCorrelation,
}

/// A figure over the events of a user or an item.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "figure", content = "column", rename_all = "kebab-case")]
pub enum Tally {
    /// Number of events.
    Events,
    /// Sum of a feedback column: the number of events with it, where it is binary.
    Sum(String),
    /// Mean of a feedback column where it was observed.
    Mean(String),
    /// Whether a feedback column was ever above 0.
    Ever(String),
}

/// How a leak shows.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "evidence", rename_all = "kebab-case")]
pub enum Evidence {
    /// The value is that of the label.
    SameAsLabel {
        /// The label's feedback column.
        label: String,
        /// Share of the rows where both are the same.
        share: f64,
        /// Training rows that know both.
        rows: usize,
    },
    /// The value alone foretells the label.
    Foretells {
        /// The label's feedback column.
        label: String,
        /// Whether it is not the value, but whether there is one.
        missing: bool,
        /// How it was measured.
        measure: Measure,
        /// What came out, between 0 and 1.
        value: f64,
        /// Training rows that know both.
        rows: usize,
    },
    /// The value follows a figure over the whole log more closely than the same over training rows: it was computed with the future.
    Future {
        /// The figure.
        tally: Tally,
        /// Whether it is not the value, but whether there is one.
        missing: bool,
        /// |Rank correlation| with the figure over the whole log.
        whole: f64,
        /// |Rank correlation| with the figure over training rows.
        train: f64,
        /// |Partial rank correlation| with the former beyond the latter.
        beyond: f64,
        /// Users or items that have both.
        entities: usize,
    },
}

/// How grave it is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Look at it.
    Warning,
    /// [`refuse`] makes an error of it.
    Refused,
}

/// A column or feature that knows too much.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Leak {
    /// What leaks.
    #[serde(flatten)]
    pub source: Source,
    /// How that shows.
    #[serde(flatten)]
    pub evidence: Evidence,
    /// How grave it is.
    pub severity: Severity,
}

/// An error for the first refused leak among the inputs of a model.
///
/// Inputs are all columns of the users; of the items `provider`, `category`, `price` and `created_at`, which behaviour features read, the
/// columns that `specs` read, and the text fields that the `template` of the items' texts names; and every fitted feature.
///
/// # Errors
/// There is such a leak ([`DataError::Leak`]).
pub fn refuse(leaks: &[Leak], specs: &[FeatureSpec], template: &[&str]) -> Result<(), DataError> {
    let is_input = |source: &Source| match source {
        Source::User(_) | Source::Feature(_) => true,
        Source::Item(name) => {
            let name = name.as_str();
            ["provider", "category", "price", "created_at"].contains(&name)
                || template.contains(&name)
                || specs.iter().any(|spec| spec.column() == Some((Side::Item, name)))
        }
    };
    match leaks.iter().find(|leak| leak.severity == Severity::Refused && is_input(&leak.source)) {
        None => Ok(()),
        Some(leak) => Err(DataError::Leak { leak: leak.to_string(), option: leak.option() }),
    }
}

impl Leak {
    /// The threshold that it passed.
    fn option(&self) -> &'static str {
        match &self.evidence {
            Evidence::SameAsLabel { .. } => "leaks.same",
            Evidence::Foretells { measure: Measure::Auc, .. } => "leaks.auc.refuse",
            Evidence::Foretells { measure: Measure::RankCorrelation, .. } => "leaks.rank.refuse",
            Evidence::Future { .. } => "leaks.future.refuse",
        }
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whether = |missing: &bool| if *missing { "whether it is missing " } else { "" };
        write!(out, "{} ", self.source)?;
        match &self.evidence {
            Evidence::SameAsLabel { label, share, rows } => {
                write!(
                    out,
                    "is the label `{label}` itself: the same value in {:.1} % of {rows} training rows",
                    100.0 * share
                )
            }
            Evidence::Foretells { label, missing, measure, value, rows } => {
                let measure = match measure {
                    Measure::Auc => "AUC",
                    Measure::RankCorrelation => "rank correlation",
                };
                let too_well = "no column that is known before the event should do that alone";
                let by = whether(missing);
                write!(out, "foretells `{label}` {by}({measure} {value:.4} on {rows} training rows); {too_well}")
            }
            Evidence::Future { tally, missing, whole, train, beyond, entities } => {
                let by = whether(missing);
                write!(
                    out,
                    "was computed with the future: {by}it follows {tally} over the whole log (rank correlation {whole:.4}) more closely than \
                     over training rows ({train:.4}; {beyond:.4} beyond it, {entities} values)"
                )
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(out, "column `{name}` of the users"),
            Self::Item(name) => write!(out, "column `{name}` of the items"),
            Self::Feature(name) => write!(out, "feature `{name}`"),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events => write!(out, "the number of events"),
            Self::Sum(column) => write!(out, "the sum of `{column}`"),
            Self::Mean(column) => write!(out, "the mean of `{column}`"),
            Self::Ever(column) => write!(out, "whether `{column}` was ever above 0"),
        }
    }
}
