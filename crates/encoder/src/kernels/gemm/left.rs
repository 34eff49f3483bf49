//! The left side of a product, packed into lanes block by block.

use super::{Arithmetic, ROWS, View};
use crate::kernels::simd::vectorized;

/// A block of the left side as lanes, in the order in which tiles read it.
#[derive(Default)]
pub(super) struct Block {
    pub(super) lanes: Vec<u32>,
    /// Lanes from one row to the next.
    pub(super) row_stride: usize,
    /// Lanes from one step of `p` to the next.
    pub(super) step: usize,
    /// Lanes from one tile of 12 rows to the next.
    pub(super) tile_stride: usize,
    /// For 8-bit lanes: what one unit of each row is worth.
    pub(super) scales: Vec<f32>,
    /// The lanes of one step of `p`, before they are cut into tiles.
    row: Vec<u32>,
}

impl Block {
    /// Packs rows `rows` and values `inner` of `left`.
    pub(super) fn pack(
        &mut self,
        left: &View<'_>,
        rows: std::ops::Range<usize>,
        inner: std::ops::Range<usize>,
        arithmetic: Arithmetic,
    ) {
        let lanes = inner.len().div_ceil(arithmetic.values_per_lane());
        let (count, tiles) = (rows.len(), rows.len().div_ceil(ROWS));
        if left.by_row() {
            (self.row_stride, self.step, self.tile_stride) = (lanes, 1, lanes * ROWS);
            self.lanes.resize(count * lanes, 0);
            self.scales.resize(count, 0.0);
            for (row, (target, scale)) in rows.zip(self.lanes.chunks_exact_mut(lanes).zip(&mut self.scales)) {
                let values = &left.data[row * left.stride()..][inner.clone()];
                vectorized(
                    #[inline(always)]
                    || match arithmetic {
                        Arithmetic::F32 => {
                            target.iter_mut().zip(values).for_each(|(lane, value)| *lane = value.to_bits())
                        }
                        Arithmetic::Bf16 => pairs(values, target),
                        Arithmetic::Int8 => *scale = bytes(values, target),
                    },
                );
            }
        } else {
            (self.row_stride, self.step, self.tile_stride) = (1, ROWS, ROWS * lanes);
            self.lanes.resize(tiles * ROWS * lanes, 0);
            self.row.resize(tiles * ROWS, 0);
            let per_lane = arithmetic.values_per_lane();
            let source = |p: usize| if p < inner.end { &left.data[p * left.stride()..][rows.clone()] } else { &[] };
            vectorized(
                #[inline(always)]
                || {
                    for lane in 0..lanes {
                        let p = inner.start + lane * per_lane;
                        let targets = self.lanes[lane * ROWS..].chunks_mut(self.tile_stride);
                        if per_lane == 2 {
                            // Rounded over the whole width first, which vectorizes; then cut into tiles.
                            interleave(source(p), source(p + 1), &mut self.row, arithmetic);
                            for (target, lanes) in targets.zip(self.row.as_chunks::<ROWS>().0) {
                                target[..ROWS].copy_from_slice(lanes);
                            }
                        } else {
                            let (whole, rest) = source(p).as_chunks::<ROWS>();
                            let mut targets = targets.filter_map(|target| target.first_chunk_mut::<ROWS>());
                            for (target, values) in (&mut targets).take(whole.len()).zip(whole) {
                                *target = values.map(f32::to_bits);
                            }
                            if let Some(target) = targets.next() {
                                interleave(rest, &[], target, arithmetic);
                            }
                        }
                    }
                },
            );
        }
    }
}

/// One lane for each value of `first`, paired with that of `second` for `bf16`; lanes past the end are zero.
#[inline(always)]
pub(super) fn interleave(first: &[f32], second: &[f32], target: &mut [u32], arithmetic: Arithmetic) {
    let count = first.len().min(target.len());
    match arithmetic {
        Arithmetic::Bf16 if second.len() >= count => {
            for ((lane, low), high) in target[..count].iter_mut().zip(first).zip(second) {
                *lane = rounded(*low) | (rounded(*high) << 16);
            }
        }
        Arithmetic::Bf16 => target[..count].iter_mut().zip(first).for_each(|(lane, low)| *lane = rounded(*low)),
        _ => target[..count].iter_mut().zip(first).for_each(|(lane, value)| *lane = value.to_bits()),
    }
    target[count..].fill(0);
}

/// The 16 upper bits of `value`, rounded to the nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let up = (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1))) >> 16;
    if value.is_nan() { (bits >> 16) | 0x40 } else { up }
}

/// Two values to a lane; an odd one at the end is paired with zero.
#[inline(always)]
pub(super) fn pairs(values: &[f32], target: &mut [u32]) {
    let (pairs, rest) = values.as_chunks::<2>();
    for (lane, pair) in target.iter_mut().zip(pairs) {
        *lane = rounded(pair[0]) | (rounded(pair[1]) << 16);
    }
    if let [last] = rest {
        target[pairs.len()] = rounded(*last);
    }
}

/// Four values to a lane, as `round(value / scale) + 128`; gives the scale, `max |value| / 127`.
///
/// A row with a NaN or an infinity gets the scale NaN, so that it does not pass unseen.
#[inline(always)]
fn bytes(values: &[f32], target: &mut [u32]) -> f32 {
    let (mut largest, mut zeros) = ([0f32; 16], [0f32; 16]);
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for lane in 0..16 {
            let size = chunk[lane].abs();
            largest[lane] = if size > largest[lane] { size } else { largest[lane] };
            // Nothing, unless the value is not finite: then NaN.
            zeros[lane] += chunk[lane] * 0.0;
        }
    }
    let top = rest.iter().fold(0f32, |top, value| top.max(value.abs()));
    let top = largest.into_iter().fold(top, f32::max);
    let bad = zeros.into_iter().any(f32::is_nan) || rest.iter().any(|value| !value.is_finite());
    let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
    // 1.5·2²³ + 128: adding it rounds to the nearest integer, offset by 128, in the low bits.
    const ROUND: f32 = 12_582_912.0 + 128.0;
    let byte = |value: f32| (value * inverse + ROUND).to_bits() as u8;
    let (blocks, rest) = values.as_chunks::<64>();
    let (whole, last) = target.split_at_mut(16 * blocks.len());
    for (lanes, block) in whole.as_chunks_mut::<16>().0.iter_mut().zip(blocks) {
        let bytes = block.map(byte);
        for (lane, quad) in lanes.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *lane = u32::from_le_bytes(*quad);
        }
    }
    for (lane, quad) in last.iter_mut().zip(rest.chunks(4)) {
        // Past the end the weights are zero; any byte does.
        *lane = quad.iter().rev().fold(0, |lane, value| (lane << 8) | u32::from(byte(*value)));
    }
    if bad { f32::NAN } else { top / 127.0 }
}
