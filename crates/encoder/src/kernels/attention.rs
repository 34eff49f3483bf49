//! Self-attention over packed sequences of different lengths: no padding, so no mask.
//!
//! Queries, keys and values lie side by side in `[T, 3·hidden]`, heads side by side within each; sequence `i` owns the rows
//! `offsets[i]..offsets[i + 1]`. Sequences are computed in parallel, one head after the other.

use rayon::prelude::*;

use super::dropout::Mask;
use super::gemm::{COLUMNS, View, ViewMut, small_product};
use super::simd::{dot, exp, max, sum, vectorized};

/// What is the same for all sequences of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// `[sequences + 1]` cumulative lengths, from 0 to `T`.
    pub(crate) offsets: &'a [u32],
    pub(crate) heads: usize,
    /// Width of all heads together.
    pub(crate) hidden: usize,
    /// Drops probabilities.
    pub(crate) mask: Option<Mask>,
    /// Number of the first token within what the mask covers.
    pub(crate) first_token: usize,
}

/// One sequence.
#[derive(Clone, Copy)]
struct Sequence {
    start: usize,
    length: usize,
    heads: usize,
    /// Width of a head.
    width: usize,
    /// `1 / √width`.
    scale: f32,
    mask: Option<Mask>,
    first_token: usize,
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    /// Probabilities and their gradients: rows padded to a multiple of 16, so that no loop has a scalar rest.
    scores: Vec<f32>,
    grads: Vec<f32>,
    /// One row of probabilities after dropout.
    masked: Vec<f32>,
    panels: [Vec<f32>; 2],
}

/// Numbers to which rows of scores are padded.
const PAD: usize = 16;

/// `rows` rows of `width` numbers, `stride` apart, as panels of 32 columns: a right side for [`small_product`].
fn pack(target: &mut Vec<f32>, source: &[f32], rows: usize, width: usize, stride: usize) {
    let panels = width.div_ceil(COLUMNS);
    target.resize(panels * rows * COLUMNS, 0.0);
    for (panel, target) in target.chunks_exact_mut((rows * COLUMNS).max(1)).enumerate() {
        let columns = panel * COLUMNS..((panel + 1) * COLUMNS).min(width);
        for (row, target) in target.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
            let source = &source[row * stride..][columns.clone()];
            if let Some(whole) = source.first_chunk::<COLUMNS>() {
                *target = *whole;
            } else {
                target[..source.len()].copy_from_slice(source);
                target[source.len()..].fill(0.0);
            }
        }
    }
}

/// The same of the transposed matrix, `width × rows`.
fn pack_transposed(target: &mut Vec<f32>, source: &[f32], rows: usize, width: usize, stride: usize) {
    let panels = rows.div_ceil(COLUMNS);
    target.resize(panels * width * COLUMNS, 0.0);
    for (panel, target) in target.chunks_exact_mut((width * COLUMNS).max(1)).enumerate() {
        let first = panel * COLUMNS;
        let count = COLUMNS.min(rows - first);
        if count < COLUMNS {
            target.fill(0.0);
        }
        let lines = target.as_chunks_mut::<COLUMNS>().0;
        for column in 0..count {
            let row = &source[(first + column) * stride..][..width];
            for (line, value) in lines.iter_mut().zip(row) {
                line[column] = *value;
            }
        }
    }
}

impl Sequence {
    fn hidden(&self) -> usize {
        self.heads * self.width
    }

