//! Softmax cross-entropy over rows: in-batch negatives, masked words, sampled softmax.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::simd::{exp, max, sum, vectorized};
use super::slices::{Floats, ROWS, contiguous, tensor};

struct CrossEntropy {
    /// The right column of each row.
    targets: Arc<[u32]>,
}

/// The logarithm of `Σ eˣ` over a row.
#[inline(always)]
fn log_sum_exp(row: &[f32], scratch: &mut Vec<f32>) -> f32 {
    let largest = max(row);
    scratch.clear();
    scratch.extend(row.iter().map(|value| exp(value - largest)));
    largest + sum(scratch).ln()
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let logits = contiguous(self.name(), storage, layout)?;
        let rows = logits.par_chunks(ROWS * width).zip(self.targets.par_chunks(ROWS));
        let losses: Vec<f64> = rows
            .map(|(rows, targets)| {
                vectorized(
                    #[inline(always)]
                    || {
                        let mut scratch = Vec::with_capacity(width);
                        let rows = rows.chunks_exact(width).zip(targets);
                        rows.map(|(row, &at)| f64::from(log_sum_exp(row, &mut scratch) - row[at as usize])).sum::<f64>()
                    },
                )
            })
            .collect();
        let mean = losses.iter().sum::<f64>() / self.targets.len() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    /// `(softmax(x) - onehot) / n`.
    fn bwd(&self, arg: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = arg.dims2()?;
        let logits = Floats::of(self.name(), arg)?;
        let share = grad.to_scalar::<f32>()? / rows as f32;
        let mut out = vec![0f32; logits.len()];
        let tasks =
            out.par_chunks_mut(ROWS * width).zip(logits.par_chunks(ROWS * width)).zip(self.targets.par_chunks(ROWS));
        tasks.for_each(|((out, logits), targets)| {
            vectorized(
                #[inline(always)]
                || {
                    for ((out, row), &at) in out.chunks_exact_mut(width).zip(logits.chunks_exact(width)).zip(targets) {
                        let largest = max(row);
                        out.iter_mut().zip(row).for_each(|(out, value)| *out = exp(value - largest));
                        let scale = share / sum(out);
                        out.iter_mut().for_each(|out| *out *= scale);
                        out[at as usize] -= share;
                    }
                },
            );
        });
        Ok(Some(tensor(out, (rows, width))?))
    }
}

/// The mean over rows of `-log softmax(logits)[target]`, a scalar, with its gradient; `logits` is `[n, classes]`, `targets` one class
/// for each row.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// // Two queries against two texts, each of which belongs to one query: in-batch negatives.
/// let similarities = Tensor::new(&[[4f32, 0.0], [1.0, 3.0]], &Device::Cpu)?;
/// let loss = paretune_encoder::cross_entropy(&similarities, &[0, 1])?.to_scalar::<f32>()?;
/// assert!((loss - 0.0725).abs() < 1e-4);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `logits` is not a matrix with one target for each row (of `f32`, on the CPU), or a target is not a column.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if rows == 0 || rows != targets.len() || targets.iter().any(|&target| target as usize >= classes) {
        bail!(
            "cross entropy: logits [{rows}, {classes}] with {} targets below {classes}: give each row one",
            targets.len()
        )
    }
    if logits.device().is_cpu() {
        return logits.contiguous()?.apply_op1(CrossEntropy { targets: targets.into() });
    }
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sums = shifted.exp()?.sum(D::Minus1)?.log()?;
    let places = Tensor::new(targets, logits.device())?.unsqueeze(1)?.to_dtype(DType::U32)?;
    (log_sums - shifted.gather(&places, 1)?.squeeze(1)?)?.mean_all()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Loss and gradient in `f64`, from the definition.
    fn reference(logits: &[Vec<f64>], targets: &[u32]) -> (f64, Vec<f64>) {
        let (mut loss, mut grad) = (0.0, Vec::new());
        let count = targets.len() as f64;
        for (row, &at) in logits.iter().zip(targets) {
            let total: f64 = row.iter().map(|x| x.exp()).sum();
            loss += (total.ln() - row[at as usize]) / count;
            grad.extend(
                row.iter().enumerate().map(|(j, x)| (x.exp() / total - f64::from(u8::from(j == at as usize))) / count),
            );
        }
        (loss, grad)
    }

    #[test]
    fn value_and_gradient_equal_their_definition() {
        for (rows, classes) in [(1, 1), (1, 17), (70, 5), (33, 100)] {
            let value = |i: usize, j: usize| ((i * 31 + j * 17) as f64 * 0.37).sin() * 6.0;
            let logits: Vec<Vec<f64>> = (0..rows).map(|i| (0..classes).map(|j| value(i, j)).collect()).collect();
            let targets: Vec<u32> = (0..rows).map(|i| (i * 7 % classes) as u32).collect();
            let flat: Vec<f32> = logits.iter().flatten().map(|x| *x as f32).collect();
            let var = Var::from_vec(flat, (rows, classes), &Device::Cpu).unwrap();
            let loss = cross_entropy(&var, &targets).unwrap();
            let (expected, gradient) = reference(&logits, &targets);
            assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - expected).abs() < 1e-5 * expected.max(1.0));
            let store = (loss * 3.0).unwrap().backward().unwrap();
            let found = store.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (found, expected) in found.iter().zip(&gradient) {
                assert!((f64::from(*found) - 3.0 * expected).abs() < 1e-6, "{found} instead of {}", 3.0 * expected);
            }
        }
    }

    #[test]
    fn large_logits_stay_finite_and_wrong_targets_are_refused() {
        let logits = Tensor::new(&[[1e4f32, -1e4], [0.0, 0.0]], &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &[1, 0]).unwrap().to_scalar::<f32>().unwrap();
        assert!((loss - (2e4 + 2f32.ln()) / 2.0).abs() < 1.0, "{loss}");
        for targets in [&[0u32][..], &[0, 2], &[0, 1, 0]] {
            assert!(cross_entropy(&logits, targets).is_err());
        }
        assert!(cross_entropy(&Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap(), &[]).is_err());
    }
}
