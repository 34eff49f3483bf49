//! Pointwise nonlinearities and their derivatives.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::simd::{exp, vectorized};
use super::slices::{Floats, contiguous, tensor};

/// Numbers that one parallel task handles.
const CHUNK: usize = 16 * 1024;

/// The nonlinearity between the two matrices of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x·Φ(x)` with the normal distribution function Φ (`gelu` in Hub configurations).
    Gelu,
    /// The approximation of GELU by `tanh` (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x·σ(x)` with the logistic function σ (`silu`, `swish`).
    #[allow(dead_code, reason = "used by the network that follows")]
    Silu,
}

/// `Φ(x)` and `e^(-x²/2)`. Φ by Abramowitz and Stegun 7.1.26, off by at most 1e-7; small values in the left tail
/// come without cancellation.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let gauss = exp(-0.5 * x * x);
    let t = 1.0 / x.abs().mul_add(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2, 1.0);
    let p = 1.061_405_4f32;
    let p = p.mul_add(t, -1.453_152);
    let p = p.mul_add(t, 1.421_413_7);
    let p = p.mul_add(t, -0.284_496_74);
    let p = p.mul_add(t, 0.254_829_6);
    let tail = 0.5 * p * t * gauss;
    (if x > 0.0 { 1.0 - tail } else { tail }, gauss)
}

/// `tanh(√(2/π)·(x + 0.044715·x³))` and the derivative of the argument.
#[inline(always)]
fn tanh_inner(x: f32) -> (f32, f32) {
    const ROOT: f32 = 0.797_884_6;
    let u = ROOT * (x + 0.044_715 * x * x * x);
    let tanh = 1.0 - 2.0 / (exp(2.0 * u) + 1.0);
    (tanh, ROOT * (1.0 + 3.0 * 0.044_715 * x * x))
}

#[inline(always)]
fn gelu_value(x: f32) -> f32 {
    x * normal(x).0
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    let (phi, gauss) = normal(x);
    phi + x * gauss * 0.398_942_3
}

#[inline(always)]
fn gelu_tanh_value(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh_inner(x).0)
}

#[inline(always)]
fn gelu_tanh_slope(x: f32) -> f32 {
    // Beyond this the slope is 0 or 1, and squares would overflow. Written as selections, so that NaN passes through.
    let x = if x > 1e4 { 1e4 } else { x };
    let x = if x < -1e4 { -1e4 } else { x };
    let (tanh, inner) = tanh_inner(x);
    0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
}

