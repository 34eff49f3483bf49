//! Methods that look at the gradients themselves.

use crate::solve::Combination;
use crate::{Jacobian, Result, Signals, Weighting, WeightingState};

/// A balancing method that needs the rows: the Jacobian (`m × n`) in, a direction (`n`) out.
///
/// Some answer with weights as well; GradDrop, which picks signs coordinate by coordinate, has none to give.
/// Every [`Weighting`] serves as one through [`FromRows`].
pub trait RowWeighting: Send {
    /// The name in configuration files and reports.
    fn name(&self) -> &'static str;

    /// The direction to descend along, finite, and the weights that it amounts to, empty where it is no weighted sum. The
    /// Gramian of the signals is not read.
    ///
    /// # Errors
    /// A wrong number of rows or losses, or a loss that is not finite.
    fn combine(&mut self, jacobian: &Jacobian, signals: &Signals<'_>) -> Result<Combination>;

    /// See [`Weighting::prefer`].
    ///
    /// # Errors
    /// Wrong preferences; nothing is changed then.
    fn prefer(&mut self, weights: &[f64]) -> Result<()>;

    /// See [`Weighting::state`].
    fn state(&self) -> WeightingState;

    /// See [`Weighting::restore`].
    ///
    /// # Errors
    /// The state is of another method or of other objectives; nothing is changed then.
    fn restore(&mut self, state: &WeightingState) -> Result<()>;

    /// See [`Weighting::reset`].
    fn reset(&mut self);
}

/// A [`Weighting`] where the rows are at hand: `Σ w_i g_i` with the weights for the rows' Gramian.
pub struct FromRows(
    /// The method.
    pub Box<dyn Weighting>,
);

impl RowWeighting for FromRows {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn combine(&mut self, jacobian: &Jacobian, signals: &Signals<'_>) -> Result<Combination> {
        let gramian = if self.0.needs_gramian() { Some(jacobian.gramian()?) } else { None };
        let weights = self.0.weights(&Signals { gramian: gramian.as_ref(), ..*signals })?;
        if weights.len() != jacobian.size() {
            let (found, expected) = (jacobian.size(), weights.len());
            return Err(crate::OptimError::Count { what: "rows of the Jacobian", found, expected });
        }
        Ok(Combination { direction: jacobian.combine(&weights), weights })
    }

    fn prefer(&mut self, weights: &[f64]) -> Result<()> {
        self.0.prefer(weights)
    }

    fn state(&self) -> WeightingState {
        self.0.state()
    }

    fn restore(&mut self, state: &WeightingState) -> Result<()> {
        self.0.restore(state)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}
