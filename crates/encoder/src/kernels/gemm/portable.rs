//! The same products through the `gemm` crate, for processors without AVX-512.

use gemm::Parallelism;
use rayon::prelude::*;

use super::{COLUMNS, Panels, Slabs, View, ViewMut};
use crate::kernels::simd::vectorized;

/// Whether a product may use all threads of the current pool.
#[derive(Clone, Copy)]
enum Threads {
    /// Only the calling thread, for small products inside a parallel loop.
    One,
    /// All threads of the current Rayon pool.
    All,
}

pub(super) fn product<F>(left: View<'_>, right: &Panels, out: &mut [f32], second: &mut [f32], finish: F)
where
    F: Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
{
    let Some((values, transposed)) = right.unpacked() else { return };
    let (columns, inner) = (right.columns(), right.inner());
    let right = match transposed {
        true => View::new(values, columns, inner).t(),
        false => View::new(values, inner, columns),
    };
    multiply(&mut ViewMut::new(out, left.rows, columns), left, right, Threads::All, false);
    let piece = |row: usize, out: &mut [f32], second: &mut [f32]| {
        vectorized(
            #[inline(always)]
            || finish(row, 0, out, second),
        );
    };
    if second.is_empty() {
        out.par_chunks_mut(columns).enumerate().for_each(|(row, out)| piece(row, out, &mut []));
    } else {
        let both = out.par_chunks_mut(columns).zip(second.par_chunks_mut(columns));
        both.enumerate().for_each(|(row, (out, second))| piece(row, out, second));
    }
}

/// A product with packed panels on the calling thread.
pub(super) fn small_product(target: &mut ViewMut<'_>, left: View<'_>, panels: Slabs<'_>, add: bool) {
    let (columns, stride, inner) = (target.columns, target.row_stride, left.columns);
    for (panel, first) in (0..columns).step_by(COLUMNS).enumerate() {
        let width = COLUMNS.min(columns - first);
        let right = View::strided(&panels.data[panel * panels.stride..], inner, width, COLUMNS);
        let mut part = ViewMut::strided(&mut target.data[first..], target.rows, width, stride);
        multiply(&mut part, left, right, Threads::One, add);
    }
}

/// `target = left · right`, or `target += left · right` with `add`.
fn multiply(target: &mut ViewMut<'_>, left: View<'_>, right: View<'_>, threads: Threads, add: bool) {
    assert!(
        target.rows == left.rows && target.columns == right.columns && left.columns == right.rows,
        "{} x {} = {} x {} · {} x {}",
        target.rows,
        target.columns,
        left.rows,
        left.columns,
        right.rows,
        right.columns,
    );
    if target.rows == 0 || target.columns == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
    };
    // SAFETY: the constructors of `View` and `ViewMut` checked that every element (i, j), i < rows, j < columns, lies
    // inside the slice and that the elements of the target are distinct; the shapes agree, as asserted above; the
    // target is borrowed mutably, so it overlaps neither operand; slice lengths fit `isize`.
    unsafe {
        gemm::gemm(
            target.rows,
            target.columns,
            left.columns,
            target.data.as_mut_ptr(),
            1,
            target.row_stride as isize,
            add,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
