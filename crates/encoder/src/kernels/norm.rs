//! `LayerNorm(dropout(x) + residual)` in one pass over memory, and its backward pass.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

use super::buffers::Buffer;
use super::dropout::Mask;
use super::simd::{dot, reduce, sum, vectorized};
use super::slices::{Floats, ROWS, contiguous, tensor};

/// The weights of a layer norm, `[width]` each.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) epsilon: f32,
}

/// What the backward pass needs.
pub(crate) struct Saved {
    /// `[n, width]` the normalized rows, before scale and shift.
    normalized: Buffer<f32>,
    /// `[n]` one over the standard deviation of each row.
    inverse_deviation: Buffer<f32>,
}

/// The summands that are normalized.
#[derive(Clone, Copy)]
pub(crate) struct Summands<'a> {
    /// `[n, width]`, to which the mask applies.
    pub(crate) x: &'a [f32],
    /// `[n, width]` or nothing.
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) mask: Option<Mask>,
    /// Number of the first row within what the mask covers.
    pub(crate) first_row: usize,
}

/// Normalizes a row in place to mean 0 and variance 1; gives one over the standard deviation.
#[inline(always)]
fn normalize(row: &mut [f32], epsilon: f32) -> f32 {
    let width = row.len() as f32;
    let mean = sum(row) / width;
    row.iter_mut().for_each(|value| *value -= mean);
    let variance = dot(row, row) / width;
    let inverse = 1.0 / (variance + epsilon).sqrt();
    row.iter_mut().for_each(|value| *value *= inverse);
    inverse
}

impl Summands<'_> {
    /// The row to normalize: `dropout(x) + residual`.
    #[inline(always)]
    fn add(&self, target: &mut [f32], row: usize) {
        let width = target.len();
        let place = row * width..(row + 1) * width;
        target.copy_from_slice(&self.x[place.clone()]);
        if let Some(mask) = &self.mask {
            mask.row((self.first_row + row) as u64).apply(target);
        }
        if let Some(residual) = self.residual {
            target.iter_mut().zip(&residual[place]).for_each(|(target, value)| *target += value);
        }
    }
}

impl Norm<'_> {
    fn width(&self) -> usize {
        self.scale.len()
    }

    /// Writes the normalized rows to `out`.
    pub(crate) fn forward(&self, summands: Summands<'_>, out: &mut [f32]) {
        let _span = tracing::trace_span!("norm").entered();
        let width = self.width();
        out.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, out)| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, out) in (chunk * ROWS..).zip(out.chunks_exact_mut(width)) {
                        summands.add(out, row);
                        normalize(out, self.epsilon);
                        for ((out, scale), shift) in out.iter_mut().zip(self.scale).zip(self.shift) {
                            *out = *out * scale + shift;
                        }
                    }
                },
            );
        });
    }

    /// The same, and what the backward pass needs.
    pub(crate) fn forward_saving(&self, summands: Summands<'_>, out: &mut [f32]) -> Saved {
        let _span = tracing::trace_span!("norm").entered();
        let width = self.width();
        let mut normalized = Buffer::take(out.len());
        let mut inverse_deviation = Buffer::take(out.len() / width);
        out.par_chunks_mut(ROWS * width)
            .zip(normalized.par_chunks_mut(ROWS * width))
            .zip(inverse_deviation.par_chunks_mut(ROWS))
            .enumerate()
            .for_each(|(chunk, ((out, normalized), inverse))| {
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = out.chunks_exact_mut(width).zip(normalized.chunks_exact_mut(width)).zip(inverse);
                        for (row, ((out, normalized), inverse)) in (chunk * ROWS..).zip(rows) {
                            summands.add(normalized, row);
                            *inverse = normalize(normalized, self.epsilon);
                            self.apply(normalized, out);
                        }
                    },
                );
            });
        Saved { normalized, inverse_deviation }
    }

    #[inline(always)]
    fn apply(&self, normalized: &[f32], out: &mut [f32]) {
        for (((out, value), scale), shift) in out.iter_mut().zip(normalized).zip(self.scale).zip(self.shift) {
            *out = value * scale + shift;
        }
    }

    /// The result of the forward pass once more, from what it saved.
    pub(crate) fn again(&self, saved: &Saved) -> Buffer<f32> {
        let _span = tracing::trace_span!("norm-again").entered();
        let width = self.width();
        let mut out = Buffer::take(saved.normalized.len());
        let rows = saved.normalized.par_chunks(ROWS * width);
        out.par_chunks_mut(ROWS * width).zip(rows).for_each(|(out, normalized)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = out.chunks_exact_mut(width).zip(normalized.chunks_exact(width));
                    rows.for_each(|(out, normalized)| self.apply(normalized, out));
                },
            );
        });
        out
    }

    /// Turns `grad`, the gradient of the result, into that of the sum that was normalized; gives those of scale and shift.
    ///
    /// With `x̂` the normalized row and `g = grad ⊙ scale`: `∂sum = (g - mean(g) - x̂·mean(g ⊙ x̂)) / deviation`.
    pub(crate) fn backward(&self, saved: &Saved, grad: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
        let _span = tracing::trace_span!("norm-backward").entered();
        let width = self.width();
        let partial: Vec<Vec<f32>> = grad
            .par_chunks_mut(ROWS * width)
            .zip(saved.normalized.par_chunks(ROWS * width))
            .zip(saved.inverse_deviation.par_chunks(ROWS))
            .map(|((grad, normalized), inverse)| {
                let mut sums = vec![0f32; 2 * width];
                vectorized(
                    #[inline(always)]
                    || {
                        let (scale_grad, shift_grad) = sums.split_at_mut(width);
                        let rows = grad.chunks_exact_mut(width).zip(normalized.chunks_exact(width)).zip(inverse);
                        for ((grad, normalized), inverse) in rows {
                            let sums = scale_grad.iter_mut().zip(&mut *shift_grad).zip(self.scale);
                            for (((scale_grad, shift_grad), scale), (grad, value)) in
                                sums.zip(grad.iter_mut().zip(normalized))
                            {
                                *scale_grad += *grad * value;
                                *shift_grad += *grad;
                                *grad *= scale;
                            }
                            let mean = sum(grad) / width as f32;
                            let slope = reduce(grad, normalized, |a, b| a * b) / width as f32;
                            for (grad, value) in grad.iter_mut().zip(normalized) {
                                *grad = (*grad - mean - value * slope) * inverse;
                            }
                        }
                    },
                );
                sums
            })
            .collect();
        let mut sums = vec![0f32; 2 * width];
        for part in &partial {
            sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        let shift = sums.split_off(width);
        (sums, shift)
    }
}

