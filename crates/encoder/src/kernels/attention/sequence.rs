//! Attention of one sequence.

use std::ops::Range;

use super::pack::{pack, pack_transposed};
use super::{Attention, Relative};
use crate::kernels::gemm::{COLUMNS, Slabs, View, ViewMut, small_product};
use crate::kernels::simd::{add, dot, exp, max, sum, vectorized};

/// One sequence.
#[derive(Clone, Copy)]
pub(super) struct Sequence<'a> {
    pub(super) of: &'a Attention<'a>,
    /// Its first row.
    pub(super) start: usize,
    pub(super) length: usize,
}

/// Memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// Probabilities and their gradients: rows padded to a multiple of 16, so that no loop has a scalar rest.
    scores: Vec<f32>,
    grads: Vec<f32>,
    /// One row of probabilities after dropout.
    masked: Vec<f32>,
    /// What one head adds to its scores, by distance from `1 - length` on, and the gradient of that.
    biases: Vec<f32>,
    bias_grads: Vec<f32>,
    panels: [Vec<f32>; 5],
}

/// Rows of queries, and the keys that one of them sees at least.
struct Block {
    queries: Range<usize>,
    /// Begins at a panel of 32.
    keys: Range<usize>,
}

/// The part of a row of queries, keys and values.
#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

/// Numbers to which rows of scores are padded.
const PAD: usize = 16;
/// Queries of a block where a token does not see all others: few, so that few keys are in vain.
const BAND: usize = 48;
/// The longest sequence whose scores are computed all at once, and the queries of a block of longer ones.
const WHOLE: usize = 512;
const ROWS: usize = 96;

impl Block {
    /// Numbers from one row of scores to the next.
    fn stride(&self) -> usize {
        self.keys.len().next_multiple_of(PAD)
    }
}

