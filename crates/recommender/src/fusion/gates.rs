//! The softmax of the gates and the sum it weighs, as one operation.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

/// Rows that one task computes.
const ROWS: usize = 64;

/// `[n, dim]`: `h = Σ_m g_m ⊙ p_m` with `g = softmax_m(a)` over the modalities that are present, for `projected` `p` and `logits` `a`
/// `[n, modalities, dim]`; `present` `[n × modalities]`.
pub(super) fn fuse(projected: &Tensor, logits: &Tensor, present: Arc<[bool]>) -> Result<Tensor> {
    match projected.device().is_cpu() {
        true => projected.contiguous()?.apply_op2(&logits.contiguous()?, Fuse { present }),
        false => composed(projected, logits, &present),
    }
}

/// The same of Candle's own operations.
pub(super) fn composed(projected: &Tensor, logits: &Tensor, present: &[bool]) -> Result<Tensor> {
    let (rows, modalities, _) = projected.dims3()?;
    let mask: Vec<f32> = present.iter().map(|present| f32::from(u8::from(*present))).collect();
    let mask = Tensor::from_vec(mask, (rows, modalities, 1), projected.device())?.to_dtype(projected.dtype())?;
    // What is missing is pushed below everything before the maximum is taken, and is an exact zero after the exponential.
    let pushed = logits.broadcast_add(&((&mask - 1.0)? * 1e30)?)?;
    let weights = pushed.broadcast_sub(&pushed.max_keepdim(1)?.detach())?.exp()?.broadcast_mul(&mask)?;
    // The largest weight is 1; a row that has nothing is 0 / 1.
    let total = weights.sum(1)?.broadcast_add(&(1.0 - mask.max(1)?)?)?;
    (weights * projected)?.sum(1)? / total
}

struct Fuse {
    present: Arc<[bool]>,
}

impl Fuse {
    /// The gates of one column of a row, before they are divided by the number that it answers with.
    #[inline(always)]
    fn weights(logits: &[f32], present: &[bool], column: usize, dim: usize, weights: &mut [f32]) -> f32 {
        let all = || logits[column..].iter().step_by(dim).zip(present);
        // NaN passes through the exponential.
        let highest =
            all().filter(|(_, here)| **here).fold(f32::NEG_INFINITY, |highest, (logit, _)| highest.max(*logit));
        let mut total = 0.0;
        for (weight, (logit, here)) in weights.iter_mut().zip(all()) {
            *weight = if *here { (logit - highest).exp() } else { 0.0 };
            total += *weight;
        }
        if present.contains(&true) { total } else { 1.0 }
    }
}

impl CustomOp2 for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, modalities, dim) = l1.shape().dims3()?;
        if l1.shape() != l2.shape() || self.present.len() != rows * modalities {
            bail!("fuse: values {:?}, gates {:?}, {} flags", l1.dims(), l2.dims(), self.present.len())
        }
        let (projected, logits) = (contiguous(s1, l1)?, contiguous(s2, l2)?);
        let mut out = vec![0f32; rows * dim];
        if dim > 0 && modalities > 0 {
            let chunk = ROWS * modalities * dim;
            let inputs = projected.par_chunks(chunk).zip(logits.par_chunks(chunk));
            let present = self.present.par_chunks(ROWS * modalities);
            out.par_chunks_mut(ROWS * dim).zip(inputs).zip(present).for_each(|((out, (values, logits)), present)| {
                let mut weights = vec![0f32; modalities];
                for (row, out) in out.chunks_exact_mut(dim).enumerate() {
                    let here = &present[row * modalities..][..modalities];
                    let range = row * modalities * dim..(row + 1) * modalities * dim;
                    let (values, logits) = (&values[range.clone()], &logits[range]);
                    for (column, out) in out.iter_mut().enumerate() {
                        let total = Self::weights(logits, here, column, dim, &mut weights);
                        let products = weights.iter().zip(values[column..].iter().step_by(dim));
                        *out = products.map(|(weight, value)| weight * value).sum::<f32>() / total;
                    }
                }
            });
        }
        Ok((CpuStorage::F32(out), Shape::from((rows, dim))))
    }

    /// `∂/∂p_m = g_m ∂h` and `∂/∂a_m = g_m (p_m − h) ∂h`.
    fn bwd(
        &self,
        projected: &Tensor,
        logits: &Tensor,
        fused: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, modalities, dim) = projected.dims3()?;
        let shape = projected.shape().clone();
        let (projected, logits) = (Numbers::of(projected)?, Numbers::of(logits)?);
        let grad = grad.contiguous()?;
        let (fused, grad) = (Numbers::of(fused)?, Numbers::of(&grad)?);
        let (projected, logits, fused, grad) = (projected.get()?, logits.get()?, fused.get()?, grad.get()?);
        let mut to_projected = vec![0f32; rows * modalities * dim];
        let mut to_logits = vec![0f32; rows * modalities * dim];
        if dim > 0 && modalities > 0 {
            let chunk = ROWS * modalities * dim;
            let outs = to_projected.par_chunks_mut(chunk).zip(to_logits.par_chunks_mut(chunk));
            outs.enumerate().for_each(|(block, (to_projected, to_logits))| {
                let mut weights = vec![0f32; modalities];
                let rows =
                    to_projected.chunks_exact_mut(modalities * dim).zip(to_logits.chunks_exact_mut(modalities * dim));
                for (row, (to_projected, to_logits)) in (block * ROWS..).zip(rows) {
                    let here = &self.present[row * modalities..][..modalities];
                    let range = row * modalities * dim..(row + 1) * modalities * dim;
                    let (values, logits) = (&projected[range.clone()], &logits[range]);
                    let (fused, grad) = (&fused[row * dim..][..dim], &grad[row * dim..][..dim]);
                    for (column, (fused, grad)) in fused.iter().zip(grad).enumerate() {
                        let total = Self::weights(logits, here, column, dim, &mut weights);
                        let places = (column..modalities * dim).step_by(dim);
                        for ((place, weight), _) in places.zip(&weights).zip(here).filter(|(_, here)| **here) {
                            let passed = weight / total * grad;
                            to_projected[place] = passed;
                            to_logits[place] = passed * (values[place] - fused);
                        }
                    }
                }
            });
        }
        let to_projected = Tensor::from_vec(to_projected, &shape, &Device::Cpu)?;
        Ok((Some(to_projected), Some(Tensor::from_vec(to_logits, &shape, &Device::Cpu)?)))
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("fuse needs contiguous tensors, got strides {:?}", layout.stride()),
    }
}

/// A read lock on the numbers of a tensor.
struct Numbers<'a>(candle_core::StorageRef<'a>, &'a Layout);

impl<'a> Numbers<'a> {
    fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        Ok(Self(storage, layout))
    }

    fn get(&self) -> Result<&[f32]> {
        match &*self.0 {
            Storage::Cpu(storage) => contiguous(storage, self.1),
            _ => bail!("fuse runs on the CPU only, got a tensor on another device"),
        }
    }
}
