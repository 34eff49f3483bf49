//! GPT-2 (Radford et al. 2019): each token sees what is before it; matrices are stored as `[in, out]`.

use serde::Deserialize;
use serde_json::Value;

use super::{Architecture, Dropout, Fields, Names, Order, activation, bert, fields};

#[derive(Deserialize)]
#[serde(default)]
struct Gpt2 {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: String,
    resid_pdrop: f64,
    embd_pdrop: f64,
    attn_pdrop: f64,
    layer_norm_epsilon: f64,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
    add_cross_attention: bool,
    is_causal: Option<bool>,
}

impl Default for Gpt2 {
    fn default() -> Self {
        Self {
            vocab_size: 50_257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            activation_function: "gelu_new".to_owned(),
            resid_pdrop: 0.1,
            embd_pdrop: 0.1,
            attn_pdrop: 0.1,
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            add_cross_attention: false,
            is_causal: None,
        }
    }
}

const NAMES: Names = Names {
    fields: Fields {
        hidden: "n_embd",
        inner: "n_inner",
        layers: "n_layer",
        heads: "n_head",
        positions: "n_positions",
        epsilon: "layer_norm_epsilon",
        dropout: ["embd_pdrop", "attn_pdrop", "resid_pdrop"],
    },
    prefixes: &["transformer."],
    words: "wte",
    positions: Some("wpe"),
    segments: None,
    embedding_norm: None,
    relative: None,
    layers: "h",
    qkv: &["attn.c_attn"],
    out: "attn.c_proj",
    wide: &["mlp.c_fc"],
    narrow: "mlp.c_proj",
    attention_norm: ("ln_1", true),
    feed_forward_norm: ("ln_2", true),
    head_norms: None,
    final_norm: Some(("ln_f", true)),
    kept: &[],
};

pub(super) fn read(json: Value) -> Result<Architecture, String> {
    let config: Gpt2 = fields(json)?;
    let unusual = [
        ("scale_attn_weights", !config.scale_attn_weights),
        ("scale_attn_by_inverse_layer_idx", config.scale_attn_by_inverse_layer_idx),
        ("add_cross_attention", config.add_cross_attention),
    ];
    if let Some((field, _)) = unusual.iter().find(|(_, unusual)| *unusual) {
        return Err(format!("{field} is not what GPT-2 has; only its default is supported"));
    }
    let heads = bert::evenly("n_embd", config.n_embd, "n_head", config.n_head)?;
    Ok(Architecture {
        vocabulary: config.vocab_size,
        inner: config.n_inner.unwrap_or(config.n_embd.saturating_mul(4)),
        layers: config.n_layer,
        order: Order::Before,
        position_rows: config.n_positions,
        longest: config.n_positions,
        epsilon: config.layer_norm_epsilon,
        activation: activation("activation_function", &config.activation_function)?,
        causal: config.is_causal.unwrap_or(true),
        transposed: true,
        dropout: Dropout { embeddings: config.embd_pdrop, attention: config.attn_pdrop, hidden: config.resid_pdrop },
        ..Architecture::post_norm(NAMES, heads)
    })
}
