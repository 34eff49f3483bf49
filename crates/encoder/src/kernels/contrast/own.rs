//! Rivals of each row's own: single products of rows.

use rayon::prelude::*;

use super::op::{Job, Outcome, Sides};
use super::rows::Row;
use crate::kernels::simd::{dot, vectorized};
use crate::kernels::slices::ROWS;

pub(super) fn run(job: &Job, per_row: usize, places: &[u32], sides: &Sides<'_>) -> Outcome {
    let (rows, width) = (job.matches.len(), sides.width);
    let mut slopes = vec![0f32; rows * per_row];
    let mut left = vec![0f32; if job.track_left { rows * width } else { 0 }];
    let mut paid = vec![Row { loss: 0.0, slope: 0.0 }; rows];
    let tasks: Vec<Task<'_>> = {
        let mut slopes = slopes.chunks_mut((ROWS * per_row).max(1));
        let mut left = left.chunks_mut(ROWS * width);
        let pieces = paid.chunks_mut(ROWS).enumerate();
        pieces
            .map(|(task, paid)| Task {
                first: task * ROWS,
                slopes: slopes.next().unwrap_or_default(),
                left: left.next().unwrap_or_default(),
                paid,
            })
            .collect()
    };
    tasks.into_par_iter().for_each(|task| {
        vectorized(
            #[inline(always)]
            || task.run(job, per_row, places, sides),
        );
    });
    let right = job.track_right.then(|| {
        let mut gradient = right_gradient(per_row, places, &slopes, sides);
        let matched: Vec<f32> = paid.iter().map(|row| row.slope).collect();
        job.add_matches(&matched, sides, &mut gradient);
        gradient
    });
    let loss = paid.iter().map(|row| row.loss).sum();
    Outcome { loss, left: job.track_left.then_some(left), right }
}

/// Some rows, and where their results go.
struct Task<'a> {
    first: usize,
    slopes: &'a mut [f32],
    left: &'a mut [f32],
    paid: &'a mut [Row],
}

impl Task<'_> {
    #[inline(always)]
    fn run(self, job: &Job, per_row: usize, places: &[u32], sides: &Sides<'_>) {
        for (at, paid) in self.paid.iter_mut().enumerate() {
            let number = self.first + at;
            let user = sides.left(number);
            let places = &places[number * per_row..][..per_row];
            let slopes = &mut self.slopes[at * per_row..][..per_row];
            for (slope, &place) in slopes.iter_mut().zip(places) {
                *slope = dot(user, sides.right(place)) * job.scale + job.bias_of(place);
            }
            *paid = job.pay(number, slopes, sides);
            if let Some(sums) = self.left.get_mut(at * sides.width..(at + 1) * sides.width) {
                let terms = slopes.iter().zip(places).chain([(&paid.slope, &job.matches[number])]);
                for (slope, &place) in terms {
                    sums.iter_mut().zip(sides.right(place)).for_each(|(sum, value)| *sum += slope * value);
                }
            }
        }
    }
}

/// `Σ slope · left` for every row of `right` over the rivals that it is, in the order of the rows.
fn right_gradient(per_row: usize, places: &[u32], slopes: &[f32], sides: &Sides<'_>) -> Vec<f32> {
    let width = sides.width;
    let mut gradient = vec![0f32; sides.right.len()];
    // Entries sorted by place, by counting.
    let mut starts = vec![0usize; sides.right.len() / width + 1];
    for &place in places {
        starts[place as usize + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut entries = vec![0usize; places.len()];
    let mut next = starts.clone();
    for (entry, &place) in places.iter().enumerate() {
        let at = &mut next[place as usize];
        entries[*at] = entry;
        *at += 1;
    }
    gradient.par_chunks_mut(ROWS * width).enumerate().for_each(|(task, gradients)| {
        vectorized(
            #[inline(always)]
            || {
                for (at, sums) in gradients.chunks_exact_mut(width).enumerate() {
                    let place = task * ROWS + at;
                    for &entry in &entries[starts[place]..starts[place + 1]] {
                        let slope = slopes[entry];
                        let values = sides.left(entry / per_row);
                        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += slope * value);
                    }
                }
            },
        );
    });
    gradient
}
