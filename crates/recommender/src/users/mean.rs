//! The mean of a history.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{LayerNorm, Linear};

use super::extras::Extras;
use super::padded::Padded;
use super::{Past, UserConfig, UserModel, Widths};
use crate::RecommenderError;

/// `u = LayerNorm(W · mean_t(v_t + E e_t) + F f)`; a user without history has a mean of zero.
pub(super) struct Mean {
    extras: Extras,
    out: Linear,
    norm: LayerNorm,
}

/// The mean over a request's events of `[T, width]` rows, `[U, width]`; zero without events.
pub(super) fn mean_of(packed: &Tensor, past: &Past<'_>) -> Result<Tensor, RecommenderError> {
    let width = packed.dim(1)?;
    let padded = Padded::new(past);
    if padded.length == 0 {
        return Ok(Tensor::zeros((padded.requests, width), packed.dtype(), packed.device())?);
    }
    let mask = padded.mask(packed)?;
    let shares = mask.broadcast_div(&mask.sum_keepdim(1)?.clamp(1.0, f64::MAX)?)?.unsqueeze(2)?;
    let rows = padded.rows(packed)?.reshape((padded.requests, padded.length, width))?;
    Ok(rows.broadcast_mul(&shares)?.sum(1)?)
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
        let mean = mean_of(&self.extras.events(past)?, past)?;
        Ok(self.norm.forward(&self.extras.with_features(self.out.forward(&mean)?, past)?)?)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.extras.parameters();
        all.extend(self.out.parameters("users.out"));
        all.extend(self.norm.parameters("users.norm"));
        all
    }
}
