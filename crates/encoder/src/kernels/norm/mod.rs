//! `norm(dropout(x) + residual)` in one pass over memory, and its backward pass: layer norm and RMS norm.

mod graph;

use rayon::prelude::*;

use super::buffers::Buffer;
use super::dropout::Mask;
use super::simd::{dot, reduce, sum, vectorized};
use super::slices::ROWS;

pub(crate) use graph::layer_norm;
#[allow(unused_imports, reason = "used by the network that follows")]
pub(crate) use graph::rms_norm;

/// What a row is divided by, and whether its mean is taken off first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// `(x - mean(x)) / √(var(x) + ε)` (Ba et al. 2016, "Layer normalization").
    Layer,
    /// `x / √(mean(x²) + ε)` (Zhang and Sennrich 2019, "Root mean square layer normalization").
    #[allow(dead_code, reason = "used by the network that follows")]
    Rms,
}

/// The weights of a norm, `[width]` each.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: Option<&'a [f32]>,
    pub(crate) kind: NormKind,
    pub(crate) epsilon: f32,
}

/// What the backward pass needs.
pub(crate) struct Saved {
    /// `[n, width]` the normalized rows, before scale and shift.
    normalized: Buffer<f32>,
    /// `[n]` one over the standard deviation, or the root of the mean square, of each row.
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

/// Normalizes a row in place; gives what it was multiplied with.
#[inline(always)]
fn normalize(row: &mut [f32], kind: NormKind, epsilon: f32) -> f32 {
    let width = row.len() as f32;
    if kind == NormKind::Layer {
        let mean = sum(row) / width;
        row.iter_mut().for_each(|value| *value -= mean);
    }
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
                        normalize(out, self.kind, self.epsilon);
                        self.apply_in_place(out);
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
                            *inverse = normalize(normalized, self.kind, self.epsilon);
                            self.apply(normalized, out);
                        }
                    },
                );
            });
        Saved { normalized, inverse_deviation }
    }

    /// The sum, `dropout(x) + residual`, in `sum`, the stream that goes on beside a block, and its norm in `out`. With `keep`, what the
    /// backward pass needs.
    #[allow(dead_code, reason = "used by the network that follows")]
    pub(crate) fn forward_sum(
        &self,
        summands: Summands<'_>,
        sum: &mut [f32],
        out: &mut [f32],
        keep: bool,
    ) -> Option<Saved> {
        let _span = tracing::trace_span!("norm-sum").entered();
        let width = self.width();
        let row_of = |row: usize, sum: &mut [f32], normalized: &mut [f32]| {
            summands.add(sum, row);
            normalized.copy_from_slice(sum);
            normalize(normalized, self.kind, self.epsilon)
        };
        if !keep {
            let chunks = out.par_chunks_mut(ROWS * width).zip(sum.par_chunks_mut(ROWS * width)).enumerate();
            chunks.for_each(|(chunk, (out, sum))| {
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = out.chunks_exact_mut(width).zip(sum.chunks_exact_mut(width));
                        for (row, (out, sum)) in (chunk * ROWS..).zip(rows) {
                            row_of(row, sum, out);
                            self.apply_in_place(out);
                        }
                    },
                );
            });
            return None;
        }
        let mut normalized = Buffer::take(out.len());
        let mut inverse_deviation = Buffer::take(out.len() / width);
        let outputs = out.par_chunks_mut(ROWS * width).zip(sum.par_chunks_mut(ROWS * width));
        let saved = normalized.par_chunks_mut(ROWS * width).zip(inverse_deviation.par_chunks_mut(ROWS));
        outputs.zip(saved).enumerate().for_each(|(chunk, ((out, sum), (normalized, inverse)))| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = out.chunks_exact_mut(width).zip(sum.chunks_exact_mut(width));
                    let saved = normalized.chunks_exact_mut(width).zip(inverse);
                    for (row, ((out, sum), (normalized, inverse))) in (chunk * ROWS..).zip(rows.zip(saved)) {
                        *inverse = row_of(row, sum, normalized);
                        self.apply(normalized, out);
                    }
                },
            );
        });
        Some(Saved { normalized, inverse_deviation })
    }

    /// Scale and shift of a normalized row.
    #[inline(always)]
    fn apply(&self, normalized: &[f32], out: &mut [f32]) {
        let pairs = out.iter_mut().zip(normalized).zip(self.scale);
        match self.shift {
            Some(shift) => pairs.zip(shift).for_each(|(((out, value), scale), shift)| *out = value * scale + shift),
            None => pairs.for_each(|((out, value), scale)| *out = value * scale),
        }
    }

    #[inline(always)]
    fn apply_in_place(&self, row: &mut [f32]) {
        let pairs = row.iter_mut().zip(self.scale);
        match self.shift {
            Some(shift) => pairs.zip(shift).for_each(|((out, scale), shift)| *out = *out * scale + shift),
            None => pairs.for_each(|(out, scale)| *out *= scale),
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

    /// Turns `grad`, the gradient of the result, into that of the sum that was normalized; gives those of scale and shift, the latter
    /// empty without one.
    ///
    /// With `x̂` the normalized row and `g = grad ⊙ scale`: `∂sum = (g - mean(g) - x̂·mean(g ⊙ x̂)) / deviation`, without `mean(g)` for
    /// an RMS norm.
    pub(crate) fn backward(&self, saved: &Saved, grad: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
        let _span = tracing::trace_span!("norm-backward").entered();
        let width = self.width();
        let sums = if self.shift.is_some() { 2 * width } else { width };
        let partial: Vec<Vec<f32>> = grad
            .par_chunks_mut(ROWS * width)
            .zip(saved.normalized.par_chunks(ROWS * width))
            .zip(saved.inverse_deviation.par_chunks(ROWS))
            .map(|((grad, normalized), inverse)| {
                let mut sums = vec![0f32; sums];
                let (scale_grad, shift_grad) = sums.split_at_mut(width);
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = grad.chunks_exact_mut(width).zip(normalized.chunks_exact(width)).zip(inverse);
                        for ((grad, normalized), inverse) in rows {
                            self.sum_gradients(grad, normalized, scale_grad, shift_grad);
                            let slope = reduce(grad, normalized, |a, b| a * b) / width as f32;
                            if self.kind == NormKind::Layer {
                                let mean = sum(grad) / width as f32;
                                for (grad, value) in grad.iter_mut().zip(normalized) {
                                    *grad = (*grad - mean - value * slope) * inverse;
                                }
                            } else {
                                for (grad, value) in grad.iter_mut().zip(normalized) {
                                    *grad = (*grad - value * slope) * inverse;
                                }
                            }
                        }
                    },
                );
                sums
            })
            .collect();
        let mut total = vec![0f32; sums];
        for part in &partial {
            total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        let shift = total.split_off(width);
        (total, shift)
    }

    /// Adds one row's gradients of scale and shift, and multiplies `grad` with the scale.
    #[inline(always)]
    fn sum_gradients(&self, grad: &mut [f32], normalized: &[f32], scale_grad: &mut [f32], shift_grad: &mut [f32]) {
        let rows = scale_grad.iter_mut().zip(self.scale).zip(grad.iter_mut().zip(normalized));
        if self.shift.is_some() {
            for (((scale_grad, scale), (grad, value)), shift_grad) in rows.zip(shift_grad) {
                *scale_grad += *grad * value;
                *shift_grad += *grad;
                *grad *= scale;
            }
        } else {
            for ((scale_grad, scale), (grad, value)) in rows {
                *scale_grad += *grad * value;
                *grad *= scale;
            }
        }
    }
}
