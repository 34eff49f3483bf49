//! The right side of a product, packed into panels of 32 columns.

use rayon::prelude::*;

use super::left::{interleave, pairs};
use super::{Arithmetic, COLUMNS, features};
use crate::kernels::buffers::{Buffer, LANES};
use crate::kernels::simd::vectorized;

/// Row-major matrices of one width on top of each other, as if they were one.
#[derive(Clone, Copy)]
pub(crate) struct Stack<'a> {
    parts: &'a [&'a [f32]],
    width: usize,
    rows: usize,
    /// Rows of each part, if they have equally many.
    height: Option<usize>,
}

impl<'a> Stack<'a> {
    /// Matrices of `width` columns each.
    pub(crate) fn new(parts: &'a [&'a [f32]], width: usize) -> Self {
        assert!(width > 0 && parts.iter().all(|part| part.len().is_multiple_of(width)), "parts of {width} columns");
        let first = parts.first().map_or(0, |part| part.len());
        let height = parts.iter().all(|part| part.len() == first).then_some(first / width);
        Self { parts, width, rows: parts.iter().map(|part| part.len() / width).sum(), height }
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &'a [f32] {
        if let [whole] = self.parts {
            return &whole[row * self.width..][..self.width];
        }
        if let Some(height) = self.height {
            return &self.parts[row / height][row % height * self.width..][..self.width];
        }
        let mut start = row * self.width;
        for part in self.parts {
            match part.get(start..start + self.width) {
                Some(row) => return row,
                None => start -= part.len(),
            }
        }
        unreachable!("a row below {} of a stack", self.rows)
    }
}

/// The right side of a product, `inner × columns`.
pub(crate) struct Panels {
    inner: usize,
    columns: usize,
    arithmetic: Arithmetic,
    store: Store,
}

enum Store {
    Packed {
        /// Panel after panel, for each lane of `p` 32 columns; columns past the last one are zero.
        lanes: Buffer<u32>,
        /// For 8-bit lanes: for every column of every panel, what one unit is worth, and 128 times the sum of its units.
        scales: Vec<f32>,
        offsets: Vec<i32>,
    },
    /// Where there are no AVX-512 instructions: a row-major matrix, `inner × columns` or its transpose.
    Plain { values: Vec<f32>, transposed: bool },
}

impl Panels {
    /// `right = stackᵀ`: a weight matrix `[out, in]` for `x·Wᵀ`.
    pub(crate) fn transposed(stack: Stack<'_>, arithmetic: Arithmetic) -> Self {
        Self::pack(stack, true, arithmetic, features().f32)
    }

    /// `right = stack`: a weight matrix `[out, in]` for `∂y·W`, or activations for the gradient of a weight.
    pub(crate) fn new(stack: Stack<'_>, arithmetic: Arithmetic) -> Self {
        assert!(arithmetic != Arithmetic::Int8, "8-bit products are for inference");
        Self::pack(stack, false, arithmetic, features().f32)
    }

    pub(super) fn pack(stack: Stack<'_>, transposed: bool, arithmetic: Arithmetic, packed: bool) -> Self {
        let (inner, columns) = if transposed { (stack.width, stack.rows) } else { (stack.rows, stack.width) };
        let arithmetic = arithmetic.available();
        if !packed {
            let values = stack.parts.concat();
            return Self { inner, columns, arithmetic: Arithmetic::F32, store: Store::Plain { values, transposed } };
        }
        let _span = tracing::trace_span!("pack", inner, columns).entered();
        let lanes = inner.div_ceil(arithmetic.values_per_lane());
        let panels = columns.div_ceil(COLUMNS);
        let mut buffer = Buffer::take(panels * lanes * COLUMNS);
        let quantized = arithmetic == Arithmetic::Int8;
        let mut scales = vec![0f32; if quantized { panels * COLUMNS } else { 0 }];
        let mut offsets = vec![0i32; scales.len()];
        if lanes > 0 {
            let targets = buffer.par_chunks_mut(lanes * COLUMNS);
            if quantized {
                let columns_of = scales.par_chunks_mut(COLUMNS).zip(offsets.par_chunks_mut(COLUMNS));
                targets.zip(columns_of).enumerate().for_each(|(panel, (target, (scales, offsets)))| {
                    quantize(&stack, panel * COLUMNS, target, scales, offsets);
                });
            } else if transposed {
                targets.enumerate().for_each(|(panel, target)| {
                    transpose(&stack, panel * COLUMNS, target, arithmetic);
                });
            } else {
                // Several panels at once, so that longer pieces of each row are read.
                let group = (panels / (2 * rayon::current_num_threads())).clamp(1, 4);
                let targets = buffer.par_chunks_mut(group * lanes * COLUMNS);
                targets
                    .enumerate()
                    .for_each(|(at, target)| copy(&stack, at * group * COLUMNS, target, lanes, arithmetic));
            }
        }
        Self { inner, columns, arithmetic, store: Store::Packed { lanes: buffer, scales, offsets } }
    }

