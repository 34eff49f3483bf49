//! How often items are engaged with anyway: a prior of rankings.

use candle_core::{DType, Device, Tensor, Var};

use crate::RecommenderError;

/// `b_i = w · ln(1 + n_i)` for an item that training engaged with `n_i` times, added to the score of every ranking:
///
/// ```text
/// s(u, i) = ⟨u, v_i⟩ / τ + w ln(1 + n_i)
/// ```
///
/// With softmax over the catalogue the scores of somebody of whom nothing is known are the logarithms of the items' shares of all
/// engagements, up to a constant: that is `w = 1`, where training begins. Vectors then learn how a user differs from the average, and where
/// they have nothing to say the ranking is the one by popularity. An item without a past has a prior of 0.
///
/// The prior travels as one more column: of items `b`, of users `τ`, so that a product of vectors still is the whole score.
pub(crate) struct Prior {
    weight: Var,
    /// `ln(1 + n)` of every item.
    logs: Tensor,
    counts: Vec<u32>,
    /// Whether catalogues leave it out.
    pub(crate) silent: bool,
}

impl Prior {
    pub(crate) fn new(counts: Vec<u32>, device: &Device) -> Result<Self, RecommenderError> {
        let logs: Vec<f32> = counts.iter().map(|&count| f64::from(count).ln_1p() as f32).collect();
        Ok(Self {
            weight: Var::from_tensor(&Tensor::ones(1, DType::F32, device)?)?,
            logs: Tensor::from_vec(logs, counts.len(), device)?,
            counts,
            silent: false,
        })
    }

    /// How often each item was engaged with.
    pub(crate) fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// `vectors [n, dim]` of these items to `[n, dim + 1]`.
    pub(crate) fn beside(&self, vectors: &Tensor, items: &[u32]) -> Result<Tensor, RecommenderError> {
        let logs = self.logs.index_select(&Tensor::new(items, vectors.device())?, 0)?;
        let prior = logs.broadcast_mul(self.weight.as_tensor())?.unsqueeze(1)?;
        Ok(Tensor::cat(&[vectors, &prior], 1)?)
    }

    /// The same of items without a past.
    pub(crate) fn beside_new(vectors: &Tensor) -> Result<Tensor, RecommenderError> {
        let prior = Tensor::zeros((vectors.dim(0)?, 1), vectors.dtype(), vectors.device())?;
        Ok(Tensor::cat(&[vectors, &prior], 1)?)
    }

    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        vec![("items.popularity".into(), self.weight.clone())]
    }
}
