//! Optimizers: named gradients in, moved parameters out, with a memory that can be saved.

use candle_core::{Tensor, Var};

use crate::{Gradients, Result};

mod adafactor;
mod adamw;
mod algorithm;
mod composed;
mod config;
mod groups;
mod inplace;
mod lamb;
mod sgd;
mod stepper;

pub use adafactor::{Adafactor, AdafactorConfig};
pub use adamw::{AdamW, AdamWConfig};
pub use config::OptimizerConfig;
pub use groups::{Groups, ParameterGroup};
pub(crate) use inplace::{cut, in_place};
pub use lamb::{Lamb, LambConfig};
pub use sgd::{Sgd, SgdConfig};
pub use stepper::Stepper;
pub(crate) use stepper::check_gradient;

/// What a training loop needs of an optimizer. [`AdamW`], [`Lamb`], [`Adafactor`] and [`Sgd`] are [`Stepper`]s, which implement it;
/// [`OptimizerConfig`] builds any of them by name.
///
/// Updates do not depend on the number of threads, to the bit, and a restored optimizer goes on with the very same numbers.
pub trait Optimizer: std::fmt::Debug + Send {
    /// The name in configuration files.
    fn name(&self) -> &'static str;

    /// See [`Stepper::step`].
    ///
    /// # Errors
    /// Those of [`Stepper::step`].
    fn step(&mut self, gradients: &Gradients, lr: f64) -> Result<()>;

    /// See [`Stepper::step_clipped`].
    ///
    /// # Errors
    /// Those of [`Stepper::step_clipped`].
    fn step_clipped(&mut self, gradients: &Gradients, lr: f64, max: f64) -> Result<f64>;

    /// The parameters, in the order in which they were given.
    fn parameters(&self) -> Box<dyn Iterator<Item = (&str, &Var)> + '_>;

    /// See [`Stepper::state`].
    ///
    /// # Errors
    /// Those of [`Stepper::state`].
    fn state(&self) -> Result<Vec<(String, Tensor)>>;

    /// See [`Stepper::restore`].
    ///
    /// # Errors
    /// Those of [`Stepper::restore`]; nothing has changed then.
    fn restore(&mut self, state: Vec<(String, Tensor)>) -> Result<()>;
}
