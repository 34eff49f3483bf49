//! The loops around the register tile: which thread computes which block, and what stays in which cache.

use std::cell::RefCell;

use rayon::prelude::*;

use super::avx512::{self, Tile, Units};
use super::left::Block;
use super::{Arithmetic, COLUMNS, Panels, ROWS, Slabs, View, ViewMut};
use crate::kernels::simd::vectorized;

/// Lanes of `p` that one pass over the tiles takes: 12 rows of them stay in the first cache.
const INNER: usize = 384;
/// The same where rows are packed first: fewer lanes let a task take more columns, so that less is packed twice.
const INNER_PACKED: usize = 256;
/// Lanes of panels that stay in the second cache (768 KiB).
const RIGHT: usize = 192 * 1024;
/// Rows of a task, at most.
const TASK_ROWS: usize = 8 * ROWS;

thread_local! {
    static BLOCK: RefCell<Block> = RefCell::default();
}

/// An output that several threads write, each its own rectangle.
#[derive(Clone, Copy)]
struct Output {
    start: *mut f32,
    columns: usize,
}

// SAFETY: the tasks of one product write rectangles that do not overlap, and nobody else holds the slice meanwhile.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    fn at(self, row: usize, column: usize) -> *mut f32 {
        self.start.wrapping_add(row * self.columns + column)
    }
}

/// How a product is cut.
struct Cut {
    /// Rows of a task.
    rows: usize,
    /// Columns of a task, a multiple of 32.
    columns: usize,
    /// Lanes of one pass.
    lanes: usize,
}

impl Cut {
    fn new(rows: usize, columns: usize, lanes: usize, arithmetic: Arithmetic, direct: bool) -> Self {
        // Sums of bytes must be whole before they can be brought back to `f32`.
        let longest = match arithmetic {
            Arithmetic::Int8 => usize::MAX,
            _ => {
                if direct {
                    INNER
                } else {
                    INNER_PACKED
                }
            }
        };
        let passes = lanes.div_ceil(longest).max(1);
        let pass = lanes.div_ceil(passes).max(1);
        let widest = (RIGHT / pass / COLUMNS).max(1);
        let panels = columns.div_ceil(COLUMNS);
        let across = panels.div_ceil(widest);
        let width = panels.div_ceil(across);
        // Enough tasks for all threads to end together.
        let wanted = (4 * rayon::current_num_threads()).div_ceil(across);
        let height = rows.div_ceil(wanted).next_multiple_of(ROWS).clamp(ROWS, TASK_ROWS);
        Self { rows: height, columns: width * COLUMNS, lanes: pass }
    }
}

