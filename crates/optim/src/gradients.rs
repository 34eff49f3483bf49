//! Sets of named gradients on Candle tensors: collecting, adding, combining, clipping, comparing.
//!
//! Sums over millions of values are taken in `f64` over chunks of a fixed size and added in order, so that they do not depend on
//! the number of threads.

use std::collections::BTreeMap;

use candle_core::Var;
use candle_core::backprop::GradStore;

use crate::{Gradient, Gramian, OptimError, Result};

/// Gradients by the name of their parameter; a parameter that is missing has none.
pub type Gradients = BTreeMap<String, Gradient>;

pub(crate) fn tensor_error(name: &str) -> impl FnOnce(candle_core::Error) -> OptimError + '_ {
    move |source| OptimError::Tensor { name: name.to_string(), source }
}

/// The gradients of `parameters` that a backward pass left, in their names' order.
///
/// A parameter that the loss does not depend on has no entry.
pub fn collect(store: &GradStore, parameters: &[(String, Var)]) -> Gradients {
    parameters.iter().filter_map(|(name, var)| Some((name.clone(), store.get(var)?.clone().into()))).collect()
}

/// `into += scale × gradients`, for gradient accumulation over several small batches.
///
/// # Errors
/// Two gradients of one name have different shapes.
pub fn accumulate(into: &mut Gradients, gradients: &Gradients, scale: f64) -> Result<()> {
    for (name, gradient) in gradients {
        let add = || -> candle_core::Result<Gradient> {
            let scaled = if scale == 1.0 { gradient.clone() } else { gradient.scaled(scale)? };
            match into.get(name) {
                Some(sum) => sum.plus(&scaled),
                None => Ok(scaled),
            }
        };
        let sum = add().map_err(tensor_error(name))?;
        into.insert(name.clone(), sum);
    }
    Ok(())
}

/// `Σ w_i g_i` over the objectives' gradients. Objectives of weight 0 are not read.
///
/// # Errors
/// Not one weight for each objective, or shapes that differ.
pub fn combine(gradients: &[Gradients], weights: &[f64]) -> Result<Gradients> {
    if weights.len() != gradients.len() {
        return Err(OptimError::Count { what: "weights", found: weights.len(), expected: gradients.len() });
    }
    let mut sum = Gradients::new();
    for (gradients, &weight) in gradients.iter().zip(weights).filter(|(_, w)| **w != 0.0) {
        accumulate(&mut sum, gradients, weight)?;
    }
    Ok(sum)
}

/// The joint Euclidean norm of all gradients.
///
/// # Errors
/// A gradient that is not finite (the message names it).
pub fn global_norm(gradients: &Gradients) -> Result<f64> {
    let mut total = 0.0;
    for (name, gradient) in gradients {
        let squares = gradient.dot(gradient).map_err(tensor_error(name))?;
        if !squares.is_finite() {
            return Err(OptimError::NotFiniteGradient { name: name.clone() });
        }
        total += squares;
    }
    Ok(total.sqrt())
}

/// Scales all gradients by one factor so that their joint Euclidean norm is at most `max`; returns the norm before.
/// [`Stepper::step_clipped`](crate::Stepper::step_clipped) does the same without a pass over memory of its own.
///
/// # Errors
/// A gradient that is not finite (the message names it), or a `max` that is not positive; the gradients are unchanged then.
pub fn clip_global_norm(gradients: &mut Gradients, max: f64) -> Result<f64> {
    check_limit(max)?;
    let norm = global_norm(gradients)?;
    if norm > max {
        for (name, gradient) in gradients.iter_mut() {
            *gradient = gradient.scaled(max / norm).map_err(tensor_error(name))?;
        }
    }
    Ok(norm)
}

pub(crate) fn check_limit(max: f64) -> Result<()> {
    if max.is_nan() || max <= 0.0 {
        let (setting, value) = ("the largest gradient norm".to_string(), max.to_string());
        return Err(OptimError::Setting { setting, value, rule: "it is a positive number, such as 1" });
    }
    Ok(())
}

