//! Attention over what a user last engaged with and how that went, beside their own features.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{BagAttention, LayerNorm, Linear};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::extras::Extras;
use super::{Past, UserConfig, UserModel, Widths};
use crate::RecommenderError;

/// Attention pooling with learned queries, one for each head (Lin et al. 2017, "A structured self-attentive sentence embedding"):
///
/// ```text
/// x_t = LayerNorm(v_t + E e_t)              v_t item vector, e_t feedback and recency of the t-th last event
/// a_h = softmax_t(q_h · x_t / √d)
/// u   = LayerNorm(O [Σ_t a_1t (V x_t)_1; …] + F f)     f user and context features
/// ```
pub(crate) struct Attention {
    extras: Extras,
    event_norm: LayerNorm,
    value: Linear,
    query: Var,
    out: Linear,
    norm: LayerNorm,
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
        })
    }
}

impl UserModel for Attention {
    /// A user without history is described by the features alone.
    fn forward(&self, past: &Past<'_>, _dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        let attention = BagAttention {
            features: self.extras.of_events(past),
            norm: &self.event_norm,
            query: &self.query,
            value: &self.value,
        };
        let pooled = past.bags()?.attend(&past.items, &attention)?;
        let user = self.extras.with_features(self.out.forward(&pooled)?, past)?;
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
