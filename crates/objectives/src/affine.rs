//! `x Wᵀ + b`, and `SiLU` of it, as one step of the graph: of Candle's own operations the backward pass takes five more, and it adds up the gradient
//! of a bias with a division for every number.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::silu::{silu, values};

/// Numbers that one task computes.
const CHUNK: usize = 4096;

/// `x Wᵀ + b`, or `SiLU(x Wᵀ + b)`, of `x` `[B, in]`, `W` `[out, in]` and `b` `[out]`: values, and gradients of those that are tracked.
pub(crate) fn affine(x: &Tensor, weight: &Tensor, bias: &Tensor, activated: bool) -> Result<Tensor> {
    let fits = |tensor: &Tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32;
    if ![x, weight, bias].into_iter().all(fits) {
        let y = x.matmul(&weight.t()?)?.broadcast_add(bias)?;
        return if activated { silu(&y) } else { Ok(y) };
    }
    // Candle's own product, outside of the graph.
    let product = x.detach().matmul(&weight.detach().t()?)?;
    let width = product.dims2()?.1;
    if bias.dims() != [width] {
        bail!("affine: a bias of {:?} does not fit x Wᵀ of {:?}", bias.dims(), product.dims())
    }
    let mut y = product.flatten_all()?.to_vec1::<f32>()?;
    add_rows(&mut y, &bias.to_vec1::<f32>()?);
    let sigma = activated.then(|| activate(&mut y));
    x.apply_op3(weight, bias, Affine { y: Mutex::new(y), sigma })
}

/// Adds `b` to every row.
fn add_rows(y: &mut [f32], bias: &[f32]) {
    if bias.is_empty() {
        return;
    }
    y.par_chunks_mut(CHUNK.div_ceil(bias.len()) * bias.len()).for_each(|rows| {
        for row in rows.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    });
}

/// `z / (1 + e^-z)` in place of `z`; `σ(z)` is what the gradient needs.
fn activate(z: &mut [f32]) -> Vec<f32> {
    let mut sigma = vec![0f32; z.len()];
    sigma.par_chunks_mut(CHUNK).zip(z.par_chunks_mut(CHUNK)).for_each(|(sigma, z)| {
        for (sigma, z) in sigma.iter_mut().zip(z) {
            let below = 1.0 + (-*z).exp();
            *sigma = 1.0 / below;
            *z /= below;
        }
    });
    sigma
}

struct Affine {
    /// The result `[B, out]`, until it is asked for.
    y: Mutex<Vec<f32>>,
    /// `σ(x Wᵀ + b)`, with an activation.
    sigma: Option<Vec<f32>>,
}

impl CustomOp3 for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        x: &Layout,
        _: &CpuStorage,
        weight: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = std::mem::take(&mut *self.y.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((CpuStorage::F32(y), (x.shape().dims2()?.0, weight.shape().dims2()?.0).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let gradient = match &self.sigma {
            Some(sigma) => gradient.apply_op2_no_bwd(y, &Slope { sigma })?,
            None => gradient,
        };
        let of_x = x.track_op().then(|| gradient.matmul(weight)).transpose()?;
        let of_weight = weight.track_op().then(|| gradient.t()?.matmul(x)).transpose()?;
        let of_bias = bias.track_op().then(|| gradient.apply_op1_no_bwd(&ColumnSums)).transpose()?;
        Ok((of_x, of_weight, of_bias))
    }
}

/// `g (σ(z) (1 - y) + y)`, the gradient at `z` of `y = z σ(z)` from that at `y`.
struct Slope<'a> {
    sigma: &'a [f32],
}

