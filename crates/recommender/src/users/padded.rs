//! Packed histories as one padded block, for models that weigh all events of a request at once.

use candle_core::{DType, Tensor};

use super::Past;
use crate::RecommenderError;

/// Histories `[U, L, …]`, oldest first, padded behind. `L` is the longest.
pub(super) struct Padded {
    /// Number of requests `U`.
    pub(super) requests: usize,
    /// `L`.
    pub(super) length: usize,
    /// `[U × L]`: the packed row of each cell; any row for padding.
    places: Vec<u32>,
    /// `[U × L]`: 1 for an event, 0 for padding.
    mask: Vec<f32>,
}

impl Padded {
    pub(super) fn new(past: &Past<'_>) -> Self {
        let requests = past.seen.len();
        let length = past.seen.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let mut places = vec![0; requests * length];
        let mut mask = vec![0.0; requests * length];
        for (request, rows) in past.seen.iter().enumerate() {
            for (at, row) in rows.clone().enumerate() {
                places[request * length + at] = row;
                mask[request * length + at] = 1.0;
            }
        }
        Self { requests, length, places, mask }
    }

    /// Rows of a packed matrix `[T, width]` as `[U · L, width]`.
    pub(super) fn rows(&self, packed: &Tensor) -> Result<Tensor, RecommenderError> {
        Ok(packed.index_select(&Tensor::new(self.places.as_slice(), packed.device())?, 0)?)
    }

    /// `[U, L]`.
    pub(super) fn mask(&self, like: &Tensor) -> Result<Tensor, RecommenderError> {
        let mask = Tensor::from_slice(&self.mask, (self.requests, self.length), like.device())?;
        Ok(if like.dtype() == DType::F32 { mask } else { mask.to_dtype(like.dtype())? })
    }
}
