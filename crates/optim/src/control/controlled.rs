//! A method under a controller.

use super::Controller;
use crate::{Result, Signals, Weighting, WeightingState};

/// A [`Weighting`] whose preferences a [`Controller`] sets before each step.
///
/// The clock and the controller's memory are saved with the method's state, so that a resumed run goes on as it would have. An objective
/// whose preference is 0 at some step is left out of that step only.
///
/// ```
/// # use paretune_optim::{Preference, Signals, Weighting, WeightedSum, control::{Anneal, Controlled, Curve}};
/// let objectives = [Preference::new("click", 1.0), Preference::new("rating", 0.0)];
/// let anneal = Anneal::new(&objectives, &[0.0, 1.0], 4, Curve::Linear)?;
/// let mut method = Controlled::new(Box::new(WeightedSum::new(&objectives)?), Box::new(anneal));
/// let signals = Signals { losses: &[1.0, 1.0], observed: &[1, 1], gramian: None };
/// assert_eq!(method.weights(&signals)?, [1.0, 0.0]);
/// assert_eq!(method.weights(&signals)?, [0.75, 0.25]);
/// # Ok::<(), paretune_optim::OptimError>(())
/// ```
pub struct Controlled {
    method: Box<dyn Weighting>,
    controller: Box<dyn Controller>,
    step: u64,
}

/// Names of what is added to the method's state.
const CLOCK: &str = "control.step";
const MEMORY: &str = "control.memory";

impl Controlled {
    /// Starts the controller's clock at 0.
    pub fn new(method: Box<dyn Weighting>, controller: Box<dyn Controller>) -> Self {
        Self { method, controller, step: 0 }
    }

    /// Lets a step pass in which the method was not asked: the clock goes on.
    pub fn skip(&mut self) {
        self.step += 1;
    }

    /// Passes measurements on to the controller.
    ///
    /// # Errors
    /// See [`Controller::observe`].
    pub fn observe(&mut self, measured: &[Option<f64>]) -> Result<()> {
        self.controller.observe(measured)
    }
}

impl Weighting for Controlled {
    fn name(&self) -> &'static str {
        self.method.name()
    }

    fn needs_gramian(&self) -> bool {
        self.method.needs_gramian()
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.method.prefer(&self.controller.preferences(self.step))?;
        let weights = self.method.weights(signals)?;
        self.step += 1;
        Ok(weights)
    }

    /// Has no effect for longer than it takes the controller to set the preferences again.
    fn prefer(&mut self, weights: &[f64]) -> Result<()> {
        self.method.prefer(weights)
    }

    fn listens(&self) -> bool {
        self.method.listens()
    }

    fn after_step(&mut self, losses: &[f64]) -> Result<()> {
        self.method.after_step(losses)
    }

    fn end_epoch(&mut self) {
        self.method.end_epoch();
    }

    fn state(&self) -> WeightingState {
        let mut state = self.method.state();
        // Exact up to 2^53 steps.
        state.values.insert(CLOCK.into(), vec![self.step as f64]);
        state.values.insert(MEMORY.into(), self.controller.memory());
        state
    }

    fn restore(&mut self, state: &WeightingState) -> Result<()> {
        let clock = state.vector(CLOCK, 1)?;
        let memory = state.any_vector(MEMORY)?;
        let before = self.controller.memory();
        self.controller.remember(&memory)?;
        if let Err(error) = self.method.restore(state) {
            self.controller.remember(&before)?;
            return Err(error);
        }
        self.step = clock[0] as u64;
        Ok(())
    }

    fn reset(&mut self) {
        self.method.reset();
        self.controller.reset();
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{TargetConfig, TargetTracking};
    use crate::scalarizers::{ImtlL, ImtlLConfig};
    use crate::{Preference, WeightedSum};

    fn build() -> Controlled {
        let objectives = [Preference::new("a", 1.0), Preference::new("b", 1.0)];
        let floors = [None, Some(1.0)];
        let control = TargetTracking::new(&objectives, &floors, TargetConfig::default()).unwrap();
        Controlled::new(Box::new(ImtlL::new(&objectives, ImtlLConfig::default()).unwrap()), Box::new(control))
    }

    #[test]
    fn clock_and_memory_are_saved_with_the_method() {
        let signals = Signals { losses: &[0.3, 2.0], observed: &[1, 1], gramian: None };
        let mut straight = build();
        for k in 0..5 {
            straight.weights(&signals).unwrap();
            straight.observe(&[None, Some(0.2 * f64::from(k))]).unwrap();
        }
        let mut resumed = build();
        resumed.restore(&straight.state()).unwrap();
        assert_eq!(resumed.state(), straight.state());
        assert_eq!(resumed.weights(&signals).unwrap(), straight.weights(&signals).unwrap());
        straight.reset();
        assert_eq!(straight.state(), build().state());
        let plain = WeightedSum::new(&[Preference::new("a", 1.0), Preference::new("b", 1.0)]).unwrap();
        assert!(resumed.restore(&plain.state()).is_err());
    }
}
