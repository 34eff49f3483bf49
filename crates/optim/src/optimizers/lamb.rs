//! LAMB.

use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Stepper;
use super::adamw::{check, moments};
use super::algorithm::{Algorithm, Buffer, Step};
use super::inplace::{Flat, Piece, squares};
use crate::Result;
use crate::gradient::in_double;

/// LAMB (You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", ICLR 2020, algorithm 2 with its bias
/// corrections): Adam's step, rescaled for each parameter to the parameter's own length.
///
/// ```text
/// m ← β₁ m + (1 - β₁) g          v ← β₂ v + (1 - β₂) g²
/// u = m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε) + λ θ
/// θ ← θ - lr ‖θ‖ / ‖u‖ · u
/// ```
///
/// Where either norm is 0 the ratio is 1, and so it is for biases and normalization weights ([`Groups::no_decay`](crate::Groups)),
/// whose lengths say nothing of how far they may move (as in the authors' code). It remembers what AdamW remembers, and needs one more pass.
///
/// Of a table whose gradient is of some rows, those rows are the parameter: their moments move, and the ratio is of their norms, so
/// that rows which no batch touches neither move nor make the steps of the others longer. Everything else is a [`Stepper`]'s.
///
/// ```
/// use candle_core::{Device, Var};
/// use paretune_optim::{Groups, Lamb, LambConfig, collect};
///
/// let w = Var::new(&[3.0_f32, -4.0], &Device::Cpu)?;
/// let parameters = vec![("w".to_string(), w.clone())];
/// let mut optimizer = Lamb::new(LambConfig::default(), &Groups::default(), parameters.clone())?;
/// optimizer.step(&collect(&w.sqr()?.sum_all()?.backward()?, &parameters), 0.1)?;
/// // It moved by a tenth of its length.
/// let moved = w.to_vec1::<f32>()?;
/// assert!(((moved[0] - 3.0).hypot(moved[1] + 4.0) - 0.5).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Lamb = Stepper<LambConfig>;

/// Settings of [`Lamb`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LambConfig {
    /// Memory of the mean gradient, in `[0, 1)`.
    pub beta1: f64,
    /// Memory of the mean squared gradient, in `[0, 1)`.
    pub beta2: f64,
    /// Keeps the division finite, above 0.
    pub eps: f64,
}

impl Default for LambConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-6 }
    }
}

/// `‖θ‖ / ‖u‖` from the squares, 1 where it says nothing.
fn ratio(step: &Step, parameter: f64, update: f64) -> f64 {
    if step.plain || parameter == 0.0 || update == 0.0 { 1.0 } else { (parameter / update).sqrt() }
}

impl Algorithm for LambConfig {
    const NAME: &'static str = "lamb";

    fn check(&self) -> Result<()> {
        check(self.beta1, self.beta2, self.eps)
    }

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        vec![Buffer::like("first", shape), Buffer::like("second", shape)]
    }

    fn flat(&self, step: &Step, flat: Flat<'_>) {
        let (correction1, correction2) = step.corrections(self.beta1, self.beta2);
        let (raise1, raise2, eps) = ((1.0 / correction1) as f32, (1.0 / correction2) as f32, self.eps as f32);
        let (scale, decay) = (step.scale as f32, step.weight_decay as f32);
        let (gain1, gain2, beta2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32, self.beta2 as f32);
        let update = |p: f32, m: f32, v: f32| m * raise1 / (v.sqrt() * raise2 + eps) + decay * p;
        let mut pieces = flat.pieces();
        let sums: Vec<(f64, f64)> = pieces
            .par_iter_mut()
            .map(|Piece { parameter, gradient, buffers: [first, second] }| {
                for ((&g, m), v) in gradient.iter().zip(first.iter_mut()).zip(second.iter_mut()) {
                    let g = g * scale;
                    *m += gain1 * (g - *m);
                    *v = beta2 * *v + gain2 * (g * g);
                }
                (squares([parameter], |[p]| p), squares([parameter, first, second], |[p, m, v]| update(p, m, v)))
            })
            .collect();
        let (parameter, moved) = sums.iter().fold((0.0, 0.0), |sums, more| (sums.0 + more.0, sums.1 + more.1));
        let size = (step.lr * ratio(step, parameter, moved)) as f32;
        pieces.into_par_iter().for_each(|Piece { parameter, buffers: [first, second], .. }| {
            for ((p, &mut m), &mut v) in parameter.iter_mut().zip(first).zip(second) {
                *p -= size * update(*p, m, v);
            }
        });
    }

    fn composed(
        &self,
        step: &Step,
        parameter: &Tensor,
        gradient: &Tensor,
        buffers: &mut [Tensor],
    ) -> candle_core::Result<Tensor> {
        let (correction1, correction2) = step.corrections(self.beta1, self.beta2);
        let (first, second) = moments(self.beta1, self.beta2, gradient, buffers)?;
        let adam = ((first / correction1)? / ((second.sqrt()? / correction2)? + self.eps)?)?;
        let update = (adam + (parameter * step.weight_decay)?)?;
        let square = |t: &Tensor| in_double(t)?.sqr()?.sum_all()?.to_scalar::<f64>();
        parameter - (&update * (step.lr * ratio(step, square(parameter)?, square(&update)?)))?
    }
}
