//! The forward pass of a layer.

use super::LINEARS;
use super::weights::{Packed, Side, Sizes};
use crate::kernels::attention::{Attention, Relative};
use crate::kernels::buffers::Buffer;
use crate::kernels::dropout::Mask;
use crate::kernels::gated;
use crate::kernels::gemm::{View, product};
use crate::kernels::norm::{self, Norm, Summands};
use crate::kernels::simd::add;

/// What training drops in a layer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Masks {
    /// Attention probabilities, results of the attention and of the feed-forward block.
    pub(crate) blocks: [Option<Mask>; 3],
    /// Inputs of the adapters, by the number of the linear layer.
    pub(crate) adapters: [Option<Mask>; LINEARS],
}

/// What is the same for all layers of one pass over one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    /// `[sequences + 1]` cumulative lengths, from 0 to the number of tokens.
    pub(crate) offsets: &'a [u32],
    pub(crate) masks: Masks,
    /// Number of the first token within what the masks cover.
    pub(crate) first_token: usize,
}

impl<'a> Run<'a> {
    pub(super) fn attention<'b>(&self, sizes: &Sizes, relative: Option<Relative<'b>>) -> Attention<'b>
    where
        'a: 'b,
    {
        Attention {
            offsets: self.offsets,
            heads: sizes.heads,
            key_heads: sizes.key_heads,
            width: sizes.head_width,
            scale: sizes.scale(),
            causal: sizes.causal,
            window: sizes.window,
            relative,
            mask: self.masks.blocks[0],
            first_token: self.first_token,
        }
    }

    /// What a block gave, dropped as the mask of `place` says, and the stream it is added to.
    pub(super) fn summands<'b>(&self, place: usize, x: &'b [f32], residual: &'b [f32]) -> Summands<'b> {
        Summands { x, residual: Some(residual), mask: self.masks.blocks[place], first_row: self.first_token }
    }

    /// A stream as it is.
    pub(super) fn stream<'b>(&self, x: &'b [f32]) -> Summands<'b> {
        Summands { x, residual: None, mask: None, first_row: self.first_token }
    }
}

/// What the backward pass needs besides the input and the weights. Normalized rows and activations are computed again: that is
/// cheaper than to keep them.
pub(super) struct Saved {
    /// Of the attention's input, where that is normalized.
    pub(super) entry: Option<norm::Saved>,
    /// Queries, keys and values before their heads were normalized, where they are.
    pub(super) raw: Option<Buffer<f32>>,
    pub(super) qkv: Buffer<f32>,
    pub(super) log_sums: Buffer<f32>,
    pub(super) attended: Buffer<f32>,
    pub(super) middle: norm::Saved,
    /// Arguments of the activation, and of the gate.
    pub(super) before: Buffer<f32>,
    pub(super) last: Option<norm::Saved>,
}

