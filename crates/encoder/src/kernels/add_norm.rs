//! `LayerNorm(dropout(x) + residual)` in one pass over memory.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::dropout::Mask;
use super::simd::{dot, reduce, sum, vectorized};
use super::slices::{Floats, ROWS, contiguous, tensor};

/// What the backward pass needs.
struct Saved {
    /// `[n, width]` the normalized rows, before scale and shift.
    normalized: Vec<f32>,
    /// `[n]` one over the standard deviation of each row.
    inverse_deviation: Vec<f32>,
}

struct AddNorm {
    epsilon: f32,
    mask: Option<Mask>,
    /// Whether a backward pass may follow.
    keep: bool,
    saved: OnceLock<Saved>,
}

/// Gradients of the sum that was normalized, and of scale and shift together.
struct Gradients {
    sum: Vec<f32>,
    affine: Vec<f32>,
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

impl AddNorm {
    /// The row to normalize: `dropout(x) + residual`.
    #[inline(always)]
    fn add(&self, target: &mut [f32], x: &[f32], residual: Option<&[f32]>, row: usize) {
        target.copy_from_slice(x);
        if let Some(mask) = &self.mask {
            mask.row(row as u64).apply(target);
        }
        if let Some(residual) = residual {
            target.iter_mut().zip(residual).for_each(|(target, value)| *target += value);
        }
    }

    fn forward(&self, x: &[f32], residual: Option<&[f32]>, affine: &[f32], width: usize) -> Vec<f32> {
        let (scale, shift) = affine.split_at(width);
        let mut out = vec![0f32; x.len()];
        let row_of = |row: usize| row * width..(row + 1) * width;
        if self.keep {
            let mut normalized = vec![0f32; x.len()];
            let mut inverse_deviation = vec![0f32; x.len() / width];
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
                                self.add(normalized, &x[row_of(row)], residual.map(|r| &r[row_of(row)]), row);
                                *inverse = normalize(normalized, self.epsilon);
                                for (((out, value), scale), shift) in
                                    out.iter_mut().zip(&*normalized).zip(scale).zip(shift)
                                {
                                    *out = value * scale + shift;
                                }
                            }
                        },
                    );
                });
            let _ = self.saved.set(Saved { normalized, inverse_deviation });
        } else {
            out.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, out)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, out) in (chunk * ROWS..).zip(out.chunks_exact_mut(width)) {
                            self.add(out, &x[row_of(row)], residual.map(|r| &r[row_of(row)]), row);
                            normalize(out, self.epsilon);
                            for ((out, scale), shift) in out.iter_mut().zip(scale).zip(shift) {
                                *out = *out * scale + shift;
                            }
                        }
                    },
                );
            });
        }
        out
    }

    /// With `x̂` the normalized row and `g = grad ⊙ scale`: `∂sum = (g - mean(g) - x̂·mean(g ⊙ x̂)) / deviation`.
    fn backward(&self, affine: &[f32], width: usize, grad: &[f32]) -> Result<Gradients> {
        let Some(saved) = self.saved.get() else {
            bail!("layer norm: backward without a forward pass that was tracked")
        };
        let scale = &affine[..width];
        let mut sum_grad = vec![0f32; grad.len()];
        let partial: Vec<Vec<f32>> = sum_grad
            .par_chunks_mut(ROWS * width)
            .zip(grad.par_chunks(ROWS * width))
            .zip(saved.normalized.par_chunks(ROWS * width))
            .zip(saved.inverse_deviation.par_chunks(ROWS))
            .map(|(((target, grad), normalized), inverse)| {
                vectorized(
                    #[inline(always)]
                    || {
                        let mut affine_grad = vec![0f32; 2 * width];
                        let (scale_grad, shift_grad) = affine_grad.split_at_mut(width);
                        let rows = target.chunks_exact_mut(width).zip(grad.chunks_exact(width));
                        let rows = rows.zip(normalized.chunks_exact(width)).zip(inverse);
                        for (((target, grad), normalized), inverse) in rows {
                            for column in 0..width {
                                scale_grad[column] += grad[column] * normalized[column];
                                shift_grad[column] += grad[column];
                                target[column] = grad[column] * scale[column];
                            }
                            let mean = sum(target) / width as f32;
                            let slope = reduce(target, normalized, |a, b| a * b) / width as f32;
                            for (target, value) in target.iter_mut().zip(normalized) {
                                *target = (*target - mean - value * slope) * inverse;
                            }
                        }
                        affine_grad
                    },
                )
            })
            .collect();
        let mut affine_grad = vec![0f32; 2 * width];
        for part in &partial {
            affine_grad.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        Ok(Gradients { sum: sum_grad, affine: affine_grad })
    }

    /// The gradient of `x` from that of the sum.
    fn through_mask(&self, mut sum_grad: Vec<f32>, width: usize) -> Vec<f32> {
        if let Some(mask) = self.mask {
            sum_grad.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, rows)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, values) in (chunk * ROWS..).zip(rows.chunks_exact_mut(width)) {
                            mask.row(row as u64).apply(values);
                        }
                    },
                );
            });
        }
        sum_grad
    }

    fn check(&self, x: &Layout, residual: Option<&Layout>, affine: &Layout) -> Result<usize> {
        let (_, width) = x.shape().dims2()?;
        if affine.dims() != [2, width] || residual.is_some_and(|residual| residual.dims() != x.dims()) || width == 0 {
            bail!(
                "layer norm: x {:?}, residual {:?} and affine {:?} do not fit; expected [n, w], [n, w] and [2, w], w > 0",
                x.dims(),
                residual.map(Layout::dims),
                affine.dims()
            )
        }
        Ok(width)
    }
}

