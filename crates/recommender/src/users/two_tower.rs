//! The query tower of a two-tower model.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{Linear, dropout};

use super::extras::Extras;
use super::{Past, UserConfig, UserModel, Widths};
use crate::RecommenderError;

/// A perceptron over `[mean_t(v_t + E e_t); f]` (Covington et al. 2016, "Deep neural networks for YouTube recommendations"): `layers`
/// hidden layers of `inner · dim` with ReLU and dropout, then one of `dim`.
pub(super) struct TwoTower {
    extras: Extras,
    hidden: Vec<Linear>,
    out: Linear,
    features: bool,
    dropout: f64,
}

impl TwoTower {
    pub(super) fn new(
        config: &UserConfig,
        widths: Widths,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let mut width = widths.dim + if config.features { widths.features.max(1) } else { 0 };
        let mut hidden = Vec::new();
        for layer in 0..config.layers as u64 {
            let wide = widths.dim * config.inner.max(1);
            hidden.push(Linear::new(width, wide, seed.wrapping_add(10 + layer), device)?);
            width = wide;
        }
        Ok(Self {
            // Features go through the perceptron, not around it.
            extras: Extras::new(config, widths, seed, device)?.without_features(),
            hidden,
            out: Linear::new(width, widths.dim, seed.wrapping_add(4), device)?,
            features: config.features,
            dropout: config.dropout,
        })
    }
}

impl UserModel for TwoTower {
    fn forward(&self, past: &Past<'_>, seed: Option<u64>) -> Result<Tensor, RecommenderError> {
        let mut x = past.bags()?.mean(&past.items, self.extras.of_events(past))?;
        if self.features {
            x = Tensor::cat(&[&x, &past.features], 1)?;
        }
        for (layer, linear) in self.hidden.iter().enumerate() {
            x = linear.forward(&x)?.relu()?;
            if let Some(seed) = seed {
                x = dropout(&x, self.dropout, seed.wrapping_add(layer as u64))?;
            }
        }
        Ok(self.out.forward(&x)?)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.extras.parameters();
        let hidden = self.hidden.iter().enumerate();
        all.extend(hidden.flat_map(|(layer, linear)| linear.parameters(&format!("users.hidden.{layer}"))));
        all.extend(self.out.parameters("users.out"));
        all
    }
}
