//! One network, from what it reads to a logit.

use candle_core::{Device, Tensor, Var};

use crate::conditioning::ConditionedLinear;
use crate::layers::{dropout, named_rng};
use crate::{Conditioning, Result};

/// `(Linear → SiLU → dropout)* → Linear`, `[B, input]` to `[B]`.
#[derive(Debug, Clone)]
pub(super) struct Tower {
    name: String,
    hidden: Vec<ConditionedLinear>,
    output: ConditionedLinear,
    dropout: f32,
}

/// What a tower is made of.
pub(super) struct Shape<'a> {
    /// Width of what it reads.
    pub(super) input: usize,
    pub(super) hidden: &'a [usize],
    pub(super) dropout: f32,
    pub(super) conditioning: Conditioning,
    /// Number of shares of a preference.
    pub(super) objectives: usize,
}

impl Tower {
    /// Layers `towers.NAME.0`, `.1`, …, seeded from their names.
    pub(super) fn new(name: &str, shape: &Shape<'_>, seed: u64, device: &Device) -> Result<Self> {
        let layer = |k: usize, sizes, by| {
            ConditionedLinear::new(&format!("towers.{name}.{k}"), sizes, by, shape.objectives, seed, device)
        };
        let mut input = shape.input;
        let mut hidden = Vec::with_capacity(shape.hidden.len());
        for (k, &width) in shape.hidden.iter().enumerate() {
            hidden.push(layer(k, (input, width), shape.conditioning)?);
            input = width;
        }
        let last = match shape.conditioning {
            // The hidden layers say it; a logit of its own scale and shift would add nothing.
            Conditioning::Film if !hidden.is_empty() => Conditioning::None,
            other => other,
        };
        let output = layer(hidden.len(), (input, 1), last)?;
        Ok(Self { name: name.to_owned(), hidden, output, dropout: shape.dropout })
    }

    /// Logits `[B]`; with a seed, hidden values are dropped.
    pub(super) fn forward(&self, x: &Tensor, shares: &[f64], dropout_seed: Option<u64>) -> Result<Tensor> {
        let mut x = x.clone();
        for (k, hidden) in self.hidden.iter().enumerate() {
            x = hidden.forward_silu(&x, shares)?;
            if let Some(seed) = dropout_seed {
                let random = match k {
                    0 => named_rng(seed, &self.name),
                    _ => named_rng(seed, &format!("{}.{k}", self.name)),
                };
                x = dropout(&x, self.dropout, random)?;
            }
        }
        Ok(self.output.forward(&x, shares)?.squeeze(1)?)
    }

    /// The bias of the logit.
    pub(super) fn bias(&self) -> &Var {
        self.output.bias()
    }

    pub(super) fn parameters(&self) -> Vec<(String, Var)> {
        self.hidden.iter().chain([&self.output]).flat_map(ConditionedLinear::parameters).collect()
    }
}
