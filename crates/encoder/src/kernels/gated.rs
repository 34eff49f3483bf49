//! Gated feed-forward blocks (Shazeer 2020, "GLU variants improve transformer"): `f(a) ⊙ b` of rows `[a | b]`.

use rayon::prelude::*;

use super::activation::Activation;
use super::simd::vectorized;
use super::slices::ROWS;

/// `f(a) ⊙ b` of each row: `[T, 2·inner]`, whose first half goes through the activation and whose second half is the gate, to
/// `[T, inner]`.
#[allow(dead_code, reason = "used by the network that follows")]
pub(crate) fn forward(activation: Activation, inner: usize, both: &[f32], out: &mut [f32]) {
    let _span = tracing::trace_span!("gated").entered();
    if inner == 0 {
        return;
    }
    let chunks = out.par_chunks_mut(ROWS * inner).zip(both.par_chunks(ROWS * 2 * inner));
    chunks.for_each(|(out, both)| {
        vectorized(
            #[inline(always)]
            || {
                for (out, both) in out.chunks_exact_mut(inner).zip(both.chunks_exact(2 * inner)) {
                    let (before, gate) = both.split_at(inner);
                    activation.values(before, out);
                    out.iter_mut().zip(gate).for_each(|(out, gate)| *out *= gate);
                }
            },
        );
    });
}

/// The gradient of `both`, `[T, 2·inner]`, from that of the result, `grad`: `[T, inner]`.
#[allow(dead_code, reason = "used by the network that follows")]
pub(crate) fn backward(activation: Activation, inner: usize, both: &[f32], grad: &[f32], out: &mut [f32]) {
    let _span = tracing::trace_span!("gated-backward").entered();
    if inner == 0 {
        return;
    }
    let sources = both.par_chunks(ROWS * 2 * inner).zip(grad.par_chunks(ROWS * inner));
    out.par_chunks_mut(ROWS * 2 * inner).zip(sources).for_each(|(out, (both, grad))| {
        vectorized(
            #[inline(always)]
            || {
                let sources = both.chunks_exact(2 * inner).zip(grad.chunks_exact(inner));
                for (out, (both, grad)) in out.chunks_exact_mut(2 * inner).zip(sources) {
                    let (before, gate) = both.split_at(inner);
                    let (before_grad, gate_grad) = out.split_at_mut(inner);
                    let triples = before_grad.iter_mut().zip(grad).zip(gate);
                    triples.for_each(|((out, grad), gate)| *out = grad * gate);
                    activation.chain_again(before, before_grad, gate_grad);
                    gate_grad.iter_mut().zip(grad).for_each(|(out, grad)| *out *= grad);
                }
            },
        );
    });
}
