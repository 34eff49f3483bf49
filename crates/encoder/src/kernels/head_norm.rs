//! RMS norm of each head of queries and of keys before they are rotated, as in Qwen3.

use rayon::prelude::*;

use super::simd::{dot, vectorized};
use super::slices::ROWS;

/// Scales of the heads, and where these lie in a row: `[queries | keys | values]`, `heads`, `key_heads` and `key_heads` times `width`
/// numbers.
#[allow(dead_code, reason = "used by the network that follows")]
#[derive(Clone, Copy)]
pub(crate) struct HeadNorm<'a> {
    /// `[width]`, the same for all heads.
    pub(crate) query: &'a [f32],
    pub(crate) key: &'a [f32],
    pub(crate) epsilon: f32,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    pub(crate) width: usize,
}

#[allow(dead_code, reason = "used by the network that follows")]
impl HeadNorm<'_> {
    /// Numbers of one row.
    fn columns(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.width
    }

    fn scale(&self, head: usize) -> &[f32] {
        if head < self.heads { self.query } else { self.key }
    }

    /// One over the root of a head's mean square.
    #[inline(always)]
    fn inverse(&self, head: &[f32]) -> f32 {
        1.0 / (dot(head, head) / self.width as f32 + self.epsilon).sqrt()
    }

    /// `x / √(mean(x²) + ε) · scale` of each head of queries and of keys; values are copied. Both are
    /// `[T, (heads + 2·key_heads)·width]`.
    pub(crate) fn forward(&self, raw: &[f32], out: &mut [f32]) {
        let _span = tracing::trace_span!("head-norm").entered();
        let (columns, normalized) = (self.columns(), (self.heads + self.key_heads) * self.width);
        let chunks = out.par_chunks_mut(ROWS * columns).zip(raw.par_chunks(ROWS * columns));
        chunks.for_each(|(out, raw)| {
            vectorized(
                #[inline(always)]
                || {
                    for (out, raw) in out.chunks_exact_mut(columns).zip(raw.chunks_exact(columns)) {
                        let heads = out[..normalized].chunks_exact_mut(self.width).zip(raw.chunks_exact(self.width));
                        for (head, (out, raw)) in heads.enumerate() {
                            let inverse = self.inverse(raw);
                            let pairs = out.iter_mut().zip(raw).zip(self.scale(head));
                            pairs.for_each(|((out, value), scale)| *out = value * inverse * scale);
                        }
                        out[normalized..].copy_from_slice(&raw[normalized..]);
                    }
                },
            );
        });
    }

    /// Turns `grad`, the gradient of the result, into that of `raw`; gives those of the scales of queries and of keys.
    ///
    /// With `r` one over the root, `x̂ = r·x` and `g = grad ⊙ scale`: `∂x = r·(g - x̂·mean(g ⊙ x̂))`.
    pub(crate) fn backward(&self, raw: &[f32], grad: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
        let _span = tracing::trace_span!("head-norm-backward").entered();
        let (columns, width) = (self.columns(), self.width);
        let normalized = (self.heads + self.key_heads) * width;
        let chunks = grad.par_chunks_mut(ROWS * columns).zip(raw.par_chunks(ROWS * columns));
        let partial: Vec<Vec<f32>> = chunks
            .map(|(grad, raw)| {
                let mut sums = vec![0f32; 2 * width];
                let (queries, keys) = sums.split_at_mut(width);
                vectorized(
                    #[inline(always)]
                    || {
                        for (grad, raw) in grad.chunks_exact_mut(columns).zip(raw.chunks_exact(columns)) {
                            let heads = grad[..normalized].chunks_exact_mut(width).zip(raw.chunks_exact(width));
                            for (head, (grad, raw)) in heads.enumerate() {
                                let inverse = self.inverse(raw);
                                let sums = if head < self.heads { &mut *queries } else { &mut *keys };
                                let scales = sums.iter_mut().zip(self.scale(head));
                                for ((grad, value), (sum, scale)) in grad.iter_mut().zip(raw).zip(scales) {
                                    *sum += *grad * (value * inverse);
                                    *grad *= scale;
                                }
                                let slope = dot(grad, raw) * inverse * inverse / width as f32;
                                let pairs = grad.iter_mut().zip(raw);
                                pairs.for_each(|(grad, value)| *grad = (*grad - value * slope) * inverse);
                            }
                        }
                    },
                );
                sums
            })
            .collect();
        let mut total = vec![0f32; 2 * width];
        for part in &partial {
            total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        let keys = total.split_off(width);
        (total, keys)
    }
}
