//! The mean of a bag.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::Bags;
use super::scatter::scatter;
use crate::kernels::linear::linear;
use crate::kernels::simd::{add, add_scaled, vectorized};
use crate::kernels::slices::{Floats, ROWS, contiguous, tensor};

struct MeanOp(Bags);

/// What a row of a bag of `count` entries is multiplied with.
#[inline(always)]
fn share(count: usize) -> f32 {
    1.0 / count.max(1) as f32
}

/// Rows that are added up before their sum is added to that of the others, so that rounding does not grow with the length of a bag.
const BLOCK: usize = 32;

/// `out[bag] = Σ row(entry) / count` for `out: [bags, width]`, zeros before.
fn means<'a>(bags: &Bags, width: usize, out: &mut [f32], row: impl Fn(usize) -> &'a [f32] + Sync) {
    out.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, out)| {
        vectorized(
            #[inline(always)]
            || {
                let mut block = vec![0f32; width];
                for (bag, out) in (chunk * ROWS..).zip(out.chunks_exact_mut(width)) {
                    let entries = bags.entries(bag);
                    let share = share(entries.len());
                    if entries.len() <= BLOCK {
                        entries.for_each(|entry| add(out, row(entry)));
                    } else {
                        for start in entries.clone().step_by(BLOCK) {
                            block.fill(0.0);
                            (start..(start + BLOCK).min(entries.end)).for_each(|entry| add(&mut block, row(entry)));
                            add(out, &block);
                        }
                    }
                    out.iter_mut().for_each(|sum| *sum *= share);
                }
            },
        );
    });
}

impl CustomOp1 for MeanOp {
    fn name(&self) -> &'static str {
        "bag-mean"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = tracing::trace_span!("bag-mean").entered();
        let (_, width) = layout.shape().dims2()?;
        let table = contiguous(self.name(), table, layout)?;
        let mut out = vec![0f32; self.0.len() * width];
        means(&self.0, width, &mut out, |entry| &table[self.0.rows[entry] as usize * width..][..width]);
        Ok((CpuStorage::F32(out), Shape::from((self.0.len(), width))))
    }

    fn bwd(&self, table: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = tracing::trace_span!("bag-mean-backward").entered();
        let (height, width) = table.dims2()?;
        let grad = grad.contiguous()?;
        let grad = Floats::of(self.name(), &grad)?;
        let grad: &[f32] = &grad;
        let mut target = vec![0f32; height * width];
        let bags = &self.0;
        scatter(&mut target, width, || {
            (0..bags.len()).flat_map(|bag| {
                let entries = bags.entries(bag);
                let (share, grad) = (share(entries.len()), &grad[bag * width..][..width]);
                bags.rows[entries].iter().map(move |&row| (row, share, grad))
            })
        });
        Ok(Some(tensor(target, (height, width))?))
    }
}

/// `[rows, width]` to `[bags, width]`; `features` are `[T, k]` with the weight and the bias of their layer.
pub(in crate::kernels) fn mean(bags: &Bags, table: &Tensor, features: Option<&[Tensor; 3]>) -> Result<Tensor> {
    let rows = table.contiguous()?.apply_op1(MeanOp(bags.clone()))?;
    let Some([values, weight, bias]) = features else { return Ok(rows) };
    // A bias is the weight of a feature that is one for every entry.
    let count = values.dim(1)?;
    let wide = count + 1;
    let mut held = vec![0f32; bags.len() * wide];
    {
        let values = Floats::of("bag-mean", values)?;
        held.par_chunks_mut(wide).enumerate().for_each(|(bag, held)| {
            let entries = bags.entries(bag);
            let share = share(entries.len());
            held[count] = f32::from(u8::from(!entries.is_empty()));
            entries.for_each(|entry| add_scaled(&mut held[..count], &values[entry * count..][..count], share));
        });
    }
    let weight = Tensor::cat(&[weight, &bias.unsqueeze(1)?], 1)?;
    let none = Tensor::zeros(weight.dim(0)?, DType::F32, &Device::Cpu)?;
    rows + linear(&tensor(held, (bags.len(), wide))?, &weight, &none, None)?
}
