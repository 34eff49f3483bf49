//! Scoring every item for a user.

use candle_core::{D, DType, Tensor};
use paretune_data::NewItem;
use paretune_features::Tokenized;
use rayon::prelude::*;

use crate::{Batch, Corpus, Recommender, RecommenderError, Shared};

/// Every item as the item tower sees it at one moment.
pub struct Catalogue {
    /// `[items, dim]`, before a preference moves them.
    items: Tensor,
    /// `[items, width]`, before the tower: what histories look up and what diversity is measured on.
    vectors: Tensor,
}

impl Catalogue {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.dims().first().copied().unwrap_or(0)
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
    /// The catalogue with features as of `clock` (past the end of the log: as of that end), from item vectors computed by
    /// [`Recommender::embed`].
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn catalogue(&self, corpus: &Corpus, vectors: &Tensor, clock: i64) -> Result<Catalogue, RecommenderError> {
        let (clock, mut features) = (clock.min(corpus.end), Vec::new());
        for item in 0..corpus.dataset.items.len() as u32 {
            corpus.behaviour.item(item, clock, &mut features);
        }
        self.with_features(vectors, &features)
    }

    /// Items nobody has seen, by their tokens alone.
    ///
    /// # Errors
    /// When the encoder fails, or the model knows items by id only.
    pub fn new_items(&self, corpus: &Corpus, tokens: &Tokenized) -> Result<Catalogue, RecommenderError> {
        if matches!(self.vectors, crate::ItemVectors::Ids(_)) {
            return Err(RecommenderError::NeedsText);
        }
        let mut features = Vec::new();
        (0..tokens.len()).for_each(|_| corpus.behaviour.new_item(&NewItem::default(), &mut features));
        self.with_features(&self.embed(tokens, None)?, &features)
    }

    fn with_features(&self, vectors: &Tensor, features: &[f32]) -> Result<Catalogue, RecommenderError> {
        let features = self.rows(features, vectors.dim(0)?, self.config.item_features)?;
        let items = self.item_tower.forward(&self.item_tower.project(vectors)?, &features)?.detach();
        Ok(Catalogue { items, vectors: vectors.clone() })
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
        let trunk = Shared { items: catalogue.items.clone(), users: self.users(batch, known)? };
        let shared = self.condition(trunk, batch)?;
        let (items, users) = (shared.items.detach(), shared.users.detach());
        let n = catalogue.len();
        let positions = Tensor::zeros((n, 1), DType::F32, &self.device)?;
        let score = |request| {
            let user = users.narrow(0, request, 1)?.broadcast_as((n, users.dim(D::Minus1)?))?.contiguous()?;
            let outputs = self.head(&items, &user, &positions, batch.preference.as_deref(), None)?;
            Ok(outputs.predictions()?)
        };
        // Another device has its own parallelism.
        match self.device.is_cpu() {
            true => (0..batch.viewers).into_par_iter().map(score).collect(),
            false => (0..batch.viewers).map(score).collect(),
        }
    }
}
