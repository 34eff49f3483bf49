//! The gradients of one batch, balanced.
//!
//! With `L_1 … L_K` the losses and `Z` the shared representation (items and users of the batch):
//!
//! 1. `Z` is computed once, and a copy of it becomes a leaf of a new, small graph: the cut;
//! 2. `K` backward passes from `L_k` to the leaf give `∂L_k/∂Z` and the gradients of the task towers;
//! 3. the Gramian `G_kl = ⟨∂L_k/∂Z, ∂L_l/∂Z⟩` goes to the balancing method, which answers with weights `w`;
//! 4. one backward pass through `⟨Z, Σ_k w_k ∂L_k/∂Z⟩` gives the gradient of everything below the cut.
//!
//! Where the weights do not depend on gradients (weighted sum, uncertainty) all of it is one backward pass from `Σ w_k L_k`,
//! which is the same gradient. Task towers learn from the plain sum of their own losses when gradients are balanced: they are not
//! shared, so there is nothing to balance (Sener & Koltun 2018).

use candle_core::{DType, Tensor, Var};
use paretune_encoder::backward;
use paretune_objectives::TaskLoss;
use paretune_optim::{Gradient, Gradients, Gramian, OptimError, Signals, accumulate};
use paretune_recommender::{Batch, Parameters, Recommender, Shared};

use crate::differentiate::{gradient, named};
use crate::{Balancer, GradientCut, TrainError};

/// What one batch says.
pub struct StepGradients {
    /// The gradient to follow.
    pub gradients: Gradients,
    /// Loss of each objective, `NaN` where the batch held no label for it.
    pub losses: Vec<f64>,
    /// Weight each objective got.
    pub weights: Vec<f64>,
}

/// Computes the balanced gradient of one batch.
///
/// `known` are the vectors that histories look up, `dropout` the seed of this step.
///
/// # Errors
/// When shapes do not fit, or a gradient is not finite.
pub fn balanced_gradients(
    model: &Recommender,
    parameters: &Parameters,
    batch: &Batch,
    known: &Tensor,
    balancer: &mut Balancer,
    dropout: u64,
) -> Result<StepGradients, TrainError> {
    let labels = model.labels(batch)?;
    let names: Vec<&str> = model.objectives().names().collect();
    let shared = model.represent(batch, known, Some(dropout))?;
    match balancer.cut() {
        None => {
            let losses = model.outputs(&shared, batch, Some(dropout))?.losses(&labels)?;
            by_losses(model, parameters, &losses, &Measured::new(&names, &losses)?, balancer)
        }
        Some(GradientCut::Full) => {
            let losses = model.outputs(&shared, batch, Some(dropout))?.losses(&labels)?;
            full(parameters, &losses, &Measured::new(&names, &losses)?, balancer)
        }
        Some(GradientCut::Shared) => {
            // Leaves of a new graph: a backward pass from the losses ends here.
            let cut = [Var::from_tensor(&shared.items.detach())?, Var::from_tensor(&shared.users.detach())?];
            let leaves = Shared { items: cut[0].as_tensor().clone(), users: cut[1].as_tensor().clone() };
            let losses = model.outputs(&leaves, batch, Some(dropout))?.losses(&labels)?;
            let measured = Measured::new(&names, &losses)?;
            cut_at(parameters, &losses, &measured, balancer, [&shared.items, &shared.users], &cut)
        }
    }
}

/// Weights from losses alone: one backward pass from `Σ w_k L_k`.
fn by_losses(
    model: &Recommender,
    parameters: &Parameters,
    losses: &[TaskLoss],
    signals: &Measured<'_>,
    balancer: &mut Balancer,
) -> Result<StepGradients, TrainError> {
    let weights = balancer.weights(&signals.without_gramian())?;
    let mut total = Tensor::zeros((), DType::F32, model.device())?;
    for (loss, weight) in losses.iter().zip(&weights) {
        // An objective of weight zero leaves nothing behind, not even zeros: the optimizer passes over what has no gradient.
        if *weight != 0.0 && loss.observed > 0 {
            total = (total + (&loss.loss * *weight)?)?;
        }
    }
    let gradients = named(&backward(&total)?, &parameters.all())?;
    Ok(StepGradients { gradients, losses: signals.reported(), weights })
}

