//! Scoring every item for a user.

use candle_core::{D, DType, Tensor};
use paretune_data::NewItem;
use paretune_features::Tokenized;
use rayon::prelude::*;

use crate::features::{ItemRows, Shelf};
use crate::model::Shown;
use crate::prior::Prior;
use crate::width::WidthGates;
use crate::{Batch, Corpus, Recommender, RecommenderError, Shared};

/// Every item as the item tower sees it at one moment.
pub struct Catalogue {
    /// `[items, dim]` with their features, before a preference moves them; absent where all objectives are rankings.
    items: Option<Tensor>,
    /// `[items, dim]`, with a prior one column more: what rankings compare users with.
    candidates: Tensor,
    /// `[items, width]`, before the tower: what histories look up and what diversity is measured on.
    vectors: Tensor,
    /// What features need of it to look at user and item at once.
    shelf: Option<Shelf>,
}

impl Catalogue {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.candidates.dims().first().copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item vectors `[items, width]`.
    pub fn vectors(&self) -> &Tensor {
        &self.vectors
    }

    /// The item vectors, row by row, each of length one (or zero).
    ///
    /// # Errors
    /// When the tensor cannot be read.
    pub fn unit_vectors(&self) -> Result<Vec<Vec<f32>>, RecommenderError> {
        let mut rows = self.vectors.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        for row in &mut rows {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|x| *x /= norm);
        }
        Ok(rows)
    }
}

impl Recommender {
    /// Lets catalogues that are made from now on leave the prior of popularity out of rankings: training has explained by it what popularity explains, and
    /// what is left is what users like beyond that (Zhang et al., SIGIR 2021). Training is not affected, nor is what is saved; a model without a
    /// prior stays as it is.
    pub fn leave_popularity_out(&mut self) {
        if let Some(prior) = &mut self.prior {
            prior.silent = true;
        }
    }

    /// The catalogue with features as of `clock` (past the end of the log: as of that end), from item vectors computed by
    /// [`Recommender::embed`].
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn catalogue(&self, corpus: &Corpus, vectors: &Tensor, clock: i64) -> Result<Catalogue, RecommenderError> {
        let clock = clock.min(corpus.summary().end);
        let all: Vec<u32> = (0..corpus.dataset.items.len() as u32).collect();
        let candidates = self.known_items(vectors)?;
        let features = || {
            let mut features = Vec::new();
            for &item in &all {
                corpus.behaviour.item(item, clock, &mut features);
                if let Some(rows) = &corpus.features {
                    rows.item_numbers(item, &mut features);
                }
            }
            features
        };
        let compared = match &self.prior {
            Some(prior) if prior.silent => Prior::beside_new(&candidates)?,
            _ => self.with_prior(candidates.clone(), &all)?,
        };
        let rows = self.features.as_ref().map(|features| features.known_items().clone());
        self.with_features(candidates, compared, vectors, features, rows)
    }

    /// Items nobody has seen, by their tokens alone; their features are missing.
    ///
    /// # Errors
    /// When the encoder fails, or the model knows items by id only.
    pub fn new_items(&self, corpus: &Corpus, tokens: &Tokenized) -> Result<Catalogue, RecommenderError> {
        if self.encoder().is_none() {
            return Err(RecommenderError::NeedsText);
        }
        let vectors = self.embed(tokens, None)?;
        // Numbers that no table has a row for: their ids count as zero.
        let candidates = self.new_item_vectors(&vectors)?;
        let features = || {
            let mut features = Vec::new();
            for _ in 0..tokens.len() {
                corpus.behaviour.new_item(&NewItem::default(), &mut features);
                if let Some(rows) = &corpus.features {
                    rows.new_item_numbers(&mut features);
                }
            }
            features
        };
        let compared = match &self.prior {
            Some(_) => Prior::beside_new(&candidates)?,
            None => candidates.clone(),
        };
        let rows = self.features.as_ref().map(|features| features.unknown_items(tokens.len()));
        self.with_features(candidates, compared, &vectors, features, rows)
    }

