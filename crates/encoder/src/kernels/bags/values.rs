//! Linear layers side by side, one for each head.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::kernels::gemm::{Arithmetic, Panels, Stack, View, product_vec};
use crate::kernels::simd::add;
use crate::kernels::slices::{Floats, contiguous, tensor};

/// `y_i = x_i·V_iᵀ + b_i` for the parts `x_i` of a row; without the bias where a bag is empty.
struct HeadLinear {
    heads: usize,
    /// `[rows]`.
    empty: Arc<[bool]>,
}

/// Copies `[rows, part]` to the columns of `to` `[rows, width]` from `first` on.
fn put(to: &mut [f32], width: usize, first: usize, from: &[f32], part: usize) {
    to.chunks_exact_mut(width)
        .zip(from.chunks_exact(part))
        .for_each(|(to, from)| to[first..first + part].copy_from_slice(from));
}

/// The columns `[rows, part]` of `from` `[rows, width]` from `first` on.
fn get(from: &[f32], width: usize, first: usize, part: usize) -> Vec<f32> {
    from.chunks_exact(width).flat_map(|row| &row[first..first + part]).copied().collect()
}

impl CustomOp3 for HeadLinear {
    fn name(&self) -> &'static str {
        "head-linear"
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
        let _span = tracing::trace_span!("head-linear").entered();
        let (rows, wide) = x_layout.shape().dims2()?;
        let (outputs, inputs) = weight_layout.shape().dims2()?;
        if wide != self.heads * inputs || !outputs.is_multiple_of(self.heads) || bias_layout.dims() != [outputs] {
            bail!(
                "head-linear: x {:?}, weight {:?} and bias {:?} do not fit {} heads",
                x_layout.dims(),
                weight_layout.dims(),
                bias_layout.dims(),
                self.heads
            )
        }
        let x = contiguous(self.name(), x, x_layout)?;
        let weight = contiguous(self.name(), weight, weight_layout)?;
        let bias = contiguous(self.name(), bias, bias_layout)?;
        let part = outputs / self.heads;
        let mut out = vec![0f32; rows * outputs];
        for head in 0..self.heads {
            let weights = [&weight[head * part * inputs..][..part * inputs]];
            let panels = Panels::transposed(Stack::new(&weights, inputs), Arithmetic::F32);
            let y = product_vec(View::strided(&x[head * inputs..], rows, inputs, wide), &panels);
            put(&mut out, outputs, head * part, &y, part);
        }
        let rows_of = out.chunks_exact_mut(outputs).zip(self.empty.iter());
        rows_of.filter(|(_, empty)| !**empty).for_each(|(out, _)| add(out, bias));
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
        let _span = tracing::trace_span!("head-linear-backward").entered();
        let (rows, wide) = x.dims2()?;
        let (outputs, inputs) = weight.dims2()?;
        let part = outputs / self.heads;
        let grad = grad.contiguous()?;
        let (values, weights) = (Floats::of(self.name(), x)?, Floats::of(self.name(), weight)?);
        let grad = Floats::of(self.name(), &grad)?;
        let mut grad_x = if x.track_op() { vec![0f32; rows * wide] } else { Vec::new() };
        let mut grad_weight = if weight.track_op() { vec![0f32; outputs * inputs] } else { Vec::new() };
        for head in 0..self.heads {
            let slope = get(&grad, outputs, head * part, part);
            if !grad_x.is_empty() {
                let parts = [&weights[head * part * inputs..][..part * inputs]];
                let panels = Panels::new(Stack::new(&parts, inputs), Arithmetic::F32);
                let y = product_vec(View::new(&slope, rows, part), &panels);
                put(&mut grad_x, wide, head * inputs, &y, inputs);
            }
            if !grad_weight.is_empty() {
                // `∂Vᵀ = xᵀ ∂y`.
                let parts: [&[f32]; 1] = [&slope];
                let panels = Panels::new(Stack::new(&parts, part), Arithmetic::F32);
                let y = product_vec(View::strided(&values[head * inputs..], rows, inputs, wide).t(), &panels);
                let target = &mut grad_weight[head * part * inputs..][..part * inputs];
                for (input, y) in y.chunks_exact(part).enumerate() {
                    y.iter().enumerate().for_each(|(output, y)| target[output * inputs + input] = *y);
                }
            }
        }
        let grad_bias = bias.track_op().then(|| {
            let mut sums = vec![0f32; outputs];
            let rows_of = grad.chunks_exact(outputs).zip(self.empty.iter());
            rows_of.filter(|(_, empty)| !**empty).for_each(|(grad, _)| add(&mut sums, grad));
            tensor(sums, outputs)
        });
        let grad_x = x.track_op().then(|| tensor(grad_x, (rows, wide)));
        let grad_weight = weight.track_op().then(|| tensor(grad_weight, (outputs, inputs)));
        Ok((grad_x.transpose()?, grad_weight.transpose()?, grad_bias.transpose()?))
    }
}

/// `[rows, heads · inputs]`, `[outputs, inputs]`, `[outputs]` to `[rows, outputs]`; rows that are `empty` are left without the bias.
pub(super) fn head_linear(
    x: &Tensor,
    [weight, bias]: &[Tensor; 2],
    heads: usize,
    empty: Arc<[bool]>,
) -> Result<Tensor> {
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, HeadLinear { heads, empty })
}
