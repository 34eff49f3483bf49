//! The backward pass of a layer, written by hand.

use super::forward::{Run, Saved};
use super::weights::{COUNT, Parameters, Sizes, Weights, place};
use crate::kernels::buffers::Buffer;
use crate::kernels::dropout::{Mask, masked};
use crate::kernels::gemm::{Arithmetic, Panels, Stack, View, plain, product, product_vec};
use crate::kernels::linear::column_sums;
use crate::kernels::simd::add;

/// Gradients of the parameters that are trained; the three matrices of queries, keys and values have theirs in one.
#[derive(Default)]
pub(super) struct Gradients {
    /// `[3·hidden, hidden]`.
    pub(super) qkv: Option<Vec<f32>>,
    /// `[3·hidden]`.
    pub(super) qkv_bias: Option<Vec<f32>>,
    /// All others, in the order of [`Parameters`].
    pub(super) others: [Option<Vec<f32>>; COUNT],
}

/// The backward pass of one layer.
pub(super) struct Backward<'a> {
    pub(super) parameters: &'a Parameters,
    pub(super) weights: &'a Weights<'a>,
    pub(super) sizes: &'a Sizes,
    pub(super) run: &'a Run<'a>,
    pub(super) arithmetic: Arithmetic,
}

impl Backward<'_> {
    /// `∂y·W` for `W: [out, in]`, stacked from `parts`, handed to `finish` piece by piece.
    fn through<F>(&self, grad: &[f32], parts: &[&[f32]], inputs: usize, out: &mut [f32], second: &mut [f32], finish: F)
    where
        F: Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
    {
        let tokens = out.len() / inputs;
        let panels = Panels::new(Stack::new(parts, inputs), self.arithmetic);
        product(View::new(grad, tokens, grad.len() / tokens), &panels, out, second, finish);
    }

    /// `∂yᵀ·x`, the gradient of a matrix, if it is trained.
    fn matrix(&self, trained: bool, grad: &[f32], x: &[f32], tokens: usize) -> Option<Vec<f32>> {
        trained.then(|| {
            let (outputs, inputs) = (grad.len() / tokens, x.len() / tokens);
            let panels = Panels::new(Stack::new(&[x], inputs), self.arithmetic);
            product_vec(View::new(grad, tokens, outputs).t(), &panels)
        })
    }

    /// Gradients of a linear layer's two parameters.
    fn linear(&self, gradients: &mut Gradients, at: usize, grad: &[f32], x: &[f32], tokens: usize) {
        gradients.others[at] = self.matrix(self.parameters.is_trained(at), grad, x, tokens);
        let bias = || column_sums(grad, grad.len() / tokens);
        gradients.others[at + 1] = self.parameters.is_trained(at + 1).then(bias);
    }

    /// Turns the gradient of a norm's result into that of its sum; gives the gradient of the summand under the mask.
    fn norm(
        &self,
        gradients: &mut Gradients,
        at: usize,
        saved: &crate::kernels::norm::Saved,
        grad: &mut [f32],
        mask: Option<Mask>,
    ) -> Option<Buffer<f32>> {
        let (scale, shift) = self.weights.norm(at, self.sizes).backward(saved, grad);
        gradients.others[at] = self.parameters.is_trained(at).then_some(scale);
        gradients.others[at + 1] = self.parameters.is_trained(at + 1).then_some(shift);
        mask.map(|mask| {
            let mut out = Buffer::take(grad.len());
            masked(grad, &mut out, self.sizes.hidden, mask, self.run.first_token);
            out
        })
    }

    /// The gradients of the parameters, and that of `x` if it is `wanted`; `grad` is that of the result.
    pub(super) fn run(&self, x: &[f32], saved: &Saved, grad: &[f32], wanted: bool) -> (Option<Vec<f32>>, Gradients) {
        let (sizes, weights, run) = (self.sizes, self.weights, self.run);
        let tokens = x.len() / sizes.hidden;
        let mut gradients = Gradients::default();

        let mut sum_grad = Buffer::take(x.len());
        sum_grad.copy_from_slice(grad);
        let narrow = self.norm(&mut gradients, place::LAST_NORM, &saved.last_norm, &mut sum_grad, run.masks[2]);
        let narrow: &[f32] = narrow.as_deref().unwrap_or(&sum_grad);
        let y = weights.norm(place::NORM, sizes).again(&saved.norm);
        let mut wide = Buffer::take(tokens * sizes.inner);
        let mut after = Buffer::take(tokens * sizes.inner);
        let parts = [weights.0[place::NARROW]];
        self.through(
            narrow,
            &parts,
            sizes.inner,
            &mut wide,
            &mut after,
            #[inline(always)]
            |row, column, grad, after| {
                let before = &saved.before[row * sizes.inner + column..][..grad.len()];
                sizes.activation.chain_again(before, grad, after);
            },
        );
        self.linear(&mut gradients, place::NARROW, narrow, &after, tokens);
        drop(after);
        self.linear(&mut gradients, place::WIDE, &wide, &y, tokens);
        drop(y);
        let mut y_grad = Buffer::take(x.len());
        self.through(
            &wide,
            &[weights.0[place::WIDE]],
            sizes.hidden,
            &mut y_grad,
            &mut [],
            #[inline(always)]
            |row, column, grad, _| add(grad, &sum_grad[row * sizes.hidden + column..]),
        );
        drop(wide);

        let projected = self.norm(&mut gradients, place::NORM, &saved.norm, &mut y_grad, run.masks[1]);
        let projected: &[f32] = projected.as_deref().unwrap_or(&y_grad);
        self.linear(&mut gradients, place::OUT, projected, &saved.attended, tokens);
        let trained = |at: usize| {
            [place::QUERY, place::KEY, place::VALUE].iter().any(|part| self.parameters.is_trained(part + at))
        };
        if !wanted && !trained(0) && !trained(1) {
            return (None, gradients);
        }
        let mut attended = Buffer::take(x.len());
        self.through(projected, &[weights.0[place::OUT]], sizes.hidden, &mut attended, &mut [], plain);
        let mut qkv = Buffer::take(saved.qkv.len());
        run.attention(sizes).backward(&saved.qkv, &saved.log_sums, &attended, &mut qkv, None);
        drop(attended);
        gradients.qkv = self.matrix(trained(0), &qkv, x, tokens);
        gradients.qkv_bias = trained(1).then(|| column_sums(&qkv, 3 * sizes.hidden));
        let x_grad = wanted.then(|| {
            let mut out = vec![0f32; x.len()];
            self.through(
                &qkv,
                &weights.qkv(),
                sizes.hidden,
                &mut out,
                &mut [],
                #[inline(always)]
                |row, column, grad, _| add(grad, &y_grad[row * sizes.hidden + column..]),
            );
            out
        });
        (x_grad, gradients)
    }
}
