//! What can go wrong, and how to mend it.

use thiserror::Error;

/// Errors of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// Nothing to train for.
    #[error("no objectives are configured: add at least one [[objectives]] section")]
    Empty,
    /// Two objectives share a name.
    #[error("two objectives are named \"{name}\": give each its own name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name that cannot be part of a parameter's name.
    #[error("\"{name}\" is no name for an objective: use letters, digits, - and _")]
    Name {
        /// The name.
        name: String,
    },
    /// An objective asked for by name does not exist.
    #[error("there is no objective \"{name}\": there are {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// `given` or `through` is missing, superfluous, leads in a circle or points at something else than a flag.
    #[error("objective \"{name}\": {reason}")]
    Given {
        /// The objective.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A goal of lists that is missing, superfluous or out of range.
    #[error("objective \"{name}\": {reason}")]
    Goal {
        /// The objective.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A weight is negative or not finite.
    #[error("objective \"{name}\": weight {weight} must be finite and not negative")]
    Weight {
        /// The objective.
        name: String,
        /// Its weight.
        weight: f64,
    },
    /// A loss that does not fit its objective, or a setting of it that is out of range.
    #[error("objective \"{name}\": {reason}")]
    Loss {
        /// The objective.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A tower's own sizes that are out of range, or of an objective without a tower.
    #[error("objective \"{name}\": {reason}")]
    Tower {
        /// The objective.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// An objective of kind `custom` that nobody explained, or an explanation that does not fit.
    #[error("objective \"{name}\" {problem}")]
    Custom {
        /// The objective.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Less is wanted of a ranking.
    #[error(
        "objective \"{name}\": direction = \"less\" is for labels that a tower predicts; a ranking brings up what its column holds: remove it, or use kind = \"binary\""
    )]
    Direction {
        /// The objective.
        name: String,
    },
    /// The data have no such column.
    #[error(
        "objective \"{name}\" reads column \"{column}\", which the events do not have: there are {available}; rename the column, or leave the objective out"
    )]
    MissingColumn {
        /// The objective.
        name: String,
        /// Its column.
        column: String,
        /// The feedback columns that exist.
        available: String,
    },
    /// A label that its objective cannot mean.
    #[error("objective \"{name}\": label {value} in row {row} of column \"{column}\" {rule}")]
    Label {
        /// The objective.
        name: String,
        /// Its column.
        column: String,
        /// Row in the batch or table given, from 0.
        row: usize,
        /// The label.
        value: f32,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Not one entry for each objective, or columns of different lengths.
    #[error("got {found} {what}, expected {expected}")]
    Count {
        /// What was counted.
        what: String,
        /// How many there were.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// No label from which to learn a scale.
    #[error(
        "objective \"{name}\" has no observed label in column \"{column}\" of the training data: leave the objective out, or check the split"
    )]
    NoLabels {
        /// The objective.
        name: String,
        /// Its column.
        column: String,
    },
    /// A setting is out of its range.
    #[error("{setting} = {value} is not allowed: {rule}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A saved parameter is missing or has another shape.
    #[error("parameter {name} {reason}; load it into towers of the configuration that it was saved from")]
    Parameter {
        /// Name of the parameter.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A preference for a model that does not take one.
    #[error(
        "this model was trained for one balance and takes no preference; train one with model.conditioning = \"film\""
    )]
    NoPreference,
    /// What an objective is computed from was not handed over.
    #[error("objective \"{name}\" needs {input}, which it was not given")]
    NoInput {
        /// The objective.
        name: String,
        /// What it needs.
        input: &'static str,
    },
    /// Candle refused an operation.
    #[error("tensor operation failed in the task towers: {0}")]
    Tensor(#[from] candle_core::Error),
}
