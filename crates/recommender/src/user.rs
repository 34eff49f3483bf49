//! Users: attention over what they last engaged with and how that went, beside their own features.

use candle_core::{D, DType, Device, Tensor, Var};
use paretune_encoder::{LayerNorm, Linear};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::RecommenderError;

/// Attention pooling with learned queries, one for each head (Lin et al. 2017, "A structured self-attentive sentence embedding"):
///
/// ```text
/// x_t = LayerNorm(P v_t + E e_t)            v_t item vector, e_t feedback and recency of the t-th last event
/// a_h = softmax_t(q_h · x_t / √d)           padding masked
/// u   = LayerNorm(O [Σ_t a_1t (V x_t)_1; …] + F f)     f user and context features
/// ```
pub struct UserTower {
    vector: Linear,
    event: Linear,
    event_norm: LayerNorm,
    value: Linear,
    query: Var,
    out: Linear,
    features: Linear,
    norm: LayerNorm,
    heads: usize,
    dim: usize,
}

impl UserTower {
    pub(crate) fn new(
        width: usize,
        event: usize,
        features: usize,
        dim: usize,
        heads: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9e4);
        let query: Vec<f32> = (0..heads * dim).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
        Ok(Self {
            vector: Linear::new(width, dim, seed, device)?,
            event: Linear::new(event.max(1), dim, seed.wrapping_add(1), device)?,
            event_norm: LayerNorm::new(dim, 1e-5, device)?,
            value: Linear::new(dim, dim, seed.wrapping_add(3), device)?,
            query: Var::from_vec(query, (heads, dim), device)?,
            out: Linear::new(dim, dim, seed.wrapping_add(4), device)?,
            features: Linear::new(features.max(1), dim, seed.wrapping_add(5), device)?,
            norm: LayerNorm::new(dim, 1e-5, device)?,
            heads,
            dim,
        })
    }

    /// - `history [requests, length, width]` item vectors, newest first, padded with anything;
    /// - `events [requests, length, event]` feedback and recency of each;
    /// - `mask [requests, length]` 1 for an event, 0 for padding;
    /// - `features [requests, features]`.
    ///
    /// Returns `[requests, dim]`. A user without history is described by the features alone.
    pub(crate) fn forward(
        &self,
        history: &Tensor,
        events: &Tensor,
        mask: &Tensor,
        features: &Tensor,
    ) -> Result<Tensor, RecommenderError> {
        let (requests, length, width) = history.dims3()?;
        let own = self.features.forward(features)?;
        if length == 0 {
            // As for a user whose events are all padding: nothing is attended to.
            let nothing = Tensor::zeros((requests, self.dim), DType::F32, own.device())?;
            return Ok(self.norm.forward(&(self.out.forward(&nothing)? + own)?)?);
        }
        let rows = requests * length;
        let x = (self.vector.forward(&history.reshape((rows, width))?)?
            + self.event.forward(&events.reshape((rows, events.dim(D::Minus1)?))?)?)?;
        let x = self.event_norm.forward(&x)?;
        let head_dim = self.dim / self.heads;
        let values = self.value.forward(&x)?.reshape((requests, length, self.heads, head_dim))?;
        let scores =
            (x.matmul(&self.query.t()?)? / (self.dim as f64).sqrt())?.reshape((requests, length, self.heads))?;
        let mask = mask.unsqueeze(2)?;
        // Padding is pushed down before the maximum is taken and cut to an exact zero after the exponential.
        let scores = scores.broadcast_add(&((&mask - 1.0)? * 1e4)?)?;
        let highest = scores.max_keepdim(1)?.detach();
        let weights = scores.broadcast_sub(&highest)?.exp()?.broadcast_mul(&mask)?;
        let total = (weights.sum_keepdim(1)? + 1e-9)?;
        let weights = weights.broadcast_div(&total)?.unsqueeze(3)?;
        let pooled = values.broadcast_mul(&weights)?.sum(1)?.reshape((requests, self.dim))?;
        Ok(self.norm.forward(&(self.out.forward(&pooled)? + own)?)?)
    }

    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.vector.parameters("users.vector");
        all.extend(self.event.parameters("users.event"));
        all.extend(self.event_norm.parameters("users.event_norm"));
        all.extend(self.value.parameters("users.value"));
        all.push(("users.query".into(), self.query.clone()));
        all.extend(self.out.parameters("users.out"));
        all.extend(self.features.parameters("users.features"));
        all.extend(self.norm.parameters("users.norm"));
        all
    }
}