#[inline(always)]
fn relu_value(x: f32) -> f32 {
    // A selection that lets NaN through.
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
fn relu_slope(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { 0.0 }
}

/// `1 / (1 + e^(-x))`; 0 where it would drown, so that no product with a large `x` brings it back.
#[inline(always)]
fn logistic(x: f32) -> f32 {
    let sigma = 1.0 / (1.0 + exp(-x));
    if x < -87.0 { 0.0 } else { sigma }
}

#[inline(always)]
fn silu_value(x: f32) -> f32 {
    x * logistic(x)
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let sigma = logistic(x);
    sigma * (1.0 + x * (1.0 - sigma))
}

/// Replaces each value by `f` of it.
fn map(values: &mut [f32], f: impl Fn(f32) -> f32 + Sync + Copy) {
    values.par_chunks_mut(CHUNK).for_each(|chunk| {
        vectorized(
            #[inline(always)]
            || chunk.iter_mut().for_each(|value| *value = f(*value)),
        );
    });
}

/// `target[i] = grad[i] · slope(x[i])`.
fn chain(target: &mut [f32], x: &[f32], grad: &[f32], slope: impl Fn(f32) -> f32 + Sync + Copy) {
    let sources = x.par_chunks(CHUNK).zip(grad.par_chunks(CHUNK));
    target.par_chunks_mut(CHUNK).zip(sources).for_each(|(target, (x, grad))| {
        vectorized(
            #[inline(always)]
            || {
                for ((target, &x), &grad) in target.iter_mut().zip(x).zip(grad) {
                    *target = grad * slope(x);
                }
            },
        );
    });
}

/// `grad[i] *= f'(before[i])` and `after[i] = f(before[i])`, with `both` giving value and slope.
#[inline(always)]
fn chain_both(before: &[f32], grad: &mut [f32], after: &mut [f32], both: impl Fn(f32) -> (f32, f32)) {
    for ((grad, after), &before) in grad.iter_mut().zip(after).zip(before) {
        let (value, slope) = both(before);
        *after = value;
        *grad *= slope;
    }
}

impl Activation {
    /// `after[i] = f(before[i])`. Call it inside of [`vectorized`].
    #[inline(always)]
    pub(crate) fn values(self, before: &[f32], after: &mut [f32]) {
        let pairs = after.iter_mut().zip(before);
        match self {
            Self::Gelu => pairs.for_each(|(after, before)| *after = gelu_value(*before)),
            Self::GeluTanh => pairs.for_each(|(after, before)| *after = gelu_tanh_value(*before)),
            Self::Relu => pairs.for_each(|(after, before)| *after = relu_value(*before)),
            Self::Silu => pairs.for_each(|(after, before)| *after = silu_value(*before)),
        }
    }

    /// Applies the nonlinearity in place. Call it inside of [`vectorized`].
    #[inline(always)]
    pub(crate) fn in_place(self, values: &mut [f32]) {
        match self {
            Self::Gelu => values.iter_mut().for_each(|value| *value = gelu_value(*value)),
            Self::GeluTanh => values.iter_mut().for_each(|value| *value = gelu_tanh_value(*value)),
            Self::Relu => values.iter_mut().for_each(|value| *value = relu_value(*value)),
            Self::Silu => values.iter_mut().for_each(|value| *value = silu_value(*value)),
        }
    }

    /// Turns `grad`, the gradient of the result, into that of the argument `before`, and computes the result, `after`, once
    /// more: the two share their exponentials. Call it inside of [`vectorized`].
    #[inline(always)]
    pub(crate) fn chain_again(self, before: &[f32], grad: &mut [f32], after: &mut [f32]) {
        match self {
            Self::Gelu => chain_both(before, grad, after, |x| {
                let (phi, gauss) = normal(x);
                (x * phi, phi + x * gauss * 0.398_942_3)
            }),
            Self::GeluTanh => chain_both(before, grad, after, |x| (gelu_tanh_value(x), gelu_tanh_slope(x))),
            Self::Relu => chain_both(before, grad, after, |x| (relu_value(x), relu_slope(x))),
            Self::Silu => chain_both(before, grad, after, |x| {
                let sigma = logistic(x);
                (x * sigma, sigma * (1.0 + x * (1.0 - sigma)))
            }),
        }
    }

    /// Applies the nonlinearity in place, in parallel.
    pub(crate) fn apply(self, values: &mut [f32]) {
        match self {
            Self::Gelu => map(values, gelu_value),
            Self::GeluTanh => map(values, gelu_tanh_value),
            Self::Relu => map(values, relu_value),
            Self::Silu => map(values, silu_value),
        }
    }

    /// The gradient of the argument `x`, given the gradient of the result.
    pub(crate) fn backward(self, x: &[f32], grad: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; x.len()];
        match self {
            Self::Gelu => chain(&mut out, x, grad, gelu_slope),
            Self::GeluTanh => chain(&mut out, x, grad, gelu_tanh_slope),
            Self::Relu => chain(&mut out, x, grad, relu_slope),
            Self::Silu => chain(&mut out, x, grad, silu_slope),
        }
        out
    }
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut values = contiguous(self.name(), storage, layout)?.to_vec();
        self.apply(&mut values);
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x, grad) = (Floats::of(self.name(), arg)?, Floats::of(self.name(), &grad)?);
        Ok(Some(tensor(self.backward(&x, &grad), arg.shape())?))
    }
}

/// GELU, `x·Φ(x)`, to within 1e-6, with its gradient. Takes `f32` tensors of any shape on the CPU.
///
/// # Errors
/// If `x` is not an `f32` tensor on the CPU.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Activation::Gelu)
}
