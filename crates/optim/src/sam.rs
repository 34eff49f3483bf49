//! Sharpness-aware minimization.

use candle_core::{Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::gradients::tensor_error;
use crate::held::{Held, is_flat};
use crate::optimizers::{check_gradient, cut, in_place};
use crate::{Gradient, Gradients, OptimError, Result};

/// Sharpness-aware minimization (Foret, Kleiner, Mobahi and Neyshabur, ICLR 2021): descends along the gradient at the worst place nearby,
/// with any optimizer.
///
/// ```text
/// climb    θ' = θ + ρ g / (‖g‖ + 1e-12)                              adaptive: θ' = θ + ρ θ² g / (‖ |θ| g ‖ + 1e-12)
/// there    g' = ∇L(θ')
/// descend  from θ, along g'
/// ```
///
/// `adaptive` is ASAM (Kwon, Kim, Park and Choi, ICML 2021), for which a parameter of twice the size may go twice as far; it wants a
/// `ρ` about ten times as large. A step costs two passes over the batch, and a copy of what moves. It remembers nothing between steps.
///
/// Rows of a table without a gradient stay where they are, as `g` is zero there.
///
/// ```
/// use candle_core::{Device, Var};
/// use paretune_optim::{AdamW, AdamWConfig, Groups, OptimError, Sam, collect};
///
/// let w = Var::new(&[3.0_f32, -4.0], &Device::Cpu)?;
/// let parameters = vec![("w".to_string(), w.clone())];
/// let gradients = || collect(&w.sqr().unwrap().sum_all().unwrap().backward().unwrap(), &parameters);
/// let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;
///
/// let sam = Sam { rho: 0.5, adaptive: false };
/// let there = sam.at_peak(&parameters, &gradients(), || {
///     assert_eq!(w.to_vec1::<f32>().unwrap(), [3.3, -4.4]); // half a unit uphill
///     Ok::<_, OptimError>(gradients())
/// })?;
/// assert_eq!(w.to_vec1::<f32>()?, [3.0, -4.0]);
/// optimizer.step(&there, 0.1)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sam {
    /// How far uphill, above 0.
    pub rho: f64,
    /// Each parameter in proportion to its size.
    pub adaptive: bool,
}

impl Default for Sam {
    fn default() -> Self {
        Self { rho: 0.05, adaptive: false }
    }
}

impl Sam {
    /// Says whether the settings are in range.
    ///
    /// # Errors
    /// A `rho` that is not positive.
    pub fn check(&self) -> Result<()> {
        if self.rho.is_finite() && self.rho > 0.0 {
            return Ok(());
        }
        let rule = "it is a positive number, such as 0.05; leave the table out to do without";
        Err(OptimError::Setting { setting: "rho".into(), value: self.rho.to_string(), rule })
    }

    /// Climbs along `gradients`, calls `there` (which computes the gradients to descend along), and puts every parameter back, byte for
    /// byte, whatever `there` said.
    ///
    /// # Errors
    /// Those of `there`; a `rho` out of range, a gradient that is not finite, of an unknown parameter or of another shape (`there` is
    /// not called then).
    pub fn at_peak<T, E: From<OptimError>>(
        &self,
        parameters: &[(String, Var)],
        gradients: &Gradients,
        there: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.check()?;
        let mut moves = Vec::with_capacity(gradients.len());
        let mut square = 0.0;
        for (name, gradient) in gradients {
            let var = parameters.iter().find_map(|(other, var)| (other == name).then_some(var));
            check_gradient(name, gradient, var)?;
            if let Some(var) = var {
                let uphill = if self.adaptive {
                    stretched(gradient, var).map_err(tensor_error(name))?
                } else {
                    gradient.clone()
                };
                let product = uphill.dot(gradient).map_err(tensor_error(name))?;
                if !product.is_finite() {
                    return Err(OptimError::NotFiniteGradient { name: name.clone() }.into());
                }
                square += product;
                moves.push((name, var, uphill));
            }
        }
        let size = self.rho / (square.sqrt() + 1e-12);
        let mut held = Held::default();
        for (name, var, uphill) in &moves {
            held.keep_touched(name, var, uphill)?;
        }
        held.during(|| {
            for (name, var, uphill) in moves {
                climb(var, &uphill, size).map_err(tensor_error(name))?;
            }
            there()
        })
    }
}

