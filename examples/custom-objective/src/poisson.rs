//! A loss for counts.

use candle_core::{Result, Tensor};
use paretune_objectives::CustomObjective;

/// Counts of mean `e^z`: the negative logarithm of the Poisson likelihood, `e^z - y z`, less what does not depend on `z`. Unlike a squared error it
/// never predicts less than nothing, and it takes large counts for as noisy as they are.
#[derive(Debug)]
pub(crate) struct Poisson;

/// Logits beyond this are no counts any more; the loss goes on as a line, so that no step of the optimizer can overflow.
const LARGEST: f64 = 15.0;

impl CustomObjective for Poisson {
    fn name(&self) -> &str {
        "poisson"
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let beyond = ((logits - LARGEST)?.relu()? * LARGEST.exp())?;
        (logits.minimum(LARGEST)?.exp()? + beyond)? - (labels * logits)?
    }

    fn predict(&self, logit: f32) -> f32 {
        logit.min(LARGEST as f32).exp()
    }

    fn logit(&self, mean: f32) -> f32 {
        mean.max(1e-4).ln()
    }

    fn refuses(&self, label: f32) -> Option<&'static str> {
        (label < 0.0 || label.fract() != 0.0).then_some("is no count: a Poisson loss takes 0, 1, 2, …")
    }

    /// Twice as many is as much better wherever it begins.
    fn utility(&self, prediction: f32) -> f64 {
        f64::from(prediction).max(1e-9).ln()
    }
}

/// Twice how much less likely counts are than they could be, per count (the deviance): 0 at best. Less than nothing counts for a thousandth.
pub(crate) fn deviance(predictions: &[f32], labels: &[f32]) -> f64 {
    let seen = predictions.iter().zip(labels).filter(|(_, label)| !label.is_nan());
    let each = seen.map(|(mean, label)| {
        let (mean, label) = (f64::from(*mean).max(1e-3), f64::from(*label));
        let surprise = if label > 0.0 { label * (label / mean).ln() } else { 0.0 };
        2.0 * (surprise - (label - mean))
    });
    let (sum, count) = each.fold((0.0, 0usize), |(sum, count), each| (sum + each, count + 1));
    sum / count.max(1) as f64
}
