//! Users against items: the scores and the losses of rankings.

use candle_core::{DType, Tensor};
use paretune_encoder::{Exempt, unit_rows};
use paretune_objectives::TaskLoss;

use crate::ranking::{Needs, Negatives, RankingBatch, RankingLoss};
use crate::{Batch, Recommender, RecommenderError, Shared};

impl Recommender {
    /// Scores `[B]` of pairs, both `[B, dim]`: `⟨u, v⟩ / τ`, of vectors of length one where the loss compares angles.
    pub(crate) fn pairs(&self, users: &Tensor, items: &Tensor) -> Result<Tensor, RecommenderError> {
        let (users, items) = (self.compared_users(users)?, self.compared_items(items)?);
        Ok(((users * items)?.sum(1)? / self.config.ranking.scoring().temperature)?)
    }

    /// Scores `[U, N]` of a batch's users and the whole catalogue. What a user has met comes last where nobody meets an item twice.
    pub(crate) fn against(&self, users: &Tensor, items: &Tensor, batch: &Batch) -> Result<Tensor, RecommenderError> {
        let (users, items) = (self.compared_users(users)?, self.compared_items(items)?);
        let scores = (users.matmul(&items.t()?)? / self.config.ranking.scoring().temperature)?;
        if self.config.repeats || batch.histories.is_empty() {
            return Ok(scores);
        }
        let (rows, width) = scores.dims2()?;
        let mut values = scores.flatten_all()?.to_vec1::<f32>()?;
        for (request, row) in values.chunks_exact_mut(width).enumerate() {
            let bounds = |(low, high): (f32, f32), score: &f32| (low.min(*score), high.max(*score));
            let (low, high) = row.iter().fold((f32::INFINITY, f32::NEG_INFINITY), bounds);
            for item in batch.met(request) {
                if let Some(score) = row.get_mut(item as usize) {
                    *score = low - (high - low);
                }
            }
        }
        Ok(Tensor::from_vec(values, (rows, width), &self.device)?)
    }

    /// Users `[n, dim]` as they are multiplied with items; with a prior one column more.
    pub(crate) fn compared_users(&self, users: &Tensor) -> Result<Tensor, RecommenderError> {
        let users = self.compared(users)?;
        if self.prior.is_none() {
            return Ok(users);
        }
        let temperature = self.config.ranking.scoring().temperature as f32;
        let column = Tensor::full(temperature, (users.dim(0)?, 1), &self.device)?.to_dtype(users.dtype())?;
        Ok(Tensor::cat(&[&users, &column], 1)?)
    }

    /// Items `[n, width]`, or `[n, width + 1]` with a prior, which no scaling to unit length reaches.
    pub(crate) fn compared_items(&self, items: &Tensor) -> Result<Tensor, RecommenderError> {
        if self.prior.is_none() {
            return self.compared(items);
        }
        let width = items.dim(1)? - 1;
        let vectors = self.compared(&items.narrow(1, 0, width)?.contiguous()?)?;
        Ok(Tensor::cat(&[&vectors, &items.narrow(1, width, 1)?], 1)?)
    }

    /// What rankings compare users with: vectors `[n, dim]` of these items, with the prior as one more column where there is one.
    pub(crate) fn with_prior(&self, vectors: Tensor, items: &[u32]) -> Result<Tensor, RecommenderError> {
        match &self.prior {
            Some(prior) => prior.beside(&vectors, items),
            None => Ok(vectors),
        }
    }

    fn compared(&self, rows: &Tensor) -> Result<Tensor, RecommenderError> {
        Ok(if self.config.ranking.scoring().cosine { unit_rows(rows)? } else { rows.clone() })
    }

    /// The loss of a ranking whose labels `[B]` these are: of the requests' positives against negatives, or of each request's own list.
    pub(crate) fn ranking_loss(
        &self,
        shared: &Shared,
        batch: &Batch,
        labels: &[f32],
    ) -> Result<TaskLoss, RecommenderError> {
        let nothing = || Ok(TaskLoss { loss: Tensor::zeros((), DType::F32, &self.device)?, observed: 0 });
        let Some(candidates) = &shared.candidates else { return nothing() };
        if self.config.ranking.needs() == Needs::Graded {
            return self.list_loss(shared, candidates, batch, labels);
        }
        let chosen: Vec<usize> = (0..labels.len()).filter(|&at| labels[at] > 0.0).collect();
        let (loss, negatives) = match batch.pool.slots.is_empty() {
            true => (RankingLoss::InBatch(self.config.ranking.scoring()), Negatives::Others),
            false => (self.config.ranking, Negatives::Shared(&batch.pool.slots)),
        };
        if chosen.is_empty() {
            return nothing();
        }
        let requests: Vec<u32> = chosen.iter().map(|&at| batch.requests[at]).collect();
        let positives: Vec<u32> = chosen.iter().map(|&at| batch.slots[at]).collect();
        let (mut starts, mut met) = (vec![0], Vec::new());
        for &request in &requests {
            if !self.config.repeats {
                met.extend(batch.met(request as usize));
            }
            starts.push(met.len());
        }
        let users = shared.users.index_select(&Tensor::new(requests, &self.device)?, 0)?;
        // Columns of a prior must stay out of what is scaled to unit length.
        let (users, candidates, loss) = match self.prior {
            Some(_) => (self.compared_users(&users)?, self.compared_items(candidates)?, loss.of_products()),
            None => (users, candidates.clone(), loss),
        };
        let loss = loss.loss(&RankingBatch {
            users: &users,
            candidates: &candidates,
            ids: &batch.items,
            positives: &positives,
            negatives,
            exempt: (!met.is_empty()).then_some(Exempt { starts: &starts, identities: &met }),
            log_q: (!batch.pool.log_q.is_empty()).then_some(&batch.pool.log_q),
            weights: None,
            catalogue: Some(self.config.items),
        })?;
        Ok(TaskLoss { loss, observed: chosen.len() })
    }

    /// The loss of each request's observed samples as a list.
    fn list_loss(
        &self,
        shared: &Shared,
        candidates: &Tensor,
        batch: &Batch,
        labels: &[f32],
    ) -> Result<TaskLoss, RecommenderError> {
        let mut seen: Vec<u32> = (0u32..).zip(labels).filter(|(_, label)| !label.is_nan()).map(|(at, _)| at).collect();
        if seen.is_empty() {
            return Ok(TaskLoss { loss: Tensor::zeros((), DType::F32, &self.device)?, observed: 0 });
        }
        // Samples of one request side by side.
        seen.sort_by_key(|&at| (batch.requests[at as usize], at));
        let of = |column: &[u32]| -> Vec<u32> { seen.iter().map(|&at| column[at as usize]).collect() };
        let (requests, slots) = (of(&batch.requests), of(&batch.slots));
        let mut offsets = vec![0];
        for at in 1..=requests.len() {
            if at == requests.len() || requests[at] != requests[at - 1] {
                offsets.push(at);
            }
        }
        let users = shared.users.index_select(&Tensor::new(requests, &self.device)?, 0)?;
        let items = candidates.index_select(&Tensor::new(slots, &self.device)?, 0)?;
        let grades: Vec<f32> = seen.iter().map(|&at| labels[at as usize]).collect();
        let loss = self.config.ranking.listwise(&self.pairs(&users, &items)?, &grades, &offsets)?;
        Ok(TaskLoss { loss, observed: seen.len() })
    }
}
