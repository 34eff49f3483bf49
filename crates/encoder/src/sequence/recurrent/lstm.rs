//! The recurrence of long short-term memory.

use std::ops::Range;

use super::passes::{Backward, COLUMNS, Forward, Past, Rows, Weights};
use crate::kernels::attention::pack::{pack, pack_transposed};
use crate::kernels::gemm::{Slabs, View, ViewMut, small_product};
use crate::kernels::simd::{add, sigmoid, tanh, vectorized};

/// What is added to the products with `x`: both biases.
pub(super) fn bias(weights: Weights<'_>) -> Vec<f32> {
    let mut bias = weights.input_bias.to_vec();
    add(&mut bias, weights.hidden_bias);
    bias
}

/// Weights for the forward pass.
pub(super) struct Ahead {
    /// Panels of the transposed matrix.
    hidden: Vec<f32>,
    width: usize,
}

impl Ahead {
    pub(super) fn new(weights: Weights<'_>) -> Self {
        let width = weights.width;
        let mut hidden = Vec::new();
        pack_transposed(&mut hidden, weights.hidden, 4 * width, width, width);
        Self { hidden, width }
    }

    /// One row: turns `gates` into `[i | f | g | o]`, the cell before, which `cell` holds, into the new one, and writes the new state.
    #[inline(always)]
    fn row(&self, gates: &mut [f32], cell: &mut [f32], out: &mut [f32]) {
        let (both, rest) = gates.split_at_mut(2 * self.width);
        let (new, output) = rest.split_at_mut(self.width);
        for gate in &mut *both {
            *gate = sigmoid(*gate);
        }
        for gate in &mut *output {
            *gate = sigmoid(*gate);
        }
        for new in &mut *new {
            *new = tanh(*new);
        }
        let (input, forget) = both.split_at(self.width);
        let sources = input.iter().zip(forget).zip(&*new);
        cell.iter_mut().zip(sources).for_each(|(cell, ((input, forget), new))| *cell = forget * *cell + input * new);
        for ((out, output), cell) in out.iter_mut().zip(&*output).zip(&*cell) {
            *out = output * tanh(*cell);
        }
    }
}

