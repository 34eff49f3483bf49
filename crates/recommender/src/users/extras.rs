//! What enters a user model beside the items: what came of events, and features of user and moment.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{EntryFeatures, Linear};

use super::{Past, UserConfig, Widths};
use crate::RecommenderError;

/// `E` and `F` of the user models: one layer for the events and one for the features, where the configuration wants them.
pub(super) struct Extras {
    event: Option<Linear>,
    features: Option<Linear>,
}

impl Extras {
    /// Layers as PyTorch draws them.
    pub(super) fn new(
        config: &UserConfig,
        widths: Widths,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        Self::with(config, widths, seed, |width, seed| Linear::new(width, widths.dim, seed, device))
    }

    /// Layers of normally distributed weights, without biases at first; a deviation of zero leaves a fresh model as if they were not there.
    pub(super) fn normal(
        config: &UserConfig,
        widths: Widths,
        deviation: f64,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        Self::with(config, widths, seed, |width, seed| Linear::normal(width, widths.dim, deviation, seed, device))
    }

    fn with(
        config: &UserConfig,
        widths: Widths,
        seed: u64,
        layer: impl Fn(usize, u64) -> candle_core::Result<Linear>,
    ) -> Result<Self, RecommenderError> {
        let layer = |wanted: bool, width: usize, seed| wanted.then(|| layer(width.max(1), seed)).transpose();
        Ok(Self {
            event: layer(config.events, widths.events, seed.wrapping_add(1))?,
            features: layer(config.features, widths.features, seed.wrapping_add(5))?,
        })
    }

    /// The same without features, for who takes them in another way.
    pub(super) fn without_features(self) -> Self {
        Self { features: None, ..self }
    }

    /// The same without events, for who does not look at them.
    pub(super) fn without_events(self) -> Self {
        Self { event: None, ..self }
    }

    /// `v_t + E e_t` for all events of the batch `[T, dim]`.
    pub(super) fn events(&self, past: &Past<'_>) -> Result<Tensor, RecommenderError> {
        match &self.event {
            Some(event) if !past.rows.is_empty() => Ok((past.gathered()? + event.forward(&past.events)?)?),
            _ => past.gathered(),
        }
    }

    /// What models that pool events add to each of them.
    pub(super) fn of_events<'a>(&'a self, past: &'a Past<'_>) -> Option<EntryFeatures<'a>> {
        self.event.as_ref().map(|layer| EntryFeatures { values: &past.events, layer })
    }

    /// `u + F f` for all requests of the batch `[U, dim]`.
    pub(super) fn with_features(&self, users: Tensor, past: &Past<'_>) -> Result<Tensor, RecommenderError> {
        match &self.features {
            Some(features) => Ok((users + features.forward(&past.features)?)?),
            None => Ok(users),
        }
    }

    /// `users.event.…`, `users.features.…`, as far as they are there.
    pub(super) fn parameters(&self) -> Vec<(String, Var)> {
        let layers = [("users.event", &self.event), ("users.features", &self.features)];
        layers.into_iter().flat_map(|(name, layer)| layer.iter().flat_map(|layer| layer.parameters(name))).collect()
    }
}
