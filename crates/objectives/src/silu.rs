//! `x σ(x)` with its slope in one pass: of Candle's own operations the backward pass takes eight.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Values that one task computes.
const CHUNK: usize = 4096;

/// `x σ(x) = x / (1 + e^-x)` (Elfwing et al. 2018), to the bit what Candle says, and so is its gradient.
pub(crate) fn silu(x: &Tensor) -> Result<Tensor> {
    match x.device().is_cpu() && x.dtype() == DType::F32 {
        true => x.contiguous()?.apply_op1(Silu),
        false => x.silu(),
    }
}

struct Silu;

struct Slope;

impl CustomOp1 for Silu {
    fn name(&self) -> &'static str {
        "silu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x / (1.0 + (-x).exp()));
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op3_no_bwd(y, &gradient.contiguous()?, &Slope)?))
    }
}

impl CustomOp3 for Slope {
    fn name(&self) -> &'static str {
        "silu-slope"
    }

    /// `g (σ(x) (1 - y) + y)`.
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, y, gradient) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let mut out = vec![0f32; x.len()];
        let inputs = x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).zip(gradient.par_chunks(CHUNK));
        out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, ((x, y), gradient))| {
            for (((out, x), y), gradient) in out.iter_mut().zip(x).zip(y).zip(gradient) {
                let sigma = 1.0 / ((-x).exp() + 1.0);
                *out = gradient * (sigma * (1.0 - y) + y);
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// The numbers of a contiguous tensor.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn bits(tensor: &Tensor) -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn values_and_gradients_are_those_of_candle_to_the_bit() {
        let mut numbers: Vec<f32> = (0..9_996).map(|at| (at as f32 * 0.7).sin() * 12.0).collect();
        numbers.extend([0.0, -0.0, 88.0, -88.0, 200.0, -200.0, 1e-30, -1e-30, 3e38, -3e38, 1.0, -1.0]);
        let x = Var::from_slice(&numbers, (numbers.len() / 4, 4), &Device::Cpu).unwrap();
        let direction = x.cos().unwrap();
        for turned in [false, true] {
            let turn = |t: &Tensor| if turned { t.t().unwrap() } else { t.clone() };
            let run = |y: Tensor| {
                let loss = (&y * turn(&direction)).unwrap().sum_all().unwrap();
                (bits(&y), bits(loss.backward().unwrap().get(&x).unwrap()))
            };
            assert_eq!(run(silu(&turn(&x)).unwrap()), run(turn(&x).silu().unwrap()));
        }
    }
}
