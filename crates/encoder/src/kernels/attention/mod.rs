//! Self-attention over packed sequences of different lengths: no padding, so no mask for it.
//!
//! Queries, keys and values lie side by side in `[T, (heads + 2·key_heads)·width]`, heads side by side within each; sequence `i`
//! owns the rows `offsets[i]..offsets[i + 1]`. Sequences are computed in parallel, one head after the other.
//!
//! Where a token does not see all others (a causal mask, a window), rows of queries are taken in blocks, each of which multiplies
//! with the keys that it sees and few others.

pub(crate) mod pack;
mod sequence;

use rayon::prelude::*;

use super::dropout::Mask;
use sequence::{Scratch, Sequence};

/// What is the same for all sequences of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// `[sequences + 1]` cumulative lengths, from 0 to `T`.
    pub(crate) offsets: &'a [u32],
    /// Heads of queries.
    pub(crate) heads: usize,
    /// Heads of keys and values; divides `heads`: the query head `h` reads the key head `h / (heads / key_heads)`.
    pub(crate) key_heads: usize,
    /// Width of one head.
    pub(crate) width: usize,
    /// What scores are multiplied with: `1 / √width` for most.
    pub(crate) scale: f32,
    /// Whether a token sees only itself and what is before it.
    pub(crate) causal: bool,
    /// Keys at a distance `|query - key|` of more than this are not seen.
    pub(crate) window: Option<usize>,
    /// Added to the scores.
    pub(crate) relative: Option<Relative<'a>>,
    /// Drops probabilities.
    pub(crate) mask: Option<Mask>,
    /// Number of the first token within what the mask covers.
    pub(crate) first_token: usize,
}

/// A learned bias that is added to the scaled scores by distance, as in MPNet and T5.
#[derive(Clone, Copy)]
pub(crate) struct Relative<'a> {
    /// `[buckets, heads]`.
    pub(crate) table: &'a [f32],
    /// `[2·farthest + 1]` rows of the table, that of the distance `key - query` at the place `key - query + farthest`. Greater
    /// distances count as `farthest`.
    pub(crate) buckets: &'a [u32],
}

impl Relative<'_> {
    /// The table's row for the distance `key - query`.
    fn bucket(&self, query: usize, key: usize) -> usize {
        let farthest = self.buckets.len() / 2;
        let place =
            if key >= query { farthest + (key - query).min(farthest) } else { farthest - (query - key).min(farthest) };
        self.buckets[place] as usize
    }
}

/// Cuts the rows of each sequence off `values`, `width` numbers a token.
fn split<'a>(sequences: &[Sequence<'_>], mut values: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
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
    /// Numbers of one row of queries, keys and values.
    fn columns(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.width
    }

    /// Query heads that read one key head.
    fn group(&self) -> usize {
        self.heads / self.key_heads
    }

    fn sequences(&self) -> Vec<Sequence<'_>> {
        let pairs = self.offsets.windows(2).map(|pair| (pair[0] as usize, (pair[1] - pair[0]) as usize));
        pairs.map(|(start, length)| Sequence { of: self, start, length }).collect()
    }

    /// `softmax(scale·Q·Kᵀ + bias)·V` of each sequence and head: `[T, (heads + 2·key_heads)·width]` to `[T, heads·width]`.
    ///
    /// `log_sums`, `[T, heads]` or empty, gets the logarithm of each softmax's denominator: the backward pass computes the
    /// probabilities again from it, which takes far less memory than keeping them.
    pub(crate) fn forward(&self, qkv: &[f32], out: &mut [f32], log_sums: &mut [f32]) {
        let _span = tracing::trace_span!("attention").entered();
        let sequences = self.sequences();
        let columns = self.columns();
        let log_width = if log_sums.is_empty() { 0 } else { self.heads };
        let tasks: Vec<_> = split(&sequences, out, self.heads * self.width)
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
    ///
    /// That of the relative bias' table, `[buckets, heads]`, is added to `relative_grad`: one sum for each sequence, in their order.
    pub(crate) fn backward(
        &self,
        qkv: &[f32],
        log_sums: &[f32],
        grad: &[f32],
        out: &mut [f32],
        relative_grad: Option<&mut [f32]>,
    ) {
        let _span = tracing::trace_span!("attention-backward").entered();
        let sequences = self.sequences();
        let columns = self.columns();
        let tasks: Vec<_> = split(&sequences, out, columns)
            .into_iter()
            .zip(&sequences)
            .filter(|(_, sequence)| sequence.length > 0)
            .collect();
        let wanted = relative_grad.as_ref().map_or(0, |grad| grad.len());
        let one = |scratch: &mut Scratch, (out, sequence): (&mut [f32], &Sequence<'_>)| {
            let rows = |width: usize| sequence.start * width..(sequence.start + sequence.length) * width;
            let (qkv, grad) = (&qkv[rows(columns)], &grad[rows(self.heads * self.width)]);
            let mut table = vec![0f32; wanted];
            sequence.backward(qkv, &log_sums[rows(self.heads)], grad, scratch, out, &mut table);
            table
        };
        let tables: Vec<Vec<f32>> = tasks.into_par_iter().map_init(Scratch::default, one).collect();
        if let Some(total) = relative_grad {
            for table in &tables {
                total.iter_mut().zip(table).for_each(|(total, value)| *total += value);
            }
        }
    }
}
