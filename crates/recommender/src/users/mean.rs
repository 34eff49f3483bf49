//! The mean of a history.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{LayerNorm, Linear};

use super::padded::Padded;
use super::{Past, UserConfig, UserModel, Widths};
use crate::RecommenderError;

/// `u = LayerNorm(W · mean_t(v_t + E e_t) + F f)`; a user without history has a mean of zero.
pub(super) struct Mean {
    event: Option<Linear>,
    out: Linear,
    features: Option<Linear>,
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

/// The events of a batch as pooling sees them: items, with what came of them if there is a layer for that.
pub(super) fn events_of(past: &Past<'_>, event: Option<&Linear>) -> Result<Tensor, RecommenderError> {
    match event {
        Some(event) if past.items.dim(0)? > 0 => Ok((&past.items + event.forward(&past.events)?)?),
        _ => Ok(past.items.clone()),
    }
}

impl Mean {
    pub(super) fn new(
        config: &UserConfig,
        widths: Widths,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let dim = widths.dim;
        let linear = |used: bool, width: usize, seed| used.then(|| Linear::new(width.max(1), dim, seed, device));
        Ok(Self {
            event: linear(config.events, widths.events, seed.wrapping_add(1)).transpose()?,
            out: Linear::new(dim, dim, seed.wrapping_add(4), device)?,
            features: linear(config.features, widths.features, seed.wrapping_add(5)).transpose()?,
            norm: LayerNorm::new(dim, 1e-5, device)?,
        })
    }
}

impl UserModel for Mean {
    fn forward(&self, past: &Past<'_>, _dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        let mut user = self.out.forward(&mean_of(&events_of(past, self.event.as_ref())?, past)?)?;
        if let Some(features) = &self.features {
            user = (user + features.forward(&past.features)?)?;
        }
        Ok(self.norm.forward(&user)?)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = Vec::new();
        all.extend(self.event.iter().flat_map(|event| event.parameters("users.event")));
        all.extend(self.out.parameters("users.out"));
        all.extend(self.features.iter().flat_map(|features| features.parameters("users.features")));
        all.extend(self.norm.parameters("users.norm"));
        all
    }
}