impl CustomOp3 for AddNorm {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = self.check(x_layout, Some(residual_layout), affine_layout)?;
        let x = contiguous("add-norm", x, x_layout)?;
        let residual = contiguous("add-norm", residual, residual_layout)?;
        let affine = contiguous("add-norm", affine, affine_layout)?;
        Ok((CpuStorage::F32(self.forward(x, Some(residual), affine, width)), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        residual: &Tensor,
        affine: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = x.dim(1)?;
        let grad = grad.contiguous()?;
        let gradients = self.backward(&Floats::of("add-norm", affine)?, width, &Floats::of("add-norm", &grad)?)?;
        let affine_grad = if affine.track_op() { Some(tensor(gradients.affine, (2, width))?) } else { None };
        let (x_grad, residual_grad) = match (x.track_op(), residual.track_op()) {
            (false, false) => (None, None),
            (true, false) => (Some(tensor(self.through_mask(gradients.sum, width), x.shape())?), None),
            (false, true) => (None, Some(tensor(gradients.sum, x.shape())?)),
            (true, true) if self.mask.is_none() => {
                let shared = tensor(gradients.sum, x.shape())?;
                (Some(shared.clone()), Some(shared))
            }
            (true, true) => {
                let residual_grad = tensor(gradients.sum.clone(), x.shape())?;
                (Some(tensor(self.through_mask(gradients.sum, width), x.shape())?), Some(residual_grad))
            }
        };
        Ok((x_grad, residual_grad, affine_grad))
    }
}

impl CustomOp2 for AddNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = self.check(x_layout, None, affine_layout)?;
        let x = contiguous("layer-norm", x, x_layout)?;
        let affine = contiguous("layer-norm", affine, affine_layout)?;
        Ok((CpuStorage::F32(self.forward(x, None, affine, width)), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = x.dim(1)?;
        let grad = grad.contiguous()?;
        let gradients = self.backward(&Floats::of("layer-norm", affine)?, width, &Floats::of("layer-norm", &grad)?)?;
        let x_grad = match x.track_op() {
            true => Some(tensor(self.through_mask(gradients.sum, width), x.shape())?),
            false => None,
        };
        let affine_grad = if affine.track_op() { Some(tensor(gradients.affine, (2, width))?) } else { None };
        Ok((x_grad, affine_grad))
    }
}

/// `(s - mean(s)) / √(var(s) + ε) · affine[0] + affine[1]` for each row `s = dropout(x) + residual`.
///
/// `x` and `residual` are `[n, width]`, `affine` is `[2, width]`: scale, then shift.
pub(crate) fn add_norm(
    x: &Tensor,
    residual: Option<&Tensor>,
    affine: &Tensor,
    epsilon: f64,
    mask: Option<Mask>,
) -> Result<Tensor> {
    let keep = x.track_op() || affine.track_op() || residual.is_some_and(Tensor::track_op);
    let op = AddNorm { epsilon: epsilon as f32, mask, keep, saved: OnceLock::new() };
    let (x, affine) = (x.contiguous()?, affine.contiguous()?);
    match residual {
        Some(residual) => x.apply_op3(&residual.contiguous()?, &affine, op),
        None => x.apply_op2(&affine, op),
    }
}
