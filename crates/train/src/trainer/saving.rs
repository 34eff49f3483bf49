//! Checkpoints: what a training has come to, and going on from there.

use std::path::Path;

use paretune_optim::{Ema, OptimError};

use super::Trainer;
use crate::{
    Observer, TrainError, TrainEvent,
    checkpoint::{self, Checkpoint},
};

impl Trainer<'_> {
    /// Keeps the weights as they are, or their average, where there is no validation to choose by.
    pub(super) fn keep(&mut self) -> Result<(), TrainError> {
        let snapshot = || checkpoint::snapshot(&self.parameters.all());
        self.best = Some(match &self.average {
            None => snapshot()?,
            Some(average) => average.in_place_of_parameters(snapshot)?,
        });
        Ok(())
    }

    pub(super) fn save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let Some(folder) = self.checkpoints.clone() else { return Ok(()) };
        // Told before it is there: a log cut back to a checkpoint then holds the same lines whenever the run was cut off.
        observer.observe(&TrainEvent::Checkpoint { step: self.state.step });
        self.state.balancer = Some(self.balancer.state());
        let optimizer = self.optimizer.state()?.into_iter().collect();
        let average = self.average.as_ref().map(Ema::state).transpose()?.map(|state| state.into_iter().collect());
        let model = checkpoint::snapshot(&self.parameters.all())?;
        Checkpoint { state: self.state.clone(), model, optimizer, average, best: self.best.clone() }.write(&folder)?;
        Ok(())
    }

    pub(super) fn restore(&mut self, path: &Path) -> Result<(), TrainError> {
        let Checkpoint { state, model, optimizer, average, best } = Checkpoint::read(path, self.model.device())?;
        checkpoint::restore(&self.parameters.all(), &model, path)?;
        self.optimizer.restore(optimizer.into_iter().collect())?;
        match (&mut self.average, average) {
            (Some(average), Some(saved)) => average.restore(saved)?,
            (None, None) => {}
            (ours, _) => {
                let reason =
                    if ours.is_some() { "it has no averages of weights" } else { "it has averages of weights" };
                return Err(OptimError::State { reason: reason.into() }.into());
            }
        }
        if let Some(balancer) = &state.balancer {
            self.balancer.restore(balancer)?;
        }
        self.state = state;
        self.best = best;
        Ok(())
    }
}
