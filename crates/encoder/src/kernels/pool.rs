//! One vector per sequence from the vectors of its tokens.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::simd::vectorized;
use super::slices::{Floats, contiguous, tensor};
use crate::pooling::Pooling;

struct Pool {
    kind: Pooling,
    /// `[sequences + 1]` cumulative lengths.
    offsets: Arc<[u32]>,
}

/// The vector of each sequence, `[sequences, width]`, from the rows of its tokens, `[T, width]`.
pub(crate) fn pooled(hidden: &[f32], offsets: &[u32], width: usize, kind: Pooling, out: &mut [f32]) {
    let _span = tracing::trace_span!("pool").entered();
    out.par_chunks_mut(width).zip(offsets.par_windows(2)).for_each(|(target, pair)| {
        let rows = &hidden[pair[0] as usize * width..pair[1] as usize * width];
        vectorized(
            #[inline(always)]
            || one(rows, target, kind),
        );
    });
}

/// What the sum over `count` tokens is multiplied with; for a weighted mean the weights are 1, 2, … `count`.
fn share(kind: Pooling, count: usize) -> f32 {
    let count = count.max(1);
    match kind {
        Pooling::MeanSqrtLength => 1.0 / (count as f32).sqrt(),
        Pooling::WeightedMean => (2.0 / (count as f64 * (count as f64 + 1.0))) as f32,
        Pooling::Mean | Pooling::Cls | Pooling::LastToken | Pooling::Max => 1.0 / count as f32,
    }
}

#[inline(always)]
fn one(rows: &[f32], target: &mut [f32], kind: Pooling) {
    let width = target.len();
    let count = rows.len() / width;
    if kind == Pooling::LastToken {
        if let Some(last) = count.checked_sub(1) {
            target.copy_from_slice(&rows[last * width..]);
        }
        return;
    }
    let mut rows = rows.chunks_exact(width);
    if let Some(first) = rows.next() {
        target.copy_from_slice(first);
    }
    match kind {
        Pooling::Cls | Pooling::LastToken => {}
        Pooling::Mean | Pooling::MeanSqrtLength => {
            for row in rows {
                target.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            let share = share(kind, count);
            target.iter_mut().for_each(|sum| *sum *= share);
        }
        Pooling::WeightedMean => {
            for (place, row) in (2..).zip(rows) {
                let weight = place as f32;
                target.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
            let share = share(kind, count);
            target.iter_mut().for_each(|sum| *sum *= share);
        }
        Pooling::Max => {
            for row in rows {
                // NaN stays visible.
                let larger = |target: &mut f32, value: f32| {
                    *target = if value > *target || value.is_nan() { value } else { *target }
                };
                target.iter_mut().zip(row).for_each(|(target, &value)| larger(target, value));
            }
        }
    }
}

impl Pool {
    fn rows(&self, sequence: usize) -> std::ops::Range<usize> {
        self.offsets[sequence] as usize..self.offsets[sequence + 1] as usize
    }

    fn spread(&self, rows: &[f32], pooled: &[f32], grad: &[f32], target: &mut [f32]) {
        let width = grad.len();
        match self.kind {
            Pooling::Cls => target[..width].copy_from_slice(grad),
            Pooling::LastToken => {
                let last = target.len() - width;
                target[last..].copy_from_slice(grad);
            }
            Pooling::WeightedMean => {
                let share = share(self.kind, rows.len() / width);
                for (place, target) in (1..).zip(target.chunks_exact_mut(width)) {
                    let share = place as f32 * share;
                    target.iter_mut().zip(grad).for_each(|(target, value)| *target = value * share);
                }
            }
            Pooling::Mean | Pooling::MeanSqrtLength => {
                let share = share(self.kind, rows.len() / width);
                for target in target.chunks_exact_mut(width) {
                    target.iter_mut().zip(grad).for_each(|(target, value)| *target = value * share);
                }
            }
            Pooling::Max => {
                for column in 0..width {
                    let place = (column..rows.len()).step_by(width).find(|&place| rows[place] == pooled[column]);
                    if let Some(place) = place {
                        target[place] = grad[column];
                    }
                }
            }
        }
    }
}

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tokens, width) = layout.shape().dims2()?;
        let sequences = self.offsets.len().saturating_sub(1);
        if width == 0 || self.offsets.last().is_none_or(|&end| end as usize != tokens) || !self.offsets.is_sorted() {
            bail!("pool: offsets must rise to the number of tokens, {tokens}, and rows must not be empty")
        }
        let values = contiguous(self.name(), storage, layout)?;
        let mut out = vec![0f32; sequences * width];
        pooled(values, &self.offsets, width, self.kind, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((sequences, width))))
    }

    fn bwd(&self, arg: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (tokens, width) = arg.dims2()?;
        let grad = grad.contiguous()?;
        let (values, pooled) = (Floats::of(self.name(), arg)?, Floats::of(self.name(), out)?);
        let grad = Floats::of(self.name(), &grad)?;
        let mut target = vec![0f32; tokens * width];
        for sequence in 0..self.offsets.len() - 1 {
            let rows = self.rows(sequence);
            if rows.is_empty() {
                continue;
            }
            let rows = rows.start * width..rows.end * width;
            let row = sequence * width..(sequence + 1) * width;
            self.spread(&values[rows.clone()], &pooled[row.clone()], &grad[row], &mut target[rows]);
        }
        Ok(Some(tensor(target, (tokens, width))?))
    }
}

/// Pools the rows of each packed sequence: `[T, width]` to `[sequences, width]`.
pub(crate) fn pool(hidden: &Tensor, offsets: &Arc<[u32]>, kind: Pooling) -> Result<Tensor> {
    hidden.contiguous()?.apply_op1(Pool { kind, offsets: Arc::clone(offsets) })
}
