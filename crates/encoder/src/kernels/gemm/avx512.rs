//! The register tile of 12 × 32 sums in the three arithmetics.

use super::{COLUMNS, Features, ROWS};

/// What the processor has.
pub(super) fn detect() -> Features {
    #[cfg(target_arch = "x86_64")]
    {
        let f32 = is_x86_feature_detected!("avx512f");
        Features {
            f32,
            bf16: f32 && is_x86_feature_detected!("avx512bf16"),
            int8: f32 && is_x86_feature_detected!("avx512vnni"),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Features { f32: false, bf16: false, int8: false }
}

/// Where a tile reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Lanes of the left side: element `(row, p)` is at `left + row·row_stride + p·step`.
    pub(super) left: *const u32,
    pub(super) row_stride: usize,
    pub(super) step: usize,
    /// Lanes of the panel: 32 for each `p`.
    pub(super) right: *const u32,
    /// Number of lanes along `p`.
    pub(super) lanes: usize,
    /// First element of the tile in a row-major matrix.
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
    /// Columns to write, at most 32.
    pub(super) columns: usize,
    /// Whether to add to what is there.
    pub(super) add: bool,
}

/// What 8-bit sums are worth.
#[derive(Clone, Copy)]
pub(super) struct Units<'a> {
    /// One for each row of the tile.
    pub(super) rows: &'a [f32],
    /// One for each column of the panel.
    pub(super) columns: &'a [f32],
    /// What to subtract from each column's sums.
    pub(super) offsets: &'a [i32],
}

#[cfg(target_arch = "x86_64")]
mod tiles {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, __mmask16, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_loadu_epi32, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_sub_epi32,
    };

    use super::{Tile, Units};

    /// Masks of the first `columns` of two registers.
    fn masks(columns: usize) -> [__mmask16; 2] {
        let all = if columns >= 32 { u32::MAX } else { (1u32 << columns) - 1 };
        [all as __mmask16, (all >> 16) as __mmask16]
    }

    /// Writes or adds the sums of one row.
    ///
    /// # Safety
    /// The processor has AVX-512F; the columns of the row that `masks` selects are valid for reads and writes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn store(out: *mut f32, masks: [__mmask16; 2], add: bool, sums: [__m512; 2]) {
        for (half, (mask, sum)) in masks.into_iter().zip(sums).enumerate() {
            // SAFETY: masked elements are not touched; the others are valid, as the caller promises.
            unsafe {
                let place = out.wrapping_add(16 * half);
                let sum = if add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, place), sum) } else { sum };
                _mm512_mask_storeu_ps(place, mask, sum);
            }
        }
    }

    /// A tile of `ROWS` rows in `f32`.
    ///
    /// # Safety
    /// The processor has AVX-512F; all elements that `tile` describes lie in memory that is valid for reads, those of `out` for writes,
    /// and no other thread touches the latter.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn float<const ROWS: usize>(tile: &Tile) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        let (mut left, mut right) = (tile.left, tile.right);
        for _ in 0..tile.lanes {
            // SAFETY: `p < lanes` and `row < ROWS` here, which the caller promises to be valid.
            unsafe {
                let first = _mm512_loadu_ps(right.cast());
                let second = _mm512_loadu_ps(right.add(16).cast());
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*left.add(row * tile.row_stride).cast());
                    sums[0] = _mm512_fmadd_ps(value, first, sums[0]);
                    sums[1] = _mm512_fmadd_ps(value, second, sums[1]);
                }
            }
            left = left.wrapping_add(tile.step);
            right = right.wrapping_add(32);
        }
        let masks = masks(tile.columns);
        for (row, sums) in sums.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { store(tile.out.add(row * tile.out_stride), masks, tile.add, sums) }
        }
    }

    /// A tile of `ROWS` rows in `bf16`, two values to a lane.
    ///
    /// # Safety
    /// That of [`float`], and the processor has AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn half<const ROWS: usize>(tile: &Tile) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        let (mut left, mut right) = (tile.left, tile.right);
        for _ in 0..tile.lanes {
            // SAFETY: as in `float`; `__m512i` and `__m512bh` are the same 64 bytes.
            unsafe {
                let first = std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_epi32(right.cast()));
                let second = std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_epi32(right.add(16).cast()));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let pair = _mm512_set1_epi32((*left.add(row * tile.row_stride)).cast_signed());
                    let pair = std::mem::transmute::<__m512i, __m512bh>(pair);
                    sums[0] = _mm512_dpbf16_ps(sums[0], pair, first);
                    sums[1] = _mm512_dpbf16_ps(sums[1], pair, second);
                }
            }
            left = left.wrapping_add(tile.step);
            right = right.wrapping_add(32);
        }
        let masks = masks(tile.columns);
        for (row, sums) in sums.into_iter().enumerate() {
            // SAFETY: as in `float`.
            unsafe { store(tile.out.add(row * tile.out_stride), masks, tile.add, sums) }
        }
    }

    /// A tile of `ROWS` rows in 8 bits, four values to a lane, brought back to `f32` by `units`.
    ///
    /// # Safety
    /// That of [`float`], and the processor has AVX512-VNNI; `units` holds at least `ROWS` rows and 32 columns.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn byte<const ROWS: usize>(tile: &Tile, units: &Units<'_>) {
        let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
        let (mut left, mut right) = (tile.left, tile.right);
        for _ in 0..tile.lanes {
            // SAFETY: as in `float`.
            unsafe {
                let first = _mm512_loadu_epi32(right.cast());
                let second = _mm512_loadu_epi32(right.add(16).cast());
                for (row, sums) in sums.iter_mut().enumerate() {
                    let quad = _mm512_set1_epi32((*left.add(row * tile.row_stride)).cast_signed());
                    sums[0] = _mm512_dpbusd_epi32(sums[0], quad, first);
                    sums[1] = _mm512_dpbusd_epi32(sums[1], quad, second);
                }
            }
            left = left.wrapping_add(tile.step);
            right = right.wrapping_add(32);
        }
        let masks = masks(tile.columns);
        // SAFETY: `units` has 32 columns, as the caller promises.
        let (scales, offsets) = unsafe {
            let (scales, offsets) = (units.columns.as_ptr(), units.offsets.as_ptr());
            (
                [_mm512_loadu_ps(scales), _mm512_loadu_ps(scales.add(16))],
                [_mm512_loadu_epi32(offsets), _mm512_loadu_epi32(offsets.add(16))],
            )
        };
        for (row, sums) in sums.into_iter().enumerate() {
            let unit = _mm512_set1_ps(units.rows[row]);
            let value = |half: usize| {
                let whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[half], offsets[half]));
                _mm512_mul_ps(whole, _mm512_mul_ps(unit, scales[half]))
            };
            // SAFETY: as in `float`.
            unsafe { store(tile.out.add(row * tile.out_stride), masks, false, [value(0), value(1)]) }
        }
    }
}

