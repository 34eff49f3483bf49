//! Rivals that all rows share: products of matrices, a block of rows at a time.

use rayon::prelude::*;

use super::op::{Job, Outcome, Sides};
use super::rows::Row;
use crate::kernels::buffers::Buffer;
use crate::kernels::gemm::{Arithmetic, Panels, Stack, View, plain, product};
use crate::kernels::simd::vectorized;
use crate::kernels::slices::ROWS;

/// Logits of a block, about: 16 MiB of them stay in the last cache.
const BLOCK: usize = 4 << 20;
/// Rows of a block, at least: fewer would make the gradient of `right` a sum of too many parts.
const SHORTEST: usize = 192;

/// Rows of a block; decided by the sizes alone, so that sums do not depend on the machine.
fn block_rows(rows: usize, columns: usize) -> usize {
    let longest = (BLOCK / columns.max(1)).max(SHORTEST);
    rows.div_ceil(rows.div_ceil(longest)).next_multiple_of(ROWS)
}

/// The rivals' rows of `right`, next to each other; nothing if they are all of `right` as it is.
fn gather(places: &[u32], sides: &Sides<'_>) -> Option<Buffer<f32>> {
    if is_whole(places, sides) {
        return None;
    }
    let mut rows = Buffer::take(places.len() * sides.width);
    rows.par_chunks_mut(ROWS * sides.width).zip(places.par_chunks(ROWS)).for_each(|(rows, places)| {
        for (row, &place) in rows.chunks_exact_mut(sides.width).zip(places) {
            row.copy_from_slice(sides.right(place));
        }
    });
    Some(rows)
}

/// Whether the rivals are all rows of `right`, in their order.
fn is_whole(places: &[u32], sides: &Sides<'_>) -> bool {
    places.len() * sides.width == sides.right.len() && places.iter().zip(0..).all(|(place, at)| *place == at)
}

pub(super) fn run(job: &Job, places: &[u32], sides: &Sides<'_>) -> Outcome {
    in_blocks(job, places, sides, block_rows(job.matches.len(), places.len()))
}

/// With blocks of `height` rows.
fn in_blocks(job: &Job, places: &[u32], sides: &Sides<'_>, height: usize) -> Outcome {
    let (rows, width, columns) = (job.matches.len(), sides.width, places.len());
    let gathered = gather(places, sides);
    let parts: [&[f32]; 1] = [gathered.as_deref().unwrap_or(sides.right)];
    let stack = Stack::new(&parts, width);
    let transposed = Panels::transposed(stack, Arithmetic::F32);
    let upright = job.track_left.then(|| Panels::new(stack, Arithmetic::F32));
    let bias: Vec<f32> = match job.bias {
        Some(_) => places.iter().map(|&place| job.bias_of(place)).collect(),
        None => Vec::new(),
    };

    let mut loss = 0f64;
    let mut slopes = Vec::with_capacity(rows);
    let mut left = vec![0f32; if job.track_left { rows * width } else { 0 }];
    let mut right = vec![0f32; if job.track_right { columns * width } else { 0 }];
    let mut logits = Buffer::<f32>::take(height.min(rows) * columns);
    let mut part = Buffer::<f32>::take(if height < rows { right.len() } else { 0 });
    for first in (0..rows).step_by(height) {
        let count = height.min(rows - first);
        let block = View::new(&sides.left[first * width..][..count * width], count, width);
        let logits = &mut logits[..count * columns];
        product(
            block,
            &transposed,
            logits,
            &mut [],
            #[inline(always)]
            |_, column, out, _| match bias.get(column..column + out.len()) {
                Some(bias) if !bias.is_empty() => {
                    out.iter_mut().zip(bias).for_each(|(out, bias)| *out = *out * job.scale + bias);
                }
                _ => out.iter_mut().for_each(|out| *out *= job.scale),
            },
        );
        for row in pay(job, first, count, columns, logits, sides) {
            loss += row.loss;
            slopes.push(row.slope);
        }
        if columns == 0 {
            continue;
        }
        let logits = View::new(logits, count, columns);
        if let Some(upright) = &upright {
            product(logits, upright, &mut left[first * width..][..count * width], &mut [], plain);
        }
        if job.track_right {
            let parts: [&[f32]; 1] = [&sides.left[first * width..][..count * width]];
            let block = Panels::new(Stack::new(&parts, width), Arithmetic::F32);
            if first == 0 {
                product(logits.t(), &block, &mut right, &mut [], plain);
            } else {
                product(
                    logits.t(),
                    &block,
                    &mut part,
                    &mut right,
                    #[inline(always)]
                    |_, _, out, sum| sum.iter_mut().zip(out).for_each(|(sum, value)| *sum += *value),
                );
            }
        }
    }
    if job.track_left {
        add_matches_left(job, &slopes, sides, &mut left);
    }
    let right = job.track_right.then(|| {
        let mut gradient = scatter(places, right, sides);
        job.add_matches(&slopes, sides, &mut gradient);
        gradient
    });
    Outcome { loss, left: job.track_left.then_some(left), right }
}

