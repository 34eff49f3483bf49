//! Which transformer a `config.json` describes: one module per family of models, all brought to one [`Architecture`].

mod architecture;
mod bert;
mod distilbert;
mod gpt2;
mod llama;
mod modernbert;
mod mpnet;

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::EncoderError;
use crate::file;
use crate::kernels::activation::Activation;
pub(crate) use architecture::{Architecture, Dropout, Fields, Names, NormStems, Order, RelativePositions, Rotation};
pub use bert::BertConfig;

/// Reads the fields of one family.
type Reader = fn(Value) -> Result<Architecture, String>;

/// Every family: its `model_type`, the class of `transformers` that has no head, and what reads its fields.
const FAMILIES: [(&str, &str, Reader); 13] = [
    ("bert", "BertModel", bert::bert),
    ("roberta", "RobertaModel", bert::roberta),
    ("xlm-roberta", "XLMRobertaModel", bert::roberta),
    ("camembert", "CamembertModel", bert::roberta),
    ("distilbert", "DistilBertModel", distilbert::read),
    ("mpnet", "MPNetModel", mpnet::read),
    ("modernbert", "ModernBertModel", modernbert::read),
    ("gpt2", "GPT2Model", gpt2::read),
    ("llama", "LlamaModel", llama::llama),
    ("mistral", "MistralModel", llama::mistral),
    ("qwen2", "Qwen2Model", llama::qwen2),
    ("qwen3", "Qwen3Model", llama::qwen3),
    ("gemma", "GemmaModel", llama::gemma),
];

/// More layers than any model has: a file that claims more would only fill the memory with their names.
const MOST_LAYERS: usize = 4096;

/// A `config.json` of a supported family.
///
/// ```
/// use paretune_encoder::{BertConfig, ModelConfig};
///
/// let config = ModelConfig::try_from(BertConfig::tiny())?;
/// assert_eq!((config.model_type(), config.hidden_size(), config.layers()), ("bert", 32, 2));
/// assert!(ModelConfig::supported().any(|family| family == "modernbert"));
/// # Ok::<(), paretune_encoder::EncoderError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModelConfig {
    json: Map<String, Value>,
    family: usize,
    pub(crate) architecture: Arc<Architecture>,
}

impl PartialEq for ModelConfig {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl ModelConfig {
    /// The values of `model_type` that are supported.
    pub fn supported() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().map(|(name, ..)| *name)
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`EncoderError::Read`] if there is no such file, [`EncoderError::UnsupportedModel`] if its `model_type` is of no supported
    /// family, [`EncoderError::Config`] if a field is missing its sense.
    pub fn read(path: &Path) -> Result<Self, EncoderError> {
        let text = file::text(path)?;
        let invalid = |reason: String| EncoderError::Config { path: path.to_owned(), reason };
        let value: Value = serde_json::from_str(&text).map_err(|error| invalid(format!("not valid JSON: {error}")))?;
        let Value::Object(json) = value else { return Err(invalid("expected a JSON object".to_owned())) };
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("(missing)");
        if !Self::supported().any(|family| family == model_type) {
            let (path, model_type) = (path.to_owned(), model_type.to_owned());
            return Err(EncoderError::UnsupportedModel { path, model_type, supported: supported() });
        }
        Self::new(json).map_err(invalid)
    }

    /// The configuration that these fields describe, `model_type` among them.
    ///
    /// # Errors
    /// [`EncoderError::InvalidConfig`] if the family is not supported, or a field is missing its sense.
    pub fn from_json(json: Map<String, Value>) -> Result<Self, EncoderError> {
        Self::new(json).map_err(|reason| EncoderError::InvalidConfig { reason })
    }

    fn new(json: Map<String, Value>) -> Result<Self, String> {
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("(missing)");
        let Some(family) = FAMILIES.iter().position(|(name, ..)| *name == model_type) else {
            return Err(format!("model_type is `{model_type}`; supported: {}", supported()));
        };
        let architecture = FAMILIES[family].2(Value::Object(json.clone()))?;
        architecture.check()?;
        Ok(Self { json, family, architecture: Arc::new(architecture) })
    }

