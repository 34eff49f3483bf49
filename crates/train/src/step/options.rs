//! How a step goes through a batch.

use paretune_encoder::Chunks;
use paretune_recommender::{Batch, Recommender};

use crate::TrainError;

/// How a step goes through its batch. A number alone is the seed of its dropout.
///
/// ```
/// use paretune_train::step::StepOptions;
///
/// assert_eq!(StepOptions::from(7), StepOptions { dropout: 7, chunk: 0 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOptions {
    /// The seed of its dropout.
    pub dropout: u64,
    /// Texts whose graph is in memory at a time; 0 = all of the batch. The gradients are the same either way.
    pub chunk: usize,
}

impl From<u64> for StepOptions {
    fn from(dropout: u64) -> Self {
        Self { dropout, chunk: 0 }
    }
}

impl StepOptions {
    /// The texts of a batch in chunks, if it has more than one chunk of them.
    pub(super) fn chunks<'a>(&self, model: &'a Recommender, batch: &Batch) -> Result<Option<Chunks<'a>>, TrainError> {
        match model.encoder() {
            Some(encoder) if self.chunk > 0 => {
                let texts = model.texts(batch);
                match texts.len() > self.chunk {
                    true => Ok(Some(encoder.in_chunks(&texts, self.chunk, Some(self.dropout))?)),
                    false => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }
}