    pub(crate) fn inner(&self) -> usize {
        self.inner
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    pub(super) fn is_packed(&self) -> bool {
        matches!(self.store, Store::Packed { .. })
    }

    /// The lanes, scales and offsets of packed panels.
    pub(super) fn packed(&self) -> Option<(&[u32], &[f32], &[i32])> {
        match &self.store {
            Store::Packed { lanes, scales, offsets } => Some((lanes, scales, offsets)),
            Store::Plain { .. } => None,
        }
    }

    /// The values of unpacked ones, and whether they lie transposed.
    pub(super) fn unpacked(&self) -> Option<(&[f32], bool)> {
        match &self.store {
            Store::Packed { .. } => None,
            Store::Plain { values, transposed } => Some((values, *transposed)),
        }
    }
}

/// A panel whose columns are rows of `stack`.
fn transpose(stack: &Stack<'_>, first: usize, target: &mut [u32], arithmetic: Arithmetic) {
    let count = COLUMNS.min(stack.rows - first);
    let per_lane = arithmetic.values_per_lane();
    let mut square = [[0u32; LANES]; COLUMNS];
    for (block, target) in target.chunks_mut(LANES * COLUMNS).enumerate() {
        let start = block * LANES * per_lane;
        let end = (start + LANES * per_lane).min(stack.width);
        vectorized(
            #[inline(always)]
            || {
                for (column, lanes) in square[..count].iter_mut().enumerate() {
                    let values = &stack.row(first + column)[start..end];
                    if arithmetic == Arithmetic::Bf16 {
                        lanes.fill(0);
                        pairs(values, lanes);
                    } else {
                        lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = value.to_bits());
                    }
                }
                for (lane, row) in target.chunks_exact_mut(COLUMNS).enumerate() {
                    for (value, lanes) in row.iter_mut().zip(&square) {
                        *value = lanes[lane];
                    }
                }
            },
        );
    }
}

/// Neighbouring panels of `lanes` lanes, whose columns are columns of `stack`.
fn copy(stack: &Stack<'_>, first: usize, target: &mut [u32], lanes: usize, arithmetic: Arithmetic) {
    let panels = target.len() / (lanes * COLUMNS);
    let per_lane = arithmetic.values_per_lane();
    vectorized(
        #[inline(always)]
        || {
            for lane in 0..lanes {
                let p = lane * per_lane;
                let low = stack.row(p);
                let high = if per_lane == 2 && p + 1 < stack.rows { stack.row(p + 1) } else { &[] };
                for panel in 0..panels {
                    let start = first + panel * COLUMNS;
                    let end = (start + COLUMNS).min(stack.width);
                    let target = &mut target[(panel * lanes + lane) * COLUMNS..][..COLUMNS];
                    let high = high.get(start..end).unwrap_or(&[]);
                    interleave(&low[start..end], high, target, arithmetic);
                }
            }
        },
    );
}

/// A panel of 8-bit weights, each column scaled to `-127..=127`.
fn quantize(stack: &Stack<'_>, first: usize, target: &mut [u32], scales: &mut [f32], offsets: &mut [i32]) {
    let count = COLUMNS.min(stack.rows - first);
    target.fill(0);
    for column in 0..count {
        let values = stack.row(first + column);
        let top = values.iter().fold(0f32, |top, value| top.max(value.abs()));
        let finite = values.iter().all(|value| value.is_finite());
        let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
        let mut sum = 0i32;
        for (lane, quad) in values.chunks(4).enumerate() {
            let mut bytes = [0u8; 4];
            for (byte, value) in bytes.iter_mut().zip(quad) {
                let unit = (value * inverse).round_ties_even() as i8;
                sum += i32::from(unit);
                *byte = unit.cast_unsigned();
            }
            target[lane * COLUMNS + column] = u32::from_le_bytes(bytes);
        }
        scales[column] = if finite { top / 127.0 } else { f32::NAN };
        offsets[column] = 128 * sum;
    }
}
