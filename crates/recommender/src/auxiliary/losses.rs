//! The losses that are added.

use candle_core::Tensor;
use paretune_objectives::{Kind, TaskLoss};

use crate::{Recommender, RecommenderError, Shared, align, info_nce};

/// A loss that is added to that of the first ranking.
#[derive(Debug, Clone)]
pub struct AuxiliaryLoss {
    /// `contrast` or `align`, as in the configuration.
    pub name: &'static str,
    /// Times which it is added.
    pub weight: f64,
    /// A scalar, without the weight.
    pub loss: Tensor,
}

impl Recommender {
    /// Adds what is to be added to the first ranking of `losses`, and says what it was; nothing where that ranking has no label in the batch.
    pub(crate) fn add_auxiliary(
        &self,
        shared: &Shared,
        losses: &mut [TaskLoss],
    ) -> Result<Vec<AuxiliaryLoss>, RecommenderError> {
        let ranking = self.objectives().iter().zip(losses).find(|(objective, _)| objective.kind == Kind::Ranking);
        let Some(ranking) = ranking.map(|(_, loss)| loss).filter(|loss| loss.observed > 0) else {
            return Ok(Vec::new());
        };
        let mut added = Vec::new();
        if let (Some(contrast), Some(views)) = (self.auxiliary.contrast, &shared.views) {
            let (a, b) = halves(views)?;
            let loss = info_nce(&a, &b, contrast.temperature)?;
            added.push(AuxiliaryLoss { name: "contrast", weight: contrast.weight, loss });
        }
        if let (Some(settings), Some(pairs)) = (self.auxiliary.align, &shared.aligned) {
            let (texts, ids) = halves(pairs)?;
            let loss = align(&texts, &ids, settings.temperature)?;
            added.push(AuxiliaryLoss { name: "align", weight: settings.weight, loss });
        }
        for AuxiliaryLoss { weight, loss, .. } in &added {
            ranking.loss = (&ranking.loss + (loss * *weight)?)?;
        }
        Ok(added)
    }
}

/// `[2 n, dim]` as `[n, dim]` twice.
fn halves(pairs: &Tensor) -> Result<(Tensor, Tensor), RecommenderError> {
    let half = pairs.dim(0)? / 2;
    Ok((pairs.narrow(0, 0, half)?.contiguous()?, pairs.narrow(0, half, half)?.contiguous()?))
}
