//! Layers that take the preference vector as an input, so that one model answers for every balance.
//!
//! A preference `r` has one share for each objective, not negative and summing to 1. Training draws a new one at every step and
//! weighs the losses by it; serving asks for the one it wants.

mod film;
mod hypernetwork;
mod layer;
mod modulation;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub(crate) use layer::ConditionedLinear;
pub use modulation::Modulation;

use crate::Result;

#[cfg(test)]
mod tests;

/// How a model takes the preference `r` as an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conditioning {
    /// Not at all: one model, one balance.
    #[default]
    None,
    /// `y = (1 + s(r)) ∘ x + t(r)`, with scale and shift from a small network of `r`: feature-wise linear modulation (Perez et al.,
    /// "FiLM", AAAI 2018), with losses weighted by a random `r` as in Dosovitskiy and Djolonga, "You only train once", ICLR 2020.
    Film,
    /// `W(r) = W_0 + Σ_c h_c(r) W_c`, with `h` a small network that ends in a softmax: weights that a hypernetwork with a linear head generates, of as many
    /// directions as there are components. Navon, Shamsian, Chechik and Fetaya, "Learning the Pareto front with hypernetworks",
    /// ICLR 2021.
    Hypernetwork,
}

impl Conditioning {
    /// Whether the model does not take a preference.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Film => "film",
            Self::Hypernetwork => "hypernetwork",
        }
    }
}

/// Width of the hidden layer of the networks of `r`.
const HIDDEN: usize = 32;

/// What comes out of the networks of `r` starts this much smaller than Glorot's: small enough that a fresh model hardly differs
/// from one without conditioning, not zero, so that every layer of them has a gradient from the first step.
const SMALL: f32 = 0.1;

/// `K r`, as a row `[1, K]`: entries of about 1, whatever the number of objectives.
fn input(shares: &[f64], device: &Device) -> Result<Tensor> {
    let count = shares.len();
    Ok(Tensor::from_vec(shares.iter().map(|r| (r * count as f64) as f32).collect(), (1, count), device)?)
}
