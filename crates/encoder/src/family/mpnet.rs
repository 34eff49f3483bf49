//! MPNet (Song et al. 2020): BERT with a learned bias of attention by distance, shared by all layers.

use serde::Deserialize;
use serde_json::Value;

use super::{Architecture, Dropout, Fields, Names, RelativePositions, activation, bert, fields};

#[derive(Deserialize)]
#[serde(default)]
struct MpNet {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    hidden_dropout_prob: f64,
    attention_probs_dropout_prob: f64,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    relative_attention_num_buckets: usize,
}

impl Default for MpNet {
    fn default() -> Self {
        Self {
            vocab_size: 30_527,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            layer_norm_eps: 1e-12,
            relative_attention_num_buckets: 32,
        }
    }
}

const NAMES: Names = Names {
    fields: Fields::BERT,
    prefixes: &["mpnet."],
    words: "embeddings.word_embeddings",
    positions: Some("embeddings.position_embeddings"),
    segments: None,
    embedding_norm: Some(("embeddings.LayerNorm", true)),
    relative: Some("encoder.relative_attention_bias"),
    layers: "encoder.layer",
    qkv: &["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    out: "attention.attn.o",
    wide: &["intermediate.dense"],
    narrow: "output.dense",
    attention_norm: ("attention.LayerNorm", true),
    feed_forward_norm: ("output.LayerNorm", true),
    head_norms: None,
    final_norm: None,
    kept: &["pooler."],
};

/// Buckets that distances fall into, whatever the size of the table.
const BUCKETS: usize = 32;
/// Positions begin after the padding token, whose number is 1 whatever the configuration says.
const FIRST_POSITION: usize = 2;

pub(super) fn read(json: Value) -> Result<Architecture, String> {
    let config: MpNet = fields(json)?;
    let heads = bert::evenly("hidden_size", config.hidden_size, "num_attention_heads", config.num_attention_heads)?;
    let buckets = config.relative_attention_num_buckets;
    if !(BUCKETS..=256).contains(&buckets) {
        return Err(format!(
            "relative_attention_num_buckets is {buckets}; it must be at least {BUCKETS}, and at most 256"
        ));
    }
    Ok(Architecture {
        vocabulary: config.vocab_size,
        inner: config.intermediate_size,
        layers: config.num_hidden_layers,
        position_rows: config.max_position_embeddings,
        first_position: FIRST_POSITION,
        longest: config.max_position_embeddings.saturating_sub(FIRST_POSITION),
        epsilon: config.layer_norm_eps,
        activation: activation("hidden_act", &config.hidden_act)?,
        relative: Some(RelativePositions { rows: buckets, buckets: BUCKETS, farthest: 128 }),
        dropout: Dropout {
            embeddings: config.hidden_dropout_prob,
            attention: config.attention_probs_dropout_prob,
            hidden: config.hidden_dropout_prob,
        },
        ..Architecture::post_norm(NAMES, heads)
    })
}
