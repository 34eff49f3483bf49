//! The recurrence of gated recurrent units.

use std::ops::Range;

use super::passes::{Backward, COLUMNS, Forward, Past, Rows, Weights};
use crate::kernels::attention::pack::{pack, pack_transposed};
use crate::kernels::gemm::{Slabs, View, ViewMut, small_product};
use crate::kernels::simd::{add, sigmoid, tanh, vectorized};

/// What is added to the products with `x`: of the gates `r` and `z` both biases, of `n` its own; that of the state's side is multiplied
/// with `r`.
pub(super) fn bias(weights: Weights<'_>) -> Vec<f32> {
    let mut bias = weights.input_bias.to_vec();
    add(&mut bias[..2 * weights.width], weights.hidden_bias);
    bias
}

/// Weights for the forward pass.
pub(super) struct Ahead<'a> {
    /// Panels of the transposed matrices of `r` and `z`, and of `n`.
    reset_update: Vec<f32>,
    new: Vec<f32>,
    /// `b_hn`.
    bias: &'a [f32],
    width: usize,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(weights: Weights<'a>) -> Self {
        let width = weights.width;
        let (both, last) = weights.hidden.split_at(2 * width * width);
        let (mut reset_update, mut new) = (Vec::new(), Vec::new());
        pack_transposed(&mut reset_update, both, 2 * width, width, width);
        pack_transposed(&mut new, last, width, width, width);
        Self { reset_update, new, bias: &weights.hidden_bias[2 * width..], width }
    }

    /// One row: turns `gates` into `[r | z | n]`, `inner` into `W_hn·h + b_hn`, and writes the new state.
    #[inline(always)]
    fn row(&self, gates: &mut [f32], inner: &mut [f32], before: &[f32], out: &mut [f32]) {
        let (both, new) = gates.split_at_mut(2 * self.width);
        for gate in &mut *both {
            *gate = sigmoid(*gate);
        }
        add(inner, self.bias);
        let (reset, update) = both.split_at(self.width);
        for ((new, reset), inner) in new.iter_mut().zip(reset).zip(&*inner) {
            *new = tanh(*new + reset * inner);
        }
        let sources = update.iter().zip(&*new).zip(before);
        out.iter_mut().zip(sources).for_each(|(out, ((update, new), before))| *out = new + update * (before - new));
    }
}

impl Forward for Ahead<'_> {
    fn run(&self, steps: &[Range<usize>], Rows { gates, inner, before, out }: Rows<'_>) {
        let width = self.width;
        before[..steps.first().map_or(0, |step| step.len() * width)].fill(0.0);
        for (at, step) in steps.iter().enumerate() {
            let of = |blocks: usize| step.start * blocks * width..step.end * blocks * width;
            let (gates, inner, out) = (&mut gates[of(3)], &mut inner[of(1)], &mut out[of(1)]);
            let (past, next) = before.split_at_mut(step.end * width);
            let before = &past[of(1)];
            if at > 0 {
                let state = View::new(before, step.len(), width);
                let target = ViewMut::strided(gates, step.len(), 2 * width, 3 * width);
                small_product(target, state, Slabs::columns(&self.reset_update, width, 0), true);
                let target = ViewMut::new(inner, step.len(), width);
                small_product(target, state, Slabs::columns(&self.new, width, 0), false);
            } else {
                inner.fill(0.0);
            }
            vectorized(
                #[inline(always)]
                || {
                    let rows = gates.chunks_exact_mut(3 * width).zip(inner.chunks_exact_mut(width));
                    let rows = rows.zip(before.chunks_exact(width)).zip(out.chunks_exact_mut(width));
                    // Loops, not closures: what is not inlined here is compiled for any processor, without fused multiply-add.
                    for (((gates, inner), before), out) in rows {
                        self.row(gates, inner, before, out);
                    }
                },
            );
            let alive = steps.get(at + 1).map_or(0, |step| step.len() * width);
            next[..alive].copy_from_slice(&out[..alive]);
        }
    }
}

