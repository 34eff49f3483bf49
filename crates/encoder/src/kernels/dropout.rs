//! Dropout masks that need no storage: whether an element is kept is a hash of a seed and its place.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::simd::vectorized;
use super::slices::{Floats, ROWS, contiguous, tensor};

/// Mixes a counter into 64 well-spread bits (the output function of SplitMix64).
pub(crate) fn mix64(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A seeded mask over a matrix: each element is 0 with probability `p`, otherwise `1 / (1 - p)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    seed: u64,
    threshold: u32,
    scale: f32,
}

impl Mask {
    /// A mask for probability `p`, or none if `p` is 0.
    pub(crate) fn new(p: f64, seed: u64) -> Result<Option<Self>> {
        if !(0.0..1.0).contains(&p) {
            bail!("a dropout probability must be at least 0 and below 1, got {p}")
        }
        let threshold = (p * 2f64.powi(32)) as u32;
        Ok((threshold > 0).then_some(Self { seed: mix64(seed), threshold, scale: (1.0 / (1.0 - p)) as f32 }))
    }

    /// The factors of one row.
    #[inline(always)]
    pub(crate) fn row(&self, row: u64) -> MaskRow {
        let key = mix64(self.seed ^ row.wrapping_mul(0xD6E8_FEB8_6659_FD93)) as u32;
        MaskRow { key, threshold: self.threshold, scale: self.scale }
    }
}

/// One row of a [`Mask`].
#[derive(Clone, Copy)]
pub(crate) struct MaskRow {
    key: u32,
    threshold: u32,
    scale: f32,
}

impl MaskRow {
    /// The factor of the element in `column`: 0 or `1 / (1 - p)`. The mixing is Wellons' `lowbias32`.
    #[inline(always)]
    pub(crate) fn factor(&self, column: usize) -> f32 {
        let x = self.key.wrapping_add((column as u32).wrapping_mul(0x9E37_79B9));
        let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
        let x = x ^ (x >> 16);
        if x < self.threshold { 0.0 } else { self.scale }
    }

    /// Multiplies `values` by the factors.
    #[inline(always)]
    pub(crate) fn apply(&self, values: &mut [f32]) {
        self.apply_from(values, 0);
    }

    /// The same for `values` that begin at the column `first`.
    #[inline(always)]
    pub(crate) fn apply_from(&self, values: &mut [f32], first: usize) {
        for (column, value) in (first..).zip(values) {
            *value *= self.factor(column);
        }
    }
}

/// `out = values` times the mask, `width` numbers a row, the first of which has the number `first_row`.
pub(crate) fn masked(values: &[f32], out: &mut [f32], width: usize, mask: Mask, first_row: usize) {
    if width == 0 {
        return;
    }
    let _span = tracing::trace_span!("dropout").entered();
    let rows = out.par_chunks_mut(ROWS * width).zip(values.par_chunks(ROWS * width)).enumerate();
    rows.for_each(|(chunk, (out, values))| {
        vectorized(
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(width).zip(values.chunks_exact(width)).enumerate();
                for (row, (out, values)) in rows {
                    let factors = mask.row((first_row + chunk * ROWS + row) as u64);
                    for (column, (out, value)) in out.iter_mut().zip(values).enumerate() {
                        *out = value * factors.factor(column);
                    }
                }
            },
        );
    });
}

struct Dropout(Mask);

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = contiguous(self.name(), storage, layout)?;
        let width = layout.dims().last().copied().unwrap_or(1);
        let mut out = vec![0f32; values.len()];
        masked(values, &mut out, width, self.0, 0);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let grad = Floats::of(self.name(), &grad)?;
        let width = arg.dims().last().copied().unwrap_or(1);
        let mut out = vec![0f32; grad.len()];
        masked(&grad, &mut out, width, self.0, 0);
        Ok(Some(tensor(out, arg.shape())?))
    }
}

/// Sets each element of `x` to 0 with probability `p` and divides the others by `1 - p`, so that means are kept.
///
/// The choice is a function of `seed` and the element's place alone. Use a new seed for every step and every place in
/// a network; the same seed drops the same elements. `p` is in `[0, 1)`; with 0, `x` itself comes back.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// let x = Tensor::ones((4, 8), DType::F32, &Device::Cpu)?;
/// let a = paretune_encoder::dropout(&x, 0.5, 7)?.to_vec2::<f32>()?;
/// let b = paretune_encoder::dropout(&x, 0.5, 7)?.to_vec2::<f32>()?;
/// assert_eq!(a, b);
/// assert!(a.iter().flatten().all(|&value| value == 0.0 || value == 2.0));
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `p` is outside of `[0, 1)` or `x` is not an `f32` tensor on the CPU.
pub fn dropout(x: &Tensor, p: f64, seed: u64) -> Result<Tensor> {
    apply(x, Mask::new(p, seed)?)
}

/// `x` times the mask, row by row.
pub(crate) fn apply(x: &Tensor, mask: Option<Mask>) -> Result<Tensor> {
    match mask {
        Some(mask) => x.contiguous()?.apply_op1(Dropout(mask)),
        None => Ok(x.clone()),
    }
}
