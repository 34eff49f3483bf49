//! The gradients of one batch, balanced.
//!
//! With `L_1 … L_K` the losses and `Z` the shared representation (items and users of the batch):
//!
//! 1. `Z` is computed once, and a copy of it becomes a leaf of a new, small graph: the cut;
//! 2. `K` backward passes from `L_k` to the leaf give `∂L_k/∂Z` and the gradients of the task towers;
//! 3. the Gramian `G_kl = ⟨∂L_k/∂Z, ∂L_l/∂Z⟩` goes to the balancing method, which answers with weights `w` (a few methods are given the
//!    `∂L_k/∂Z` themselves and answer with their combination);
//! 4. one backward pass through `⟨Z, Σ_k w_k ∂L_k/∂Z⟩` gives the gradient of everything below the cut.
//!
//! Where the weights do not depend on gradients (weighted sum, uncertainty) all of it is one backward pass from `Σ w_k L_k`,
//! which is the same gradient. Task towers learn from the plain sum of their own losses when gradients are balanced: they are not
//! shared, so there is nothing to balance (Sener & Koltun 2018).
//!
//! With [`GradientCut::Full`] the Gramian is that of all shared parameters. The graph is then cut between the layers of the backbone too, and
//! all objectives go down side by side: the parameters' gradients that are kept for the Gramian never hold more values than one gradient of the
//! whole model, whatever `K`.
//!
//! With [`StepOptions::chunk`] the texts of a batch are encoded chunk by chunk without keeping a graph, and their vectors are a cut below all
//! others: the gradient that arrives there goes down through one chunk at a time, computed again (gradient caching, Gao et al. 2021).
//!
//! [`balanced_gradients`] does it for a [`Recommender`], [`Graph::balance`] for any graph of Candle.

mod again;
mod cuts;
mod measured;
mod options;
mod row;
mod stacked;
mod streamed;

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::backward;
use paretune_objectives::{Kind, TaskLoss};
use paretune_optim::{Gradients, accumulate};
use paretune_recommender::{AuxiliaryLoss, Batch, Parameters, Recommender, Shared};

use crate::balance::Asks;
use crate::differentiate::{gradient, named};
use crate::{Balancer, GradientCut, TrainError};
use cuts::AtLeaves;
use measured::Measured;
use row::{Products, Row, combine};
use stacked::Stacked;
use streamed::Stream;

pub use again::gradients_with_weights;
pub use cuts::Cuts;
pub use options::StepOptions;

/// What one batch says.
pub struct StepGradients {
    /// The gradient to follow.
    pub gradients: Gradients,
    /// Loss of each objective, `NaN` where the batch held no label for it.
    pub losses: Vec<f64>,
    /// Weight each objective got; empty where the method's direction is no weighted sum (GradDrop).
    pub weights: Vec<f64>,
    /// What was added to the loss of the first ranking, by name and without its weight.
    pub added: Vec<(&'static str, f64)>,
}

/// A batch's losses and what they depend on.
pub struct Graph<'a> {
    /// The objectives' names, for messages.
    pub names: &'a [&'a str],
    /// Their losses.
    pub losses: &'a [TaskLoss],
    /// Where it is cut: at the shared representation (the last level), and below it for [`GradientCut::Full`]. Nowhere for a method that looks
    /// at losses alone.
    pub cuts: &'a Cuts<'a>,
    /// What lies above the shared representation: each objective's own.
    pub towers: &'a [(String, Var)],
    /// What several objectives share above it (experts, gates): it follows the weights, but no method compares gradients of it.
    pub between: &'a [(String, Var)],
    /// What lies below it: what all objectives share.
    pub below: &'a [(String, Var)],
    /// Which objectives have no tower of their own and move those of others, as goals of lists do: what they say of a tower follows their
    /// weight. Empty: none does.
    pub borrows: &'a [bool],
}

/// Computes the balanced gradient of one batch.
///
/// `known` are the vectors that histories look up, `options` the seed of this step's dropout, or more.
///
/// # Errors
/// When shapes do not fit, or a gradient is not finite.
pub fn balanced_gradients(
    model: &Recommender,
    parameters: &Parameters,
    batch: &Batch,
    known: &Tensor,
    balancer: &mut Balancer,
    options: impl Into<StepOptions>,
) -> Result<StepGradients, TrainError> {
    let names: Vec<&str> = model.objectives().names().collect();
    let Forward { losses, added, cuts } = forward(model, batch, known, balancer.cut(), options.into())?;
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
    let added = added.iter().map(|added| Ok((added.name, f64::from(added.loss.to_scalar::<f32>()?))));
    let added = added.collect::<Result<Vec<_>, TrainError>>()?;
    Ok(StepGradients { added, ..graph.balance(balancer)? })
}

/// Which objectives of a model move the towers of others.
pub(super) fn borrowers(model: &Recommender) -> Vec<bool> {
    model.objectives().iter().map(|objective| objective.kind == Kind::List).collect()
}

