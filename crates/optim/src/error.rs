//! What can go wrong, and how to mend it.

use thiserror::Error;

/// Errors of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OptimError {
    /// A matrix of gradients or dot products has rows of different lengths, or none.
    #[error(
        "the {what} has {found} values in row {row}, expected {expected}: give every objective a row of the same length"
    )]
    Shape {
        /// Jacobian or Gramian.
        what: &'static str,
        /// Row index, from 0.
        row: usize,
        /// Values found.
        found: usize,
        /// Values expected.
        expected: usize,
    },
    /// There is nothing to balance.
    #[error("there are no objectives to balance: give at least one")]
    Empty,
    /// A gradient, a dot product or a loss is NaN or infinite.
    #[error("{what} of objective {objective} is {value}: look for a loss that overflowed, or lower the learning rate")]
    NotFinite {
        /// Gradient, loss, dot product.
        what: &'static str,
        /// Name or index of the objective.
        objective: String,
        /// The offending value.
        value: f64,
    },
    /// A parameter's gradient is NaN or infinite.
    #[error(
        "the gradient of parameter {name} is not finite: look for a loss that overflowed, or lower the learning rate"
    )]
    NotFiniteGradient {
        /// Name of the parameter.
        name: String,
    },
    /// The matrix cannot be a matrix of dot products.
    #[error("entry ({row}, {column}) = {value} cannot belong to a matrix of dot products: {reason}")]
    NotAGramian {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// The entry.
        value: f64,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The number of losses, weights or rows is not the number of objectives.
    #[error("got {found} {what} for {expected} objectives: give one for each, in the same order")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there were.
        found: usize,
        /// How many objectives there are.
        expected: usize,
    },
    /// A method that works on gradients was called without their Gramian.
    #[error("{method} needs the gradients' Gramian: pass it when `needs_gramian()` says so")]
    MissingGramian {
        /// The method.
        method: &'static str,
    },
    /// A setting is out of its range.
    #[error("{setting} = {value} is not allowed: {rule}")]
    Setting {
        /// Name of the setting.
        setting: String,
        /// Its value.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// No balancing method has this name.
    #[error("unknown balancing method \"{name}\": use one of {known}")]
    UnknownMethod {
        /// The name asked for.
        name: String,
        /// Names that exist.
        known: String,
    },
    /// The chosen method has no such parameter, or not with such a value.
    #[error("balancing method \"{method}\": {reason}; {known}")]
    Parameter {
        /// The method.
        method: &'static str,
        /// What is wrong.
        reason: String,
        /// The parameters that the method has.
        known: String,
    },
    /// A setting names an objective that does not exist.
    #[error("{setting} names the objective \"{name}\", which does not exist: use one of {known}")]
    UnknownObjective {
        /// The setting.
        setting: String,
        /// The name.
        name: String,
        /// The objectives there are.
        known: String,
    },
    /// A method works on the gradients themselves, and only their Gramian is at hand.
    #[error(
        "{method} needs the gradients themselves, not their products: build it with `BalanceConfig::build_rows` and give it the Jacobian"
    )]
    NeedsRows {
        /// The method.
        method: &'static str,
    },
    /// A saved state does not fit what it is restored into.
    #[error("the saved state does not fit: {reason}; resume with the configuration that the run was started with")]
    State {
        /// What does not fit.
        reason: String,
    },
    /// Two parameters have one name.
    #[error("parameter {name} is listed twice: give every parameter its own name")]
    DuplicateParameter {
        /// The name.
        name: String,
    },
    /// A gradient was given for a parameter that the optimizer does not hold, or with another shape.
    #[error("the gradient of {name} has shape {found}, expected {expected}")]
    GradientShape {
        /// Name of the parameter.
        name: String,
        /// Shape of the gradient.
        found: String,
        /// Shape of the parameter.
        expected: String,
    },
    /// Candle refused an operation.
    #[cfg(feature = "candle")]
    #[error("tensor operation failed on {name}: {source}")]
    Tensor {
        /// Parameter or step.
        name: String,
        /// Candle's error.
        source: candle_core::Error,
    },
}
