//! Self-attention over packed sequences of different lengths: no padding, so no mask.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::dropout::Mask;
use super::matmul::{Threads, View, ViewMut, matmul};
use super::simd::{dot, exp, max, sum, vectorized};
use super::slices::{Floats, contiguous, tensor};

struct Attention {
    /// `[sequences + 1]` cumulative lengths.
    offsets: Arc<[u32]>,
    heads: usize,
    mask: Option<Mask>,
    /// Whether a backward pass may follow.
    keep: bool,
    /// `[T, heads]` the logarithm of each softmax's denominator: probabilities are computed again from it, which
    /// takes far less memory than keeping them.
    log_sums: OnceLock<Vec<f32>>,
}

/// Where one sequence lies, and the sizes all of its heads share.
#[derive(Clone, Copy)]
struct Sequence {
    start: usize,
    length: usize,
    heads: usize,
    /// Width of a head.
    width: usize,
    /// `1 / √width`.
    scale: f32,
}

impl Sequence {
    /// Part 0, 1 or 2 (queries, keys, values) of one head: a `[length, width]` view into the rows of this sequence.
    fn part<'a>(&self, rows: &'a [f32], part: usize, head: usize) -> View<'a> {
        let hidden = self.heads * self.width;
        View::strided(&rows[part * hidden + head * self.width..], self.length, self.width, 3 * hidden)
    }

    fn part_mut<'a>(&self, rows: &'a mut [f32], part: usize, head: usize) -> ViewMut<'a> {
        let hidden = self.heads * self.width;
        ViewMut::strided(&mut rows[part * hidden + head * self.width..], self.length, self.width, 3 * hidden)
    }

    /// One head of `[length, hidden]` rows.
    fn head<'a>(&self, rows: &'a [f32], head: usize) -> View<'a> {
        View::strided(&rows[head * self.width..], self.length, self.width, self.heads * self.width)
    }

    /// `scores = Q·Kᵀ / √width`, `[length, length]`.
    fn scores(&self, qkv: &[f32], head: usize, scores: &mut [f32]) {
        let target = ViewMut::new(scores, self.length, self.length);
        matmul(target, false, self.scale, self.part(qkv, 0, head), self.part(qkv, 1, head).t(), Threads::One);
    }

    /// Number of the mask's row that belongs to one query and head.
    fn mask_row(&self, query: usize, head: usize) -> u64 {
        ((self.start + query) * self.heads + head) as u64
    }

    fn forward(&self, qkv: &[f32], mask: Option<Mask>, scratch: &mut Vec<f32>, out: &mut [f32], log_sums: &mut [f32]) {
        let length = self.length;
        scratch.resize(length * length, 0.0);
        let scores = &mut scratch[..length * length];
        for head in 0..self.heads {
            self.scores(qkv, head, scores);
            vectorized(
                #[inline(always)]
                || {
                    for (query, row) in scores.chunks_exact_mut(length).enumerate() {
                        let largest = max(row);
                        row.iter_mut().for_each(|score| *score = exp(*score - largest));
                        let total = sum(row);
                        let inverse = 1.0 / total;
                        row.iter_mut().for_each(|score| *score *= inverse);
                        if let Some(mask) = &mask {
                            mask.row(self.mask_row(query, head)).apply(row);
                        }
                        log_sums[query * self.heads + head] = largest + total.ln();
                    }
                },
            );
            let hidden = self.heads * self.width;
            let target = ViewMut::strided(&mut out[head * self.width..], length, self.width, hidden);
            let probabilities = View::new(scores, length, length);
            matmul(target, false, 1.0, probabilities, self.part(qkv, 2, head), Threads::One);
        }
    }

    /// With probabilities `P`, mask `M`: `∂V = (P⊙M)ᵀ·∂O`, `∂P = M ⊙ (∂O·Vᵀ)`, `∂S = P ⊙ (∂P - rowsum(∂P ⊙ P))`,
    /// `∂Q = ∂S·K / √width`, `∂K = ∂Sᵀ·Q / √width`.
    fn backward(
        &self,
        qkv: &[f32],
        log_sums: &[f32],
        grad: &[f32],
        mask: Option<Mask>,
        scratch: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let length = self.length;
        scratch.resize(2 * length * length, 0.0);
        let (kept, score_grads) = scratch[..2 * length * length].split_at_mut(length * length);
        for head in 0..self.heads {
            self.scores(qkv, head, kept);
            let out_grad = self.head(grad, head);
            let target = ViewMut::new(score_grads, length, length);
            matmul(target, false, 1.0, out_grad, self.part(qkv, 2, head).t(), Threads::One);
            vectorized(
                #[inline(always)]
                || {
                    let rows = kept.chunks_exact_mut(length).zip(score_grads.chunks_exact_mut(length));
                    for (query, (kept, grads)) in rows.enumerate() {
                        let log_sum = log_sums[query * self.heads + head];
                        kept.iter_mut().for_each(|score| *score = exp(*score - log_sum));
                        let mask = mask.map(|mask| mask.row(self.mask_row(query, head)));
                        if let Some(mask) = &mask {
                            mask.apply(grads);
                        }
                        let inner = dot(grads, kept);
                        grads.iter_mut().zip(&*kept).for_each(|(grad, p)| *grad = p * (*grad - inner));
                        if let Some(mask) = &mask {
                            mask.apply(kept);
                        }
                    }
                },
            );
            let (kept, score_grads) = (View::new(kept, length, length), View::new(score_grads, length, length));
            let (queries, keys) = (self.part(qkv, 0, head), self.part(qkv, 1, head));
            matmul(self.part_mut(out, 0, head), false, self.scale, score_grads, keys, Threads::One);
            matmul(self.part_mut(out, 1, head), false, self.scale, score_grads.t(), queries, Threads::One);
            matmul(self.part_mut(out, 2, head), false, 1.0, kept.t(), out_grad, Threads::One);
        }
    }
}

