//! AdamW.

use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Stepper;
use super::algorithm::{Algorithm, Buffer, Step};
use super::inplace::{Flat, Piece};
use crate::{OptimError, Result};

#[cfg(test)]
mod tests;

/// AdamW (Loshchilov and Hutter 2019), with the arithmetic of PyTorch's:
///
/// ```text
/// θ ← θ (1 - lr λ)
/// m ← β₁ m + (1 - β₁) g          v ← β₂ v + (1 - β₂) g²
/// θ ← θ - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)
/// ```
///
/// It remembers two numbers for each of a parameter's. Rows of a table without a gradient stay what they were, their moments included,
/// as in PyTorch's `SparseAdam`. Everything else is a [`Stepper`]'s.
///
/// ```
/// use candle_core::{Device, Var};
/// use paretune_optim::{AdamW, AdamWConfig, Groups, collect};
///
/// let w = Var::new(&[3.0_f32, -2.0], &Device::Cpu)?;
/// let parameters = vec![("w".to_string(), w.clone())];
/// let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;
/// for _ in 0..200 {
///     let loss = w.sqr()?.sum_all()?;
///     optimizer.step(&collect(&loss.backward()?, &parameters), 0.1)?;
/// }
/// assert!(w.to_vec1::<f32>()?.iter().all(|x| x.abs() < 0.1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type AdamW = Stepper<AdamWConfig>;

/// Settings of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Memory of the mean gradient, in `[0, 1)`.
    pub beta1: f64,
    /// Memory of the mean squared gradient, in `[0, 1)`.
    pub beta2: f64,
    /// Keeps the division finite, above 0.
    pub eps: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// Ranges of Adam's three numbers.
pub(super) fn check(beta1: f64, beta2: f64, eps: f64) -> Result<()> {
    for (setting, value) in [("beta1", beta1), ("beta2", beta2)] {
        if !(0.0..1.0).contains(&value) {
            let rule = "it is at least 0 and below 1";
            return Err(OptimError::Setting { setting: setting.into(), value: value.to_string(), rule });
        }
    }
    if !(eps.is_finite() && eps > 0.0) {
        let rule = "it is a small positive number, such as 1e-8";
        return Err(OptimError::Setting { setting: "eps".into(), value: eps.to_string(), rule });
    }
    Ok(())
}

impl Algorithm for AdamWConfig {
    const NAME: &'static str = "adamw";

    fn check(&self) -> Result<()> {
        check(self.beta1, self.beta2, self.eps)
    }

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        vec![Buffer::like("first", shape), Buffer::like("second", shape)]
    }

    fn flat(&self, step: &Step, flat: Flat<'_>) {
        let (correction1, correction2) = step.corrections(self.beta1, self.beta2);
        let (keep, size) = ((1.0 - step.lr * step.weight_decay) as f32, (step.lr / correction1) as f32);
        let (scale, eps, inverse) = (step.scale as f32, self.eps as f32, (1.0 / correction2) as f32);
        let (gain1, gain2, beta2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32, self.beta2 as f32);
        flat.pieces().into_par_iter().for_each(|Piece { parameter, gradient, buffers: [first, second] }| {
            for (((p, &g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
                let g = g * scale;
                *m += gain1 * (g - *m);
                *v = beta2 * *v + gain2 * (g * g);
                *p = keep * *p - size * (*m / (v.sqrt() * inverse + eps));
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
        let direction = (first / ((second.sqrt()? / correction2)? + self.eps)?)?;
        (parameter * (1.0 - step.lr * step.weight_decay))? - (direction * (step.lr / correction1))?
    }
}

/// Moves Adam's two moments on.
pub(super) fn moments(
    beta1: f64,
    beta2: f64,
    gradient: &Tensor,
    buffers: &mut [Tensor],
) -> candle_core::Result<(Tensor, Tensor)> {
    buffers[0] = (&buffers[0] + ((gradient - &buffers[0])? * (1.0 - beta1))?)?;
    buffers[1] = ((&buffers[1] * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
    Ok((buffers[0].clone(), buffers[1].clone()))
}
