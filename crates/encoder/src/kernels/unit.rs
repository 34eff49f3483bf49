//! Rows of unit length, for losses and rankings by cosine.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::simd::{dot, vectorized};
use super::slices::{Floats, ROWS, contiguous, tensor};

/// Rows shorter than this are divided by it, and have no gradient.
const SHORTEST: f32 = 1e-12;

struct UnitRows;

impl CustomOp1 for UnitRows {
    fn name(&self) -> &'static str {
        "unit-rows"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let mut out = contiguous(self.name(), storage, layout)?.to_vec();
        out.par_chunks_mut(ROWS * width).for_each(|rows| {
            vectorized(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact_mut(width) {
                        let factor = 1.0 / dot(row, row).sqrt().max(SHORTEST);
                        row.iter_mut().for_each(|value| *value *= factor);
                    }
                },
            );
        });
        Ok((CpuStorage::F32(out), Shape::from((rows, width))))
    }

    /// `(g - y ⟨y, g⟩) / ‖x‖`.
    fn bwd(&self, arg: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = arg.dims2()?;
        let grad = grad.contiguous()?;
        let (x, y, grad) =
            (Floats::of(self.name(), arg)?, Floats::of(self.name(), out)?, Floats::of(self.name(), &grad)?);
        let (x, y, grad): (&[f32], &[f32], &[f32]) = (&x, &y, &grad);
        let mut slope = vec![0f32; rows * width];
        slope.par_chunks_mut(ROWS * width).enumerate().for_each(|(block, slopes)| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, slope) in slopes.chunks_exact_mut(width).enumerate() {
                        let start = (block * ROWS + row) * width;
                        let (x, y, grad) = (&x[start..][..width], &y[start..][..width], &grad[start..][..width]);
                        let length = dot(x, x).sqrt();
                        if length <= SHORTEST {
                            continue;
                        }
                        let (along, factor) = (dot(y, grad), 1.0 / length);
                        for ((slope, y), grad) in slope.iter_mut().zip(y).zip(grad) {
                            *slope = (grad - y * along) * factor;
                        }
                    }
                },
            );
        });
        Ok(Some(tensor(slope, (rows, width))?))
    }
}

/// Every row of a `[rows, width]` matrix divided by its length, so that products of rows are cosines. A row of zeros stays one.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[3f32, 4.0], [0.0, 0.0]], &Device::Cpu)?;
/// assert_eq!(paretune_encoder::unit_rows(&x)?.to_vec2::<f32>()?, [[0.6, 0.8], [0.0, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is not a matrix.
pub fn unit_rows(x: &Tensor) -> Result<Tensor> {
    x.dims2()?;
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        return x.contiguous()?.apply_op1(UnitRows);
    }
    let shortest = f64::from(SHORTEST);
    let lengths = (x.sqr()?.sum_keepdim(D::Minus1)? + shortest * shortest)?.sqrt()?;
    x.broadcast_div(&lengths)
}
