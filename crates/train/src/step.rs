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
use paretune_objectives::TaskLoss;
use paretune_optim::{Gradients, Gramian, Signals, accumulate, collect};
use paretune_recommender::{Batch, Parameters, Recommender, Shared};

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
    let shared = model.represent(batch, known, Some(dropout))?;
    match balancer.cut() {
        None => by_losses(model, parameters, &model.outputs(&shared, batch, Some(dropout))?.losses(&labels)?, balancer),
        Some(GradientCut::Full) => full(parameters, &model.outputs(&shared, batch, Some(dropout))?.losses(&labels)?, balancer),
        Some(GradientCut::Shared) => {
            // Leaves of a new graph: a backward pass from the losses ends here.
            let cut = [Var::from_tensor(&shared.items.detach())?, Var::from_tensor(&shared.users.detach())?];
            let leaves = Shared { items: cut[0].as_tensor().clone(), users: cut[1].as_tensor().clone() };
            let losses = model.outputs(&leaves, batch, Some(dropout))?.losses(&labels)?;
            cut_at(parameters, &losses, balancer, [&shared.items, &shared.users], &cut)
        }
    }
}

/// Weights from losses alone: one backward pass from `Σ w_k L_k`.
fn by_losses(
    model: &Recommender,
    parameters: &Parameters,
    losses: &[TaskLoss],
    balancer: &mut Balancer,
) -> Result<StepGradients, TrainError> {
    let signals = Measured::new(losses)?;
    let weights = balancer.weights(&signals.without_gramian())?;
    let mut total = Tensor::zeros((), DType::F32, model.device())?;
    for (loss, weight) in losses.iter().zip(&weights) {
        // An objective of weight zero leaves nothing behind, not even zeros: the optimizer passes over what has no gradient.
        if *weight != 0.0 && loss.observed > 0 {
            total = (total + (&loss.loss * *weight)?)?;
        }
    }
    let gradients = collect(&total.backward()?, &parameters.all());
    Ok(StepGradients { gradients, losses: signals.reported(), weights })
}

/// `K` passes to the cut `leaves`, one from `shared` on down.
fn cut_at(
    parameters: &Parameters,
    losses: &[TaskLoss],
    balancer: &mut Balancer,
    shared: [&Tensor; 2],
    leaves: &[Var; 2],
) -> Result<StepGradients, TrainError> {
    let signals = Measured::new(losses)?;
    let mut gradients = Gradients::new();
    let rows = passes(parameters, losses, balancer, leaves.iter(), &mut gradients)?;
    let gramian = gramian(&rows)?;
    let weights = balancer.weights(&signals.with(&gramian))?;
    let mut below = Tensor::zeros((), DType::F32, shared[0].device())?;
    for (z, combined) in shared.into_iter().zip(combine(&rows, &weights, leaves.iter())?) {
        below = (below + (z * combined.detach())?.sum_all()?)?;
    }
    let store = below.backward()?;
    for part in [&parameters.shared, &parameters.backbone] {
        gradients.extend(collect(&store, part));
    }
    Ok(StepGradients { gradients, losses: signals.reported(), weights })
}

/// The textbook's form: one backward pass through everything for each objective.
fn full(parameters: &Parameters, losses: &[TaskLoss], balancer: &mut Balancer) -> Result<StepGradients, TrainError> {
    let signals = Measured::new(losses)?;
    let mut gradients = Gradients::new();
    let below: Vec<&(String, Var)> = parameters.backbone.iter().chain(&parameters.shared).collect();
    let rows = passes(parameters, losses, balancer, below.iter().map(|(_, var)| var), &mut gradients)?;
    let gramian = gramian(&rows)?;
    let weights = balancer.weights(&signals.with(&gramian))?;
    let combined = combine(&rows, &weights, below.iter().map(|(_, var)| var))?;
    gradients.extend(below.iter().map(|(name, _)| name.clone()).zip(combined));
    Ok(StepGradients { gradients, losses: signals.reported(), weights })
}

/// One backward pass for each objective: its gradient with respect to `targets`, and the task towers' gradients into `towers`.
fn passes<'a>(
    parameters: &Parameters,
    losses: &[TaskLoss],
    balancer: &Balancer,
    targets: impl Iterator<Item = &'a Var> + Clone,
    towers: &mut Gradients,
) -> Result<Vec<Vec<Tensor>>, TrainError> {
    let mut rows = Vec::with_capacity(losses.len());
    for (loss, wanted) in losses.iter().zip(balancer.wanted()) {
        let store = match *wanted && loss.observed > 0 {
            true => Some(loss.loss.backward()?),
            false => None,
        };
        if let Some(store) = &store {
            accumulate(towers, &collect(store, &parameters.towers), 1.0)?;
        }
        let gradient = |var: &Var| match store.as_ref().and_then(|store| store.get(var.as_tensor())) {
            Some(gradient) => Ok(gradient.clone()),
            None => var.zeros_like(),
        };
        rows.push(targets.clone().map(gradient).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(rows)
}

/// `Σ_k w_k g_k`, part by part.
fn combine<'a>(
    rows: &[Vec<Tensor>],
    weights: &[f64],
    targets: impl Iterator<Item = &'a Var>,
) -> Result<Vec<Tensor>, TrainError> {
    let mut sums = Vec::new();
    for (part, var) in targets.enumerate() {
        let mut sum = var.zeros_like()?;
        for (row, weight) in rows.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
            sum = (sum + (&row[part] * *weight)?)?;
        }
        sums.push(sum);
    }
    Ok(sums)
}

/// Losses as numbers.
struct Measured {
    losses: Vec<f64>,
    observed: Vec<usize>,
}

impl Measured {
    fn new(losses: &[TaskLoss]) -> Result<Self, TrainError> {
        let values: Result<Vec<f64>, TrainError> =
            losses.iter().map(|loss| Ok(f64::from(loss.loss.to_scalar::<f32>()?))).collect();
        Ok(Self { losses: values?, observed: losses.iter().map(|loss| loss.observed).collect() })
    }

    fn without_gramian(&self) -> Signals<'_> {
        Signals { losses: &self.losses, observed: &self.observed, gramian: None }
    }

    fn with<'a>(&'a self, gramian: &'a Gramian) -> Signals<'a> {
        Signals { gramian: Some(gramian), ..self.without_gramian() }
    }

    fn reported(&self) -> Vec<f64> {
        let pairs = self.losses.iter().zip(&self.observed);
        pairs.map(|(loss, observed)| if *observed == 0 { f64::NAN } else { *loss }).collect()
    }
}

/// The Gramian of gradients given in parts.
fn gramian(rows: &[Vec<Tensor>]) -> Result<Gramian, TrainError> {
    let mut failed = None;
    let gramian = Gramian::from_dots(rows.len(), |k, l| {
        rows[k].iter().zip(&rows[l]).map(|(a, b)| inner(a, b)).sum::<Result<f64, TrainError>>().unwrap_or_else(|error| {
            failed = Some(error);
            f64::NAN
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(gramian?),
    }
}

/// `⟨a, b⟩` summed in f64.
fn inner(a: &Tensor, b: &Tensor) -> Result<f64, TrainError> {
    let a = a.flatten_all()?.to_vec1::<f32>()?;
    let b = b.flatten_all()?.to_vec1::<f32>()?;
    Ok(a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum())
}
