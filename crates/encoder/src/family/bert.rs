//! BERT, and RoBERTa with its kin, which differ in the places of their positions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Architecture, Dropout, Fields, Names, activation, fields};

/// Sizes and rates of a BERT encoder; the names are those of `config.json`, the defaults those of `bert-base-uncased`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BertConfig {
    /// Number of word embeddings.
    pub vocab_size: usize,
    /// Width of the vector of a token.
    pub hidden_size: usize,
    /// Number of transformer layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width between the two matrices of a feed-forward block.
    pub intermediate_size: usize,
    /// Nonlinearity of the feed-forward block: `gelu`, `gelu_new` (or `gelu_pytorch_tanh`), or `relu`.
    pub hidden_act: String,
    /// Probability that training drops an element of a block's output.
    pub hidden_dropout_prob: f64,
    /// Probability that training drops an attention weight.
    pub attention_probs_dropout_prob: f64,
    /// Number of position embeddings, and so the longest sequence.
    pub max_position_embeddings: usize,
    /// Number of segment embeddings; packed sequences use the first.
    pub type_vocab_size: usize,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f64,
    /// Fields which this crate does not use; kept so that a saved model has them.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30_522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            other: Map::new(),
        }
    }
}

impl BertConfig {
    /// A small model, for tests and examples: 2 layers of width 32 with 4 heads, 60 words, 32 positions.
    pub fn tiny() -> Self {
        Self {
            vocab_size: 60,
            hidden_size: 32,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            intermediate_size: 64,
            max_position_embeddings: 32,
            ..Self::default()
        }
    }
}

/// What BERT calls its tensors; RoBERTa calls them the same.
const NAMES: Names = Names {
    fields: Fields::BERT,
    prefixes: &["bert.", "roberta."],
    words: "embeddings.word_embeddings",
    positions: Some("embeddings.position_embeddings"),
    segments: Some("embeddings.token_type_embeddings"),
    embedding_norm: Some(("embeddings.LayerNorm", true)),
    relative: None,
    layers: "encoder.layer",
    qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
    out: "attention.output.dense",
    wide: &["intermediate.dense"],
    narrow: "output.dense",
    attention_norm: ("attention.output.LayerNorm", true),
    feed_forward_norm: ("output.LayerNorm", true),
    head_norms: None,
    final_norm: None,
    kept: &["pooler."],
};

pub(super) fn bert(json: Value) -> Result<Architecture, String> {
    architecture(fields(json)?, 0)
}

/// Positions begin after the number of the padding token, whose row of the table is not used.
pub(super) fn roberta(json: Value) -> Result<Architecture, String> {
    let padding = json.get("pad_token_id").map_or(Some(1), |id| id.as_u64().or(id.is_null().then_some(1)));
    let Some(padding) = padding.filter(|id| *id < 1 << 20) else {
        return Err(format!("pad_token_id is {}; it must be the number of a token", json["pad_token_id"]));
    };
    architecture(fields(json)?, padding as usize + 1)
}

fn architecture(config: BertConfig, first_position: usize) -> Result<Architecture, String> {
    if config.type_vocab_size == 0 {
        return Err("type_vocab_size is 0; it must be positive".to_owned());
    }
    match config.other.get("position_embedding_type").and_then(Value::as_str) {
        None | Some("absolute") => {}
        Some(other) => return Err(format!("position_embedding_type is `{other}`; supported: absolute")),
    }
    if config.other.get("is_decoder").and_then(Value::as_bool) == Some(true) {
        return Err("is_decoder is true; a BERT that generates text is not supported".to_owned());
    }
    let heads = evenly("hidden_size", config.hidden_size, "num_attention_heads", config.num_attention_heads)?;
    Ok(Architecture {
        vocabulary: config.vocab_size,
        inner: config.intermediate_size,
        layers: config.num_hidden_layers,
        epsilon: config.layer_norm_eps,
        activation: activation("hidden_act", &config.hidden_act)?,
        position_rows: config.max_position_embeddings,
        segment_rows: config.type_vocab_size,
        first_position,
        longest: config.max_position_embeddings.saturating_sub(first_position),
        dropout: Dropout {
            embeddings: config.hidden_dropout_prob,
            attention: config.attention_probs_dropout_prob,
            hidden: config.hidden_dropout_prob,
        },
        ..Architecture::post_norm(NAMES, heads)
    })
}

/// The number of heads and the width of one, where heads share the width evenly.
pub(super) fn evenly(
    width_field: &str,
    width: usize,
    heads_field: &str,
    heads: usize,
) -> Result<(usize, usize), String> {
    if heads == 0 {
        return Err(format!("{heads_field} is 0; it must be positive"));
    }
    match width.is_multiple_of(heads) {
        true => Ok((heads, width / heads)),
        false => Err(format!("{width_field} {width} is not divisible by {heads_field} {heads}")),
    }
}
