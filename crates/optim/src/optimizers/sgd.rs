//! Gradient descent with momentum.

use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Stepper;
use super::algorithm::{Algorithm, Buffer, Step};
use super::inplace::{Flat, Piece};
use crate::{OptimError, Result};

/// Stochastic gradient descent with momentum (Sutskever, Martens, Dahl and Hinton 2013), with the arithmetic of PyTorch's:
///
/// ```text
/// g ← g + λ θ                    b ← μ b + g
/// θ ← θ - lr b                   with Nesterov: θ ← θ - lr (g + μ b)
/// ```
///
/// Weight decay is part of the gradient, as in PyTorch. It remembers one number for each of a parameter's, none without momentum. The
/// momentum of rows without a gradient stays what it was and does not move them. Everything else is a [`Stepper`]'s.
///
/// ```
/// use candle_core::{Device, Var};
/// use paretune_optim::{Groups, Sgd, SgdConfig, collect};
///
/// let w = Var::new(&[3.0_f32], &Device::Cpu)?;
/// let parameters = vec![("w".to_string(), w.clone())];
/// let plain = SgdConfig { momentum: 0.0, nesterov: false };
/// let mut optimizer = Sgd::new(plain, &Groups { weight_decay: 0.0, ..Groups::default() }, parameters.clone())?;
/// optimizer.step(&collect(&w.sqr()?.sum_all()?.backward()?, &parameters), 0.25)?;
/// assert_eq!(w.to_vec1::<f32>()?, [1.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Sgd = Stepper<SgdConfig>;

/// Settings of [`Sgd`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdConfig {
    /// Memory `μ` of the gradient, in `[0, 1)`.
    pub momentum: f64,
    /// Looks ahead along the momentum.
    pub nesterov: bool,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: true }
    }
}

impl Algorithm for SgdConfig {
    const NAME: &'static str = "sgd";

    fn check(&self) -> Result<()> {
        let wrong =
            |setting: &str, value: String, rule| Err(OptimError::Setting { setting: setting.into(), value, rule });
        if !(0.0..1.0).contains(&self.momentum) {
            return wrong("momentum", self.momentum.to_string(), "it is at least 0 and below 1");
        }
        if self.nesterov && self.momentum == 0.0 {
            return wrong("nesterov", "true".into(), "it needs a momentum above 0");
        }
        Ok(())
    }

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        if self.momentum > 0.0 { vec![Buffer::like("momentum", shape)] } else { Vec::new() }
    }

    fn flat(&self, step: &Step, flat: Flat<'_>) {
        let (lr, scale, decay) = (step.lr as f32, step.scale as f32, step.weight_decay as f32);
        let momentum = self.momentum as f32;
        if self.momentum == 0.0 {
            flat.pieces().into_par_iter().for_each(|Piece { parameter, gradient, buffers: [] }| {
                for (p, &g) in parameter.iter_mut().zip(gradient) {
                    *p -= lr * (g * scale + decay * *p);
                }
            });
            return;
        }
        flat.pieces().into_par_iter().for_each(|Piece { parameter, gradient, buffers: [buffer] }| {
            for ((p, &g), b) in parameter.iter_mut().zip(gradient).zip(buffer) {
                let g = g * scale + decay * *p;
                *b = momentum * *b + g;
                *p -= lr * if self.nesterov { g + momentum * *b } else { *b };
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
        let gradient = (gradient + (parameter * step.weight_decay)?)?;
        let direction = match buffers {
            [buffer] => {
                *buffer = ((&*buffer * self.momentum)? + &gradient)?;
                if self.nesterov { (&gradient + (&*buffer * self.momentum)?)? } else { buffer.clone() }
            }
            _ => gradient,
        };
        parameter - (direction * step.lr)?
    }
}
