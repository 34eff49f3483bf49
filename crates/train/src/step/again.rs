//! The gradient of a batch with weights that are known already.

use candle_core::Tensor;
use paretune_encoder::backward;
use paretune_optim::{Gradients, OptimError};
use paretune_recommender::{Batch, Parameters, Recommender};

use super::cuts::AtLeaves;
use super::measured::Measured;
use super::{DType, Forward, Graph, StepOptions, borrowers, forward};
use crate::differentiate::named;
use crate::{Balancer, GradientCut, TrainError};

/// What [`balanced_gradients`](super::balanced_gradients) would say if the method answered with these weights: the method is not asked, and
/// what it remembers stays. Two cheap passes and one through the backbone, however many objectives there are.
///
/// `known` are the vectors that histories look up, `options` the seed of this step's dropout, or more.
///
/// # Errors
/// Not one weight for each objective, a loss that is not finite, or shapes that do not fit.
pub fn gradients_with_weights(
    model: &Recommender,
    parameters: &Parameters,
    batch: &Batch,
    known: &Tensor,
    weights: &[f64],
    balancer: &Balancer,
    options: impl Into<StepOptions>,
) -> Result<Gradients, TrainError> {
    let names: Vec<&str> = model.objectives().names().collect();
    if weights.len() != names.len() {
        return Err(OptimError::Count { what: "weights", found: weights.len(), expected: names.len() }.into());
    }
    // Cut at the shared representation wherever the method compares gradients: what goes down from there is one gradient.
    let cut = balancer.cut().map(|_| GradientCut::Shared);
    let Forward { losses, cuts, .. } = forward(model, batch, known, cut, options.into())?;
    Measured::new(&names, &losses)?;
    let below = [parameters.backbone.as_slice(), &parameters.shared].concat();
    let graph = Graph {
        names: &names,
        losses: &losses,
        cuts: &cuts,
        towers: &parameters.towers,
        between: &parameters.tasks,
        below: &below,
        borrows: &borrowers(model),
    };
    graph.with_weights(weights, balancer)
}

impl Graph<'_> {
    /// The gradient under given weights: one pass, or, where the towers must not be weighed, two to the last cut and one from there on down.
    pub(super) fn with_weights(&self, weights: &[f64], balancer: &Balancer) -> Result<Gradients, TrainError> {
        let found = backward(&self.weighted(weights)?)?;
        if self.cuts.is_whole() {
            let mut gradients = named(&found, self.towers)?;
            gradients.extend(named(&found, self.between)?);
            gradients.extend(named(&found, self.below)?);
            let mut leaves = AtLeaves::new();
            self.cuts.collect(&found, self.cuts.levels(), &mut leaves)?;
            self.descend_from(leaves, &mut gradients)?;
            return Ok(gradients);
        }
        // Task towers learn from their own losses, unweighted, and from what borrows them.
        let own =
            balancer.wanted().iter().zip(weights).enumerate().map(|(k, (wanted, weight))| match self.borrows(k) {
                true => *weight,
                false => f64::from(u8::from(*wanted)),
            });
        let own: Vec<f64> = own.collect();
        let mut gradients = named(&backward(&self.weighted(&own)?)?, self.towers)?;
        gradients.extend(named(&found, self.between)?);
        let row = self.cuts.of_loss(&found)?;
        gradients.extend(self.descend(self.top(&[row]).remove(0))?);
        Ok(gradients)
    }

    /// `Σ w_k L_k` over the objectives with labels and a weight. The others leave nothing behind, not even zeros: the optimizer passes
    /// over what has no gradient.
    pub(super) fn weighted(&self, weights: &[f64]) -> Result<Tensor, TrainError> {
        let mut total = Tensor::zeros((), DType::F32, &self.device())?;
        for (loss, weight) in self.losses.iter().zip(weights) {
            if *weight != 0.0 && loss.observed > 0 {
                total = (total + (&loss.loss * *weight)?)?;
            }
        }
        Ok(total)
    }
}
