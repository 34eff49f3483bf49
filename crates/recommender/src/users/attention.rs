//! Attention over what a user last engaged with and how that went, beside their own features.

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::{LayerNorm, Linear};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::extras::Extras;
use super::padded::Padded;
use super::{Past, UserConfig, UserModel, Widths};
use crate::RecommenderError;

/// Attention pooling with learned queries, one for each head (Lin et al. 2017, "A structured self-attentive sentence embedding"):
///
/// ```text
/// x_t = LayerNorm(v_t + E e_t)              v_t item vector, e_t feedback and recency of the t-th last event
/// a_h = softmax_t(q_h · x_t / √d)           padding masked
/// u   = LayerNorm(O [Σ_t a_1t (V x_t)_1; …] + F f)     f user and context features
/// ```
pub(crate) struct Attention {
    extras: Extras,
    event_norm: LayerNorm,
    value: Linear,
    query: Var,
    out: Linear,
    norm: LayerNorm,
    heads: usize,
    dim: usize,
}

impl Attention {
    pub(super) fn new(
        config: &UserConfig,
        widths: Widths,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let (dim, heads) = (widths.dim, config.heads);
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9e4);
        let query: Vec<f32> = (0..heads * dim).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
        Ok(Self {
            extras: Extras::new(config, widths, seed, device)?,
            event_norm: LayerNorm::new(dim, 1e-5, device)?,
            value: Linear::new(dim, dim, seed.wrapping_add(3), device)?,
            query: Var::from_vec(query, (heads, dim), device)?,
            out: Linear::new(dim, dim, seed.wrapping_add(4), device)?,
            norm: LayerNorm::new(dim, 1e-5, device)?,
            heads,
            dim,
        })
    }

    /// `[U, dim]`: what the heads attend to, side by side.
    fn pooled(&self, past: &Past<'_>) -> Result<Tensor, RecommenderError> {
        let padded = Padded::new(past);
        let (requests, length) = (padded.requests, padded.length);
        if length == 0 {
            // As for a user whose events are all padding: nothing is attended to.
            return Ok(Tensor::zeros((requests, self.dim), DType::F32, past.features.device())?);
        }
        let x = padded.rows(&self.event_norm.forward(&self.extras.events(past)?)?)?;
        let values = self.value.forward(&x)?.reshape((requests, length, self.heads, self.dim / self.heads))?;
        let scores =
            (x.matmul(&self.query.t()?)? / (self.dim as f64).sqrt())?.reshape((requests, length, self.heads))?;
        let mask = padded.mask(&scores)?.unsqueeze(2)?;
        // Padding is pushed down before the maximum is taken and cut to an exact zero after the exponential.
        let scores = scores.broadcast_add(&((&mask - 1.0)? * 1e4)?)?;
        let highest = scores.max_keepdim(1)?.detach();
        let weights = scores.broadcast_sub(&highest)?.exp()?.broadcast_mul(&mask)?;
        let total = (weights.sum_keepdim(1)? + 1e-9)?;
        let weights = weights.broadcast_div(&total)?.unsqueeze(3)?;
        Ok(values.broadcast_mul(&weights)?.sum(1)?.reshape((requests, self.dim))?)
    }
}

impl UserModel for Attention {
    /// A user without history is described by the features alone.
    fn forward(&self, past: &Past<'_>, _dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        let user = self.extras.with_features(self.out.forward(&self.pooled(past)?)?, past)?;
        Ok(self.norm.forward(&user)?)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.extras.parameters();
        all.extend(self.event_norm.parameters("users.event_norm"));
        all.extend(self.value.parameters("users.value"));
        all.push(("users.query".into(), self.query.clone()));
        all.extend(self.out.parameters("users.out"));
        all.extend(self.norm.parameters("users.norm"));
        all
    }
}
