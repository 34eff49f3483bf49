//! What the samples without a label add to the losses of task towers.

use paretune_objectives::{Again, Labels, Outputs, TaskLoss};

use crate::{Batch, Recommender, RecommenderError, Shared};

/// Sets the second pass's dropout apart from the first's.
const OTHER: u64 = 0x5e31_0000_0000_0000;

impl Recommender {
    /// Adds it, in training (a batch with an epoch, a pass with dropout) and where an objective asks for it. Only the towers are passed through again.
    pub(crate) fn add_unlabelled(
        &self,
        outputs: &Outputs,
        labels: &Labels,
        (shared, batch, dropout): (&Shared, &Batch, Option<u64>),
        losses: &mut [TaskLoss],
    ) -> Result<(), RecommenderError> {
        let (Some(epoch), Some(seed)) = (batch.epoch, dropout) else { return Ok(()) };
        let again = |which| match which {
            Again::Plain => self.outputs(shared, batch, None),
            Again::Other => self.outputs(shared, batch, Some(seed ^ OTHER)),
        };
        outputs.add_unlabelled(labels, epoch, again, losses)
    }
}