    /// Part 0, 1 or 2 (queries, keys, values) of one head, from its first number on.
    fn part<'a>(&self, rows: &'a [f32], part: usize, head: usize) -> &'a [f32] {
        &rows[part * self.hidden() + head * self.width..]
    }

    fn part_mut<'a>(&self, rows: &'a mut [f32], part: usize, head: usize) -> ViewMut<'a> {
        let hidden = self.hidden();
        ViewMut::strided(&mut rows[part * hidden + head * self.width..], self.length, self.width, 3 * hidden)
    }

    /// Numbers from one row of scores to the next.
    fn stride(&self) -> usize {
        self.length.next_multiple_of(PAD)
    }

    /// `scores = Q·Kᵀ`, not yet scaled, padded with `-∞`.
    fn scores(&self, qkv: &[f32], head: usize, scores: &mut [f32], panels: &mut Vec<f32>) {
        let (length, stride, columns) = (self.length, self.stride(), 3 * self.hidden());
        pack_transposed(panels, self.part(qkv, 1, head), length, self.width, columns);
        let queries = View::strided(self.part(qkv, 0, head), length, self.width, columns);
        small_product(ViewMut::strided(scores, length, length, stride), queries, panels);
        scores.chunks_exact_mut(stride).for_each(|row| row[length..].fill(f32::NEG_INFINITY));
    }

    /// Number of the mask's row that belongs to one query and head.
    fn mask_row(&self, query: usize, head: usize) -> u64 {
        ((self.first_token + self.start + query) * self.heads + head) as u64
    }

    fn forward(&self, qkv: &[f32], scratch: &mut Scratch, out: &mut [f32], log_sums: &mut [f32]) {
        let (length, stride, hidden) = (self.length, self.stride(), self.hidden());
        let Scratch { scores, panels: [panels, _], .. } = scratch;
        scores.resize(length * stride, 0.0);
        for head in 0..self.heads {
            self.scores(qkv, head, scores, panels);
            vectorized(
                #[inline(always)]
                || {
                    for (query, row) in scores.chunks_exact_mut(stride).enumerate() {
                        let largest = max(row);
                        row.iter_mut().for_each(|score| *score = exp((*score - largest) * self.scale));
                        let total = sum(row);
                        let inverse = 1.0 / total;
                        row.iter_mut().for_each(|score| *score *= inverse);
                        if let Some(mask) = &self.mask {
                            mask.row(self.mask_row(query, head)).apply(row);
                        }
                        if let Some(log_sum) = log_sums.get_mut(query * self.heads + head) {
                            *log_sum = largest * self.scale + total.ln();
                        }
                    }
                },
            );
            pack(panels, self.part(qkv, 2, head), length, self.width, 3 * hidden);
            let target = ViewMut::strided(&mut out[head * self.width..], length, self.width, hidden);
            small_product(target, View::strided(scores, length, length, stride), panels);
        }
    }

    /// With probabilities `P`, mask `M`: `∂V = (P⊙M)ᵀ·∂O`, `∂P = M ⊙ (∂O·Vᵀ)`, `∂S = P ⊙ (∂P - rowsum(∂P ⊙ P)) / √width`,
    /// `∂Q = ∂S·K`, `∂K = ∂Sᵀ·Q`.
    fn backward(&self, qkv: &[f32], log_sums: &[f32], grad: &[f32], scratch: &mut Scratch, out: &mut [f32]) {
        let (length, stride, hidden) = (self.length, self.stride(), self.hidden());
        let (width, columns) = (self.width, 3 * self.hidden());
        let Scratch { scores, grads, masked, panels: [panels, others] } = scratch;
        masked.resize(stride, 0.0);
        scores.resize(length * stride, 0.0);
        grads.resize(length * stride, 0.0);
        for head in 0..self.heads {
            self.scores(qkv, head, scores, panels);
            let out_grad = &grad[head * width..];
            pack_transposed(panels, self.part(qkv, 2, head), length, width, columns);
            let out_rows = View::strided(out_grad, length, width, hidden);
            small_product(ViewMut::strided(grads, length, length, stride), out_rows, panels);
            vectorized(
                #[inline(always)]
                || {
                    let rows = scores.chunks_exact_mut(stride).zip(grads.chunks_exact_mut(stride));
                    for (query, (kept, grads)) in rows.enumerate() {
                        let log_sum = log_sums[query * self.heads + head];
                        grads[length..].fill(0.0);
                        kept.iter_mut().for_each(|score| *score = exp(*score * self.scale - log_sum));
                        match self.mask.map(|mask| mask.row(self.mask_row(query, head))) {
                            None => {
                                let inner = dot(grads, kept);
                                let pairs = grads.iter_mut().zip(&*kept);
                                pairs.for_each(|(grad, p)| *grad = p * (*grad - inner) * self.scale);
                            }
                            Some(mask) => {
                                // Each factor is worked out once.
                                let triples = grads.iter_mut().zip(&*kept).zip(&mut *masked).enumerate();
                                for (column, ((grad, p), masked)) in triples {
                                    let factor = mask.factor(column);
                                    *grad *= factor;
                                    *masked = p * factor;
                                }
                                let inner = dot(grads, kept);
                                let pairs = grads.iter_mut().zip(&*kept);
                                pairs.for_each(|(grad, p)| *grad = p * (*grad - inner) * self.scale);
                                kept.copy_from_slice(masked);
                            }
                        }
                    }
                },
            );
            let (kept, score_grads) =
                (View::strided(scores, length, length, stride), View::strided(grads, length, length, stride));
            pack(panels, self.part(qkv, 1, head), length, width, columns);
            small_product(self.part_mut(out, 0, head), score_grads, panels);
            pack(panels, self.part(qkv, 0, head), length, width, columns);
            small_product(self.part_mut(out, 1, head), score_grads.t(), panels);
            pack(others, out_grad, length, width, hidden);
            small_product(self.part_mut(out, 2, head), kept.t(), others);
        }
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

impl Attention<'_> {
    fn sequences(&self) -> Vec<Sequence> {
        let width = self.hidden / self.heads;
        let lengths = self.offsets.windows(2).map(|pair| (pair[0] as usize, (pair[1] - pair[0]) as usize));
        lengths
            .map(|(start, length)| Sequence {
                start,
                length,
                heads: self.heads,
                width,
                scale: 1.0 / (width as f32).sqrt(),
                mask: self.mask,
                first_token: self.first_token,
            })
            .collect()
    }

    /// `softmax(Q·Kᵀ / √width)·V` of each sequence and head: `[T, 3·hidden]` to `[T, hidden]`.
    ///
    /// `log_sums`, `[T, heads]` or empty, gets the logarithm of each softmax's denominator: the backward pass computes the
    /// probabilities again from it, which takes far less memory than keeping them.
    pub(crate) fn forward(&self, qkv: &[f32], out: &mut [f32], log_sums: &mut [f32]) {
        let _span = tracing::trace_span!("attention").entered();
        let sequences = self.sequences();
        let columns = 3 * self.hidden;
        let log_width = if log_sums.is_empty() { 0 } else { self.heads };
        let tasks: Vec<_> = split(&sequences, out, self.hidden)
            .into_iter()
            .zip(split(&sequences, log_sums, log_width))
            .zip(&sequences)
            .filter(|(_, sequence)| sequence.length > 0)
            .collect();
        tasks.into_par_iter().for_each_init(Scratch::default, |scratch, ((out, log_sums), sequence)| {
            let rows = &qkv[sequence.start * columns..(sequence.start + sequence.length) * columns];
            sequence.forward(rows, scratch, out, log_sums);
        });
    }

    /// The gradient of `qkv`, from that of the result, `grad`, and what [`forward`](Self::forward) left in `log_sums`.
    pub(crate) fn backward(&self, qkv: &[f32], log_sums: &[f32], grad: &[f32], out: &mut [f32]) {
        let _span = tracing::trace_span!("attention-backward").entered();
        let sequences = self.sequences();
        let columns = 3 * self.hidden;
        let tasks: Vec<_> = split(&sequences, out, columns)
            .into_iter()
            .zip(&sequences)
            .filter(|(_, sequence)| sequence.length > 0)
            .collect();
        tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (out, sequence)| {
            let rows = |width: usize| sequence.start * width..(sequence.start + sequence.length) * width;
            let (qkv, grad) = (&qkv[rows(columns)], &grad[rows(self.hidden)]);
            sequence.backward(qkv, &log_sums[rows(self.heads)], grad, scratch, out);
        });
    }
}
