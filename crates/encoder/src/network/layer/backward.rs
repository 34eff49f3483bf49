//! The backward pass of a layer, written by hand.

use super::adapted;
use super::forward::{Run, Saved};
use super::parameters::{Linear, NormAt, Parameters};
use super::weights::{Sizes, Weights};
use crate::kernels::buffers::Buffer;
use crate::kernels::dropout::{Mask, masked};
use crate::kernels::gated;
use crate::kernels::gemm::{Arithmetic, Panels, Stack, View, plain, product, product_vec};
use crate::kernels::linear::column_sums;
use crate::kernels::norm;
use crate::kernels::simd::add;

/// Gradients of the parameters that are trained, by place. Those of linear layers side by side are in one, under the first.
pub(super) struct Gradients {
    pub(super) of: Vec<Option<Vec<f32>>>,
    /// Stacked gradients of several linear layers: of their matrices and of their biases.
    pub(super) stacked: Vec<(Vec<usize>, Vec<f32>)>,
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
    /// `∂y·W` for the linear layers' matrices on top of each other, handed to `finish` piece by piece.
    fn through<F>(&self, grad: &[f32], linears: &[Linear], out: &mut [f32], second: &mut [f32], finish: F)
    where
        F: Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
    {
        let inputs = linears[0].inputs;
        let tokens = out.len() / inputs;
        let matrices = self.weights.matrices(linears);
        let panels = Panels::new(Stack::new(&matrices, inputs), self.arithmetic);
        product(View::new(grad, tokens, grad.len() / tokens), &panels, out, second, finish);
    }

    /// Whether an adapter stands beside one of these matrices, so that what flows back is not in their product alone.
    fn is_beside(&self, linears: &[Linear]) -> bool {
        linears.iter().any(|linear| self.weights.beside(linear).is_some())
    }

