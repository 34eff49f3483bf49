//! Losses over vectors.

use candle_core::Tensor;
use paretune_encoder::{Contrast, ContrastLoss, Rivals, unit_rows};

use super::{Calibrated, Needs, Negatives, RankingBatch, RankingError, RankingLoss};
use crate::RecommenderError;

impl RankingLoss {
    /// The mean over the rows of `batch`, a scalar, differentiable in users and candidates.
    ///
    /// # Errors
    /// Settings out of range, a batch whose lists do not fit, negatives of another kind than [`needs`](Self::needs) says, and graded losses,
    /// which read lists.
    pub fn loss(&self, batch: &RankingBatch<'_>) -> Result<Tensor, RecommenderError> {
        self.check()?;
        batch.check()?;
        let fits = matches!(
            (self.needs(), batch.negatives),
            (Needs::Own | Needs::Pool, Negatives::Own { .. } | Negatives::Shared(_))
                | (Needs::Catalogue, Negatives::Shared(_))
                | (Needs::Others, Negatives::Others)
        );
        if !fits {
            let (loss, needs, found) = (self.name(), self.needs(), batch.negatives.describe());
            return Err(RankingError::Negatives { loss, needs, found }.into());
        }
        let rivals = match batch.negatives {
            Negatives::Shared(places) => Rivals::Shared(places),
            Negatives::Own { per_row, places } => Rivals::Own { per_row, places },
            // A row's own positive is an accidental hit there.
            Negatives::Others => Rivals::Shared(batch.positives),
        };
        let drawn = match rivals {
            Rivals::Shared(places) => places.len(),
            Rivals::Own { per_row, .. } => per_row,
        };
        if drawn == 0 {
            let (loss, needs) = (self.name(), self.needs());
            return Err(RankingError::Negatives { loss, needs, found: "an empty list of them" }.into());
        }
        let corrected = matches!(self, Self::SampledSoftmax(_) | Self::InBatch(_));
        let bias: Option<Vec<f32>> =
            batch.log_q.filter(|_| corrected).map(|log_q| log_q.iter().map(|log_q| -log_q).collect());
        let scoring = self.scoring();
        let contrast = Contrast {
            loss: self.contrast(batch, drawn)?,
            matches: batch.positives,
            rivals,
            identities: batch.ids,
            exempt: batch.exempt,
            bias: bias.as_deref(),
            weights: batch.weights,
            scale: scoring.temperature.recip(),
        };
        Ok(match scoring.cosine {
            true => contrast.loss(&unit_rows(batch.users)?, &unit_rows(batch.candidates)?)?,
            false => contrast.loss(batch.users, batch.candidates)?,
        })
    }

    /// What a row pays with `drawn` negatives.
    fn contrast(&self, batch: &RankingBatch<'_>, drawn: usize) -> Result<ContrastLoss, RankingError> {
        Ok(match self {
            Self::Bpr(_) => ContrastLoss::Pairwise,
            Self::Bce(_) => ContrastLoss::Logistic { power: 1.0 },
            Self::Gbce(Calibrated { t, .. }) => {
                let missing = "the number of items of the catalogue (`catalogue`, 2 or more)";
                let Some(items) = batch.catalogue.filter(|&items| items > 1) else {
                    return Err(RankingError::Missing { loss: self.name(), missing });
                };
                ContrastLoss::Logistic { power: calibration(*t, drawn, items) }
            }
            _ => ContrastLoss::Softmax,
        })
    }
}

/// `β = α (t (1 - 1/α) + 1/α) = 1 - t (1 - α)`, the power of the positive's probability for a share `α = drawn / (items - 1)` of the
/// other items that is drawn (Petrov & Macdonald 2023).
fn calibration(t: f64, drawn: usize, items: usize) -> f64 {
    let share = (drawn as f64 / (items - 1) as f64).min(1.0);
    1.0 - t * (1.0 - share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_is_that_of_the_paper() {
        for (t, drawn, items) in [(0.75, 256, 12_101), (0.0, 1, 100), (1.0, 10, 101), (0.3, 100, 101)] {
            let share = drawn as f64 / (items - 1) as f64;
            let paper = share * (t * (1.0 - 1.0 / share) + 1.0 / share);
            assert!((calibration(t, drawn, items) - paper).abs() < 1e-12);
        }
        assert_eq!(calibration(0.5, 500, 101), 1.0, "more draws than items");
    }
}
