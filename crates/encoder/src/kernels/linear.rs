//! `y = f(x·Wᵀ + b)` in one operation, with gradients for exactly the tracked ones of `x`, `W` and `b`.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::activation::Activation;
use super::gemm::{Arithmetic, Panels, Stack, View, plain, product};
use super::simd::{add, vectorized};
use super::slices::{Floats, ROWS, contiguous, tensor};

struct LinearOp {
    activation: Option<Activation>,
    /// Whether a backward pass may follow.
    keep: bool,
    /// `x·Wᵀ + b`, which the derivative of the activation needs.
    before: OnceLock<Vec<f32>>,
}

/// `Σ` over the rows of a `[rows, width]` matrix.
pub(crate) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    if width == 0 {
        return Vec::new();
    }
    let _span = tracing::trace_span!("column-sums").entered();
    let partial: Vec<Vec<f32>> = values
        .par_chunks(ROWS * width)
        .map(|rows| {
            vectorized(
                #[inline(always)]
                || {
                    let mut sums = vec![0f32; width];
                    for row in rows.chunks_exact(width) {
                        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                    }
                    sums
                },
            )
        })
        .collect();
    let mut sums = vec![0f32; width];
    for part in &partial {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    sums
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (outputs, columns) = weight_layout.shape().dims2()?;
        if inputs != columns || bias_layout.dims() != [outputs] {
            bail!(
                "linear: x {:?}, weight {:?} and bias {:?} do not fit; expected [n, in], [out, in] and [out]",
                x_layout.dims(),
                weight_layout.dims(),
                bias_layout.dims()
            )
        }
        let x = contiguous(self.name(), x, x_layout)?;
        let weight = contiguous(self.name(), weight, weight_layout)?;
        let bias = contiguous(self.name(), bias, bias_layout)?;
        let mut out = vec![0f32; rows * outputs];
        if inputs == 0 {
            bail!("linear: x has no columns")
        }
        let parts = [weight];
        let panels = Panels::transposed(Stack::new(&parts, inputs), Arithmetic::F32);
        let x = View::new(x, rows, inputs);
        match self.activation {
            Some(activation) if self.keep => {
                let mut before = vec![0f32; rows * outputs];
                product(
                    x,
                    &panels,
                    &mut before,
                    &mut out,
                    #[inline(always)]
                    |_, column, before, out| {
                        add(before, &bias[column..]);
                        activation.values(before, out);
                    },
                );
                let _ = self.before.set(before);
            }
            activation => product(
                x,
                &panels,
                &mut out,
                &mut [],
                #[inline(always)]
                |_, column, out, _| {
                    add(out, &bias[column..]);
                    if let Some(activation) = activation {
                        activation.in_place(out);
                    }
                },
            ),
        }
        Ok((CpuStorage::F32(out), Shape::from((rows, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, inputs) = x.dims2()?;
        let outputs = weight.dim(0)?;
        let grad = grad.contiguous()?;
        let grad = Floats::of(self.name(), &grad)?;
        let through = match (self.activation, self.before.get()) {
            (Some(activation), Some(before)) => Some(activation.backward(before, &grad)),
            (Some(_), None) => bail!("linear: backward without a forward pass that was tracked"),
            (None, _) => None,
        };
        let grad: &[f32] = through.as_deref().unwrap_or(&grad);

        let grad_x = if x.track_op() {
            let weight = Floats::of(self.name(), weight)?;
            let mut out = vec![0f32; rows * inputs];
            let parts: [&[f32]; 1] = [&weight];
            let panels = Panels::new(Stack::new(&parts, inputs), Arithmetic::F32);
            product(View::new(grad, rows, outputs), &panels, &mut out, &mut [], plain);
            Some(tensor(out, (rows, inputs))?)
        } else {
            None
        };
        let grad_weight = if weight.track_op() {
            let x = Floats::of(self.name(), x)?;
            let mut out = vec![0f32; outputs * inputs];
            let parts: [&[f32]; 1] = [&x];
            let panels = Panels::new(Stack::new(&parts, inputs), Arithmetic::F32);
            product(View::new(grad, rows, outputs).t(), &panels, &mut out, &mut [], plain);
            Some(tensor(out, (outputs, inputs))?)
        } else {
            None
        };
        let grad_bias = if bias.track_op() { Some(tensor(column_sums(grad, outputs), outputs)?) } else { None };
        Ok((grad_x, grad_weight, grad_bias))
    }
}

/// `activation(x·weightᵀ + bias)`: `[n, in]`, `[out, in]`, `[out]` to `[n, out]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
    let keep = x.track_op() || weight.track_op() || bias.track_op();
    let op = LinearOp { activation, keep, before: OnceLock::new() };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}
