//! The losses of list goals on a batch.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{D, DType, Tensor};
use paretune_objectives::{Goal, Kind, ListGoal, Policy, TaskLoss};

use crate::{Batch, Recommender, RecommenderError, Shared};

/// Pairs of request and candidate that go through a task tower, at most: as many as a few batches of samples.
const PAIRS: usize = 8192;

/// What a batch's requests are shown, by the rankings that goals are about: goals that look at the same lists share them.
#[derive(Default)]
pub(crate) struct ListPolicies {
    policies: Vec<(Asked, Option<Listed>)>,
}

/// Which objective ranks, how sharply, among how many.
type Asked = (usize, u64, usize);

#[derive(Clone)]
struct Listed {
    policy: Policy,
    /// The candidates' items.
    items: Vec<u32>,
    requests: usize,
}

impl Recommender {
    /// The loss of the goal of lists that is the objective at `index`; 0 of no request where a batch shows nothing to choose from.
    pub(crate) fn goal_loss(
        &self,
        index: usize,
        goal: &ListGoal,
        shared: &Shared,
        batch: &Batch,
        shown: &mut ListPolicies,
    ) -> Result<TaskLoss, RecommenderError> {
        let facts = self.list_facts.as_ref().ok_or(RecommenderError::NeedsListFacts)?;
        let of = self.objectives().shaped_by(index).unwrap_or_default();
        let asked = (of, goal.temperature.to_bits(), goal.candidates);
        let listed = match shown.policies.iter().find(|(own, _)| *own == asked) {
            Some((_, listed)) => listed.clone(),
            None => {
                let listed = self.lists(of, goal, shared, batch)?;
                shown.policies.push((asked, listed.clone()));
                listed
            }
        };
        let Some(Listed { policy, items, requests }) = listed else {
            return Ok(TaskLoss { loss: Tensor::zeros((), DType::F32, &self.device)?, observed: 0 });
        };
        let loss = match goal.name {
            Goal::Diversity => {
                let vectors = facts.vectors.as_ref().ok_or(RecommenderError::NeedsListFacts)?;
                policy.similarity(&vectors.index_select(&Tensor::new(items.as_slice(), &self.device)?, 0)?)?
            }
            Goal::Coverage => policy.concentration()?,
            Goal::Novelty => {
                let popularity: Vec<f32> =
                    items.iter().map(|&item| facts.popularity.get(item as usize).copied().unwrap_or(0.0)).collect();
                policy.mean_of(&popularity)?
            }
            Goal::Exposure => {
                let groups = facts.groups.get(&index).ok_or(RecommenderError::NeedsListFacts)?;
                let own: Vec<Option<u32>> =
                    items.iter().map(|&item| groups.of.get(item as usize).copied().flatten()).collect();
                // Groups of which no item is among the candidates could not be shown.
                let there: BTreeSet<u32> = own.iter().flatten().copied().collect();
                let due: Vec<f64> = there.iter().map(|&group| groups.due[group as usize]).collect();
                let total: f64 = due.iter().sum();
                if total <= 0.0 {
                    return Ok(TaskLoss { loss: Tensor::zeros((), DType::F32, &self.device)?, observed: 0 });
                }
                let due: Vec<f64> = due.into_iter().map(|share| share / total).collect();
                let numbers: BTreeMap<u32, u32> = there.into_iter().zip(0..).collect();
                let none = due.len() as u32;
                let own: Vec<u32> = own
                    .iter()
                    .map(|group| group.and_then(|group| numbers.get(&group)).copied().unwrap_or(none))
                    .collect();
                policy.disparity(&own, &due)?
            }
        };
        Ok(TaskLoss { loss, observed: requests })
    }

