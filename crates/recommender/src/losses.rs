//! What a batch's objectives pay.

use candle_core::Tensor;
use paretune_objectives::{Kind, Labels, Objective, TaskLoss};

use crate::goals::ListPolicies;
use crate::{AuxiliaryLoss, Batch, Recommender, RecommenderError, Shared};

impl Recommender {
    /// The labels of a batch, as the losses need them, with what teachers say.
    ///
    /// # Errors
    /// A label its objective cannot mean, or a teacher of it say, or weights of samples that do not fit.
    pub fn labels(&self, batch: &Batch) -> Result<Labels, RecommenderError> {
        let (objectives, scalers) = (self.objectives(), self.towers.scalers());
        let (labels, teachers) = batch.labels.split_at(objectives.len().min(batch.labels.len()));
        let labels = Labels::weighted(objectives, scalers, labels, &batch.weights, &self.device)?;
        Ok(labels.at(&batch.places).taught(objectives, scalers, teachers, &self.device)?)
    }

    /// The loss of every objective, unweighted, in order: of task towers over their samples ([`Outputs::losses`](paretune_objectives::Outputs::losses)), of rankings over lists, of
    /// goals of lists over what the batch's requests would be shown.
    /// That of the first ranking includes what training adds ([`Recommender::with_auxiliary`]).
    ///
    /// # Errors
    /// When shapes do not fit, or a label is none that its objective can mean.
    pub fn losses(
        &self,
        shared: &Shared,
        batch: &Batch,
        dropout: Option<u64>,
    ) -> Result<Vec<TaskLoss>, RecommenderError> {
        Ok(self.losses_with_auxiliary(shared, batch, dropout)?.0)
    }

    /// As [`Self::losses`], with the losses that were added to that of the first ranking.
    ///
    /// # Errors
    /// Those of [`Self::losses`].
    pub fn losses_with_auxiliary(
        &self,
        shared: &Shared,
        batch: &Batch,
        dropout: Option<u64>,
    ) -> Result<(Vec<TaskLoss>, Vec<AuxiliaryLoss>), RecommenderError> {
        let labels = self.labels(batch)?;
        let open = shared;
        let shared = self.gated(open, dropout)?;
        let shared = shared.as_ref();
        // Rankings need no outputs of single samples.
        let towers = match self.has_towers() {
            true => {
                let outputs = self.outputs_of(shared, batch, dropout)?;
                let mut losses = outputs.losses(&labels)?;
                self.add_unlabelled(&outputs, &labels, (open, batch, dropout), &mut losses)?;
                Some(losses)
            }
            false => None,
        };
        let mut shown = ListPolicies::default();
        let loss = |(k, objective): (usize, &Objective)| match (&towers, &objective.goal) {
            _ if objective.kind.has_labels() && batch.only.is_some_and(|only| only != k) => {
                Ok(TaskLoss { loss: Tensor::zeros((), candle_core::DType::F32, &self.device)?, observed: 0 })
            }
            _ if objective.kind == Kind::Cost => self.width_loss(shared),
            (_, Some(goal)) => self.goal_loss(k, goal, shared, batch, &mut shown),
            (Some(losses), _) if objective.kind.has_tower() => Ok(losses[k].clone()),
            _ => self.ranking_loss(shared, batch, &batch.labels[k]),
        };
        let mut losses =
            self.objectives().iter().enumerate().map(loss).collect::<Result<Vec<_>, RecommenderError>>()?;
        let added = self.add_auxiliary(shared, &mut losses)?;
        Ok((losses, added))
    }
}
