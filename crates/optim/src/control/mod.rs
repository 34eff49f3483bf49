//! Preferences that change while training.
//!
//! A [`Controller`] says what the preferences are at each step; the loop passes them on to [`crate::Weighting::prefer`]. [`Ramp`] and
//! [`Anneal`] follow the clock; [`TargetTracking`] follows a measured quality of each objective and raises the preferences of those that
//! fall below their floor. [`Controlled`] joins a controller and a method into one [`crate::Weighting`].

mod anneal;
mod controlled;
mod ramp;
mod target;

pub use anneal::{Anneal, Curve};
pub use controlled::Controlled;
pub use ramp::{Ramp, Segment};
pub use target::{TargetConfig, TargetTracking};

use crate::Result;

/// Preferences as a function of the step, and of what has been measured.
pub trait Controller: Send {
    /// The preferences at `step` (from 0), one for each objective, in their order.
    fn preferences(&self, step: u64) -> Vec<f64>;

    /// Tells the controller how good each objective is now, larger being better; `None` where it was not measured. Controllers that
    /// follow the clock alone do not listen.
    ///
    /// # Errors
    /// A wrong number of measurements, or one that is not finite.
    fn observe(&mut self, measured: &[Option<f64>]) -> Result<()> {
        let _ = measured;
        Ok(())
    }

    /// What it remembers, as numbers; empty for those that follow the clock.
    fn memory(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Takes up what [`Controller::memory`] gave.
    ///
    /// # Errors
    /// It is not the memory of such a controller.
    fn remember(&mut self, memory: &[f64]) -> Result<()>;

    /// Forgets what was measured.
    fn reset(&mut self) {}
}

/// For controllers without memory.
fn nothing_to_remember(memory: &[f64]) -> Result<()> {
    if memory.is_empty() {
        return Ok(());
    }
    let reason = format!("a controller without memory was given {} numbers", memory.len());
    Err(crate::OptimError::State { reason })
}
