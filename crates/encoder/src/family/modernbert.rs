//! ModernBERT (Warner et al. 2024): norms before blocks, rotated positions, gates, and layers that see only what is near.

use serde::Deserialize;
use serde_json::Value;

use super::llama::rotation;
use super::{Architecture, Dropout, Fields, Names, Order, activation, bert, fields};

#[derive(Deserialize)]
#[serde(default)]
struct ModernBert {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_activation: String,
    max_position_embeddings: usize,
    norm_eps: f64,
    norm_bias: bool,
    attention_bias: bool,
    attention_dropout: f64,
    embedding_dropout: f64,
    mlp_bias: bool,
    mlp_dropout: f64,
    local_attention: usize,
    global_attn_every_n_layers: usize,
    layer_types: Option<Vec<String>>,
}

impl Default for ModernBert {
    fn default() -> Self {
        Self {
            vocab_size: 50_368,
            hidden_size: 768,
            intermediate_size: 1152,
            num_hidden_layers: 22,
            num_attention_heads: 12,
            hidden_activation: "gelu".to_owned(),
            max_position_embeddings: 8192,
            norm_eps: 1e-5,
            norm_bias: false,
            attention_bias: false,
            attention_dropout: 0.0,
            embedding_dropout: 0.0,
            mlp_bias: false,
            mlp_dropout: 0.0,
            local_attention: 128,
            global_attn_every_n_layers: 3,
            layer_types: None,
        }
    }
}

fn names(shift: bool) -> Names {
    Names {
        fields: Fields {
            epsilon: "norm_eps",
            dropout: ["embedding_dropout", "attention_dropout", "mlp_dropout"],
            ..Fields::BERT
        },
        prefixes: &["model."],
        words: "embeddings.tok_embeddings",
        positions: None,
        segments: None,
        embedding_norm: Some(("embeddings.norm", shift)),
        relative: None,
        layers: "layers",
        qkv: &["attn.Wqkv"],
        out: "attn.Wo",
        wide: &["mlp.Wi"],
        narrow: "mlp.Wo",
        attention_norm: ("attn_norm", shift),
        feed_forward_norm: ("mlp_norm", shift),
        head_norms: None,
        final_norm: Some(("final_norm", shift)),
        // The head of masked language models.
        kept: &["head.", "decoder."],
    }
}

pub(super) fn read(json: Value) -> Result<Architecture, String> {
    let wide = rotation(&json, Some("full_attention"), "global_rope_theta", 160_000.0)?;
    let near = rotation(&json, Some("sliding_attention"), "local_rope_theta", 10_000.0)?;
    let config: ModernBert = fields(json)?;
    let heads = bert::evenly("hidden_size", config.hidden_size, "num_attention_heads", config.num_attention_heads)?;
    let layers = config.num_hidden_layers;
    let every = config.global_attn_every_n_layers.max(1);
    let is_near: Vec<bool> = match &config.layer_types {
        Some(types) => super::llama::near_layers(types, layers)?,
        None => (0..layers.min(super::MOST_LAYERS)).map(|layer| !layer.is_multiple_of(every)).collect(),
    };
    Ok(Architecture {
        vocabulary: config.vocab_size,
        inner: config.intermediate_size,
        layers,
        order: Order::Before,
        epsilon: config.norm_eps,
        activation: activation("hidden_activation", &config.hidden_activation)?,
        gated: true,
        windows: is_near.iter().map(|near| near.then_some(config.local_attention / 2)).collect(),
        rotations: is_near.iter().map(|is_near| Some(if *is_near { near.clone() } else { wide.clone() })).collect(),
        longest: config.max_position_embeddings,
        first_norm_missing: true,
        qkv_bias: config.attention_bias,
        out_bias: config.attention_bias,
        feed_forward_bias: config.mlp_bias,
        dropout: Dropout {
            embeddings: config.embedding_dropout,
            attention: config.attention_dropout,
            hidden: config.mlp_dropout,
        },
        ..Architecture::post_norm(names(config.norm_bias), heads)
    })
}