/// `θ² g`.
fn stretched(gradient: &Gradient, var: &Var) -> candle_core::Result<Gradient> {
    let parameter = var.as_detached_tensor();
    let stretch = |values: &Tensor, parameter: Tensor| {
        let values = values.detach();
        parameter.to_dtype(values.dtype())?.sqr()? * values
    };
    Ok(match gradient {
        Gradient::Dense(values) => Gradient::Dense(stretch(values, parameter)?),
        Gradient::Rows { rows, values, height } => {
            let touched = parameter.index_select(&Tensor::new(&rows[..], var.device())?, 0)?;
            Gradient::Rows { rows: rows.clone(), values: stretch(values, touched)?, height: *height }
        }
    })
}

/// `θ ← θ + size · uphill`.
fn climb(var: &Var, uphill: &Gradient, size: f64) -> candle_core::Result<()> {
    let (rows, values) = match uphill {
        Gradient::Dense(values) => (None, values),
        Gradient::Rows { rows, values, .. } => (Some(&rows[..]), values),
    };
    if is_flat(var) {
        let (width, size) = (var.dims().last().copied().unwrap_or(1), size as f32);
        return in_place(var, values, |parameter, uphill| {
            cut(parameter, uphill, rows, width, []).into_par_iter().for_each(|piece| {
                for (p, u) in piece.parameter.iter_mut().zip(piece.gradient) {
                    *p += size * u;
                }
            });
        });
    }
    let dtype = if var.dtype() == candle_core::DType::F64 { var.dtype() } else { candle_core::DType::F32 };
    let uphill = (uphill.dense()?.detach().to_dtype(dtype)? * size)?;
    var.set(&(var.as_detached_tensor().to_dtype(dtype)? + uphill)?.to_dtype(var.dtype())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn bits(var: &Var) -> Vec<u64> {
        let values = var.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn everything_is_put_back_byte_for_byte_whatever_happens_there() {
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let tensor = |values: &[f32], shape: (usize, usize)| {
                Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
            };
            let dense = Var::from_tensor(&tensor(&[1.0, -0.0, 1e-30, 3.3], (2, 2))).unwrap();
            let table = Var::from_tensor(&tensor(&[0.1, -0.0, 0.2, 0.3, 1e6, -0.7], (3, 2))).unwrap();
            let parameters = vec![("dense".to_string(), dense.clone()), ("table".to_string(), table.clone())];
            let rows = Gradient::Rows { rows: vec![0, 2], values: tensor(&[1.0, 2.0, 0.0, -2.0], (2, 2)), height: 3 };
            let gradients = Gradients::from([
                ("dense".to_string(), tensor(&[1.0, 2.0, -1.0, 1.0], (2, 2)).into()),
                ("table".to_string(), rows),
            ]);
            for adaptive in [false, true] {
                let before = (bits(&dense), bits(&table));
                let sam = Sam { rho: 0.4, adaptive };
                let seen = sam.at_peak(&parameters, &gradients, || Ok::<_, OptimError>((bits(&dense), bits(&table))));
                let seen = seen.unwrap();
                assert!(seen.0 != before.0, "{dtype:?} {adaptive}");
                assert_eq!(seen.1[2..4], before.1[2..4], "no gradient, no move");
                if !adaptive {
                    assert!(seen.1[..2].iter().zip(&before.1).all(|(a, b)| a != b));
                }
                assert_eq!((bits(&dense), bits(&table)), before);
                let failed = sam.at_peak(&parameters, &gradients, || Err::<(), _>(OptimError::Empty));
                assert!(matches!(failed, Err(OptimError::Empty)));
                assert_eq!((bits(&dense), bits(&table)), before);
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_moves_nothing() {
        let w = Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
        let parameters = vec![("w".to_string(), w.clone())];
        let never = || -> Result<()> { panic!("it must not come to this") };
        let sam = Sam::default();
        for (name, values, part) in [
            ("w", vec![f32::NAN, 1.0], "the gradient of parameter w is not finite"),
            ("w", vec![1.0], "shape [1], expected [2]"),
            ("v", vec![1.0, 1.0], "no such parameter"),
        ] {
            let gradient = Tensor::new(values, &Device::Cpu).unwrap();
            let refused = sam.at_peak(&parameters, &Gradients::from([(name.into(), gradient.into())]), never);
            assert!(refused.unwrap_err().to_string().contains(part));
        }
        for rho in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = Sam { rho, adaptive: false }.at_peak(&parameters, &Gradients::new(), never).unwrap_err();
            assert!(refused.to_string().contains("rho = "), "{refused}");
        }
        assert_eq!(w.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
        // A gradient of zeros climbs nowhere.
        let zeros = Gradients::from([("w".to_string(), w.zeros_like().unwrap().into())]);
        sam.at_peak(&parameters, &zeros, || Ok::<_, OptimError>(())).unwrap();
    }
}
