//! The forward and the backward pass of a layer, on rows in the order of its steps.

use std::ops::Range;

use rayon::prelude::*;

use super::order::Order;
use super::{Cell, gru, lstm};
use crate::kernels::buffers::Buffer;
use crate::kernels::gemm::{Arithmetic, Panels, Stack, View, plain, product, product_vec};
use crate::kernels::linear::column_sums;
use crate::kernels::simd::add;

/// The weights of a layer.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// `[gates·width, width]` for `x` and for the state.
    pub(super) input: &'a [f32],
    pub(super) hidden: &'a [f32],
    /// `[gates·width]`.
    pub(super) input_bias: &'a [f32],
    pub(super) hidden_bias: &'a [f32],
    pub(super) width: usize,
}

/// What the backward pass needs besides `x` and the weights.
pub(super) struct Saved {
    /// `[T, gates·width]` the gates after their nonlinearities.
    gates: Buffer<f32>,
    /// `[T, width]` for a GRU `W_hn·h + b_hn`, for an LSTM the cells.
    inner: Buffer<f32>,
    /// `[T, width]` the state before each step.
    before: Buffer<f32>,
}

/// The rows of one group in the forward pass, to be filled.
pub(super) struct Rows<'a> {
    /// `W_i·x` and biases, to become gates.
    pub(super) gates: &'a mut [f32],
    pub(super) inner: &'a mut [f32],
    pub(super) before: &'a mut [f32],
    /// The states.
    pub(super) out: &'a mut [f32],
}

/// The rows of one group in the backward pass.
pub(super) struct Past<'a> {
    pub(super) gates: &'a [f32],
    pub(super) inner: &'a [f32],
    pub(super) before: &'a [f32],
    /// Gradient of the states, from outside of the layer.
    pub(super) grad: &'a [f32],
}

/// The recurrence of one group, with weights packed for one direction.
pub(super) trait Forward: Sync {
    fn run(&self, steps: &[Range<usize>], rows: Rows<'_>);
}

/// The recurrence of one group backwards.
pub(super) trait Backward: Sync {
    /// Gradients of what the nonlinearities were given, [`COLUMNS`] blocks of `width` a row.
    fn run(&self, steps: &[Range<usize>], past: Past<'_>, out: &mut [f32]);
}

/// Blocks of `width` numbers in a row of gate gradients. An LSTM has four gates. A GRU has three, one of which gets other gradients on the
/// side of the state than on that of `x`: rows are `[W_hn·h + b_hn | r | z | n]`, the state's side the first three, that of `x` the
/// last three.
pub(super) const COLUMNS: usize = 4;

/// Gradients of a layer: of `x`, where wanted, of both matrices and both biases.
pub(super) struct Gradients {
    pub(super) x: Option<Buffer<f32>>,
    pub(super) all: [Vec<f32>; 4],
}

/// The states for `x`, both `[T, width]` in the order of the steps.
pub(super) fn forward(cell: Cell, weights: Weights<'_>, order: &Order, x: &[f32]) -> (Buffer<f32>, Saved) {
    let (tokens, width, columns) = (order.len(), weights.width, cell.gates() * weights.width);
    let parts = [weights.input];
    let panels = Panels::transposed(Stack::new(&parts, width), Arithmetic::F32);
    let bias = match cell {
        Cell::Gru => gru::bias(weights),
        Cell::Lstm => lstm::bias(weights),
    };
    let mut gates = Buffer::take(tokens * columns);
    product(
        View::new(x, tokens, width),
        &panels,
        &mut gates,
        &mut [],
        #[inline(always)]
        |_, column, out, _| add(out, &bias[column..]),
    );
    let take = || Buffer::<f32>::take(tokens * width);
    let (mut inner, mut before, mut out) = (take(), take(), take());
    let rows = order.cut(&mut gates, columns).into_iter().zip(order.cut(&mut inner, width));
    let rows = rows.zip(order.cut(&mut before, width)).zip(order.cut(&mut out, width));
    let rows = rows.map(|(((gates, inner), before), out)| Rows { gates, inner, before, out });
    let tasks: Vec<_> = order.groups.iter().zip(rows).collect();
    let _span = tracing::trace_span!("recurrence").entered();
    let recurrence: Box<dyn Forward> = match cell {
        Cell::Gru => Box::new(gru::Ahead::new(weights)),
        Cell::Lstm => Box::new(lstm::Ahead::new(weights)),
    };
    tasks.into_par_iter().for_each(|(group, rows)| recurrence.run(&group.steps, rows));
    (out, Saved { gates, inner, before })
}

/// The gradients, from that of the states, `grad`, which like `x` is in the order of the steps.
pub(super) fn backward(
    cell: Cell,
    weights: Weights<'_>,
    order: &Order,
    saved: &Saved,
    (x, grad): (&[f32], &[f32]),
    x_wanted: bool,
) -> Gradients {
    let (tokens, width, stride) = (order.len(), weights.width, COLUMNS * weights.width);
    let mut gates = Buffer::take(tokens * stride);
    {
        let _span = tracing::trace_span!("recurrence-backward").entered();
        let rows = order.parts(&saved.gates, cell.gates() * width).into_iter().zip(order.parts(&saved.inner, width));
        let rows = rows.zip(order.parts(&saved.before, width)).zip(order.parts(grad, width));
        let rows = rows.map(|(((gates, inner), before), grad)| Past { gates, inner, before, grad });
        let tasks: Vec<_> = order.groups.iter().zip(rows).zip(order.cut(&mut gates, stride)).collect();
        let recurrence: Box<dyn Backward> = match cell {
            Cell::Gru => Box::new(gru::Back::new(weights)),
            Cell::Lstm => Box::new(lstm::Back::new(weights)),
        };
        tasks.into_par_iter().for_each(|((group, past), out)| recurrence.run(&group.steps, past, out));
    }
    // The side of `x` and the side of the state, which overlap.
    let columns = cell.gates() * width;
    let inputs = View::strided(&gates[stride - columns..], tokens, columns, stride);
    let states = View::strided(&gates, tokens, columns, stride);
    let matrix = |grad: View<'_>, of: &[f32]| {
        let parts = [of];
        product_vec(grad.t(), &Panels::new(Stack::new(&parts, width), Arithmetic::F32))
    };
    let (input, mut hidden) = (matrix(inputs, x), matrix(states, &saved.before));
    let sums = column_sums(&gates, stride);
    let (input_bias, mut hidden_bias) = (sums[stride - columns..].to_vec(), sums[..columns].to_vec());
    if cell == Cell::Gru {
        // From `n, r, z` to the order of the weights.
        hidden.rotate_left(width * width);
        hidden_bias.rotate_left(width);
    }
    let x_grad = x_wanted.then(|| {
        let parts = [weights.input];
        let panels = Panels::new(Stack::new(&parts, width), Arithmetic::F32);
        let mut out = Buffer::take(tokens * width);
        product(inputs, &panels, &mut out, &mut [], plain);
        out
    });
    Gradients { x: x_grad, all: [input, hidden, input_bias, hidden_bias] }
}