pub(super) fn product<F>(left: View<'_>, right: &Panels, out: &mut [f32], second: &mut [f32], finish: F)
where
    F: Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
{
    let second = if second.is_empty() { None } else { Some(second.as_mut_ptr()) };
    // SAFETY: both have `left.rows · right.columns()` numbers, as `super::product` asserts, and are borrowed mutably.
    unsafe { run(left, right, out.as_mut_ptr(), second, finish) }
}

/// The product in a new vector.
pub(super) fn product_vec(left: View<'_>, right: &Panels) -> Vec<f32> {
    let length = left.rows * right.columns();
    let mut out = Vec::with_capacity(length);
    // SAFETY: `run` writes every one of the `length` numbers, for which there is room, before it reads it: the first pass over the
    // tiles stores sums, only later ones add to them. There is at least one pass.
    unsafe {
        run(left, right, out.as_mut_ptr(), None, super::plain);
        out.set_len(length);
    }
    out
}

/// # Safety
/// `out`, and `second` if there is one, are valid for writes of `left.rows · right.columns()` numbers by nobody else; `second` is
/// initialized. `finish` sees only numbers of `out` that have been written.
unsafe fn run<F>(left: View<'_>, right: &Panels, out: *mut f32, second: Option<*mut f32>, finish: F)
where
    F: Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
{
    let (rows, columns) = (left.rows, right.columns());
    let arithmetic = right.arithmetic();
    let Some((panels, scales, offsets)) = right.packed() else { return };
    let per_lane = arithmetic.values_per_lane();
    let lanes = right.inner().div_ceil(per_lane);
    // Values in the rows' own memory need no packing.
    let direct = arithmetic == Arithmetic::F32 && left.by_row();
    let cut = Cut::new(rows, columns, lanes, arithmetic, direct);
    let has_second = second.is_some();
    let target = Output { start: out, columns };
    let second = Output { start: second.unwrap_or(std::ptr::null_mut()), columns };
    let down = rows.div_ceil(cut.rows);
    let across = columns.div_ceil(cut.columns);
    let passes = lanes.div_ceil(cut.lanes).max(1);

    let task = |index: usize, block: &mut Block| {
        // Neighbouring tasks share panels, which are larger than a block of rows.
        let (column_block, row_block) = (index / down, index % down);
        let row_range = row_block * cut.rows..((row_block + 1) * cut.rows).min(rows);
        let column_range = column_block * cut.columns..((column_block + 1) * cut.columns).min(columns);
        for pass in 0..passes {
            let lane_range = pass * cut.lanes..((pass + 1) * cut.lanes).min(lanes);
            if !direct {
                let inner = lane_range.start * per_lane..(lane_range.end * per_lane).min(left.columns);
                block.pack(&left, row_range.clone(), inner, arithmetic);
            }
            for row in row_range.clone().step_by(ROWS) {
                let height = ROWS.min(row_range.end - row);
                let within = row - row_range.start;
                let (start, row_stride, step) = if direct {
                    let place = row * left.stride() + lane_range.start;
                    (left.data[place.min(left.data.len())..].as_ptr().cast::<u32>(), left.stride(), 1)
                } else {
                    let place = within / ROWS * block.tile_stride;
                    (block.lanes[place..].as_ptr(), block.row_stride, block.step)
                };
                for column in column_range.clone().step_by(COLUMNS) {
                    let panel = column / COLUMNS * lanes + lane_range.start;
                    let tile = Tile {
                        left: start,
                        row_stride,
                        step,
                        right: panels[panel * COLUMNS..][..lane_range.len() * COLUMNS].as_ptr(),
                        lanes: lane_range.len(),
                        out: target.at(row, column),
                        out_stride: columns,
                        columns: COLUMNS.min(columns - column),
                        add: pass > 0,
                    };
                    // SAFETY: panels are packed only if the processor has the instructions of their arithmetic. Left: `height` rows
                    // and `lane_range` lie in `left` (checked by the constructors of `View`) or in `block`, which `pack` has sized for them. Right: the
                    // slice above. Out: rows and columns are below those that the caller vouches for, and this task's rectangle
                    // is its own.
                    unsafe {
                        match arithmetic {
                            Arithmetic::F32 => avx512::float(height, &tile),
                            Arithmetic::Bf16 => avx512::half(height, &tile),
                            Arithmetic::Int8 => {
                                let units = Units {
                                    rows: &block.scales[within..],
                                    columns: &scales[column..],
                                    offsets: &offsets[column..],
                                };
                                avx512::byte(height, &tile, &units);
                            }
                        }
                    }
                }
                if pass + 1 == passes {
                    vectorized(
                        #[inline(always)]
                        || {
                            for row in row..row + height {
                                let width = column_range.len();
                                // SAFETY: one piece of a row of this task's rectangle, in `out` and, if there is one, in `second`.
                                let (piece, other) = unsafe {
                                    let piece =
                                        std::slice::from_raw_parts_mut(target.at(row, column_range.start), width);
                                    let other: &mut [f32] = match has_second {
                                        true => {
                                            std::slice::from_raw_parts_mut(second.at(row, column_range.start), width)
                                        }
                                        false => &mut [],
                                    };
                                    (piece, other)
                                };
                                finish(row, column_range.start, piece, other);
                            }
                        },
                    );
                }
            }
        }
    };
    (0..down * across).into_par_iter().for_each(|index| BLOCK.with_borrow_mut(|block| task(index, block)));
}

/// A product with packed panels on the calling thread.
pub(super) fn small_product(target: &mut ViewMut<'_>, left: View<'_>, right: Slabs<'_>, add: bool) {
    let inner = left.columns;
    right.check(inner, target.columns);
    assert_eq!(target.rows, left.rows, "rows of a product");
    for row in (0..left.rows).step_by(ROWS) {
        for (panel, column) in (0..target.columns).step_by(COLUMNS).enumerate() {
            let tile = Tile {
                left: left.data[(row * left.row_stride).min(left.data.len())..].as_ptr().cast(),
                row_stride: left.row_stride,
                step: left.column_stride,
                right: right.data[panel * right.stride..].as_ptr().cast(),
                lanes: inner,
                out: target.data[row * target.row_stride + column..].as_mut_ptr(),
                out_stride: target.row_stride,
                columns: COLUMNS.min(target.columns - column),
                add,
            };
            // SAFETY: the caller checked for AVX-512. The constructors of the views checked that all elements lie inside the slices;
            // the panels are long enough, as checked; the target is borrowed mutably.
            unsafe { avx512::float(ROWS.min(left.rows - row), &tile) }
        }
    }
}