impl Forward for Ahead {
    fn run(&self, steps: &[Range<usize>], Rows { gates, inner: cells, before, out }: Rows<'_>) {
        let width = self.width;
        before[..steps.first().map_or(0, |step| step.len() * width)].fill(0.0);
        for (at, step) in steps.iter().enumerate() {
            let of = |blocks: usize| step.start * blocks * width..step.end * blocks * width;
            let (gates, out) = (&mut gates[of(4)], &mut out[of(1)]);
            let (past, next) = before.split_at_mut(step.end * width);
            let (old_cells, cells) = cells.split_at_mut(step.start * width);
            let cells = &mut cells[..step.len() * width];
            if at > 0 {
                let state = View::new(&past[of(1)], step.len(), width);
                let target = ViewMut::new(gates, step.len(), 4 * width);
                small_product(target, state, Slabs::columns(&self.hidden, width, 0), true);
                cells.copy_from_slice(&old_cells[steps[at - 1].start * width..][..step.len() * width]);
            } else {
                cells.fill(0.0);
            }
            vectorized(
                #[inline(always)]
                || {
                    let rows = gates.chunks_exact_mut(4 * width).zip(cells.chunks_exact_mut(width));
                    let rows = rows.zip(out.chunks_exact_mut(width));
                    // Loops, not closures: what is not inlined here is compiled for any processor, without fused multiply-add.
                    for ((gates, cell), out) in rows {
                        self.row(gates, cell, out);
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
    /// Panels of the matrix.
    hidden: Vec<f32>,
    width: usize,
}

impl Back {
    pub(super) fn new(weights: Weights<'_>) -> Self {
        let width = weights.width;
        let mut hidden = Vec::new();
        pack(&mut hidden, weights.hidden, 4 * width, width, width);
        Self { hidden, width }
    }

    /// One row: gradients of what the nonlinearities were given, from those of the new state, `grad`, and of the new cell, `carry`, which
    /// becomes that of the old cell; `old` is nothing at the first step.
    ///
    /// With `∂h` and `∂c` those of state and cell, `∂c` to be added to by `∂h ⊙ o ⊙ (1 - tanh²(c))`: `∂o = ∂h ⊙ tanh(c) ⊙ o ⊙ (1-o)`,
    /// `∂i = ∂c ⊙ g ⊙ i ⊙ (1-i)`, `∂f = ∂c ⊙ c_old ⊙ f ⊙ (1-f)`, `∂g = ∂c ⊙ i ⊙ (1-g²)`, `∂c_old = ∂c ⊙ f`.
    #[inline(always)]
    fn row(
        &self,
        gates: &[f32],
        (cell, old): (&[f32], Option<&[f32]>),
        grad: &[f32],
        carry: &mut [f32],
        out: &mut [f32],
    ) {
        let width = self.width;
        let (input, rest) = gates.split_at(width);
        let (forget, rest) = rest.split_at(width);
        let (new, output) = rest.split_at(width);
        let (input_grad, rest) = out.split_at_mut(width);
        let (forget_grad, rest) = rest.split_at_mut(width);
        let (new_grad, output_grad) = rest.split_at_mut(width);
        for (squashed, cell) in output_grad.iter_mut().zip(cell) {
            *squashed = tanh(*cell);
        }
        let sources = grad.iter().zip(output).zip(&*output_grad);
        for (carry, ((grad, output), squashed)) in carry.iter_mut().zip(sources) {
            *carry += grad * output * (1.0 - squashed * squashed);
        }
        for (squashed, (grad, output)) in output_grad.iter_mut().zip(grad.iter().zip(output)) {
            *squashed *= grad * output * (1.0 - output);
        }
        let sources = carry.iter().zip(new).zip(input);
        for (out, ((carry, new), input)) in input_grad.iter_mut().zip(sources) {
            *out = carry * new * input * (1.0 - input);
        }
        let sources = carry.iter().zip(new).zip(input);
        for (out, ((carry, new), input)) in new_grad.iter_mut().zip(sources) {
            *out = carry * input * (1.0 - new * new);
        }
        match old {
            Some(old) => {
                let sources = carry.iter().zip(old).zip(forget);
                for (out, ((carry, old), forget)) in forget_grad.iter_mut().zip(sources) {
                    *out = carry * old * forget * (1.0 - forget);
                }
            }
            None => forget_grad.fill(0.0),
        }
        carry.iter_mut().zip(forget).for_each(|(carry, forget)| *carry *= forget);
    }
}

impl Backward for Back {
    fn run(&self, steps: &[Range<usize>], past: Past<'_>, out: &mut [f32]) {
        let width = self.width;
        let most = steps.first().map_or(0, |step| step.len() * width);
        // Gradients of states and cells from the step after; sequences that end here get none.
        let (mut states, mut cells) = (vec![0f32; most], vec![0f32; most]);
        for (at, step) in steps.iter().enumerate().rev() {
            let of = |blocks: usize| step.start * blocks * width..step.end * blocks * width;
            let (states, cells) = (&mut states[..step.len() * width], &mut cells[..step.len() * width]);
            let out = &mut out[of(COLUMNS)];
            let old = at.checked_sub(1).map(|earlier| &past.inner[steps[earlier].start * width..]);
            vectorized(
                #[inline(always)]
                || {
                    add(states, &past.grad[of(1)]);
                    let rows = past.gates[of(4)].chunks_exact(4 * width).zip(past.inner[of(1)].chunks_exact(width));
                    let targets = cells.chunks_exact_mut(width).zip(out.chunks_exact_mut(COLUMNS * width));
                    let rows = rows.zip(states.chunks_exact(width)).zip(targets).enumerate();
                    for (row, (((gates, cell), grad), (carry, out))) in rows {
                        let old = old.map(|old| &old[row * width..][..width]);
                        self.row(gates, (cell, old), grad, carry, out);
                    }
                },
            );
            if at > 0 {
                let grads = View::new(out, step.len(), 4 * width);
                let target = ViewMut::new(states, step.len(), width);
                small_product(target, grads, Slabs::rows(&self.hidden, 4 * width, 0), false);
            }
        }
    }
}