/// `K` passes to the cut `leaves`, one from `shared` on down.
fn cut_at(
    parameters: &Parameters,
    losses: &[TaskLoss],
    signals: &Measured<'_>,
    balancer: &mut Balancer,
    shared: [&Tensor; 2],
    leaves: &[Var; 2],
) -> Result<StepGradients, TrainError> {
    let mut gradients = Gradients::new();
    let rows = passes(parameters, losses, balancer, leaves, &mut gradients)?;
    let weights = balancer.weights(&signals.with(&signals.gramian(&rows)?))?;
    let mut below = Tensor::zeros((), DType::F32, shared[0].device())?;
    for (z, combined) in shared.into_iter().zip(combine(&rows, &weights)?) {
        if let Some(combined) = combined {
            below = (below + (z * combined.dense()?.detach())?.sum_all()?)?;
        }
    }
    let found = backward(&below)?;
    for part in [&parameters.shared, &parameters.backbone] {
        gradients.extend(named(&found, part)?);
    }
    Ok(StepGradients { gradients, losses: signals.reported(), weights })
}

/// The textbook's form: one backward pass through everything for each objective.
fn full(
    parameters: &Parameters,
    losses: &[TaskLoss],
    signals: &Measured<'_>,
    balancer: &mut Balancer,
) -> Result<StepGradients, TrainError> {
    let mut gradients = Gradients::new();
    let (names, below): (Vec<&String>, Vec<Var>) =
        parameters.backbone.iter().chain(&parameters.shared).map(|(name, var)| (name, var.clone())).unzip();
    let rows = passes(parameters, losses, balancer, &below, &mut gradients)?;
    let weights = balancer.weights(&signals.with(&signals.gramian(&rows)?))?;
    let combined = names.into_iter().zip(combine(&rows, &weights)?);
    gradients.extend(combined.filter_map(|(name, gradient)| Some((name.clone(), gradient?))));
    Ok(StepGradients { gradients, losses: signals.reported(), weights })
}

/// One objective's gradient, part by part; `None` for a part its loss does not depend on.
type Row = Vec<Option<Gradient>>;

/// One backward pass for each objective: its gradient with respect to `targets`, and the task towers' gradients into `towers`.
fn passes(
    parameters: &Parameters,
    losses: &[TaskLoss],
    balancer: &Balancer,
    targets: &[Var],
    towers: &mut Gradients,
) -> Result<Vec<Row>, TrainError> {
    let mut rows = Vec::with_capacity(losses.len());
    for (loss, wanted) in losses.iter().zip(balancer.wanted()) {
        let found = match *wanted && loss.observed > 0 {
            true => Some(backward(&loss.loss)?),
            false => None,
        };
        let Some(found) = found else {
            rows.push(vec![None; targets.len()]);
            continue;
        };
        accumulate(towers, &named(&found, &parameters.towers)?, 1.0)?;
        rows.push(targets.iter().map(|var| gradient(&found, var)).collect::<Result<_, TrainError>>()?);
    }
    Ok(rows)
}

/// `Σ_k w_k g_k`, part by part. A part without any gradient stays without: the optimizer passes over it, as it does after a single
/// backward pass, while a gradient of zeros would still let weights decay.
fn combine(rows: &[Row], weights: &[f64]) -> Result<Row, TrainError> {
    let mut sums: Row = vec![None; rows.first().map_or(0, Vec::len)];
    for (row, weight) in rows.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
        for (sum, gradient) in sums.iter_mut().zip(row) {
            let Some(gradient) = gradient else { continue };
            let scaled = gradient.scaled(*weight)?;
            *sum = Some(match sum.take() {
                Some(sum) => sum.plus(&scaled)?,
                None => scaled,
            });
        }
    }
    Ok(sums)
}

/// Losses as numbers.
struct Measured<'a> {
    names: &'a [&'a str],
    losses: Vec<f64>,
    observed: Vec<usize>,
}