    /// That of a model whose texts leave after the first `layers` layers: an early exit, for which the layers above need not be there.
    ///
    /// ```
    /// use paretune_encoder::{BertConfig, ModelConfig};
    ///
    /// let whole = ModelConfig::try_from(BertConfig::tiny())?;
    /// assert_eq!((whole.layers(), whole.exit_after(1)?.layers()), (2, 1));
    /// assert!(whole.exit_after(3).is_err());
    /// # Ok::<(), paretune_encoder::EncoderError>(())
    /// ```
    ///
    /// # Errors
    /// [`EncoderError::InvalidConfig`] for no layer, or more than there are.
    pub fn exit_after(&self, layers: usize) -> Result<Self, EncoderError> {
        if !(1..=self.layers()).contains(&layers) {
            let reason = format!("an exit after {layers} layers: this model has {}; name 1 to {0}", self.layers());
            return Err(EncoderError::InvalidConfig { reason });
        }
        let mut json = self.json.clone();
        json.insert(self.architecture.names.fields.layers.to_owned(), Value::from(layers));
        if let Some(Value::Array(types)) = json.get_mut("layer_types") {
            types.truncate(layers);
        }
        Self::from_json(json)
    }

    /// The family.
    pub fn model_type(&self) -> &'static str {
        FAMILIES[self.family].0
    }

    /// The class of `transformers` that loads the model without a head.
    pub(crate) fn class(&self) -> &'static str {
        FAMILIES[self.family].1
    }

    /// All fields, those included which this crate does not use.
    pub fn json(&self) -> &Map<String, Value> {
        &self.json
    }

    /// The sizes of a BERT, if it is one.
    pub fn bert(&self) -> Option<BertConfig> {
        let json = (self.model_type() == "bert").then(|| Value::Object(self.json.clone()))?;
        serde_json::from_value(json).ok()
    }

    /// Number of word embeddings.
    pub fn vocab_size(&self) -> usize {
        self.architecture.vocabulary
    }

    /// Width of the vector of a token.
    pub fn hidden_size(&self) -> usize {
        self.architecture.hidden
    }

    /// Number of transformer layers.
    pub fn layers(&self) -> usize {
        self.architecture.layers
    }

    /// Number of attention heads.
    pub fn heads(&self) -> usize {
        self.architecture.heads
    }

    /// Width between the two matrices of a feed-forward block.
    pub fn intermediate_size(&self) -> usize {
        self.architecture.inner
    }

    /// The longest sequence.
    pub fn longest(&self) -> usize {
        self.architecture.longest
    }

    /// Whether a token sees only what is before it, as in models that generate text.
    pub fn is_causal(&self) -> bool {
        self.architecture.causal
    }
}

fn supported() -> String {
    ModelConfig::supported().collect::<Vec<_>>().join(", ")
}

impl TryFrom<BertConfig> for ModelConfig {
    type Error = EncoderError;

    fn try_from(config: BertConfig) -> Result<Self, EncoderError> {
        let invalid = |reason: String| EncoderError::InvalidConfig { reason };
        match serde_json::to_value(&config).map_err(|error| invalid(error.to_string()))? {
            Value::Object(mut json) => {
                json.insert("model_type".to_owned(), Value::from("bert"));
                Self::from_json(json)
            }
            _ => Err(invalid("expected a JSON object".to_owned())),
        }
    }
}

/// The fields of a family, with its defaults for those that are absent.
fn fields<T: DeserializeOwned>(json: Value) -> Result<T, String> {
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// The nonlinearity that the field `field` names.
fn activation(field: &str, name: &str) -> Result<Activation, String> {
    match name {
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        other => Err(format!("{field} is `{other}`; supported: gelu, gelu_new, gelu_pytorch_tanh, relu, silu")),
    }
}
