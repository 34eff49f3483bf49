//! The backward pass of attention pooling.

use std::ops::Range;

use rayon::prelude::*;

use super::attend::{BAGS, Rows};
use super::reader::{Reader, add_to_layer, through_norm};
use super::scatter::scatter;
use crate::kernels::simd::{add, add_scaled, dot, vectorized};

/// Entries whose slopes are held before they are added to the table's: they stay in the cache, and memory does not grow with the bags.
const BLOCK: usize = 16 * 1024;

pub(super) struct Gradient<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) rows: &'a Rows<'a>,
    /// For each bag `[heads, entries]`, end to end.
    pub(super) weights: &'a [f32],
    /// `[bags, heads, width]`.
    pub(super) grad: &'a [f32],
    pub(super) heads: usize,
}

/// Buffers of one task.
#[derive(Default)]
struct Scratch {
    /// `[entries, width]`: what the entries are.
    rows: Vec<f32>,
    /// `[entries]`: what they were multiplied with.
    factors: Vec<f32>,
    /// `[heads, entries]`: slopes of weights, then of scores.
    scores: Vec<f32>,
    /// `[heads, width]`: the bag's gradient times the norm's scale.
    grad: Vec<f32>,
}

impl Gradient<'_> {
    /// The slopes of the table, if they are wanted, and of the parameters, `parameters` numbers.
    pub(super) fn compute(&self, want_table: bool, parameters: usize) -> (Option<Vec<f32>>, Vec<f32>) {
        let (bags, width) = (self.reader.bags, self.reader.width);
        let mut table = want_table.then(|| vec![0f32; self.reader.table.len()]);
        let mut sums = vec![0f32; parameters];
        let mut slopes = Vec::new();
        let mut first = 0;
        while first < bags.len() {
            let tasks = self.block(first);
            let end = tasks.last().map_or(bags.len(), |task| task.end);
            let entries = bags.starts[end] - bags.starts[first];
            slopes.resize(slopes.len().max(entries * width), 0.0);
            let mut rest = &mut slopes[..entries * width];
            let work: Vec<(Range<usize>, &mut [f32])> = tasks
                .into_iter()
                .map(|task| {
                    let entries = bags.starts[task.end] - bags.starts[task.start];
                    let (own, others) = std::mem::take(&mut rest).split_at_mut(entries * width);
                    rest = others;
                    (task, own)
                })
                .collect();
            let partial: Vec<Vec<f32>> =
                work.into_par_iter().map(|(task, slopes)| self.task(task, slopes, parameters)).collect();
            partial.iter().for_each(|part| add(&mut sums, part));
            if let Some(table) = &mut table {
                scatter(table, width, || {
                    let rows = (first..end).flat_map(|bag| bags.rows[bags.entries(bag)].iter());
                    rows.zip(slopes.chunks_exact(width)).map(|(&row, slope)| (row, 1.0, slope))
                });
            }
            first = end;
        }
        self.finish(&mut sums);
        (table, sums)
    }

    /// Tasks from bag `first` on, of about [`BLOCK`] entries together.
    fn block(&self, first: usize) -> Vec<Range<usize>> {
        let bags = self.reader.bags;
        let mut tasks: Vec<Range<usize>> = Vec::new();
        let mut start = first;
        while start < bags.len() && bags.starts[start] - bags.starts[first] < BLOCK {
            let end = (start + BAGS).min(bags.len());
            tasks.push(start..end);
            start = end;
        }
        tasks
    }

    /// Slopes of the entries of some bags; answers with the sums for the parameters, those of the queries before the norm's scale.
    fn task(&self, task: Range<usize>, mut slopes: &mut [f32], parameters: usize) -> Vec<f32> {
        let (bags, width) = (self.reader.bags, self.reader.width);
        let mut sums = vec![0f32; parameters];
        let mut scratch = Scratch::default();
        vectorized(
            #[inline(always)]
            || {
                for bag in task {
                    let count = bags.starts[bag + 1] - bags.starts[bag];
                    let (own, others) = std::mem::take(&mut slopes).split_at_mut(count * width);
                    slopes = others;
                    if count > 0 {
                        self.one(bag, own, &mut scratch, &mut sums);
                    }
                }
            },
        );
        sums
    }

    #[inline(always)]
    fn one(&self, bag: usize, slopes: &mut [f32], scratch: &mut Scratch, sums: &mut [f32]) {
        let Reader { bags, width, described, .. } = self.reader;
        let entries = bags.entries(bag);
        let count = entries.len();
        let weights = &self.weights[bags.starts[bag] * self.heads..][..count * self.heads];
        let grad = &self.grad[bag * self.heads * width..][..self.heads * width];
        let (query_sums, other_sums) = sums.split_at_mut(self.heads * width);

        scratch.grad.clear();
        scratch.grad.extend_from_slice(grad);
        if let Some(described) = &described {
            let shift_sums = &mut other_sums[width..2 * width];
            for (scaled, grad) in scratch.grad.chunks_exact_mut(width).zip(grad.chunks_exact(width)) {
                scaled.iter_mut().zip(described.scale).for_each(|(value, scale)| *value *= scale);
                add(shift_sums, grad);
            }
        }
        scratch.rows.resize(count * width, 0.0);
        scratch.factors.resize(count, 0.0);
        scratch.scores.resize(count * self.heads, 0.0);
        for (place, entry) in entries.clone().enumerate() {
            let row = &mut scratch.rows[place * width..][..width];
            scratch.factors[place] = self.reader.read(entry, row);
            for (head, grad) in scratch.grad.chunks_exact(width).enumerate() {
                scratch.scores[head * count + place] = dot(grad, row);
            }
        }
        // Of a softmax: `∂s = a (∂a - Σ a ∂a)`.
        for (slopes, weights) in scratch.scores.chunks_exact_mut(count).zip(weights.chunks_exact(count)) {
            let mean = dot(slopes, weights);
            slopes.iter_mut().zip(weights).for_each(|(slope, weight)| *slope = weight * (*slope - mean));
        }
        for ((place, entry), slope) in entries.enumerate().zip(slopes.chunks_exact_mut(width)) {
            let row = &scratch.rows[place * width..][..width];
            slope.fill(0.0);
            for (head, grad) in grad.chunks_exact(width).enumerate() {
                add_scaled(slope, grad, weights[head * count + place]);
            }
            if let Some(described) = &described {
                let scale_sums = &mut other_sums[..width];
                for (((sum, slope), value), scale) in
                    scale_sums.iter_mut().zip(&mut *slope).zip(row).zip(described.scale)
                {
                    *sum += *slope * value;
                    *slope *= scale;
                }
            }
            let queries = self.rows.scaled.chunks_exact(width).zip(query_sums.chunks_exact_mut(width));
            for (head, (query, sums)) in queries.enumerate() {
                let score = scratch.scores[head * count + place];
                add_scaled(slope, query, score);
                add_scaled(sums, row, score);
            }
            if let Some(described) = &described {
                through_norm(slope, row, scratch.factors[place]);
                let (bias, layer) = other_sums[2 * width..].split_at_mut(width);
                add_to_layer(bias, layer, described.of(entry), slope);
            }
        }
    }

    /// From the sums for scaled queries to those for queries and for the norm's scale.
    fn finish(&self, sums: &mut [f32]) {
        let (width, factor) = (self.reader.width, self.rows.factor);
        let (query_sums, other_sums) = sums.split_at_mut(self.heads * width);
        for (sums, query) in query_sums.chunks_exact_mut(width).zip(self.rows.queries.chunks_exact(width)) {
            sums.iter_mut().for_each(|sum| *sum *= factor);
            if let Some(described) = &self.reader.described {
                let scale_sums = other_sums[..width].iter_mut();
                for (((sum, query), scale), scale_sum) in
                    sums.iter_mut().zip(query).zip(described.scale).zip(scale_sums)
                {
                    *scale_sum += *sum * query;
                    *sum *= scale;
                }
            }
        }
    }
}