/// The losses of a batch as numbers, with the dropout of a step.
pub(crate) fn losses(
    model: &Recommender,
    batch: &Batch,
    known: &Tensor,
    options: StepOptions,
) -> Result<Vec<f64>, TrainError> {
    let names: Vec<&str> = model.objectives().names().collect();
    let losses = forward(model, batch, known, None, options)?.losses;
    Ok(Measured::new(&names, &losses)?.losses().to_vec())
}

/// The losses of a batch, and where their graph is cut.
struct Forward<'a> {
    losses: Vec<TaskLoss>,
    added: Vec<AuxiliaryLoss>,
    cuts: Cuts<'a>,
}

fn forward<'a>(
    model: &'a Recommender,
    batch: &Batch,
    known: &Tensor,
    cut: Option<GradientCut>,
    options: StepOptions,
) -> Result<Forward<'a>, TrainError> {
    let dropout = Some(options.dropout);
    let mut cuts = Cuts::default();
    let mut shared = match (options.chunks(model, batch)?, cut) {
        (Some(chunks), _) => {
            let texts = chunks.vectors()?;
            let texts = cuts.above(&texts, move |gradient| Ok(chunks.backward(gradient)?))?;
            model.represent_texts(batch, known, &texts, dropout)?
        }
        (None, Some(GradientCut::Full)) => model.represent_with(batch, known, dropout, &mut |x| {
            let [leaf] = cuts.at([x])?;
            Ok(leaf)
        })?,
        (None, Some(GradientCut::Shared) | None) => model.represent(batch, known, dropout)?,
    };
    if cut.is_some() {
        let values = [
            shared.items,
            Some(shared.users),
            shared.candidates,
            shared.views,
            shared.aligned,
            shared.joint,
            shared.gates,
        ];
        let [items, users, candidates, views, aligned, joint, gates] = cuts.at_those(values)?;
        let users = users.expect("what was handed over");
        shared = Shared { items, users, candidates, views, aligned, joint, gates };
    }
    let (losses, added) = model.losses_with_auxiliary(&shared, batch, dropout)?;
    Ok(Forward { losses, added, cuts })
}