/// Weights for the backward pass.
pub(super) struct Back {
    /// Panels of the matrices of `n`, `r` and `z`, on top of each other.
    hidden: Vec<f32>,
    width: usize,
}

impl Back {
    pub(super) fn new(weights: Weights<'_>) -> Self {
        let width = weights.width;
        let mut rows = weights.hidden.to_vec();
        rows.rotate_right(width * width);
        let mut hidden = Vec::new();
        pack(&mut hidden, &rows, 3 * width, width, width);
        Self { hidden, width }
    }

    /// One row: gradients of what the nonlinearities were given, from that of the new state, `carry`, which becomes the part of the old
    /// state's that does not pass through the gates.
    ///
    /// With `∂h` that of the new state: `∂n = ∂h ⊙ (1-z) ⊙ (1-n²)`, `∂z = ∂h ⊙ (h-n) ⊙ z ⊙ (1-z)`, `∂r = ∂n ⊙ (W_hn·h + b_hn) ⊙ r ⊙ (1-r)`,
    /// `∂(W_hn·h + b_hn) = ∂n ⊙ r`.
    #[inline(always)]
    fn row(&self, gates: &[f32], inner: &[f32], before: &[f32], carry: &mut [f32], out: &mut [f32]) {
        let width = self.width;
        let (reset, rest) = gates.split_at(width);
        let (update, new) = rest.split_at(width);
        let (inner_grad, rest) = out.split_at_mut(width);
        let (reset_grad, rest) = rest.split_at_mut(width);
        let (update_grad, new_grad) = rest.split_at_mut(width);
        let sources = carry.iter().zip(update).zip(new);
        for (out, ((carry, update), new)) in new_grad.iter_mut().zip(sources) {
            *out = carry * (1.0 - update) * (1.0 - new * new);
        }
        let sources = carry.iter().zip(update).zip(before.iter().zip(new));
        for (out, ((carry, update), (before, new))) in update_grad.iter_mut().zip(sources) {
            *out = carry * (before - new) * update * (1.0 - update);
        }
        let sources = new_grad.iter().zip(inner).zip(reset);
        for (out, ((new, inner), reset)) in reset_grad.iter_mut().zip(sources) {
            *out = new * inner * reset * (1.0 - reset);
        }
        inner_grad.iter_mut().zip(new_grad.iter().zip(reset)).for_each(|(out, (new, reset))| *out = new * reset);
        carry.iter_mut().zip(update).for_each(|(carry, update)| *carry *= update);
    }
}

impl Backward for Back {
    fn run(&self, steps: &[Range<usize>], past: Past<'_>, out: &mut [f32]) {
        let width = self.width;
        // Gradient of the states from the step after; sequences that end here get none.
        let mut carry = vec![0f32; steps.first().map_or(0, |step| step.len() * width)];
        for (at, step) in steps.iter().enumerate().rev() {
            let of = |blocks: usize| step.start * blocks * width..step.end * blocks * width;
            let carry = &mut carry[..step.len() * width];
            let out = &mut out[of(COLUMNS)];
            vectorized(
                #[inline(always)]
                || {
                    add(carry, &past.grad[of(1)]);
                    let rows = past.gates[of(3)].chunks_exact(3 * width).zip(past.inner[of(1)].chunks_exact(width));
                    let rows = rows.zip(past.before[of(1)].chunks_exact(width));
                    let targets = carry.chunks_exact_mut(width).zip(out.chunks_exact_mut(COLUMNS * width));
                    for (((gates, inner), before), (carry, out)) in rows.zip(targets) {
                        self.row(gates, inner, before, carry, out);
                    }
                },
            );
            if at > 0 {
                let grads = View::strided(out, step.len(), 3 * width, COLUMNS * width);
                let target = ViewMut::new(carry, step.len(), width);
                small_product(target, grads, Slabs::rows(&self.hidden, 3 * width, 0), true);
            }
        }
    }
}