impl Attention {
    /// Hidden size of `[T, 3·hidden]` input that fits the offsets and heads.
    fn check(&self, dims: (usize, usize)) -> Result<usize> {
        let (tokens, columns) = dims;
        let end = self.offsets.last().map_or(0, |&end| end as usize);
        let ordered = self.offsets.first() == Some(&0) && self.offsets.is_sorted();
        if self.heads == 0 || columns % (3 * self.heads) != 0 || end != tokens || !ordered {
            bail!(
                "attention: [{tokens}, {columns}] with {} heads and offsets that end at {end}; expected [T, 3·hidden], \
                 hidden divisible by heads, and offsets that rise from 0 to T",
                self.heads
            )
        }
        Ok(columns / 3)
    }

    fn sequences(&self, hidden: usize) -> impl Iterator<Item = Sequence> {
        let width = hidden / self.heads;
        self.offsets.windows(2).map(move |pair| Sequence {
            start: pair[0] as usize,
            length: (pair[1] - pair[0]) as usize,
            heads: self.heads,
            width,
            scale: 1.0 / (width as f32).sqrt(),
        })
    }
}

/// Cuts the rows of each sequence off `values`, `width` numbers a token.
fn split<'a>(sequences: &[Sequence], mut values: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
    sequences
        .iter()
        .map(|sequence| {
            let (head, tail) = std::mem::take(&mut values).split_at_mut(sequence.length * width);
            values = tail;
            head
        })
        .collect()
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tokens, columns) = layout.shape().dims2()?;
        let hidden = self.check((tokens, columns))?;
        let qkv = contiguous(self.name(), storage, layout)?;
        let mut out = vec![0f32; tokens * hidden];
        let mut log_sums = vec![0f32; tokens * self.heads];
        let sequences: Vec<_> = self.sequences(hidden).collect();
        let tasks: Vec<_> = split(&sequences, &mut out, hidden)
            .into_iter()
            .zip(split(&sequences, &mut log_sums, self.heads))
            .zip(&sequences)
            .filter(|(_, sequence)| sequence.length > 0)
            .collect();
        tasks.into_par_iter().for_each_init(Vec::new, |scratch, ((out, log_sums), sequence)| {
            let rows = &qkv[sequence.start * columns..(sequence.start + sequence.length) * columns];
            sequence.forward(rows, self.mask, scratch, out, log_sums);
        });
        if self.keep {
            let _ = self.log_sums.set(log_sums);
        }
        Ok((CpuStorage::F32(out), Shape::from((tokens, hidden))))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (tokens, columns) = qkv.dims2()?;
        let hidden = self.check((tokens, columns))?;
        let Some(log_sums) = self.log_sums.get() else {
            bail!("attention: backward without a forward pass that was tracked")
        };
        let grad = grad.contiguous()?;
        let (values, grad) = (Floats::of(self.name(), qkv)?, Floats::of(self.name(), &grad)?);
        let (values, grad): (&[f32], &[f32]) = (&values, &grad);
        let mut out = vec![0f32; tokens * columns];
        let sequences: Vec<_> = self.sequences(hidden).collect();
        let tasks: Vec<_> = split(&sequences, &mut out, columns)
            .into_iter()
            .zip(&sequences)
            .filter(|(_, sequence)| sequence.length > 0)
            .collect();
        tasks.into_par_iter().for_each_init(Vec::new, |scratch, (out, sequence)| {
            let rows = |width: usize| sequence.start * width..(sequence.start + sequence.length) * width;
            sequence.backward(
                &values[rows(columns)],
                &log_sums[rows(self.heads)],
                &grad[rows(hidden)],
                self.mask,
                scratch,
                out,
            );
        });
        Ok(Some(tensor(out, (tokens, columns))?))
    }
}

/// Multi-head self-attention within each packed sequence.
///
/// `qkv` is `[T, 3·hidden]`: queries, keys and values side by side, heads side by side within each. Sequence `i` owns
/// the rows `offsets[i]..offsets[i + 1]`. Gives `[T, hidden]`. `mask` drops attention probabilities.
pub(crate) fn attention(qkv: &Tensor, offsets: &Arc<[u32]>, heads: usize, mask: Option<Mask>) -> Result<Tensor> {
    let op = Attention { offsets: Arc::clone(offsets), heads, mask, keep: qkv.track_op(), log_sums: OnceLock::new() };
    qkv.contiguous()?.apply_op1(op)
}
