//! The architecture of a BERT, as `config.json` tells it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::EncoderError;
use crate::kernels::activation::Activation;

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

/// More layers than any model has: a file that claims more would only fill the memory with their names.
const MOST_LAYERS: usize = 4096;

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

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`EncoderError::Read`] if there is no such file, [`EncoderError::UnsupportedModel`] if its `model_type` is not
    /// `bert`, [`EncoderError::Config`] if a field is missing its sense.
    pub fn read(path: &Path) -> Result<Self, EncoderError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| EncoderError::Read { path: path.to_owned(), source })?;
        let invalid = |reason: String| EncoderError::Config { path: path.to_owned(), reason };
        let value: Value = serde_json::from_str(&text).map_err(|error| invalid(format!("not valid JSON: {error}")))?;
        match value.get("model_type").and_then(Value::as_str) {
            Some("bert") => {}
            model_type => {
                let model_type = model_type.unwrap_or("(missing)").to_owned();
                return Err(EncoderError::UnsupportedModel { path: path.to_owned(), model_type });
            }
        }
        let config: Self = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// The nonlinearity that `hidden_act` names.
    pub(crate) fn activation(&self) -> Result<Activation, String> {
        match self.hidden_act.as_str() {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => Err(format!("hidden_act is `{other}`; supported: gelu, gelu_new, gelu_pytorch_tanh, relu")),
        }
    }

    /// Whether a model of these sizes can be built; if not, why.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.activation()?;
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("{name} is 0; it must be positive"));
        }
        if self.num_hidden_layers > MOST_LAYERS {
            return Err(format!(
                "num_hidden_layers is {}; at most {MOST_LAYERS} are supported",
                self.num_hidden_layers
            ));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "hidden_size {} is not divisible by num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        let rates = [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ];
        if let Some((name, rate)) = rates.iter().find(|(_, rate)| !(0.0..1.0).contains(rate)) {
            return Err(format!("{name} is {rate}; it must be at least 0 and below 1"));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps.is_finite()) {
            return Err(format!("layer_norm_eps is {}; it must be positive", self.layer_norm_eps));
        }
        match self.other.get("position_embedding_type").and_then(Value::as_str) {
            None | Some("absolute") => Ok(()),
            Some(other) => Err(format!("position_embedding_type is `{other}`; supported: absolute")),
        }
    }

    /// Hub names and shapes of all tensors, in the order of the network.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        let mut all = vec![
            ("embeddings.word_embeddings.weight".to_owned(), vec![self.vocab_size, hidden]),
            ("embeddings.position_embeddings.weight".to_owned(), vec![self.max_position_embeddings, hidden]),
            ("embeddings.token_type_embeddings.weight".to_owned(), vec![self.type_vocab_size, hidden]),
            ("embeddings.LayerNorm.weight".to_owned(), vec![hidden]),
            ("embeddings.LayerNorm.bias".to_owned(), vec![hidden]),
        ];
        for layer in 0..self.num_hidden_layers {
            let mut add = |name: &str, shape: Vec<usize>| all.push((format!("encoder.layer.{layer}.{name}"), shape));
            for part in ["query", "key", "value"] {
                add(&format!("attention.self.{part}.weight"), vec![hidden, hidden]);
                add(&format!("attention.self.{part}.bias"), vec![hidden]);
            }
            for (part, outputs, inputs) in
                [("attention.output", hidden, hidden), ("intermediate", wide, hidden), ("output", hidden, wide)]
            {
                add(&format!("{part}.dense.weight"), vec![outputs, inputs]);
                add(&format!("{part}.dense.bias"), vec![outputs]);
            }
            for part in ["attention.output", "output"] {
                add(&format!("{part}.LayerNorm.weight"), vec![hidden]);
                add(&format!("{part}.LayerNorm.bias"), vec![hidden]);
            }
        }
        all
    }
}
