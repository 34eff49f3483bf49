//! The forward pass of a layer.

use super::weights::{Packed, Sizes, place};
use crate::kernels::attention::Attention;
use crate::kernels::buffers::Buffer;
use crate::kernels::dropout::Mask;
use crate::kernels::gemm::{Panels, View, product};
use crate::kernels::norm::{self, Summands};
use crate::kernels::simd::add;

/// What is the same for all layers of one pass over one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    /// `[sequences + 1]` cumulative lengths, from 0 to the number of tokens.
    pub(crate) offsets: &'a [u32],
    /// Dropout of attention probabilities, after the attention and after the feed-forward block.
    pub(crate) masks: [Option<Mask>; 3],
    /// Number of the first token within what the masks cover.
    pub(crate) first_token: usize,
}

impl<'a> Run<'a> {
    pub(super) fn attention(&self, sizes: &Sizes) -> Attention<'a> {
        Attention {
            offsets: self.offsets,
            heads: sizes.heads,
            key_heads: sizes.heads,
            width: sizes.hidden / sizes.heads,
            scale: 1.0 / ((sizes.hidden / sizes.heads) as f32).sqrt(),
            causal: false,
            window: None,
            relative: None,
            mask: self.masks[0],
            first_token: self.first_token,
        }
    }

    pub(super) fn summands<'b>(&self, place: usize, x: &'b [f32], residual: &'b [f32]) -> Summands<'b> {
        Summands { x, residual: Some(residual), mask: self.masks[place], first_row: self.first_token }
    }
}

/// What the backward pass needs besides the input and the weights. The attention block's result and the
/// activations are computed again: that is cheaper than to keep them.
pub(super) struct Saved {
    pub(super) qkv: Buffer<f32>,
    pub(super) log_sums: Buffer<f32>,
    pub(super) attended: Buffer<f32>,
    pub(super) norm: norm::Saved,
    /// Arguments of the activation.
    pub(super) before: Buffer<f32>,
    pub(super) last_norm: norm::Saved,
}

/// `x·Wᵀ + b`.
fn affine(x: &[f32], panels: &Panels, bias: &[f32], out: &mut [f32]) {
    let inner = panels.inner();
    product(
        View::new(x, x.len() / inner, inner),
        panels,
        out,
        &mut [],
        #[inline(always)]
        |_, column, out, _| add(out, &bias[column..]),
    );
}

/// The layer's result for `x`, both `[tokens, hidden]`.
pub(crate) fn forward(x: &[f32], out: &mut [f32], packed: &Packed, sizes: &Sizes, run: &Run<'_>) {
    let tokens = x.len() / sizes.hidden;
    let mut qkv = Buffer::take(tokens * 3 * sizes.hidden);
    affine(x, &packed.qkv, &packed.qkv_bias, &mut qkv);
    let mut attended = Buffer::take(x.len());
    run.attention(sizes).forward(&qkv, &mut attended, &mut []);
    drop(qkv);
    let mut summand = Buffer::take(x.len());
    affine(&attended, &packed.out, &packed.vectors[place::OUT + 1], &mut summand);
    let mut y = attended;
    packed.norm(place::NORM, sizes).forward(run.summands(1, &summand, x), &mut y);

    let mut after = Buffer::take(tokens * sizes.inner);
    let bias = &packed.vectors[place::WIDE + 1];
    product(
        View::new(&y, tokens, sizes.hidden),
        &packed.wide,
        &mut after,
        &mut [],
        #[inline(always)]
        |_, column, out, _| {
            add(out, &bias[column..]);
            sizes.activation.in_place(out);
        },
    );
    affine(&after, &packed.narrow, &packed.vectors[place::NARROW + 1], &mut summand);
    packed.norm(place::LAST_NORM, sizes).forward(run.summands(2, &summand, &y), out);
}

/// The same, and what the backward pass needs.
pub(super) fn forward_saving(x: &[f32], out: &mut [f32], packed: &Packed, sizes: &Sizes, run: &Run<'_>) -> Saved {
    let tokens = x.len() / sizes.hidden;
    let mut qkv = Buffer::take(tokens * 3 * sizes.hidden);
    affine(x, &packed.qkv, &packed.qkv_bias, &mut qkv);
    let mut attended = Buffer::take(x.len());
    let mut log_sums = Buffer::take(tokens * sizes.heads);
    run.attention(sizes).forward(&qkv, &mut attended, &mut log_sums);
    let mut summand = Buffer::take(x.len());
    affine(&attended, &packed.out, &packed.vectors[place::OUT + 1], &mut summand);
    let mut y = Buffer::take(x.len());
    let norm = packed.norm(place::NORM, sizes).forward_saving(run.summands(1, &summand, x), &mut y);

    let mut before = Buffer::take(tokens * sizes.inner);
    let mut after = Buffer::take(tokens * sizes.inner);
    let bias = &packed.vectors[place::WIDE + 1];
    product(
        View::new(&y, tokens, sizes.hidden),
        &packed.wide,
        &mut before,
        &mut after,
        #[inline(always)]
        |_, column, out, after| {
            add(out, &bias[column..]);
            sizes.activation.values(out, after);
        },
    );
    affine(&after, &packed.narrow, &packed.vectors[place::NARROW + 1], &mut summand);
    let last_norm = packed.norm(place::LAST_NORM, sizes).forward_saving(run.summands(2, &summand, &y), out);
    Saved { qkv, log_sums, attended, norm, before, last_norm }
}
