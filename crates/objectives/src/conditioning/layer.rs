//! A linear layer that a preference can move.

use candle_core::{Device, Tensor, Var};

use super::{Conditioning, film::Film, hypernetwork::Hypernetwork};
use crate::{Linear, Result, silu::silu};

/// `y = x Wᵀ + b`, then modulated, or with `W(r)` and `b(r)`; as it is without conditioning.
#[derive(Debug, Clone)]
pub(crate) struct ConditionedLinear {
    base: Linear,
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    Nothing,
    Film(Film),
    Hypernetwork(Hypernetwork),
}

impl ConditionedLinear {
    /// The layer itself starts as [`Linear::new`] of the same name and seed would.
    pub(crate) fn new(
        name: &str,
        (inputs, outputs): (usize, usize),
        conditioning: Conditioning,
        objectives: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let by = match conditioning {
            Conditioning::None => By::Nothing,
            Conditioning::Film => By::Film(Film::new(name, objectives, outputs, seed, device)?),
            Conditioning::Hypernetwork => {
                By::Hypernetwork(Hypernetwork::new(name, objectives, (inputs, outputs), seed, device)?)
            }
        };
        Ok(Self { base: Linear::new(name, inputs, outputs, seed, device)?, by })
    }

    /// `[B, in]` to `[B, out]`.
    pub(crate) fn forward(&self, x: &Tensor, shares: &[f64]) -> Result<Tensor> {
        match &self.by {
            By::Nothing => self.base.forward(x),
            By::Film(film) => film.forward(&self.base.forward(x)?, shares),
            By::Hypernetwork(network) => {
                let (weight, bias) = network.generate(shares)?;
                let weight = (self.base.weight().as_tensor() + weight)?;
                let bias = (self.base.bias().as_tensor() + bias)?;
                Ok(x.matmul(&weight.t()?)?.broadcast_add(&bias)?)
            }
        }
    }

    /// `SiLU` of it.
    pub(crate) fn forward_silu(&self, x: &Tensor, shares: &[f64]) -> Result<Tensor> {
        match &self.by {
            By::Nothing => self.base.forward_silu(x),
            By::Film(_) | By::Hypernetwork(_) => Ok(silu(&self.forward(x, shares)?)?),
        }
    }

    /// The layer's own bias.
    pub(crate) fn bias(&self) -> &Var {
        self.base.bias()
    }

    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.base.parameters();
        match &self.by {
            By::Nothing => {}
            By::Film(film) => all.extend(film.parameters()),
            By::Hypernetwork(network) => all.extend(network.parameters()),
        }
        all
    }
}