/// A layer norm in Candle's graph.
struct LayerNorm {
    epsilon: f32,
    /// Whether a backward pass may follow.
    keep: bool,
    saved: OnceLock<Saved>,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = x_layout.shape().dims2()?;
        if scale_layout.dims() != [width] || shift_layout.dims() != [width] || width == 0 {
            bail!(
                "layer norm: x {:?}, scale {:?} and shift {:?} do not fit; expected [n, w], [w] and [w], w > 0",
                x_layout.dims(),
                scale_layout.dims(),
                shift_layout.dims()
            )
        }
        let x = contiguous(self.name(), x, x_layout)?;
        let norm = Norm {
            scale: contiguous(self.name(), scale, scale_layout)?,
            shift: contiguous(self.name(), shift, shift_layout)?,
            epsilon: self.epsilon,
        };
        let summands = Summands { x, residual: None, mask: None, first_row: 0 };
        let mut out = vec![0f32; x.len()];
        if self.keep {
            let _ = self.saved.set(norm.forward_saving(summands, &mut out));
        } else {
            norm.forward(summands, &mut out);
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = self.saved.get() else {
            bail!("layer norm: backward without a forward pass that was tracked")
        };
        let mut grad = grad.flatten_all()?.to_vec1::<f32>()?;
        let values = (Floats::of(self.name(), scale)?, Floats::of(self.name(), shift)?);
        let norm = Norm { scale: &values.0, shift: &values.1, epsilon: self.epsilon };
        let (scale_grad, shift_grad) = norm.backward(saved, &mut grad);
        let width = scale_grad.len();
        let wanted = |wanted: bool, values: Vec<f32>, shape: &Shape| match wanted {
            true => tensor(values, shape).map(Some),
            false => Ok(None),
        };
        Ok((
            wanted(x.track_op(), grad, x.shape())?,
            wanted(scale.track_op(), scale_grad, &Shape::from(width))?,
            wanted(shift.track_op(), shift_grad, &Shape::from(width))?,
        ))
    }
}

/// `(x - mean(x)) / √(var(x) + ε) · scale + shift` for each row of `x: [n, width]`; scale and shift are `[width]`.
pub(crate) fn layer_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f64) -> Result<Tensor> {
    let keep = x.track_op() || scale.track_op() || shift.track_op();
    let op = LayerNorm { epsilon: epsilon as f32, keep, saved: OnceLock::new() };
    x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, op)
}
