//! What llama.cpp calls the tensors of a model, one vocabulary for all families.

use crate::family::{Architecture, Order};

/// Factors of the rotation's frequencies.
pub(super) const FREQUENCIES: &str = "rope_freqs.weight";

/// The name in a llama.cpp file of the tensor with this Hub name.
pub(super) fn in_file(architecture: &Architecture, name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let names = &architecture.names;
    let top = [
        (Some(names.words), "token_embd"),
        (names.positions, "position_embd"),
        (names.segments, "token_types"),
        (names.embedding_norm.map(|(stem, _)| stem), "token_embd_norm"),
        (names.final_norm.map(|(stem, _)| stem), "output_norm"),
    ];
    if let Some((_, stored)) = top.iter().find(|(hub, _)| *hub == Some(stem)) {
        return Some(format!("{stored}.{kind}"));
    }
    let layer = architecture.layer_of(name)?;
    let stem = stem.strip_prefix(&format!("{}.{layer}.", names.layers))?;
    let qkv: &[&str] = if names.qkv.len() == 1 { &["attn_qkv"] } else { &["attn_q", "attn_k", "attn_v"] };
    let wide: &[&str] = if names.wide.len() == 1 { &["ffn_up"] } else { &["ffn_gate", "ffn_up"] };
    let norms = match architecture.order {
        Order::Before => ["attn_norm", "ffn_norm"],
        Order::After => ["attn_output_norm", "layer_output_norm"],
    };
    let hub_norms = [names.attention_norm.0, names.feed_forward_norm.0];
    let head_norms = names.head_norms.iter().flatten().zip(["attn_q_norm", "attn_k_norm"]);
    let parts = names.qkv.iter().zip(qkv.iter().copied()).chain(names.wide.iter().zip(wide.iter().copied()));
    let mut parts = parts
        .chain([(&names.out, "attn_output"), (&names.narrow, "ffn_down")])
        .chain(hub_norms.iter().zip(norms))
        .chain(head_norms);
    let (_, stored) = parts.find(|(hub, _)| **hub == stem)?;
    Some(format!("blk.{layer}.{stored}.{kind}"))
}

/// Whether vectors do not depend on the tensor of this name: the output matrix, heads that sort texts into classes, and tables that
/// old versions stored though they follow from the metadata. Frequencies are read with the metadata.
pub(super) fn is_idle(name: &str) -> bool {
    let head = ["output.", "cls."].iter().any(|start| name.starts_with(start));
    head || name == FREQUENCIES || (name.starts_with("blk.") && name.ends_with(".attn_rot_embd.weight"))
}