impl<'a> Measured<'a> {
    /// Refuses a loss that is not finite before anything is differentiated.
    fn new(names: &'a [&'a str], losses: &[TaskLoss]) -> Result<Self, TrainError> {
        let mut values = Vec::with_capacity(losses.len());
        for (name, loss) in names.iter().zip(losses) {
            let value = f64::from(loss.loss.to_scalar::<f32>()?);
            if !value.is_finite() {
                return Err(OptimError::NotFinite { what: "the loss", objective: (*name).into(), value }.into());
            }
            values.push(value);
        }
        Ok(Self { names, losses: values, observed: losses.iter().map(|loss| loss.observed).collect() })
    }

    fn without_gramian(&self) -> Signals<'_> {
        Signals { losses: &self.losses, observed: &self.observed, gramian: None }
    }

    fn with<'b>(&'b self, gramian: &'b Gramian) -> Signals<'b> {
        Signals { gramian: Some(gramian), ..self.without_gramian() }
    }

    fn reported(&self) -> Vec<f64> {
        let pairs = self.losses.iter().zip(&self.observed);
        pairs.map(|(loss, observed)| if *observed == 0 { f64::NAN } else { *loss }).collect()
    }

    /// The Gramian of gradients given in parts; a part that is missing is zero.
    fn gramian(&self, rows: &[Row]) -> Result<Gramian, TrainError> {
        let mut products = vec![vec![0.0; rows.len()]; rows.len()];
        for (k, row) in rows.iter().enumerate() {
            for (l, other) in rows.iter().enumerate().skip(k) {
                let mut product = 0.0;
                for parts in row.iter().zip(other) {
                    if let (Some(a), Some(b)) = parts {
                        product += a.dot(b)?;
                    }
                }
                // The product of a gradient with itself comes first, so it is the other that is not finite.
                if !product.is_finite() {
                    let (what, objective) = ("the squared gradient norm", self.names[l].to_owned());
                    return Err(OptimError::NotFinite { what, objective, value: product }.into());
                }
                products[k][l] = product;
            }
        }
        Ok(Gramian::from_dots(rows.len(), |k, l| products[k][l])?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn row(parts: [Option<&[f32]>; 2]) -> Row {
        parts.map(|part| Some(Tensor::new(part?, &Device::Cpu).unwrap().into())).to_vec()
    }

    fn measured<'a>(names: &'a [&'a str]) -> Measured<'a> {
        Measured { names, losses: vec![1.0; names.len()], observed: vec![1; names.len()] }
    }

    #[test]
    fn gramian_and_combination_take_missing_parts_as_zero() {
        let rows = [row([Some(&[1.0, 2.0]), None]), row([Some(&[3.0, -1.0]), Some(&[2.0])])];
        let gramian = measured(&["a", "b"]).gramian(&rows).unwrap();
        assert_eq!(gramian, Gramian::from_matrix(&[[5.0, 1.0], [1.0, 14.0]]).unwrap());
        let sum = combine(&rows, &[2.0, 0.5]).unwrap();
        let values = |part: &Option<Gradient>| part.as_ref().unwrap().dense().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((values(&sum[0]), values(&sum[1])), (vec![3.5, 3.5], vec![1.0]));
        assert!(combine(&rows, &[2.0, 0.0]).unwrap()[1].is_none(), "nobody asks for it");
    }

    #[test]
    fn gramian_names_the_objective_that_is_not_finite() {
        for wrong in [f32::NAN, f32::INFINITY] {
            let (good, bad) = (row([Some(&[1.0]), None]), row([Some(&[wrong]), None]));
            for rows in [[good.clone(), bad.clone()], [bad, good]] {
                let first = rows[0][0].as_ref().unwrap().dense().unwrap().to_vec1::<f32>().unwrap();
                let at = usize::from(first[0] == 1.0);
                let refused = measured(&["click", "dwell"]).gramian(&rows).unwrap_err().to_string();
                assert!(refused.contains(["objective click is", "objective dwell is"][at]), "{refused}");
            }
        }
    }
}
