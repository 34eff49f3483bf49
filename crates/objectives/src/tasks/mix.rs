//! Experts weighted by gates, as one operation.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

/// Rows that one task computes.
const ROWS: usize = 64;

/// Which experts each gate mixes.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    /// `[gates][its experts]`.
    pub(super) places: Arc<[Vec<u32>]>,
    /// Number of experts.
    pub(super) experts: usize,
}

impl Groups {
    /// Logits of all gates together.
    pub(super) fn logits(&self) -> usize {
        self.places.iter().map(Vec::len).sum()
    }
}

/// `[B, gates · width]`: `Σ_j g_j h_j` with `g = softmax(a)` over the experts of each gate, for their logits `a` `[B, logits]`, gate after gate, and
/// the experts `h` `[B, experts · width]`.
pub(super) fn mix(logits: &Tensor, experts: &Tensor, groups: &Groups) -> Result<Tensor> {
    let fused = logits.device().is_cpu() && logits.dtype() == DType::F32;
    match fused {
        true => logits.contiguous()?.apply_op2(&experts.contiguous()?, Mix { groups: groups.clone() }),
        false => composed(logits, experts, groups),
    }
}

/// The same of Candle's own operations.
pub(super) fn composed(logits: &Tensor, experts: &Tensor, groups: &Groups) -> Result<Tensor> {
    let (rows, all) = experts.dims2()?;
    let width = all / groups.experts.max(1);
    let experts = experts.reshape((rows, groups.experts, width))?;
    let mut start = 0;
    let mut mixed = Vec::with_capacity(groups.places.len());
    for places in groups.places.iter() {
        let own = logits.narrow(1, start, places.len())?;
        start += places.len();
        let raised = own.broadcast_sub(&own.max_keepdim(1)?.detach())?.exp()?;
        let weights = raised.broadcast_div(&raised.sum_keepdim(1)?)?.unsqueeze(2)?;
        let chosen = experts.index_select(&Tensor::new(places.as_slice(), experts.device())?, 1)?;
        mixed.push(chosen.broadcast_mul(&weights)?.sum(1)?);
    }
    Tensor::cat(&mixed, D::Minus1)
}

struct Mix {
    groups: Groups,
}

/// Softmax of one gate's logits.
fn softmax(logits: &[f32], weights: &mut [f32]) {
    let highest = logits.iter().fold(f32::NEG_INFINITY, |highest, logit| highest.max(*logit));
    let mut total = 0.0;
    for (weight, logit) in weights.iter_mut().zip(logits) {
        *weight = (logit - highest).exp();
        total += *weight;
    }
    weights.iter_mut().for_each(|weight| *weight /= total);
}

impl Mix {
    fn sizes(&self, logits: &Shape, experts: &Shape) -> Result<(usize, usize)> {
        let ((rows, found), (others, all)) = (logits.dims2()?, experts.dims2()?);
        let width = all / self.groups.experts.max(1);
        if rows != others || found != self.groups.logits() || width * self.groups.experts != all || width == 0 {
            bail!("mix: gates [{rows}, {found}] and experts [{others}, {all}] do not fit")
        }
        Ok((rows, width))
    }
}

impl CustomOp2 for Mix {
    fn name(&self) -> &'static str {
        "mix"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = self.sizes(l1.shape(), l2.shape())?;
        let (logits, experts) = (contiguous(s1, l1)?, contiguous(s2, l2)?);
        let (per_row, all) = (self.groups.logits(), self.groups.experts * width);
        let wide = self.groups.places.len() * width;
        let mut out = vec![0f32; rows * wide];
        let inputs = logits.par_chunks(ROWS * per_row).zip(experts.par_chunks(ROWS * all));
        out.par_chunks_mut(ROWS * wide).zip(inputs).for_each(|(out, (logits, experts))| {
            let mut weights = vec![0f32; per_row];
            let rows = out.chunks_exact_mut(wide).zip(logits.chunks_exact(per_row)).zip(experts.chunks_exact(all));
            for ((out, logits), experts) in rows {
                let mut start = 0;
                for (places, out) in self.groups.places.iter().zip(out.chunks_exact_mut(width)) {
                    let weights = &mut weights[..places.len()];
                    softmax(&logits[start..start + places.len()], weights);
                    start += places.len();
                    for (weight, place) in weights.iter().zip(places) {
                        let expert = &experts[*place as usize * width..][..width];
                        out.iter_mut().zip(expert).for_each(|(sum, value)| *sum += weight * value);
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((rows, wide))))
    }

    /// `∂/∂h_j = Σ_gates g_j ∂y` and `∂/∂a_j = g_j (⟨∂y, h_j⟩ - Σ_i g_i ⟨∂y, h_i⟩)`.
    fn bwd(
        &self,
        logits: &Tensor,
        experts: &Tensor,
        _mixed: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, width) = self.sizes(logits.shape(), experts.shape())?;
        let grad = grad.contiguous()?;
        let (per_row, all) = (self.groups.logits(), self.groups.experts * width);
        let wide = self.groups.places.len() * width;
        let mut to_logits = vec![0f32; rows * per_row];
        let mut to_experts = vec![0f32; rows * all];
        {
            let (logits, experts, grad) = (Numbers::of(logits)?, Numbers::of(experts)?, Numbers::of(&grad)?);
            let (logits, experts, grad) = (logits.get()?, experts.get()?, grad.get()?);
            let inputs = logits.par_chunks(ROWS * per_row).zip(experts.par_chunks(ROWS * all));
            let outs = to_logits.par_chunks_mut(ROWS * per_row).zip(to_experts.par_chunks_mut(ROWS * all));
            outs.zip(inputs).zip(grad.par_chunks(ROWS * wide)).for_each(|((outs, (logits, experts)), grad)| {
                let (to_logits, to_experts) = outs;
                let mut weights = vec![0f32; per_row];
                for (row, grad) in grad.chunks_exact(wide).enumerate() {
                    let (logits, experts) = (&logits[row * per_row..][..per_row], &experts[row * all..][..all]);
                    let (to_logits, to_experts) =
                        (&mut to_logits[row * per_row..][..per_row], &mut to_experts[row * all..][..all]);
                    let mut start = 0;
                    for (places, grad) in self.groups.places.iter().zip(grad.chunks_exact(width)) {
                        let range = start..start + places.len();
                        start = range.end;
                        let weights = &mut weights[..places.len()];
                        softmax(&logits[range.clone()], weights);
                        let products = &mut to_logits[range];
                        let mut mean = 0.0;
                        for ((weight, place), product) in weights.iter().zip(places).zip(products.iter_mut()) {
                            let at = *place as usize * width;
                            *product =
                                experts[at..][..width].iter().zip(grad).map(|(value, slope)| value * slope).sum();
                            mean += weight * *product;
                            let sums = to_experts[at..][..width].iter_mut();
                            sums.zip(grad).for_each(|(sum, slope)| *sum += weight * slope);
                        }
                        let slopes = products.iter_mut().zip(weights.iter());
                        slopes.for_each(|(product, weight)| *product = weight * (*product - mean));
                    }
                }
            });
        }
        Ok((
            Some(Tensor::from_vec(to_logits, (rows, per_row), logits.device())?),
            Some(Tensor::from_vec(to_experts, (rows, all), experts.device())?),
        ))
    }
}

/// Values of a contiguous tensor on the CPU.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("mix needs contiguous tensors, got strides {:?}", layout.stride()),
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
            _ => bail!("mix runs on the CPU only, got a tensor on another device"),
        }
    }
}
