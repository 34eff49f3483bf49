//! Weights that a network of the preference generates.

use candle_core::{DType, Device, Tensor, Var};
use rand::RngExt;

use super::{HIDDEN, SMALL, input};
use crate::layers::{glorot, named_rng};
use crate::{Linear, Result};

/// Directions in which the weights of a layer can move with the preference. A layer takes this many more weight matrices of
/// memory, and for each batch, however long, as many multiplications for each weight.
const COMPONENTS: usize = 8;

/// `V(r) = Σ_c h_c(r) V_c` and `v(r) = Σ_c h_c(r) v_c`, with `h(r) = softmax(B SiLU(A r + a) + b)`: what is added to the weights
/// `[out, in]` and the bias `[out]` of a layer.
///
/// Since `h` is a convex combination, a step of the optimizer moves `W(r)` about as far as it moves the weights of a plain layer,
/// whatever `r`; with an unbounded `h` it moves several times as far, and farthest at the corners of the simplex.
#[derive(Debug, Clone)]
pub(super) struct Hypernetwork {
    name: String,
    hidden: Linear,
    mixture: Linear,
    /// `[COMPONENTS, out, in]`.
    weights: Var,
    /// `[COMPONENTS, out]`.
    biases: Var,
}

impl Hypernetwork {
    pub(super) fn new(
        name: &str,
        objectives: usize,
        (inputs, outputs): (usize, usize),
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let name = format!("{name}.hyper");
        let bound = SMALL * glorot(inputs, outputs);
        let mut random = named_rng(seed, &format!("{name}.weight"));
        let values: Vec<f32> =
            (0..COMPONENTS * outputs * inputs).map(|_| random.random_range(-bound..=bound)).collect();
        Ok(Self {
            hidden: Linear::new(&format!("{name}.0"), objectives, HIDDEN, seed, device)?,
            mixture: Linear::new(&format!("{name}.1"), HIDDEN, COMPONENTS, seed, device)?,
            weights: Var::from_vec(values, (COMPONENTS, outputs, inputs), device)?,
            biases: Var::zeros((COMPONENTS, outputs), DType::F32, device)?,
            name,
        })
    }

    /// `V(r) [out, in]` and `v(r) [out]`.
    pub(super) fn generate(&self, shares: &[f64]) -> Result<(Tensor, Tensor)> {
        let (components, outputs, inputs) = self.weights.dims3()?;
        let hidden = self.hidden.forward(&input(shares, self.weights.device())?)?.silu()?;
        let logits = self.mixture.forward(&hidden)?;
        // Less the largest, so that nothing overflows; it is a constant to the gradient.
        let weights = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?.exp()?;
        let mixture = weights.broadcast_div(&weights.sum_keepdim(1)?)?;
        let weight = mixture.matmul(&self.weights.reshape((components, outputs * inputs))?)?;
        let bias = mixture.matmul(&self.biases)?;
        Ok((weight.reshape((outputs, inputs))?, bias.reshape(outputs)?))
    }

    /// `NAME.hyper.0.*`, `NAME.hyper.1.*`, `NAME.hyper.weight` `[components, out, in]` and `NAME.hyper.bias` `[components, out]`.
    pub(super) fn parameters(&self) -> Vec<(String, Var)> {
        let mut all: Vec<(String, Var)> =
            [&self.hidden, &self.mixture].into_iter().flat_map(Linear::parameters).collect();
        all.push((format!("{}.weight", self.name), self.weights.clone()));
        all.push((format!("{}.bias", self.name), self.biases.clone()));
        all
    }
}