    fn with_features(
        &self,
        candidates: Tensor,
        compared: Tensor,
        vectors: &Tensor,
        features: impl FnOnce() -> Vec<f32>,
        rows: Option<ItemRows>,
    ) -> Result<Catalogue, RecommenderError> {
        let (items, shelf) = match self.has_towers() {
            true => {
                let numbers = features();
                let features = self.rows(&numbers, candidates.dim(0)?, self.config.item_features)?;
                let items = self.item_tower.forward(&candidates, &features)?.detach();
                let shelf = self.features.as_ref().zip(rows).map(|(features, rows)| features.shelf(&numbers, rows));
                (Some(items), shelf.transpose()?)
            }
            false => (None, None),
        };
        Ok(Catalogue { items, candidates: compared.detach(), vectors: vectors.clone(), shelf })
    }

    /// Predictions of every objective for every item of the catalogue and every request of the batch:
    /// `result[request][objective][item]`, in natural units (probability, rating, seconds).
    /// Histories are looked up in `known`, the vectors of the whole corpus. One catalogue serves every preference.
    ///
    /// # Errors
    /// When shapes do not fit, or the batch's preference is not one for this model.
    pub fn score(
        &self,
        catalogue: &Catalogue,
        batch: &Batch,
        known: &Tensor,
    ) -> Result<Vec<Vec<Vec<f32>>>, RecommenderError> {
        let candidates = self.ranks().then(|| catalogue.candidates.clone());
        let trunk = Shared {
            items: catalogue.items.clone(),
            users: self.users(batch, known)?,
            candidates,
            views: None,
            aligned: None,
            joint: None,
            gates: self.gates.as_ref().map(WidthGates::odds).transpose()?,
        };
        let shared = self.condition(trunk, batch)?;
        let shared = self.gated(&shared, None)?.into_owned();
        let (items, users) = (shared.items.map(|items| items.detach()), shared.users.detach());
        let scores = shared.candidates.map(|candidates| self.against(&users, &candidates, batch)).transpose()?;
        let n = catalogue.len();
        let positions = Tensor::zeros((n, 1), DType::F32, &self.device)?;
        let joint = match (&self.features, &catalogue.shelf) {
            (Some(features), Some(shelf)) => Some(features.against(batch, shelf)?),
            _ => None,
        };
        let score = |request| {
            let user = users.narrow(0, request, 1)?.broadcast_as((n, users.dim(D::Minus1)?))?.contiguous()?;
            let scores = scores.as_ref().map(|scores| scores.get(request)).transpose()?;
            let joint = joint.as_ref().map(|joint| joint(request)).transpose()?.flatten();
            let shown = items.as_ref().map(|items| Shown { items, joint: joint.as_ref(), positions: &positions });
            let outputs = self.head(shown, &user, scores.as_ref(), batch.preference.as_deref(), None)?;
            Ok(outputs.predictions()?)
        };
        // Another device has its own parallelism.
        match self.device.is_cpu() {
            true => (0..batch.viewers()).into_par_iter().map(score).collect(),
            false => (0..batch.viewers()).map(score).collect(),
        }
    }

    /// How well every item of the catalogue fits each request `[requests, items]`: what rankings order by, one matrix product.
    ///
    /// # Errors
    /// When shapes do not fit, or the batch's preference is not one for this model.
    pub fn retrieve(&self, catalogue: &Catalogue, batch: &Batch, known: &Tensor) -> Result<Tensor, RecommenderError> {
        let users = self.users(batch, known)?;
        let gates = self.gates.as_ref().map(WidthGates::odds).transpose()?;
        let candidates = Some(catalogue.candidates.clone());
        let trunk = Shared { items: None, users, candidates, views: None, aligned: None, joint: None, gates };
        let shared = self.kept(&self.condition(trunk, batch)?)?;
        let candidates = shared.candidates.as_ref().unwrap_or(&catalogue.candidates);
        self.against(&shared.users.detach(), candidates, batch)
    }
}