impl Sequence<'_> {
    /// The place of a head's part in a row.
    fn place(&self, part: Part, head: usize) -> usize {
        let before = match part {
            Part::Query => 0,
            Part::Key => self.of.heads,
            Part::Value => self.of.heads + self.of.key_heads,
        };
        (before + head) * self.of.width
    }

    /// A head's part of the rows from `first` on, as far as they go.
    fn part<'b>(&self, rows: &'b [f32], part: Part, head: usize, first: usize) -> &'b [f32] {
        &rows[first * self.of.columns() + self.place(part, head)..]
    }

    fn part_mut<'b>(&self, out: &'b mut [f32], part: Part, head: usize, rows: &Range<usize>) -> ViewMut<'b> {
        let columns = self.of.columns();
        let first = rows.start * columns + self.place(part, head);
        ViewMut::strided(&mut out[first..], rows.len(), self.of.width, columns)
    }

    /// The keys that one query sees.
    #[inline(always)]
    fn seen(&self, query: usize) -> Range<usize> {
        let (first, end) = match self.of.window {
            Some(window) => {
                (query.saturating_sub(window), query.saturating_add(window).saturating_add(1).min(self.length))
            }
            None => (0, self.length),
        };
        first..if self.of.causal { query + 1 } else { end }
    }

    fn blocks(self) -> impl ExactSizeIterator<Item = Block> {
        let height = match self.of.causal || self.of.window.is_some() {
            true => BAND,
            false if self.length <= WHOLE => self.length,
            false => ROWS,
        };
        (0..self.length).step_by(height).map(move |first| {
            let queries = first..(first + height).min(self.length);
            let keys = self.seen(first).start / COLUMNS * COLUMNS..self.seen(queries.end - 1).end;
            Block { queries, keys }
        })
    }

    /// `scores = Q·Kᵀ`, not yet scaled; `panels` are all of `Kᵀ`.
    fn scores(&self, qkv: &[f32], head: usize, block: &Block, panels: &[f32], scores: &mut Vec<f32>) {
        let (rows, stride, width) = (block.queries.len(), block.stride(), self.of.width);
        scores.resize(rows * stride, 0.0);
        let queries = self.part(qkv, Part::Query, head, block.queries.start);
        let queries = View::strided(queries, rows, width, self.of.columns());
        let target = ViewMut::strided(scores, rows, block.keys.len(), stride);
        small_product(target, queries, Slabs::columns(panels, width, block.keys.start), false);
    }

    /// Biases of the distances `1 - length..length` of one head.
    fn biases(&self, relative: &Relative<'_>, head: usize, biases: &mut Vec<f32>) {
        let last = self.length - 1;
        biases.clear();
        biases.extend((0..=2 * last).map(|at| relative.table[relative.bucket(last, at) * self.of.heads + head]));
    }

    /// The place, among biases by distance, of the first key of a block as seen from `query`.
    #[inline(always)]
    fn distance(&self, block: &Block, query: usize) -> usize {
        block.keys.start + self.length - 1 - query
    }

    /// Finishes a row of scores: adds biases, hides what `query` does not see. Gives the factor that scores still need.
    #[inline(always)]
    fn finish(&self, block: &Block, query: usize, biases: &[f32], row: &mut [f32], seen: &Range<usize>) -> f32 {
        let mut factor = self.of.scale;
        if self.of.relative.is_some() {
            let biases = &biases[self.distance(block, query)..][..block.keys.len()];
            row.iter_mut().zip(biases).for_each(|(score, bias)| *score = *score * self.of.scale + bias);
            factor = 1.0;
        }
        row[..seen.start].fill(f32::NEG_INFINITY);
        row[seen.end..].fill(f32::NEG_INFINITY);
        factor
    }

    /// What `query` sees, counted from the first key of the block.
    #[inline(always)]
    fn seen_in(&self, block: &Block, query: usize) -> Range<usize> {
        let seen = self.seen(query);
        seen.start - block.keys.start..seen.end - block.keys.start
    }

    /// Number of the mask's row that belongs to one query and head.
    fn mask_row(&self, query: usize, head: usize) -> u64 {
        ((self.of.first_token + self.start + query) * self.of.heads + head) as u64
    }

    pub(super) fn forward(&self, qkv: &[f32], scratch: &mut Scratch, out: &mut [f32], log_sums: &mut [f32]) {
        let (length, width, columns, group) = (self.length, self.of.width, self.of.columns(), self.of.group());
        let hidden = self.of.heads * width;
        let Scratch { scores, biases, panels: [keys, values, ..], .. } = scratch;
        for head in 0..self.of.heads {
            if head % group == 0 {
                pack_transposed(keys, self.part(qkv, Part::Key, head / group, 0), length, width, columns);
                pack(values, self.part(qkv, Part::Value, head / group, 0), length, width, columns);
            }
            if let Some(relative) = &self.of.relative {
                self.biases(relative, head, biases);
            }
            for block in self.blocks() {
                self.scores(qkv, head, &block, keys, scores);
                vectorized(
                    #[inline(always)]
                    || {
                        for (query, row) in block.queries.clone().zip(scores.chunks_exact_mut(block.stride())) {
                            let seen = self.seen_in(&block, query);
                            let factor = self.finish(&block, query, biases, row, &seen);
                            let largest = max(row);
                            row.iter_mut().for_each(|score| *score = exp((*score - largest) * factor));
                            row[..seen.start].fill(0.0);
                            row[seen.end..].fill(0.0);
                            let total = sum(row);
                            let inverse = 1.0 / total;
                            row.iter_mut().for_each(|score| *score *= inverse);
                            if let Some(mask) = &self.of.mask {
                                mask.row(self.mask_row(query, head)).apply_from(row, block.keys.start);
                            }
                            if let Some(log_sum) = log_sums.get_mut(query * self.of.heads + head) {
                                *log_sum = largest * factor + total.ln();
                            }
                        }
                    },
                );
                let (rows, count) = (block.queries.len(), block.keys.len());
                let first = block.queries.start * hidden + head * width;
                let target = ViewMut::strided(&mut out[first..], rows, width, hidden);
                let probabilities = View::strided(scores, rows, count, block.stride());
                small_product(target, probabilities, Slabs::rows(values, length, block.keys.start), false);
            }
        }
    }

    /// With probabilities `P`, mask `M`: `∂V = (P⊙M)ᵀ·∂O`, `∂P = M ⊙ (∂O·Vᵀ)`, `∂S = P ⊙ (∂P - rowsum(∂P ⊙ P))`,
    /// `∂Q = scale·∂S·K`, `∂K = scale·∂Sᵀ·Q`, and a bias' gradient the sum of `∂S` where it was added; to those of the
    /// table's, `[buckets, heads]`, unless `table` is empty.
    pub(super) fn backward(
        &self,
        qkv: &[f32],
        log_sums: &[f32],
        grad: &[f32],
        scratch: &mut Scratch,
        out: &mut [f32],
        table: &mut [f32],
    ) {
        let (length, width, columns, group) = (self.length, self.of.width, self.of.columns(), self.of.group());
        let hidden = self.of.heads * width;
        let Scratch { scores, grads, masked, biases, bias_grads, panels } = scratch;
        let [keys, values, key_rows, queries, out_grads] = panels;
        let relative = self.of.relative.as_ref();
        // A key's gradient is a sum over blocks and over the heads that read it.
        let sums = group > 1 || self.blocks().len() > 1;
        if sums {
            let first = self.place(Part::Key, 0);
            out.chunks_exact_mut(columns).for_each(|row| row[first..].fill(0.0));
        }
        for head in 0..self.of.heads {
            let key_head = head / group;
            if head % group == 0 {
                pack_transposed(keys, self.part(qkv, Part::Key, key_head, 0), length, width, columns);
                pack_transposed(values, self.part(qkv, Part::Value, key_head, 0), length, width, columns);
                pack(key_rows, self.part(qkv, Part::Key, key_head, 0), length, width, columns);
            }
            pack(queries, self.part(qkv, Part::Query, head, 0), length, width, columns);
            pack(out_grads, &grad[head * width..], length, width, hidden);
            if let Some(relative) = relative {
                self.biases(relative, head, biases);
                bias_grads.clear();
                bias_grads.resize(2 * length - 1, 0.0);
            }
            for block in self.blocks() {
                let (rows, count, stride) = (block.queries.len(), block.keys.len(), block.stride());
                self.scores(qkv, head, &block, keys, scores);
                grads.resize(rows * stride, 0.0);
                masked.resize(stride, 0.0);
                let out_rows = View::strided(&grad[block.queries.start * hidden + head * width..], rows, width, hidden);
                let target = ViewMut::strided(grads, rows, count, stride);
                small_product(target, out_rows, Slabs::columns(values, width, block.keys.start), false);
                vectorized(
                    #[inline(always)]
                    || {
                        let pairs = scores.chunks_exact_mut(stride).zip(grads.chunks_exact_mut(stride));
                        for (query, (kept, grads)) in block.queries.clone().zip(pairs) {
                            let log_sum = log_sums[query * self.of.heads + head];
                            let seen = self.seen_in(&block, query);
                            let factor = self.finish(&block, query, biases, kept, &seen);
                            kept.iter_mut().for_each(|score| *score = exp(*score * factor - log_sum));
                            for hidden in [&mut *kept, &mut *grads] {
                                hidden[..seen.start].fill(0.0);
                                hidden[seen.end..].fill(0.0);
                            }
                            if let Some(mask) = self.of.mask.map(|mask| mask.row(self.mask_row(query, head))) {
                                // Each factor is worked out once.
                                let triples = grads.iter_mut().zip(&*kept).zip(&mut *masked);
                                for (column, ((grad, p), masked)) in (block.keys.start..).zip(triples) {
                                    let factor = mask.factor(column);
                                    *grad *= factor;
                                    *masked = p * factor;
                                }
                            }
                            let inner = dot(grads, kept);
                            let pairs = grads.iter_mut().zip(&*kept);
                            pairs.for_each(|(grad, p)| *grad = p * (*grad - inner) * factor);
                            if relative.is_some() {
                                add(&mut bias_grads[self.distance(&block, query)..][..count], grads);
                                grads.iter_mut().for_each(|grad| *grad *= self.of.scale);
                            }
                            if self.of.mask.is_some() {
                                kept.copy_from_slice(masked);
                            }
                        }
                    },
                );
                let kept = View::strided(scores, rows, count, stride);
                let score_grads = View::strided(grads, rows, count, stride);
                let from = |panels| Slabs::rows(panels, length, block.queries.start);
                let target = self.part_mut(out, Part::Query, head, &block.queries);
                small_product(target, score_grads, Slabs::rows(key_rows, length, block.keys.start), false);
                let target = self.part_mut(out, Part::Key, key_head, &block.keys);
                small_product(target, score_grads.t(), from(queries), sums);
                let target = self.part_mut(out, Part::Value, key_head, &block.keys);
                small_product(target, kept.t(), from(out_grads), sums);
            }
            if let (Some(relative), false) = (relative, table.is_empty()) {
                for (at, grad) in bias_grads.iter().enumerate() {
                    table[relative.bucket(length - 1, at) * self.of.heads + head] += grad;
                }
            }
        }
    }
}
