//! Fused CPU operations on packed `[tokens, width]` matrices, each with a hand-written backward pass.
//!
//! Every operation is a Candle custom op, so that Candle's `backward` drives it. What they share:
//!
//! - rows are processed in parallel in chunks of a *fixed* number of rows, and partial sums are added up in
//!   the order of the chunks, so results are the same bits whatever the number of threads;
//! - a backward pass computes only the gradients that are asked for: an argument which Candle does not track gets none;
//! - what the backward pass needs is kept only if some argument is tracked.
//!
//! This is the only place of the workspace where `unsafe` may be used; only [`gemm`] needs it.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod bags;
pub(crate) mod buffers;
pub(crate) mod contrast;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod gated;
#[allow(unsafe_code)]
pub(crate) mod gemm;
pub(crate) mod head_norm;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod rotary;
pub(crate) mod simd;
pub(crate) mod slices;
pub(crate) mod unit;

#[cfg(test)]
mod tests;
