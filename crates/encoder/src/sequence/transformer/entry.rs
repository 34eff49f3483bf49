//! What precedes the layers, `dropout(norm(x + position))`, as one node of Candle's graph.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, Var, bail};
use rayon::prelude::*;

use super::EPSILON;
use crate::graph::{Gradient, Outbox, tie};
use crate::kernels::buffers::Buffer;
use crate::kernels::dropout::{Mask, masked};
use crate::kernels::norm::{Norm, NormKind, Saved, Summands};
use crate::kernels::simd::{add, vectorized};
use crate::kernels::slices::{Floats, ROWS, contiguous, tensor};

/// The parameters before the first layer.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// `[longest, width]` vectors of the positions.
    pub(super) table: Var,
    pub(super) scale: Var,
    pub(super) shift: Var,
}

impl Entry {
    pub(super) fn new([table, scale, shift]: [&Var; 3]) -> Self {
        Self { table: table.clone(), scale: scale.clone(), shift: shift.clone() }
    }
}

/// Positions of all rows, each counted from the start of its sequence.
pub(super) fn positions(offsets: &[u32]) -> Vec<u32> {
    offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect()
}

struct EntryOp {
    entry: Entry,
    /// `[T]` the position of each row; the table has them all.
    positions: Vec<u32>,
    mask: Option<Mask>,
    saved: OnceLock<Saved>,
    outbox: Arc<Outbox>,
}

impl EntryOp {
    /// Calls `work` with the table and the norm.
    fn read<R>(&self, work: impl FnOnce(&[f32], Norm<'_>) -> R) -> Result<R> {
        let floats = |var: &'_ Var| -> Result<Vec<f32>> { Ok(Floats::of("positions", var.as_tensor())?.to_vec()) };
        let (scale, shift) = (floats(&self.entry.scale)?, floats(&self.entry.shift)?);
        let table = Floats::of("positions", self.entry.table.as_tensor())?;
        let norm = Norm { scale: &scale, shift: Some(&shift), kind: NormKind::Layer, epsilon: EPSILON as f32 };
        Ok(work(&table, norm))
    }

    /// `x` and the vectors of the positions, added up.
    fn sum(&self, x: &[f32], table: &[f32], width: usize, out: &mut [f32]) {
        let rows = x.par_chunks(ROWS * width).zip(self.positions.par_chunks(ROWS));
        out.par_chunks_mut(ROWS * width).zip(rows).for_each(|(out, (x, positions))| {
            vectorized(
                #[inline(always)]
                || {
                    out.copy_from_slice(x);
                    for (row, position) in out.chunks_exact_mut(width).zip(positions) {
                        add(row, &table[*position as usize * width..]);
                    }
                },
            );
        });
    }
}

impl CustomOp2 for EntryOp {
    fn name(&self) -> &'static str {
        "positions"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = tracing::trace_span!("positions").entered();
        let (rows, width) = layout.shape().dims2()?;
        let (longest, columns) = self.entry.table.dims2()?;
        let fits = self.positions.iter().all(|position| (*position as usize) < longest);
        if rows != self.positions.len() || width != columns || !fits {
            let places = self.positions.len();
            bail!("positions: x [{rows}, {width}] with {places} positions, of a table [{longest}, {columns}]")
        }
        let x = contiguous(self.name(), x, layout)?;
        let mut out = vec![0f32; x.len()];
        self.read(|table, norm| {
            let mut sum = Buffer::take(x.len());
            self.sum(x, table, width, &mut sum);
            let summands = Summands { x: &sum, residual: None, mask: None, first_row: 0 };
            let saved = match self.mask {
                Some(mask) => {
                    let mut whole = Buffer::take(x.len());
                    let saved = norm.forward_saving(summands, &mut whole);
                    masked(&whole, &mut out, width, mask, 0);
                    saved
                }
                None => norm.forward_saving(summands, &mut out),
            };
            let _ = self.saved.set(saved);
        })?;
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        handle: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = tracing::trace_span!("positions-backward").entered();
        let Some(saved) = self.saved.get() else { bail!("positions: backward without a forward pass") };
        let source = grad.contiguous()?;
        let source = Floats::of(self.name(), &source)?;
        let width = x.dim(1)?;
        let mut grad = vec![0f32; source.len()];
        match self.mask {
            Some(mask) => masked(&source, &mut grad, width, mask, 0),
            None => grad.copy_from_slice(&source),
        }
        let (table, scale, shift) = self.read(|table, norm| {
            let (scale, shift) = norm.backward(saved, &mut grad);
            let mut sums = vec![0f32; table.len()];
            // In the order of the rows, so that the sums do not depend on threads.
            vectorized(
                #[inline(always)]
                || {
                    for (row, position) in grad.chunks_exact(width).zip(&self.positions) {
                        add(&mut sums[*position as usize * width..][..width], row);
                    }
                },
            );
            (sums, scale, shift)
        })?;
        let entry = &self.entry;
        let named = [(&entry.table, table), (&entry.scale, scale), (&entry.shift, shift)];
        let named =
            named.into_iter().map(|(var, values)| Ok((var.clone(), Gradient::Dense(tensor(values, var.shape())?))));
        self.outbox.put(named.collect::<Result<Vec<_>>>()?)?;
        let x_grad = if x.track_op() { Some(tensor(grad, x.shape())?) } else { None };
        Ok((x_grad, Some(handle.zeros_like()?)))
    }
}

/// `dropout(norm(x + position))`, `[T, width]`.
pub(super) fn forward(x: &Tensor, entry: &Entry, offsets: &[u32], mask: Option<Mask>) -> Result<Tensor> {
    let outbox = Arc::new(Outbox::default());
    let handle = tie(&[entry.table.clone(), entry.scale.clone(), entry.shift.clone()], &outbox)?;
    let op = EntryOp { entry: entry.clone(), positions: positions(offsets), mask, saved: OnceLock::new(), outbox };
    x.contiguous()?.apply_op2(&handle, op)
}
