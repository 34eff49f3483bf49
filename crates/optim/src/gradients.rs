//! Sets of named gradients on Candle tensors: collecting, adding, combining, clipping, comparing.
//!
//! Sums over millions of values are taken in `f64` over chunks of a fixed size and added in order, so that they do not depend on
//! the number of threads.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Storage, Tensor, Var};
use rayon::prelude::*;

use crate::{Gramian, OptimError, Result};

/// Gradients by the name of their parameter; a parameter that is missing has none.
pub type Gradients = BTreeMap<String, Tensor>;

const CHUNK: usize = 1 << 15;

pub(crate) fn tensor_error(name: &str) -> impl FnOnce(candle_core::Error) -> OptimError + '_ {
    move |source| OptimError::Tensor { name: name.to_string(), source }
}

/// The gradients of `parameters` that a backward pass left, in their names' order.
///
/// A parameter that the loss does not depend on has no entry.
pub fn collect(store: &GradStore, parameters: &[(String, Var)]) -> Gradients {
    parameters.iter().filter_map(|(name, var)| Some((name.clone(), store.get(var)?.clone()))).collect()
}

/// `into += scale × gradients`, for gradient accumulation over several small batches.
///
/// # Errors
/// Two gradients of one name have different shapes.
pub fn accumulate(into: &mut Gradients, gradients: &Gradients, scale: f64) -> Result<()> {
    for (name, gradient) in gradients {
        let add = || -> candle_core::Result<Tensor> {
            let scaled = if scale == 1.0 { gradient.clone() } else { (gradient * scale)? };
            match into.get(name) {
                Some(sum) => sum + scaled,
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

/// Scales all gradients by one factor so that their joint Euclidean norm is at most `max`; returns the norm before.
///
/// # Errors
/// A gradient that is not finite (the message names it), or a `max` that is not positive; the gradients are unchanged then.
pub fn clip_global_norm(gradients: &mut Gradients, max: f64) -> Result<f64> {
    if max.is_nan() || max <= 0.0 {
        let (setting, value) = ("the largest gradient norm".to_string(), max.to_string());
        return Err(OptimError::Setting { setting, value, rule: "it is a positive number, such as 1" });
    }
    let mut total = 0.0;
    for (name, gradient) in gradients.iter() {
        let squares = dot(gradient, gradient).map_err(tensor_error(name))?;
        if !squares.is_finite() {
            return Err(OptimError::NotFiniteGradient { name: name.clone() });
        }
        total += squares;
    }
    let norm = total.sqrt();
    if norm > max {
        for (name, gradient) in gradients.iter_mut() {
            *gradient = (&*gradient * (max / norm)).map_err(tensor_error(name))?;
        }
    }
    Ok(norm)
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
                        total += dot(a, b).map_err(tensor_error(name))?;
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

/// Dot product of two tensors of one shape, in `f64`.
fn dot(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    if a.shape() != b.shape() {
        let (lhs, rhs) = (a.shape().clone(), b.shape().clone());
        return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "dot" }.bt());
    }
    let plain = |t: &Tensor| -> candle_core::Result<Tensor> {
        let t = if t.dtype() == DType::F64 { t.clone() } else { t.to_dtype(DType::F32)? };
        t.contiguous()
    };
    let (a, b) = (plain(a)?, plain(b)?);
    if let Some(product) = on_cpu(&a, &b) {
        return Ok(product);
    }
    (a.to_dtype(DType::F64)? * b.to_dtype(DType::F64)?)?.sum_all()?.to_scalar::<f64>()
}

/// The product of two contiguous tensors in main memory; `None` for any other.
fn on_cpu(a: &Tensor, b: &Tensor) -> Option<f64> {
    let (a_storage, a_layout) = a.storage_and_layout();
    let (b_storage, b_layout) = b.storage_and_layout();
    let ((a_from, a_to), (b_from, b_to)) = (a_layout.contiguous_offsets()?, b_layout.contiguous_offsets()?);
    match (&*a_storage, &*b_storage) {
        (Storage::Cpu(CpuStorage::F32(a)), Storage::Cpu(CpuStorage::F32(b))) => {
            Some(chunked(&a[a_from..a_to], &b[b_from..b_to], |x| f64::from(*x)))
        }
        (Storage::Cpu(CpuStorage::F64(a)), Storage::Cpu(CpuStorage::F64(b))) => {
            Some(chunked(&a[a_from..a_to], &b[b_from..b_to], |x| *x))
        }
        _ => None,
    }
}

fn chunked<T: Sync>(a: &[T], b: &[T], value: impl Fn(&T) -> f64 + Sync) -> f64 {
    let one = |(a, b): (&[T], &[T])| -> f64 {
        // Eight running sums: one alone would wait for every addition before the next.
        let mut sums = [0.0; 8];
        let (a_blocks, a_rest) = a.as_chunks::<8>();
        let (b_blocks, b_rest) = b.as_chunks::<8>();
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            for k in 0..8 {
                sums[k] += value(&x[k]) * value(&y[k]);
            }
        }
        let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| value(x) * value(y)).sum();
        sums.iter().sum::<f64>() + rest
    };
    let sums: Vec<f64> = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(one).collect();
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn gradients(entries: &[(&str, &[f32])]) -> Gradients {
        let tensor = |v: &[f32]| Tensor::new(v, &Device::Cpu).unwrap();
        entries.iter().map(|(name, values)| ((*name).to_string(), tensor(values))).collect()
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
    fn large_sums_do_not_depend_on_the_threads() {
        let values: Vec<f32> = (0..200_003).map(|i| (i as f32 * 0.7).sin() * 1e3).collect();
        let t = Tensor::new(&values[..], &Device::Cpu).unwrap();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| dot(&t, &t).unwrap())
        };
        let exact: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        assert_eq!(with(1).to_bits(), with(3).to_bits());
        assert!((with(2) / exact - 1.0).abs() < 1e-12);
    }

    #[test]
    fn strided_tensors_and_other_types_are_read_right() {
        let t = Tensor::arange(0_f32, 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
        let turned = t.t().unwrap();
        assert_eq!(dot(&turned, &turned).unwrap(), 55.0);
        let narrow = t.narrow(1, 1, 2).unwrap();
        assert_eq!(dot(&narrow, &narrow).unwrap(), 1.0 + 4.0 + 16.0 + 25.0);
        let wide = t.to_dtype(DType::F64).unwrap();
        assert_eq!(dot(&wide, &wide).unwrap(), 55.0);
        let half = t.to_dtype(DType::BF16).unwrap();
        assert_eq!(dot(&half, &half).unwrap(), 55.0);
    }

    #[test]
    fn clipping_keeps_the_direction_and_short_gradients() {
        let mut g = gradients(&[("a", &[3.0]), ("b", &[0.0, 4.0])]);
        assert_eq!(clip_global_norm(&mut g, 10.0).unwrap(), 5.0);
        assert_eq!(g["a"].to_vec1::<f32>().unwrap(), [3.0]);
        assert_eq!(clip_global_norm(&mut g, 1.0).unwrap(), 5.0);
        let (a, b) = (g["a"].to_vec1::<f32>().unwrap()[0], g["b"].to_vec1::<f32>().unwrap()[1]);
        assert!((a - 0.6).abs() < 1e-7 && (b - 0.8).abs() < 1e-7);
        assert!(clip_global_norm(&mut g, 0.0).unwrap_err().to_string().contains("positive"));
        let mut wrong = gradients(&[("a", &[1.0]), ("layer.bias", &[f32::INFINITY])]);
        assert!(clip_global_norm(&mut wrong, 1.0).unwrap_err().to_string().contains("layer.bias"));
    }

    #[test]
    fn accumulating_and_combining_are_weighted_sums() {
        let parts = [gradients(&[("w", &[1.0, 2.0])]), gradients(&[("w", &[10.0, 20.0]), ("b", &[4.0])])];
        let sum = combine(&parts, &[0.5, 0.25]).unwrap();
        assert_eq!(sum["w"].to_vec1::<f32>().unwrap(), [3.0, 6.0]);
        assert_eq!(sum["b"].to_vec1::<f32>().unwrap(), [1.0]);
        assert!(!combine(&parts, &[1.0, 0.0]).unwrap().contains_key("b"));
        assert!(combine(&parts, &[1.0]).is_err());
    }
}
