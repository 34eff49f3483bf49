//! Feature-wise linear modulation.

use candle_core::{Device, Tensor, Var};

use super::{HIDDEN, SMALL, input};
use crate::{Linear, Result};

/// `y = (1 + s(r)) ∘ x + t(r)` with `[s; t] = B SiLU(A r + a) + b`.
#[derive(Debug, Clone)]
pub(super) struct Film {
    hidden: Linear,
    output: Linear,
    width: usize,
}

impl Film {
    pub(super) fn new(name: &str, objectives: usize, width: usize, seed: u64, device: &Device) -> Result<Self> {
        Ok(Self {
            hidden: Linear::new(&format!("{name}.film.0"), objectives, HIDDEN, seed, device)?,
            output: Linear::with_gain(&format!("{name}.film.1"), HIDDEN, 2 * width, SMALL, seed, device)?,
            width,
        })
    }

    /// `[B, width]` to `[B, width]`.
    pub(super) fn forward(&self, x: &Tensor, shares: &[f64]) -> Result<Tensor> {
        let hidden = self.hidden.forward(&input(shares, x.device())?)?.silu()?;
        let both = self.output.forward(&hidden)?;
        let (scale, shift) = (both.narrow(1, 0, self.width)?, both.narrow(1, self.width, self.width)?);
        Ok(x.broadcast_mul(&(scale + 1.0)?)?.broadcast_add(&shift)?)
    }

    pub(super) fn parameters(&self) -> Vec<(String, Var)> {
        [&self.hidden, &self.output].into_iter().flat_map(Linear::parameters).collect()
    }
}