/// Turns the logits of a block of rows into their derivatives.
fn pay(job: &Job, first: usize, count: usize, columns: usize, logits: &mut [f32], sides: &Sides<'_>) -> Vec<Row> {
    if columns == 0 {
        return (first..first + count).map(|number| job.pay(number, &mut [], sides)).collect();
    }
    let tasks = logits.par_chunks_mut(ROWS * columns).enumerate().map(|(task, block)| {
        let mut rows = Vec::with_capacity(ROWS);
        vectorized(
            #[inline(always)]
            || {
                for (at, rivals) in block.chunks_exact_mut(columns).enumerate() {
                    rows.push(job.pay(first + task * ROWS + at, rivals, sides));
                }
            },
        );
        rows
    });
    tasks.collect::<Vec<Vec<Row>>>().concat()
}

/// Adds what the slopes of the matches' logits give the rows of `left`.
fn add_matches_left(job: &Job, slopes: &[f32], sides: &Sides<'_>, left: &mut [f32]) {
    let width = sides.width;
    left.par_chunks_mut(ROWS * width).enumerate().for_each(|(task, gradients)| {
        for (at, gradient) in gradients.chunks_exact_mut(width).enumerate() {
            let number = task * ROWS + at;
            let slope = slopes[number];
            let values = sides.right(job.matches[number]);
            gradient.iter_mut().zip(values).for_each(|(sum, value)| *sum += slope * value);
        }
    });
}

/// The gradient of `right` from that of the rivals' rows.
fn scatter(places: &[u32], gradient: Vec<f32>, sides: &Sides<'_>) -> Vec<f32> {
    if is_whole(places, sides) {
        return gradient;
    }
    let mut sums = vec![0f32; sides.right.len()];
    for (&place, values) in places.iter().zip(gradient.chunks_exact(sides.width)) {
        let sums = &mut sums[place as usize * sides.width..][..sides.width];
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::contrast::hits::Hits;
    use crate::kernels::contrast::{ContrastLoss, Rivals};

    #[test]
    fn blocks_are_as_high_as_memory_allows() {
        assert_eq!(block_rows(1000, 256), 1024);
        assert_eq!(block_rows(1000, 12_000), 352);
        assert_eq!(block_rows(1000, 1_000_000), 192);
        assert_eq!((block_rows(1, 1), block_rows(5, 0)), (32, 32));
    }

    #[test]
    fn the_height_of_a_block_changes_nothing() {
        let (rows, height, width) = (150, 70, 6);
        let numbers = |count: usize, phase: f32| (0..count).map(|i| (i as f32 * 1.7 + phase).sin()).collect::<Vec<_>>();
        let (left, right) = (numbers(rows * width, 0.3), numbers(height * width, 0.8));
        let sides = Sides { left: &left, right: &right, width };
        let matches: Vec<u32> = (0..rows as u32).map(|row| row * 7 % height as u32).collect();
        let identities: Vec<u32> = (0..height as u32).map(|place| place / 2).collect();
        for places in [(0..height as u32).collect::<Vec<_>>(), vec![3, 9, 3, 66]] {
            let job = Job {
                loss: ContrastLoss::Softmax,
                scale: 2.0,
                bias: Some(numbers(height, 0.1)),
                shares: vec![1.0 / rows as f32; rows],
                hits: Hits::new(&matches, Rivals::Shared(&places), &identities, None),
                matches: matches.clone(),
                track_left: true,
                track_right: true,
            };
            let whole = in_blocks(&job, &places, &sides, 160);
            for block in [32, 64, 96] {
                let found = in_blocks(&job, &places, &sides, block);
                assert!((found.loss - whole.loss).abs() < 1e-6, "{} and {}", found.loss, whole.loss);
                let numbers = |side: &Outcome| [&side.left, &side.right].map(|side| side.clone().unwrap()).concat();
                for (found, expected) in numbers(&found).iter().zip(numbers(&whole)) {
                    assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
                }
            }
        }
    }
}
