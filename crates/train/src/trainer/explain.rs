//! What was in a batch that went wrong.

use paretune_optim::OptimError;
use paretune_recommender::Batch;

use super::Trainer;
use crate::TrainError;

impl Trainer<'_> {
    /// Says which batch it was that gave something that is not finite.
    pub(super) fn explain(&self, error: TrainError, batch: &Batch) -> TrainError {
        let (what, objective, value) = match error {
            TrainError::Optim(OptimError::NotFinite { what, objective, value }) => (what, objective, value),
            TrainError::Optim(OptimError::NotFiniteGradient { name }) => ("the gradient", name, f64::NAN),
            other => return other,
        };
        let examples = self.describe(batch, &objective);
        TrainError::NotFinite { what, objective, value, step: self.state.step + 1, samples: batch.len(), examples }
    }

    /// Items of the first samples of a batch; for an objective, of those that carry a label of it, with the label.
    fn describe(&self, batch: &Batch, objective: &str) -> String {
        let id = |slot: &u32| &self.corpus.dataset.items.ids[batch.items[*slot as usize] as usize];
        let named: Vec<String> = match self.objectives.index_of(objective) {
            Ok(k) => {
                let labelled = batch.slots.iter().zip(&batch.labels[k]).filter(|(_, label)| !label.is_nan());
                labelled.take(5).map(|(slot, label)| format!("{}={label}", id(slot))).collect()
            }
            Err(_) => batch.slots.iter().take(5).map(|slot| id(slot).clone()).collect(),
        };
        named.join(", ")
    }
}
