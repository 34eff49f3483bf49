//! What an adapter makes of a linear layer: its weights in the forward pass, and gradients for its own parameters alone.
//!
//! An adapter that drops nothing is merged into a copy of the matrix, so that it costs nothing per token:
//! LoRA (Hu et al. 2021) `W' = W + s·B·A`, IA³ (Liu et al. 2022) `W' = diag(l)·W`, `b' = l ⊙ b` where it scales outputs and
//! `W' = W·diag(l)` where it scales inputs. Its gradients need no gradient of `W`: with `dy` that of the result,
//! `∂B = s·dyᵀ·(x·Aᵀ)` and `∂A = s·(dy·B)ᵀ·x`.

use super::parameters::{Linear, Parameters};
use super::weights::Weights;
use crate::kernels::buffers::Buffer;
use crate::kernels::dropout::{Mask, masked};
use crate::kernels::gemm::{Arithmetic, Panels, Stack, View, plain, product, product_vec};

/// A change of a linear layer; numbers are places in [`Parameters`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Adapter {
    /// Adds `scale·B·A`, with `a` `[rank, in]` and `b` `[out, rank]`; `dropout` falls on its input.
    Lora { a: usize, b: usize, scale: f32, dropout: f64 },
    /// Multiplies the result, bias included.
    ScaleOutput(usize),
    /// Multiplies the input.
    ScaleInput(usize),
}

impl Adapter {
    /// Whether training drops elements of its input.
    pub(crate) fn drops(&self) -> bool {
        matches!(self, Self::Lora { dropout, .. } if *dropout > 0.0)
    }

    /// The matrix (and the bias, where it changes) that the adapter makes of `linear`.
    pub(super) fn merge(&self, linear: &Linear, plain_weights: &[&[f32]]) -> (Vec<f32>, Option<Vec<f32>>) {
        let weight = plain_weights[linear.weight];
        match *self {
            Self::Lora { a, b, scale, .. } => {
                let (a, b) = (plain_weights[a], plain_weights[b]);
                let rank = a.len() / linear.inputs;
                let mut merged = vec![0f32; weight.len()];
                let parts = [a];
                // In `f32` whatever the products of the layer are: the change is small against the weights.
                let panels = Panels::new(Stack::new(&parts, linear.inputs), Arithmetic::F32);
                product(
                    View::new(b, linear.outputs, rank),
                    &panels,
                    &mut merged,
                    &mut [],
                    #[inline(always)]
                    |row, column, out, _| {
                        let weights = &weight[row * linear.inputs + column..];
                        out.iter_mut().zip(weights).for_each(|(out, weight)| *out = *out * scale + weight);
                    },
                );
                (merged, None)
            }
            Self::ScaleOutput(scales) => {
                let scales = plain_weights[scales];
                let rows = weight.chunks_exact(linear.inputs).zip(scales);
                let merged = rows.flat_map(|(row, scale)| row.iter().map(move |weight| weight * scale)).collect();
                let bias = linear.bias.map(|bias| plain_weights[bias].iter().zip(scales).map(|(b, s)| b * s).collect());
                (merged, bias)
            }
            Self::ScaleInput(scales) => {
                let scales = plain_weights[scales];
                let rows = weight.chunks_exact(linear.inputs);
                let merged =
                    rows.flat_map(|row| row.iter().zip(scales).map(|(weight, scale)| weight * scale)).collect();
                (merged, None)
            }
        }
    }
}

/// The low-rank part of a layer whose dropout keeps it from being merged.
pub(super) struct LowRank {
    a: Panels,
    b: Panels,
    scale: f32,
    columns: std::ops::Range<usize>,
}

impl LowRank {
    /// Of `linear`, whose outputs stand at `columns` of the stack it belongs to.
    pub(super) fn new(linear: &Linear, weights: &Weights<'_>, adapter: &Adapter, first_column: usize) -> Option<Self> {
        let Adapter::Lora { a, b, scale, .. } = *adapter else { return None };
        let (a, b) = (weights.plain(a), weights.plain(b));
        let rank = a.len() / linear.inputs;
        Some(Self {
            a: Panels::transposed(Stack::new(&[a], linear.inputs), Arithmetic::F32),
            b: Panels::transposed(Stack::new(&[b], rank), Arithmetic::F32),
            scale,
            columns: first_column..first_column + linear.outputs,
        })
    }

    /// Adds `scale·dropout(x)·Aᵀ·Bᵀ` to its columns of `out`, `[tokens, columns]`.
    pub(super) fn add(&self, x: &[f32], mask: Option<Mask>, first_token: usize, columns: usize, out: &mut [f32]) {
        let inputs = self.a.inner();
        let tokens = x.len() / inputs;
        let dropped = dropped(x, inputs, mask, first_token);
        let low = product_vec(View::new(dropped.as_deref().unwrap_or(x), tokens, inputs), &self.a);
        let width = self.columns.len();
        let mut high = Buffer::take(tokens * width);
        product(View::new(&low, tokens, self.a.columns()), &self.b, &mut high, &mut [], plain);
        for (row, high) in out.chunks_exact_mut(columns).zip(high.chunks_exact(width)) {
            row[self.columns.clone()].iter_mut().zip(high).for_each(|(out, high)| *out += self.scale * high);
        }
    }
}

fn dropped(x: &[f32], width: usize, mask: Option<Mask>, first_token: usize) -> Option<Buffer<f32>> {
    mask.map(|mask| {
        let mut out = Buffer::take(x.len());
        masked(x, &mut out, width, mask, first_token);
        out
    })
}

