//! What can be wrong with a ranking loss or with what it is shown.

use super::Needs;

/// An error of a ranking loss.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RankingError {
    /// A setting is out of its range.
    #[error("{setting} = {value} is not allowed: {rule}")]
    Setting {
        /// Name of the setting, as it stands in a configuration.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The loss was shown something else than it reads.
    #[error("model.ranking = \"{loss}\" needs {needs}, but was given {found}")]
    Negatives {
        /// Name of the loss.
        loss: &'static str,
        /// What it reads.
        needs: Needs,
        /// What it was given.
        found: &'static str,
    },
    /// Something that this loss cannot do without is missing.
    #[error("model.ranking = \"{loss}\" needs {missing}: set it in the ranking batch")]
    Missing {
        /// Name of the loss.
        loss: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// Lists or matrices that do not fit each other.
    #[error("got {found} {what}, expected {expected}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there were.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A place that is no candidate.
    #[error("{what}[{at}] = {place}, but there are {candidates} candidates, numbered from 0")]
    Place {
        /// Whose place it is.
        what: &'static str,
        /// Where in the list it stands.
        at: usize,
        /// The place.
        place: u32,
        /// How many candidates there are.
        candidates: usize,
    },
    /// A number that the loss cannot use.
    #[error("{what}[{at}] = {value} {rule}")]
    Value {
        /// The list it stands in.
        what: &'static str,
        /// Where.
        at: usize,
        /// The number.
        value: f32,
        /// What is wrong with it, or what would be right.
        rule: &'static str,
    },
    /// Weights that leave nothing to learn from.
    #[error("all {rows} weights are zero: give at least one row a weight, or leave the batch out")]
    NoWeight {
        /// Number of rows.
        rows: usize,
    },
}