/// `x·Wᵀ + b`, each piece handed to `then` while it is in the cache.
fn affine<F>(x: &[f32], side: &Side, run: &Run<'_>, out: &mut [f32], second: &mut [f32], then: F)
where
    F: Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
{
    let (inner, columns) = (side.panels.inner(), side.panels.columns());
    let beside = (!side.beside.is_empty()).then(|| {
        let mut sums = vec![0f32; out.len()];
        for (number, low) in &side.beside {
            low.add(x, run.masks.adapters[*number], run.first_token, columns, &mut sums);
        }
        sums
    });
    product(
        View::new(x, x.len() / inner, inner),
        &side.panels,
        out,
        second,
        #[inline(always)]
        |row, column, out, second| {
            if let Some(bias) = side.bias.get(column..) {
                add(out, bias);
            }
            if let Some(beside) = &beside {
                add(out, &beside[row * columns + column..]);
            }
            then(row, column, out, second);
        },
    );
}

#[inline(always)]
fn nothing_more(_row: usize, _column: usize, _out: &mut [f32], _second: &mut [f32]) {}

fn normalize(norm: Norm<'_>, summands: Summands<'_>, out: &mut [f32], keep: bool) -> Option<norm::Saved> {
    if keep {
        return Some(norm.forward_saving(summands, out));
    }
    norm.forward(summands, out);
    None
}

/// The layer's result for `x`, both `[tokens, hidden]`; and, to `keep`, what the backward pass needs.
pub(crate) fn forward(x: &[f32], out: &mut [f32], packed: &Packed, sizes: &Sizes, run: &Run<'_>) {
    run_layer(x, out, packed, sizes, run, false);
}

/// The same, and what the backward pass needs.
pub(super) fn forward_saving(
    x: &[f32],
    out: &mut [f32],
    packed: &Packed,
    sizes: &Sizes,
    run: &Run<'_>,
) -> Option<Saved> {
    run_layer(x, out, packed, sizes, run, true)
}

fn run_layer(x: &[f32], out: &mut [f32], packed: &Packed, sizes: &Sizes, run: &Run<'_>, keep: bool) -> Option<Saved> {
    let tokens = x.len() / sizes.hidden;
    let mut entry = None;
    let normalized = packed.entry.as_ref().map(|norm| {
        let mut normalized = Buffer::take(x.len());
        entry = normalize(norm.norm(sizes), run.stream(x), &mut normalized, keep);
        normalized
    });
    let mut qkv = Buffer::take(tokens * sizes.qkv());
    affine(normalized.as_deref().unwrap_or(x), &packed.qkv, run, &mut qkv, &mut [], nothing_more);
    drop(normalized);
    let raw = packed.head_norm(sizes).map(|norm| {
        let raw = std::mem::replace(&mut qkv, Buffer::take(tokens * sizes.qkv()));
        norm.forward(&raw, &mut qkv);
        raw
    });
    let raw = raw.filter(|_| keep);
    if let Some(rotary) = &sizes.rotary {
        rotary.turn(&mut qkv, run.offsets, sizes.heads + sizes.key_heads, sizes.qkv(), false);
    }
    let mut attended = Buffer::take(tokens * sizes.queries());
    let mut log_sums = Buffer::take(if keep { tokens * sizes.heads } else { 0 });
    run.attention(sizes, packed.relative(sizes)).forward(&qkv, &mut attended, &mut log_sums);
    let qkv = Some(qkv).filter(|_| keep);
    let mut block = Buffer::take(x.len());
    affine(&attended, &packed.out, run, &mut block, &mut [], nothing_more);
    let attended = Some(attended).filter(|_| keep);

    // What enters the feed-forward block, and the stream that its result is added to, if that is not the same.
    let mut fed = Buffer::take(x.len());
    let summands = run.summands(1, &block, x);
    let (middle, stream) = match packed.last {
        Some(_) => (normalize(packed.middle.norm(sizes), summands, &mut fed, keep), None),
        None => {
            let mut stream = Buffer::take(x.len());
            let saved = packed.middle.norm(sizes).forward_sum(summands, &mut stream, &mut fed, keep);
            (saved, Some(stream))
        }
    };
    let (activated, before) = activate(&fed, packed, sizes, run, keep);
    affine(&activated, &packed.narrow, run, &mut block, &mut [], nothing_more);
    drop(activated);
    let summands = run.summands(2, &block, stream.as_deref().unwrap_or(&fed));
    let last = match &packed.last {
        Some(norm) => normalize(norm.norm(sizes), summands, out, keep),
        None => {
            summands.write(sizes.hidden, out);
            None
        }
    };
    let (qkv, attended, middle, before) = (qkv?, attended?, middle?, before?);
    Some(Saved { entry, raw, qkv, log_sums, attended, middle, before, last })
}

/// The activated inner vectors of the feed-forward block; to `keep`, what the activation was given.
fn activate(
    fed: &[f32],
    packed: &Packed,
    sizes: &Sizes,
    run: &Run<'_>,
    keep: bool,
) -> (Buffer<f32>, Option<Buffer<f32>>) {
    let tokens = fed.len() / sizes.hidden;
    let mut activated = Buffer::take(tokens * sizes.inner);
    if !sizes.gated && !keep {
        affine(
            fed,
            &packed.wide,
            run,
            &mut activated,
            &mut [],
            #[inline(always)]
            |_, _, out, _| sizes.activation.in_place(out),
        );
        return (activated, None);
    }
    let mut before = Buffer::take(tokens * sizes.wide());
    if sizes.gated {
        affine(fed, &packed.wide, run, &mut before, &mut [], nothing_more);
        gated::forward(sizes.activation, sizes.inner, &before, &mut activated);
    } else {
        affine(
            fed,
            &packed.wide,
            run,
            &mut before,
            &mut activated,
            #[inline(always)]
            |_, _, out, after| sizes.activation.values(out, after),
        );
    }
    (activated, keep.then_some(before))
}
