//! The mean of a history.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{LayerNorm, Linear};

use super::extras::Extras;
use super::{Past, UserConfig, UserModel, Widths};
use crate::RecommenderError;

/// `u = LayerNorm(W · mean_t(v_t + E e_t) + F f)`; a user without history has a mean of zero.
pub(super) struct Mean {
    extras: Extras,
    out: Linear,
    norm: LayerNorm,
}

impl Mean {
    pub(super) fn new(
        config: &UserConfig,
        widths: Widths,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let dim = widths.dim;
        Ok(Self {
            extras: Extras::new(config, widths, seed, device)?,
            out: Linear::new(dim, dim, seed.wrapping_add(4), device)?,
            norm: LayerNorm::new(dim, 1e-5, device)?,
        })
    }
}

impl UserModel for Mean {
    fn forward(&self, past: &Past<'_>, _dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        let mean = past.bags()?.mean(&past.items, self.extras.of_events(past))?;
        Ok(self.norm.forward(&self.extras.with_features(self.out.forward(&mean)?, past)?)?)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.extras.parameters();
        all.extend(self.out.parameters("users.out"));
        all.extend(self.norm.parameters("users.norm"));
        all
    }
}