/// A linear layer in the backward pass.
pub(super) struct Backward<'a> {
    pub(super) parameters: &'a Parameters,
    pub(super) weights: &'a Weights<'a>,
    pub(super) linear: &'a Linear,
    /// `[tokens, inputs]` what went in.
    pub(super) x: &'a [f32],
    /// Gradient of the result: `outputs` columns of rows that are `stride` apart.
    pub(super) grad: &'a [f32],
    pub(super) stride: usize,
    pub(super) mask: Option<Mask>,
    pub(super) first_token: usize,
}

impl Backward<'_> {
    fn tokens(&self) -> usize {
        self.x.len() / self.linear.inputs
    }

    fn rows(&self) -> View<'_> {
        View::strided(self.grad, self.tokens(), self.linear.outputs, self.stride)
    }

    /// Gradients of the adapter's trained parameters, by place.
    pub(super) fn gradients(&self, adapter: &Adapter) -> Vec<(usize, Vec<f32>)> {
        match *adapter {
            Adapter::Lora { a, b, scale, .. } => self.lora(a, b, scale),
            Adapter::ScaleOutput(at) if self.parameters.is_trained(at) => vec![(at, self.output_scales())],
            Adapter::ScaleInput(at) if self.parameters.is_trained(at) => vec![(at, self.input_scales())],
            Adapter::ScaleOutput(_) | Adapter::ScaleInput(_) => Vec::new(),
        }
    }

    fn lora(&self, a: usize, b: usize, scale: f32) -> Vec<(usize, Vec<f32>)> {
        let (tokens, inputs) = (self.tokens(), self.linear.inputs);
        let dropped = dropped(self.x, inputs, self.mask, self.first_token);
        let x = dropped.as_deref().unwrap_or(self.x);
        let (a_weights, b_weights) = (self.weights.plain(a), self.weights.plain(b));
        let rank = a_weights.len() / inputs;
        let mut gradients = Vec::new();
        if self.parameters.is_trained(b) {
            let panels = Panels::transposed(Stack::new(&[a_weights], inputs), Arithmetic::F32);
            let low = product_vec(View::new(x, tokens, inputs), &panels);
            let parts: [&[f32]; 1] = [&low];
            let panels = Panels::new(Stack::new(&parts, rank), Arithmetic::F32);
            gradients.push((b, scaled(product_vec(self.rows().t(), &panels), scale)));
        }
        if self.parameters.is_trained(a) {
            let low = self.through_b(b_weights, rank);
            let parts = [x];
            let panels = Panels::new(Stack::new(&parts, inputs), Arithmetic::F32);
            gradients.push((a, scaled(product_vec(View::new(&low, tokens, rank).t(), &panels), scale)));
        }
        gradients
    }

    /// `dy·B`, `[tokens, rank]`.
    fn through_b(&self, b: &[f32], rank: usize) -> Vec<f32> {
        product_vec(self.rows(), &Panels::new(Stack::new(&[b], rank), Arithmetic::F32))
    }

    /// Adds what flows back through a low-rank part that is not merged: `scale·dropout(dy·B·A)`.
    pub(super) fn add_low_rank(&self, adapter: &Adapter, x_grad: &mut [f32]) {
        let Adapter::Lora { a, b, scale, .. } = *adapter else { return };
        let (tokens, inputs) = (self.tokens(), self.linear.inputs);
        let (a, b) = (self.weights.plain(a), self.weights.plain(b));
        let rank = a.len() / inputs;
        let low = self.through_b(b, rank);
        let high = product_vec(View::new(&low, tokens, rank), &Panels::new(Stack::new(&[a], inputs), Arithmetic::F32));
        let dropped = dropped(&high, inputs, self.mask, self.first_token);
        let high = dropped.as_deref().unwrap_or(&high);
        x_grad.iter_mut().zip(high).for_each(|(grad, high)| *grad += scale * high);
    }

    /// `∂l = Σ_t dy ⊙ (x·Wᵀ + b)`. What came out is not divided by the scales instead, because they may be zero.
    fn output_scales(&self) -> Vec<f32> {
        let (inputs, outputs) = (self.linear.inputs, self.linear.outputs);
        let weight = [self.weights.plain(self.linear.weight)];
        let panels = Panels::transposed(Stack::new(&weight, inputs), Arithmetic::F32);
        let mut unscaled = product_vec(View::new(self.x, self.tokens(), inputs), &panels);
        if let Some(bias) = self.linear.bias.map(|bias| self.weights.plain(bias)) {
            unscaled.chunks_exact_mut(outputs).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
        }
        let mut sums = vec![0f32; outputs];
        for (token, row) in unscaled.chunks_exact(outputs).enumerate() {
            let grad = &self.grad[token * self.stride..][..outputs];
            sums.iter_mut().zip(grad).zip(row).for_each(|((sum, grad), y)| *sum += grad * y);
        }
        sums
    }

    /// `∂l = Σ_t x ⊙ (dy·W)`.
    fn input_scales(&self) -> Vec<f32> {
        let inputs = self.linear.inputs;
        let weight = [self.weights.plain(self.linear.weight)];
        let through = product_vec(self.rows(), &Panels::new(Stack::new(&weight, inputs), Arithmetic::F32));
        let mut sums = vec![0f32; inputs];
        for (x, through) in self.x.chunks_exact(inputs).zip(through.chunks_exact(inputs)) {
            sums.iter_mut().zip(x).zip(through).for_each(|((sum, x), through)| *sum += x * through);
        }
        sums
    }
}

fn scaled(mut values: Vec<f32>, scale: f32) -> Vec<f32> {
    values.iter_mut().for_each(|value| *value *= scale);
    values
}