impl Graph<'_> {
    /// The gradient that the balancing method makes of the losses' gradients.
    ///
    /// # Errors
    /// A loss or a gradient that is not finite, a parameter that two pieces of the graph share, a loss that reaches below the last cut by a
    /// way around it, a failing operation.
    pub fn balance(&self, balancer: &mut Balancer) -> Result<StepGradients, TrainError> {
        let measured = Measured::new(self.names, self.losses)?;
        let (gradients, weights) = match balancer.asks() {
            Asks::Losses => self.by_losses(&measured, balancer)?,
            Asks::Gramian | Asks::Rows => self.by_gradients(&measured, balancer)?,
        };
        Ok(StepGradients { gradients, losses: measured.reported(), weights, added: Vec::new() })
    }

    /// Weights from losses alone: one backward pass from `Σ w_k L_k`.
    fn by_losses(&self, measured: &Measured<'_>, balancer: &mut Balancer) -> Result<(Gradients, Vec<f64>), TrainError> {
        let weights = balancer.weights(&measured.without_gramian())?;
        Ok((self.with_weights(&weights, balancer)?, weights))
    }

    /// `K` passes to the last cut, whatever the method asks for, and one from there on down.
    fn by_gradients(
        &self,
        measured: &Measured<'_>,
        balancer: &mut Balancer,
    ) -> Result<(Gradients, Vec<f64>), TrainError> {
        if let Some(weights) = balancer.held(measured.observed()) {
            return Ok((self.with_weights(&weights, balancer)?, weights));
        }
        let mut gradients = Gradients::new();
        let (mut rows, between) = self.passes(balancer, &mut gradients)?;
        if balancer.asks() == Asks::Rows {
            let (below, weights) = self.by_rows(measured, balancer, &rows)?;
            gradients.extend(below);
            add_weighted(&mut gradients, &between, &weights)?;
            return Ok((gradients, weights));
        }
        let products = match balancer.cut() {
            Some(GradientCut::Full) => Stream::new(self.cuts, self.below).products(&mut rows)?,
            Some(GradientCut::Shared) | None => {
                let mut products = Products::new(rows.len());
                products.add(&self.top(&rows))?;
                products
            }
        };
        let weights = balancer.weights(&measured.with(&measured.gramian(&products)?))?;
        gradients.extend(self.descend(combine(&self.top(&rows), &weights)?)?);
        add_weighted(&mut gradients, &between, &weights)?;
        Ok((gradients, weights))
    }

    /// The direction of a method that looks at the gradients themselves.
    fn by_rows(
        &self,
        measured: &Measured<'_>,
        balancer: &mut Balancer,
        rows: &[AtLeaves],
    ) -> Result<(Gradients, Vec<f64>), TrainError> {
        if balancer.cut() == Some(GradientCut::Full) {
            // A few methods want all of it, and get it: `K` gradients at once.
            let mut whole = Vec::with_capacity(rows.len());
            for row in rows {
                let found = self.descend(self.top(std::slice::from_ref(row)).remove(0))?;
                whole.push(self.below.iter().map(|(name, _)| found.get(name).cloned()).collect::<Row>());
            }
            let shapes = self.below.iter().map(|(_, var)| var.shape().clone()).collect();
            let (stacked, jacobian) = Stacked::new(&whole, shapes, self.names, &self.device())?;
            let combination = balancer.combine(&jacobian, &measured.without_gramian())?;
            let parts = stacked.parts(&combination.direction)?;
            let names = self.below.iter().map(|(name, _)| name.clone());
            let found = names.zip(parts).filter_map(|(name, part)| Some((name, part?)));
            return Ok((found.collect(), combination.weights));
        }
        let top = self.top(rows);
        let leaf = |part: usize| top.iter().find_map(|row| Some(row.get(part)?.as_ref()?.shape()));
        let parts = top.iter().map(Vec::len).max().unwrap_or(0);
        let shapes = (0..parts).map(|part| leaf(part).unwrap_or_else(|| 0.into())).collect();
        let (stacked, jacobian) = Stacked::new(&top, shapes, self.names, &self.device())?;
        let combination = balancer.combine(&jacobian, &measured.without_gramian())?;
        Ok((self.descend(stacked.parts(&combination.direction)?)?, combination.weights))
    }

    fn borrows(&self, objective: usize) -> bool {
        self.borrows.get(objective).copied().unwrap_or(false)
    }

    /// One backward pass for each objective: its gradient at the leaves and at what follows its weight, and the task towers' gradients into
    /// `towers`.
    fn passes(
        &self,
        balancer: &Balancer,
        towers: &mut Gradients,
    ) -> Result<(Vec<AtLeaves>, Vec<Gradients>), TrainError> {
        let mut rows = Vec::with_capacity(self.losses.len());
        let mut between = Vec::with_capacity(self.losses.len());
        for (loss, wanted) in self.losses.iter().zip(balancer.wanted()) {
            if !*wanted || loss.observed == 0 {
                rows.push(AtLeaves::new());
                between.push(Gradients::new());
                continue;
            }
            let found = backward(&loss.loss)?;
            let mut weighed = named(&found, self.between)?;
            let own = named(&found, self.towers)?;
            match self.borrows(rows.len()) {
                true => weighed.extend(own),
                false => accumulate(towers, &own, 1.0)?,
            }
            between.push(weighed);
            rows.push(self.cuts.of_loss(&found)?);
        }
        Ok((rows, between))
    }

    /// The objectives' gradients at the leaves of the last level.
    fn top(&self, rows: &[AtLeaves]) -> Vec<Row> {
        let last = self.cuts.levels().saturating_sub(1);
        let row = |row: &AtLeaves| -> Row {
            row.get(last).into_iter().flatten().map(|leaf| leaf.clone().map(Into::into)).collect()
        };
        rows.iter().map(row).collect()
    }

    /// From a gradient at the leaves of the last level to that of everything below.
    fn descend(&self, top: Row) -> Result<Gradients, TrainError> {
        let mut gradients = Gradients::new();
        let mut leaves = AtLeaves::new();
        if let Some(last) = self.cuts.levels().checked_sub(1) {
            let top = top.iter().map(|part| part.as_ref().map(|part| part.dense()).transpose());
            leaves.resize_with(last, Vec::new);
            leaves.push(top.collect::<Result<_, _>>()?);
        }
        self.descend_from(leaves, &mut gradients)?;
        Ok(gradients)
    }

    /// From gradients at the leaves to those of everything below them, which are added to `gradients`.
    fn descend_from(&self, mut leaves: AtLeaves, gradients: &mut Gradients) -> Result<(), TrainError> {
        for level in (0..self.cuts.levels()).rev() {
            let here = leaves.get(level).cloned().unwrap_or_default();
            let found = self.cuts.descend(level, &here)?;
            self.cuts.collect(&found, level, &mut leaves)?;
            for (name, var) in self.below {
                if let Some(own) = gradient(&found, var)? {
                    let sum = match gradients.remove(name) {
                        Some(other) => own.plus(&other)?,
                        None => own,
                    };
                    gradients.insert(name.clone(), sum);
                }
            }
        }
        Ok(())
    }

    fn device(&self) -> Device {
        self.losses.first().map_or(Device::Cpu, |loss| loss.loss.device().clone())
    }
}

/// Adds the objectives' gradients by their weights; alike, for a method whose direction is no weighted sum.
fn add_weighted(gradients: &mut Gradients, objectives: &[Gradients], weights: &[f64]) -> Result<(), TrainError> {
    for (k, own) in objectives.iter().enumerate() {
        let weight = weights.get(k).copied().unwrap_or(1.0);
        if weight != 0.0 {
            accumulate(gradients, own, weight)?;
        }
    }
    Ok(())
}