impl Gramian {
    /// The Gramian of the objectives' gradients over all their parameters together; a gradient that is missing is zero.
    ///
    /// `names` are the objectives' names, for messages.
    ///
    /// # Errors
    /// No objectives, shapes that differ, or a gradient that is not finite (the message names the objective).
    pub fn from_gradients<N: AsRef<str>>(names: &[N], gradients: &[Gradients]) -> Result<Self> {
        let m = gradients.len();
        if names.len() != m {
            return Err(OptimError::Count { what: "names", found: names.len(), expected: m });
        }
        let mut products = vec![0.0; m * m];
        for i in 0..m {
            for j in i..m {
                let mut total = 0.0;
                for (name, a) in &gradients[i] {
                    if let Some(b) = gradients[j].get(name) {
                        total += a.dot(b).map_err(tensor_error(name))?;
                    }
                }
                if i == j && !total.is_finite() {
                    let objective = names[i].as_ref().to_string();
                    return Err(OptimError::NotFinite { what: "the squared gradient norm", objective, value: total });
                }
                products[i * m + j] = total;
            }
        }
        Self::from_dots(m, |i, j| products[i * m + j])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    fn gradients(entries: &[(&str, &[f32])]) -> Gradients {
        let tensor = |v: &[f32]| Tensor::new(v, &Device::Cpu).unwrap().into();
        entries.iter().map(|(name, values)| ((*name).to_string(), tensor(values))).collect()
    }

    fn values(gradient: &Gradient) -> Vec<f32> {
        gradient.dense().unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn gramian_runs_over_all_parameters_and_takes_missing_ones_as_zero() {
        let a = gradients(&[("w", &[1.0, 2.0]), ("b", &[3.0])]);
        let b = gradients(&[("w", &[0.5, -1.0]), ("other", &[9.0])]);
        let found = Gramian::from_gradients(&["a", "b"], &[a, b]).unwrap();
        assert_eq!(found, Gramian::from_matrix(&[[14.0, -1.5], [-1.5, 82.25]]).unwrap());
    }

    #[test]
    fn gramian_names_the_objective_that_is_not_finite() {
        let rows = [gradients(&[("w", &[1.0])]), gradients(&[("w", &[f32::NAN])])];
        let error = Gramian::from_gradients(&["click", "dwell"], &rows).unwrap_err().to_string();
        assert!(error.contains("objective dwell is NaN"), "{error}");
        let rows = [gradients(&[("w", &[1.0])]), gradients(&[("w", &[1.0, 2.0])])];
        assert!(Gramian::from_gradients(&["click", "dwell"], &rows).unwrap_err().to_string().contains("failed on w"));
    }

    #[test]
    fn clipping_keeps_the_direction_and_short_gradients() {
        let mut g = gradients(&[("a", &[3.0]), ("b", &[0.0, 4.0])]);
        assert_eq!(clip_global_norm(&mut g, 10.0).unwrap(), 5.0);
        assert_eq!(values(&g["a"]), [3.0]);
        assert_eq!(clip_global_norm(&mut g, 1.0).unwrap(), 5.0);
        let (a, b) = (values(&g["a"])[0], values(&g["b"])[1]);
        assert!((a - 0.6).abs() < 1e-7 && (b - 0.8).abs() < 1e-7);
        assert!(clip_global_norm(&mut g, 0.0).unwrap_err().to_string().contains("positive"));
        let mut wrong = gradients(&[("a", &[1.0]), ("layer.bias", &[f32::INFINITY])]);
        assert!(clip_global_norm(&mut wrong, 1.0).unwrap_err().to_string().contains("layer.bias"));
    }

    #[test]
    fn accumulating_and_combining_are_weighted_sums() {
        let parts = [gradients(&[("w", &[1.0, 2.0])]), gradients(&[("w", &[10.0, 20.0]), ("b", &[4.0])])];
        let sum = combine(&parts, &[0.5, 0.25]).unwrap();
        assert_eq!(values(&sum["w"]), [3.0, 6.0]);
        assert_eq!(values(&sum["b"]), [1.0]);
        assert!(!combine(&parts, &[1.0, 0.0]).unwrap().contains_key("b"));
        assert!(combine(&parts, &[1.0]).is_err());
    }
}
