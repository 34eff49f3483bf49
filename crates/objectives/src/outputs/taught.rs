//! The part of a loss that a teacher makes.

use candle_core::{DType, Tensor};

use super::{Outputs, TaskLoss};
use crate::{Distill, Kind, Labels, ObjectiveError, Result, losses};

impl Outputs {
    /// The mean over what the teacher says, and the two together; `own` is that of the labels.
    pub(super) fn with_teacher(&self, i: usize, distill: &Distill, own: TaskLoss, labels: &Labels) -> Result<TaskLoss> {
        let objective = &self.objectives.as_slice()[i];
        let input = "what its teacher says (Labels::taught)";
        let missing = || ObjectiveError::NoInput { name: objective.name.clone(), input };
        let teacher = labels.teacher(i).ok_or_else(missing)?;
        let loss = match teacher.count {
            0 => Tensor::zeros((), DType::F32, self.logits[i].device())?,
            _ => {
                let seen = |logits: &Tensor| match &teacher.rows {
                    Some(rows) => logits.index_select(rows, 0),
                    None => Ok(logits.clone()),
                };
                let each = match objective.kind {
                    Kind::Binary | Kind::Conditional => {
                        let z = self.chance(i, &seen)?;
                        losses::softened(z.logit(), &teacher.targets, &teacher.entropies, distill.temperature())?
                    }
                    _ => losses::squared(&seen(&self.logits[i])?, &teacher.targets)?,
                };
                each.mean_all()?
            }
        };
        let loss = ((own.loss * (1.0 - distill.share))? + (loss * distill.share)?)?;
        Ok(TaskLoss { loss, observed: labels.heard(i) })
    }
}
