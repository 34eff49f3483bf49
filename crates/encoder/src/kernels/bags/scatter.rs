//! Sums of rows at places that many writers share.

use rayon::prelude::*;

use crate::kernels::simd::{add_scaled, vectorized};

/// `target[row] += factor · source` for each `(row, factor, source)` of `additions`, in that order. A thread owns some rows of `target`
/// `[height, width]` and passes over all additions for them, so every sum has the order of the additions however rows are dealt out.
pub(super) fn scatter<'a, I>(target: &mut [f32], width: usize, additions: impl Fn() -> I + Sync)
where
    I: Iterator<Item = (u32, f32, &'a [f32])>,
{
    let part = (target.len() / width).div_ceil(2 * rayon::current_num_threads()).max(1);
    target.par_chunks_mut(part * width).enumerate().for_each(|(number, rows)| {
        let (first, count) = (number * part, rows.len() / width);
        vectorized(
            #[inline(always)]
            || {
                for (row, factor, source) in additions() {
                    let place = (row as usize).wrapping_sub(first);
                    if place < count {
                        add_scaled(&mut rows[place * width..][..width], source, factor);
                    }
                }
            },
        );
    });
}
