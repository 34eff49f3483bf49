//! DistilBERT (Sanh et al. 2019): BERT without segments, under other names.

use serde::Deserialize;
use serde_json::Value;

use super::{Architecture, Dropout, Fields, Names, activation, bert, fields};

#[derive(Deserialize)]
#[serde(default)]
struct DistilBert {
    vocab_size: usize,
    max_position_embeddings: usize,
    n_layers: usize,
    n_heads: usize,
    dim: usize,
    hidden_dim: usize,
    dropout: f64,
    attention_dropout: f64,
    activation: String,
}

impl Default for DistilBert {
    fn default() -> Self {
        Self {
            vocab_size: 30_522,
            max_position_embeddings: 512,
            n_layers: 6,
            n_heads: 12,
            dim: 768,
            hidden_dim: 3072,
            dropout: 0.1,
            attention_dropout: 0.1,
            activation: "gelu".to_owned(),
        }
    }
}

const NAMES: Names = Names {
    fields: Fields {
        hidden: "dim",
        inner: "hidden_dim",
        layers: "n_layers",
        heads: "n_heads",
        dropout: ["dropout", "attention_dropout", "dropout"],
        ..Fields::BERT
    },
    prefixes: &["distilbert."],
    words: "embeddings.word_embeddings",
    positions: Some("embeddings.position_embeddings"),
    segments: None,
    embedding_norm: Some(("embeddings.LayerNorm", true)),
    relative: None,
    layers: "transformer.layer",
    qkv: &["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    out: "attention.out_lin",
    wide: &["ffn.lin1"],
    narrow: "ffn.lin2",
    attention_norm: ("sa_layer_norm", true),
    feed_forward_norm: ("output_layer_norm", true),
    head_norms: None,
    final_norm: None,
    kept: &[],
};

pub(super) fn read(json: Value) -> Result<Architecture, String> {
    let config: DistilBert = fields(json)?;
    let heads = bert::evenly("dim", config.dim, "n_heads", config.n_heads)?;
    let dropout = Dropout { embeddings: config.dropout, attention: config.attention_dropout, hidden: config.dropout };
    Ok(Architecture {
        vocabulary: config.vocab_size,
        inner: config.hidden_dim,
        layers: config.n_layers,
        position_rows: config.max_position_embeddings,
        longest: config.max_position_embeddings,
        epsilon: 1e-12,
        activation: activation("activation", &config.activation)?,
        dropout,
        ..Architecture::post_norm(NAMES, heads)
    })
}