    /// What the objective at `of` would show the batch's requests of a sample of its items.
    fn lists(
        &self,
        of: usize,
        goal: &ListGoal,
        shared: &Shared,
        batch: &Batch,
    ) -> Result<Option<Listed>, RecommenderError> {
        let ranks = self.objectives().as_slice()[of].kind == Kind::Ranking;
        // Items that a sample shows, and those drawn for all requests, by their places in the batch; histories would favour what is known.
        let rows: BTreeMap<u32, u32> =
            batch.slots.iter().enumerate().rev().map(|(row, slot)| (*slot, row as u32)).collect();
        let slots: BTreeSet<u32> = match ranks {
            true => batch.slots.iter().chain(&batch.pool.slots).copied().collect(),
            false => rows.keys().copied().collect(),
        };
        let slots = thinned(&slots.into_iter().collect::<Vec<_>>(), goal.candidates);
        let most = if ranks { usize::MAX } else { PAIRS / slots.len().max(1) };
        let requests = thinned(&(0..batch.viewers() as u32).collect::<Vec<_>>(), most.max(1));
        if slots.len() < 2 || requests.is_empty() {
            return Ok(None);
        }
        let users = shared.users.index_select(&Tensor::new(requests.as_slice(), &self.device)?, 0)?;
        let scores = match (ranks, &shared.candidates, &shared.items) {
            (true, Some(candidates), _) => {
                let candidates = candidates.index_select(&Tensor::new(slots.as_slice(), &self.device)?, 0)?;
                self.compared_users(&users)?.matmul(&self.compared_items(&candidates)?.t()?)?
            }
            (false, _, Some(items)) => {
                let rows: Vec<u32> = slots.iter().map(|slot| rows[slot]).collect();
                let items = items.index_select(&Tensor::new(rows, &self.device)?, 0)?;
                self.tower_scores(of, &users, &items, batch)?
            }
            _ => return Ok(None),
        };
        let items: Vec<u32> = slots.iter().map(|&slot| batch.items[slot as usize]).collect();
        let mut hidden = vec![false; requests.len() * items.len()];
        if !self.config.repeats {
            for (row, &request) in requests.iter().enumerate() {
                let met: BTreeSet<u32> = batch.met(request as usize).collect();
                for (place, item) in items.iter().enumerate() {
                    hidden[row * items.len() + place] = met.contains(item);
                }
            }
        }
        let hidden = hidden.contains(&true).then_some(hidden.as_slice());
        let policy = Policy::standardized(&scores, goal.temperature, hidden)?;
        Ok(Some(Listed { policy, items, requests: requests.len() }))
    }

    /// What a task tower says of every item for every request, `[R, N]`, at an average position.
    fn tower_scores(
        &self,
        of: usize,
        users: &Tensor,
        items: &Tensor,
        batch: &Batch,
    ) -> Result<Tensor, RecommenderError> {
        if self.features.as_ref().is_some_and(crate::features::Features::joins) {
            return Err(RecommenderError::ListsOfJoint);
        }
        let (requests, candidates, dim) = (users.dim(0)?, items.dim(0)?, users.dim(D::Minus1)?);
        let shape = (requests, candidates, dim);
        let users = users.unsqueeze(1)?.broadcast_as(shape)?.reshape((requests * candidates, dim))?;
        let items = items.unsqueeze(0)?.broadcast_as(shape)?.reshape((requests * candidates, dim))?;
        let positions = Tensor::zeros((requests * candidates, 1), DType::F32, &self.device)?;
        let shown = crate::model::Shown { items: &items, joint: None, positions: &positions };
        let logits = self.towers.logits_of(of, &shown.read(&users)?, batch.preference.as_deref())?;
        let sign = self.objectives().as_slice()[of].direction.sign();
        Ok((logits * sign)?.reshape((requests, candidates))?)
    }
}

/// At most `most` of `all`, evenly.
fn thinned(all: &[u32], most: usize) -> Vec<u32> {
    let kept = all.len().min(most);
    (0..kept).map(|at| all[at * all.len() / kept]).collect()
}