impl CustomOp2 for Slope<'_> {
    fn name(&self) -> &'static str {
        "silu-slope"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gradient, y) = (values(s1, l1)?, values(s2, l2)?);
        let mut out = vec![0f32; gradient.len()];
        let inputs = gradient.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).zip(self.sigma.par_chunks(CHUNK));
        out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, ((gradient, y), sigma))| {
            for (((out, gradient), y), sigma) in out.iter_mut().zip(gradient).zip(y).zip(sigma) {
                *out = gradient * (sigma * (1.0 - y) + y);
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// Sums of `[B, out]` over its rows, from the first to the last.
struct ColumnSums;

impl CustomOp1 for ColumnSums {
    fn name(&self) -> &'static str {
        "column-sums"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.shape().dims2()?.1;
        let mut sums = vec![0f32; width];
        if width > 0 {
            for row in values(storage, layout)?.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok((CpuStorage::F32(sums), width.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn numbers(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|at| (at as f32 * step).sin() * 1.5).collect()
    }

    fn var(rows: usize, columns: usize, step: f32) -> Var {
        Var::from_vec(numbers(rows * columns, step), (rows, columns), &Device::Cpu).unwrap()
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Values to the bit those of Candle's own operations, gradients but for rounding of products that are made the other way around.
    #[test]
    fn values_and_gradients_are_those_of_candle() {
        for (rows, inputs, outputs) in [(1, 1, 1), (7, 5, 3), (512, 64, 64), (300, 33, 1), (70, 130, 17)] {
            for activated in [false, true] {
                let (x, weight) = (var(rows, inputs, 0.37), var(outputs, inputs, 0.61));
                let bias = Var::from_vec(numbers(outputs, 0.9), outputs, &Device::Cpu).unwrap();
                let direction = Tensor::from_vec(numbers(rows * outputs, 0.23), (rows, outputs), &Device::Cpu).unwrap();
                let run = |y: &Tensor| {
                    let store = (y * &direction).unwrap().sum_all().unwrap().backward().unwrap();
                    [&x, &weight, &bias].map(|var| store.get(var).map_or_else(Vec::new, flat))
                };
                let own = affine(&x, &weight, &bias, activated).unwrap();
                let plain = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
                let plain = if activated { plain.silu().unwrap() } else { plain };
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                assert_eq!(bits(flat(&own)), bits(flat(&plain)), "{rows} {inputs} {outputs}");
                for (k, (own, plain)) in run(&own).into_iter().zip(run(&plain)).enumerate() {
                    assert_eq!(own.len(), plain.len());
                    let size = plain.iter().fold(1f32, |size, value| size.max(value.abs()));
                    let off = own.iter().zip(&plain).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
                    assert!(off <= 1e-6 * size, "{k} of {rows} {inputs} {outputs}: {off} of {size}");
                    if k == 2 {
                        assert_eq!(bits(own), bits(plain), "a bias adds up in the same order");
                    }
                }
            }
        }
    }

    #[test]
    fn columns_of_something_wider_are_read_where_they_lie() {
        let wide = var(9, 12, 0.37);
        let (weight, bias) = (var(5, 4, 0.61), Var::from_vec(numbers(5, 0.9), 5, &Device::Cpu).unwrap());
        let part = wide.narrow(1, 3, 4).unwrap();
        let run = |x: &Tensor| {
            let y = affine(x, &weight, &bias, true).unwrap();
            let store = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            [flat(&y), flat(store.get(&wide).unwrap()), flat(store.get(&weight).unwrap())]
        };
        let (own, copied) = (run(&part), run(&part.contiguous().unwrap()));
        for (own, copied) in own.iter().zip(&copied) {
            assert!(own.iter().zip(copied).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1.0)));
        }
    }

    #[test]
    fn what_is_frozen_gets_no_gradient_and_what_does_not_fit_is_refused() {
        let (x, weight) = (var(3, 4, 0.3), var(2, 4, 0.7));
        let bias = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
        let y = affine(&x.as_detached_tensor(), &weight, &bias, true).unwrap();
        let store = y.sum_all().unwrap().backward().unwrap();
        assert!(store.get(&x).is_none() && store.get(&weight).is_some() && store.get(&bias).is_some());
        assert_eq!(affine(&x.narrow(0, 0, 0).unwrap(), &weight, &bias, true).unwrap().dims(), [0, 2]);
        let long = Var::zeros(3, DType::F32, &Device::Cpu).unwrap();
        assert!(affine(&x, &weight, &long, false).is_err());
        assert!(affine(&x, &var(2, 5, 0.7), &bias, false).is_err());
        let wide = |var: &Var| var.to_dtype(DType::F64).unwrap();
        assert_eq!(affine(&wide(&x), &wide(&weight), &wide(&bias), true).unwrap().dtype(), DType::F64);
    }
}
