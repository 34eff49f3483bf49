//! Queries: a text as part of a request.

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::Linear;

use crate::{RecommenderError, Searched};

/// `u + Q q`: the user's vector `u` and the query's text `q`, through the encoder that reads the items. A request that searches for nothing keeps
/// its user's vector, bit for bit.
pub(crate) struct Search {
    project: Linear,
}

impl Search {
    pub(crate) fn new(width: usize, dim: usize, seed: u64, device: &Device) -> Result<Self, RecommenderError> {
        Ok(Self { project: Linear::new(width, dim, seed, device)? })
    }

    /// `users [requests, dim]` and `texts [distinct queries, width]` to `[requests, dim]`.
    pub(crate) fn forward(
        &self,
        users: Tensor,
        texts: &Tensor,
        searched: &Searched,
    ) -> Result<Tensor, RecommenderError> {
        let queries = self.project.forward(texts)?;
        // One row more, for those who ask nothing.
        let nothing = Tensor::zeros((1, queries.dim(1)?), DType::F32, queries.device())?;
        let none = searched.packed.len() as u32;
        let rows: Vec<u32> = searched.of.iter().map(|query| query.unwrap_or(none)).collect();
        let rows = Tensor::new(rows, queries.device())?;
        Ok((users + Tensor::cat(&[&queries, &nothing], 0)?.index_select(&rows, 0)?)?)
    }

    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        self.project.parameters("search")
    }
}