    fn adapted<'b>(
        &'b self,
        linear: &'b Linear,
        x: &'b [f32],
        grad: &'b [f32],
        stride: usize,
    ) -> adapted::Backward<'b> {
        adapted::Backward {
            parameters: self.parameters,
            weights: self.weights,
            linear,
            x,
            grad,
            stride,
            mask: self.weights.beside(linear).and(self.run.masks.adapters[linear.number]),
            first_token: self.run.first_token,
        }
    }

    /// Adds what flows back through adapters beside the matrices.
    fn add_beside(&self, linears: &[Linear], x: &[f32], grad: &[f32], x_grad: &mut [f32]) {
        let stride = linears.iter().map(|linear| linear.outputs).sum();
        let mut column = 0;
        for linear in linears {
            if let Some(adapter) = self.weights.beside(linear) {
                self.adapted(linear, x, &grad[column..], stride).add_low_rank(adapter, x_grad);
            }
            column += linear.outputs;
        }
    }

    /// Gradients of linear layers side by side, for the input `x`, from that of what they gave.
    fn linears(&self, gradients: &mut Gradients, linears: &[Linear], x: &[f32], grad: &[f32]) {
        let trained = |place: &usize| self.parameters.is_trained(*place);
        let stride: usize = linears.iter().map(|linear| linear.outputs).sum();
        let tokens = x.len() / linears[0].inputs;
        let weights: Vec<usize> = linears.iter().map(|linear| linear.weight).collect();
        if weights.iter().any(trained) {
            let inputs = linears[0].inputs;
            let panels = Panels::new(Stack::new(&[x], inputs), self.arithmetic);
            gradients.put(weights, product_vec(View::new(grad, tokens, stride).t(), &panels));
        }
        let biases: Vec<usize> = linears.iter().filter_map(|linear| linear.bias).collect();
        if biases.iter().any(trained) {
            gradients.put(biases, column_sums(grad, stride));
        }
        let mut column = 0;
        for linear in linears {
            if let Some(adapter) = self.weights.adapter(linear) {
                let backward = self.adapted(linear, x, &grad[column..], stride);
                for (place, gradient) in backward.gradients(adapter) {
                    gradients.of[place] = Some(gradient);
                }
            }
            column += linear.outputs;
        }
    }

    /// Turns the gradient of a norm's result into that of its argument.
    fn norm(&self, gradients: &mut Gradients, at: NormAt, saved: &norm::Saved, grad: &mut [f32]) {
        let (scale, shift) = self.weights.norm(at, self.sizes).backward(saved, grad);
        gradients.of[at.scale] = self.parameters.is_trained(at.scale).then_some(scale);
        if let Some(place) = at.shift {
            gradients.of[place] = self.parameters.is_trained(place).then_some(shift);
        }
    }

    /// The gradient of what a block gave, from that of the sum.
    fn unmasked(&self, grad: &[f32], mask: Option<Mask>) -> Option<Buffer<f32>> {
        mask.map(|mask| {
            let mut out = Buffer::take(grad.len());
            masked(grad, &mut out, self.sizes.hidden, mask, self.run.first_token);
            out
        })
    }

    /// The gradient of what the first matrices of the feed-forward block gave, and the activated vectors.
    fn activation(&self, saved: &Saved, grad: &[f32]) -> (Buffer<f32>, Buffer<f32>) {
        let (sizes, narrow) = (self.sizes, self.parameters.places.narrow);
        let tokens = grad.len() / sizes.hidden;
        let mut activated = Buffer::take(tokens * sizes.inner);
        let mut wide = Buffer::take(tokens * sizes.wide());
        if !sizes.gated && !self.is_beside(&[narrow]) {
            self.through(
                grad,
                &[narrow],
                &mut wide,
                &mut activated,
                #[inline(always)]
                |row, column, grad, after| {
                    let before = &saved.before[row * sizes.inner + column..][..grad.len()];
                    sizes.activation.chain_again(before, grad, after);
                },
            );
            return (wide, activated);
        }
        let mut inner_grad = Buffer::take(tokens * sizes.inner);
        self.through(grad, &[narrow], &mut inner_grad, &mut [], plain);
        if sizes.gated {
            gated::forward(sizes.activation, sizes.inner, &saved.before, &mut activated);
        } else {
            activated.copy_from_slice(&saved.before);
            sizes.activation.in_place(&mut activated);
        }
        self.add_beside(&[narrow], &activated, grad, &mut inner_grad);
        if sizes.gated {
            gated::backward(sizes.activation, sizes.inner, &saved.before, &inner_grad, &mut wide);
        } else {
            wide.copy_from_slice(&inner_grad);
            sizes.activation.chain_again(&saved.before, &mut wide, &mut activated);
        }
        (wide, activated)
    }

    /// The gradients of the parameters, and that of `x` if it is `wanted`; `grad` is that of the result.
    pub(super) fn run(&self, x: &[f32], saved: &Saved, grad: &[f32], wanted: bool) -> (Option<Vec<f32>>, Gradients) {
        let (sizes, weights, run) = (self.sizes, self.weights, self.run);
        let places = &*self.parameters.places;
        let mut gradients = Gradients { of: vec![None; self.parameters.all.len()], stacked: Vec::new() };

        // Of the stream to which the feed-forward block's result was added.
        let mut sum_grad = Buffer::take(x.len());
        sum_grad.copy_from_slice(grad);
        if let (Some(at), Some(saved)) = (places.last, &saved.last) {
            self.norm(&mut gradients, at, saved, &mut sum_grad);
        }
        let block = self.unmasked(&sum_grad, run.masks.blocks[2]);
        let block: &[f32] = block.as_deref().unwrap_or(&sum_grad);
        let (wide, activated) = self.activation(saved, block);
        self.linears(&mut gradients, &[places.narrow], &activated, block);
        drop(activated);
        let fed = weights.norm(places.middle, sizes).again(&saved.middle);
        self.linears(&mut gradients, &places.wide, &fed, &wide);
        // Of what the attention's block was added to, and its sum.
        let mut y_grad = Buffer::take(x.len());
        if places.last.is_some() {
            self.through(
                &wide,
                &places.wide,
                &mut y_grad,
                &mut [],
                #[inline(always)]
                |row, column, grad, _| add(grad, &sum_grad[row * sizes.hidden + column..]),
            );
            self.add_beside(&places.wide, &fed, &wide, &mut y_grad);
            self.norm(&mut gradients, places.middle, &saved.middle, &mut y_grad);
        } else {
            self.through(&wide, &places.wide, &mut y_grad, &mut [], plain);
            self.add_beside(&places.wide, &fed, &wide, &mut y_grad);
            self.norm(&mut gradients, places.middle, &saved.middle, &mut y_grad);
            add(&mut y_grad, &sum_grad);
        }
        drop((wide, fed));

        let block = self.unmasked(&y_grad, run.masks.blocks[1]);
        let block: &[f32] = block.as_deref().unwrap_or(&y_grad);
        self.linears(&mut gradients, &[places.out], &saved.attended, block);
        if !wanted && !self.trains_attention() {
            return (None, gradients);
        }
        let mut attended = Buffer::take(saved.attended.len());
        self.through(block, &[places.out], &mut attended, &mut [], plain);
        self.add_beside(&[places.out], &saved.attended, block, &mut attended);
        let mut qkv = Buffer::take(saved.qkv.len());
        let mut relative = places.relative.map(|table| vec![0f32; weights.of(table).len()]);
        run.attention(sizes, weights.relative(sizes)).backward(
            &saved.qkv,
            &saved.log_sums,
            &attended,
            &mut qkv,
            relative.as_deref_mut(),
        );
        drop(attended);
        if let (Some(table), Some(gradient)) = (places.relative, relative) {
            gradients.of[table] = self.parameters.is_trained(table).then_some(gradient);
        }
        if let Some(rotary) = &sizes.rotary {
            rotary.turn(&mut qkv, run.offsets, sizes.heads + sizes.key_heads, sizes.qkv(), true);
        }
        if let (Some(norm), Some(raw), Some(scales)) = (weights.head_norm(sizes), &saved.raw, places.heads) {
            let (query, key) = norm.backward(raw, &mut qkv);
            for (place, gradient) in scales.into_iter().zip([query, key]) {
                gradients.of[place] = self.parameters.is_trained(place).then_some(gradient);
            }
        }
        let entry = match (places.entry, &saved.entry) {
            (Some(at), Some(saved)) => Some((at, saved, weights.norm(at, sizes).again(saved))),
            _ => None,
        };
        let input = entry.as_ref().map_or(x, |(_, _, normalized)| normalized);
        self.linears(&mut gradients, &places.qkv, input, &qkv);
        let x_grad = (wanted || entry.is_some()).then(|| {
            let mut out = vec![0f32; x.len()];
            match &entry {
                Some((at, saved, _)) => {
                    self.through(&qkv, &places.qkv, &mut out, &mut [], plain);
                    self.add_beside(&places.qkv, input, &qkv, &mut out);
                    self.norm(&mut gradients, *at, saved, &mut out);
                    add(&mut out, &y_grad);
                }
                None => {
                    self.through(
                        &qkv,
                        &places.qkv,
                        &mut out,
                        &mut [],
                        #[inline(always)]
                        |row, column, grad, _| add(grad, &y_grad[row * sizes.hidden + column..]),
                    );
                    self.add_beside(&places.qkv, input, &qkv, &mut out);
                }
            }
            out
        });
        (x_grad.filter(|_| wanted), gradients)
    }

    /// Whether something below the attention's result is trained.
    fn trains_attention(&self) -> bool {
        let places = &*self.parameters.places;
        let adapters = places.qkv.iter().any(|linear| self.parameters.adapters[linear.number].is_some());
        let norms = places.entry.iter().flat_map(|at| [Some(at.scale), at.shift]);
        let matrices = places.qkv.iter().flat_map(|linear| [Some(linear.weight), linear.bias]);
        let others = places.heads.into_iter().flatten().map(Some).chain([places.relative]);
        adapters || norms.chain(matrices).chain(others).flatten().any(|place| self.parameters.is_trained(place))
    }
}

impl Gradients {
    fn put(&mut self, places: Vec<usize>, gradient: Vec<f32>) {
        match places[..] {
            [place] => self.of[place] = Some(gradient),
            _ => self.stacked.push((places, gradient)),
        }
    }
}
