//! One pass over parameter, gradient and both moments, in place.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, Var};
use rayon::prelude::*;

use super::AdamWConfig;

/// Values a thread takes at a time: four slices of 64 KiB stay in its cache.
const CHUNK: usize = 1 << 14;

/// The constants of one parameter's step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coefficients {
    /// `1 - lr λ`.
    pub(super) keep: f64,
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    /// `lr / (1 - β₁ᵗ)`.
    pub(super) size: f64,
    /// What gradients are multiplied by first.
    pub(super) scale: f64,
    /// `√(1 - β₂ᵗ)`.
    pub(super) correction: f64,
    pub(super) eps: f64,
}

impl Coefficients {
    pub(super) fn new(config: &AdamWConfig, (lr, scale): (f64, f64), weight_decay: f64, steps: u64) -> Self {
        let t = steps as f64;
        Self {
            keep: 1.0 - lr * weight_decay,
            beta1: config.beta1,
            beta2: config.beta2,
            scale,
            size: lr / (1.0 - config.beta1.powf(t)),
            correction: (1.0 - config.beta2.powf(t)).sqrt(),
            eps: config.eps,
        }
    }
}

pub(super) fn step(
    var: &Var,
    gradient: &Tensor,
    first: &mut [f32],
    second: &mut [f32],
    coefficients: Coefficients,
) -> candle_core::Result<()> {
    let gradient = gradient.to_dtype(candle_core::DType::F32)?.contiguous()?;
    var.inplace_op2(&gradient, &Fused { moments: RefCell::new((first, second)), coefficients })
}

/// The same for some rows of a table; the others, their moments included, stay as they are (the "lazy" form of sparse Adam).
pub(super) fn step_rows(
    var: &Var,
    rows: &[u32],
    values: &Tensor,
    first: &mut [f32],
    second: &mut [f32],
    coefficients: Coefficients,
) -> candle_core::Result<()> {
    let values = values.to_dtype(candle_core::DType::F32)?.contiguous()?;
    var.inplace_op2(&values, &FusedRows { rows, moments: RefCell::new((first, second)), coefficients })
}

struct FusedRows<'a> {
    rows: &'a [u32],
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
    coefficients: Coefficients,
}

impl InplaceOp2 for FusedRows<'_> {
    fn name(&self) -> &'static str {
        "adamw-rows"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(table), CpuStorage::F32(gradient)) = (s1, s2) else {
            candle_core::bail!("the fused AdamW step works on f32 only")
        };
        let (Some((t_from, t_to)), Some((g_from, g_to))) = (l1.contiguous_offsets(), l2.contiguous_offsets()) else {
            candle_core::bail!("the fused AdamW step works on contiguous tensors only")
        };
        let (table, gradient) = (&mut table[t_from..t_to], &gradient[g_from..g_to]);
        let (_, width) = l2.shape().dims2()?;
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        for (&row, g) in self.rows.iter().zip(gradient.chunks_exact(width.max(1))) {
            let place = row as usize * width..(row as usize + 1) * width;
            let slices = (table.get_mut(place.clone()), first.get_mut(place.clone()), second.get_mut(place));
            let (Some(p), Some(m), Some(v)) = slices else {
                candle_core::bail!("row {row} is past the end of the table")
            };
            update(p, g, m, v, self.coefficients);
        }
        Ok(())
    }
}

/// Candle hands the storage to an operation by shared reference, hence the cell.
struct Fused<'a> {
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
    coefficients: Coefficients,
}

impl InplaceOp2 for Fused<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(parameter), CpuStorage::F32(gradient)) = (s1, s2) else {
            candle_core::bail!("the fused AdamW step works on f32 only")
        };
        let (Some((p_from, p_to)), Some((g_from, g_to))) = (l1.contiguous_offsets(), l2.contiguous_offsets()) else {
            candle_core::bail!("the fused AdamW step works on contiguous tensors only")
        };
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        let chunks = parameter[p_from..p_to].par_chunks_mut(CHUNK).zip(gradient[g_from..g_to].par_chunks(CHUNK));
        let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
        let coefficients = self.coefficients;
        chunks.zip(moments).for_each(|((p, g), (m, v))| update(p, g, m, v, coefficients));
        Ok(())
    }
}

fn update(parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], c: Coefficients) {
    let (keep, size, eps, inverse) = (c.keep as f32, c.size as f32, c.eps as f32, (1.0 / c.correction) as f32);
    let (scale, beta2) = (c.scale as f32, c.beta2 as f32);
    let (gain1, gain2) = ((1.0 - c.beta1) as f32, (1.0 - c.beta2) as f32);
    for (((p, &g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
        let g = g * scale;
        *m += gain1 * (g - *m);
        *v = beta2 * *v + gain2 * (g * g);
        *p = keep * *p - size * (*m / (v.sqrt() * inverse + eps));
    }
}