/// Calls `$kernel::<ROWS>` for a number of rows known only at run time.
macro_rules! by_rows {
    ($rows:expr, $kernel:path, $($argument:expr),+) => {{
        use $kernel as kernel;
        match $rows {
            12 => kernel::<12>($($argument),+),
            11 => kernel::<11>($($argument),+),
            10 => kernel::<10>($($argument),+),
            9 => kernel::<9>($($argument),+),
            8 => kernel::<8>($($argument),+),
            7 => kernel::<7>($($argument),+),
            6 => kernel::<6>($($argument),+),
            5 => kernel::<5>($($argument),+),
            4 => kernel::<4>($($argument),+),
            3 => kernel::<3>($($argument),+),
            2 => kernel::<2>($($argument),+),
            1 => kernel::<1>($($argument),+),
            _ => (),
        }
    }};
}

/// `rows` (at most 12) rows of `f32` lanes.
///
/// # Safety
/// The processor has AVX-512F ([`detect`]); every element that `tile` describes for `rows` rows is valid for reads, those of `out` for
/// writes by this thread alone.
pub(super) unsafe fn float(rows: usize, tile: &Tile) {
    debug_assert!(rows <= ROWS && tile.columns <= COLUMNS);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller promises.
    unsafe {
        by_rows!(rows, tiles::float, tile);
    }
}

/// `rows` (at most 12) rows of `bf16` lanes.
///
/// # Safety
/// That of [`float`], and the processor has AVX512-BF16.
pub(super) unsafe fn half(rows: usize, tile: &Tile) {
    debug_assert!(rows <= ROWS && tile.columns <= COLUMNS);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller promises.
    unsafe {
        by_rows!(rows, tiles::half, tile);
    }
}

/// `rows` (at most 12) rows of 8-bit lanes.
///
/// # Safety
/// That of [`float`], and the processor has AVX512-VNNI.
///
/// # Panics
/// If `units` has fewer than `rows` rows or 32 columns.
pub(super) unsafe fn byte(rows: usize, tile: &Tile, units: &Units<'_>) {
    assert!(rows <= ROWS && tile.columns <= COLUMNS);
    assert!(units.rows.len() >= rows && units.columns.len() >= COLUMNS && units.offsets.len() >= COLUMNS);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller promises, and the lengths were checked.
    unsafe {
        by_rows!(rows, tiles::byte, tile, units);
    }
}
