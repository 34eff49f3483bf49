//! From features to a vector.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{Linear, dropout};

use super::config::{Arrangement, FeatureConfig, FeatureNetwork};
use super::cross::CrossNetwork;
use crate::RecommenderError;

/// A network `[n, inputs]` to `[n, outputs]`, with `H` the hidden layers (ReLU, dropout) and `C` the crosses:
///
/// ```text
/// linear    O x
/// mlp       O H(x)
/// dcn       O [C(x); H(x)]     or, stacked, O H(C(x))
/// ```
pub(super) struct Network {
    crosses: Option<CrossNetwork>,
    hidden: Vec<Linear>,
    out: Linear,
    arrangement: Arrangement,
    dropout: f64,
}

/// How the last layer begins.
#[derive(Clone, Copy)]
pub(super) enum Start {
    /// As PyTorch draws it.
    Usual,
    /// A tenth of it: what it is added to begins almost as it would be without.
    Small,
}

impl Network {
    pub(super) fn new(
        config: &FeatureConfig,
        inputs: usize,
        outputs: usize,
        start: Start,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let crosses = match config.kind {
            FeatureNetwork::Dcn => Some(CrossNetwork::new(inputs, config.layers, config.rank, seed, device)?),
            FeatureNetwork::Linear | FeatureNetwork::Mlp => None,
        };
        let widths = if config.kind == FeatureNetwork::Linear { &[][..] } else { &config.hidden };
        let mut hidden = Vec::with_capacity(widths.len());
        let mut width = inputs;
        for (layer, &wide) in (0u64..).zip(widths) {
            hidden.push(Linear::new(width, wide, seed.wrapping_add(1000 + layer), device)?);
            width = wide;
        }
        if crosses.is_some() && config.arrangement == Arrangement::Parallel && !hidden.is_empty() {
            width += inputs;
        }
        let seed = seed.wrapping_add(2000);
        let out = match start {
            Start::Usual => Linear::new(width, outputs, seed, device)?,
            Start::Small => Linear::normal(width, outputs, 0.1 / (width as f64).sqrt(), seed, device)?,
        };
        Ok(Self { crosses, hidden, out, arrangement: config.arrangement, dropout: config.dropout })
    }

    /// `seed` is that of a training step's dropout.
    pub(super) fn forward(&self, x: &Tensor, seed: Option<u64>) -> Result<Tensor, RecommenderError> {
        let crossed = self.crosses.as_ref().map(|crosses| crosses.forward(x)).transpose()?;
        let last = match (&crossed, self.arrangement) {
            (None, _) => self.deep(x, seed)?,
            (Some(crossed), Arrangement::Stacked) => self.deep(crossed, seed)?,
            (Some(crossed), Arrangement::Parallel) if self.hidden.is_empty() => crossed.clone(),
            (Some(crossed), Arrangement::Parallel) => Tensor::cat(&[crossed, &self.deep(x, seed)?], 1)?,
        };
        Ok(self.out.forward(&last)?)
    }

    fn deep(&self, x: &Tensor, seed: Option<u64>) -> Result<Tensor, RecommenderError> {
        let mut x = x.clone();
        for (layer, linear) in (0u64..).zip(&self.hidden) {
            x = linear.forward(&x)?.relu()?;
            if let Some(seed) = seed {
                x = dropout(&x, self.dropout, seed.wrapping_add(layer))?;
            }
        }
        Ok(x)
    }

    pub(super) fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        let mut all: Vec<(String, Var)> =
            self.crosses.iter().flat_map(|crosses| crosses.parameters(&format!("{prefix}.cross"))).collect();
        let hidden = self.hidden.iter().enumerate();
        all.extend(hidden.flat_map(|(layer, linear)| linear.parameters(&format!("{prefix}.hidden.{layer}"))));
        all.extend(self.out.parameters(&format!("{prefix}.out")));
        all
    }
}
