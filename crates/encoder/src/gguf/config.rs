//! The `config.json` that the metadata of a llama.cpp file means.

use paretune_features::{Gguf, GgufValue};
use serde_json::{Map, Value, json};

use super::names;
use crate::family::Architecture;
use crate::pooling::Pooling;

/// What `general.architecture` can be, for messages.
pub(super) const SUPPORTED: &str = "llama (Mistral too), qwen2, qwen3, gemma, gpt2, bert";

/// A family as llama.cpp names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Gemma,
    Gpt2,
    Bert,
}

/// The family that `general.architecture` names.
pub(super) fn family(architecture: &str) -> Option<Family> {
    use Family::{Bert, Gemma, Gpt2, Llama, Qwen2, Qwen3};
    [Llama, Qwen2, Qwen3, Gemma, Gpt2, Bert].into_iter().find(|family| family.architecture() == architecture)
}

impl Family {
    /// The name in the file.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma => "gemma",
            Self::Gpt2 => "gpt2",
            Self::Bert => "bert",
        }
    }

    /// The numbers of the tensor `stored` as files of the Hub have them.
    ///
    /// llama.cpp turns neighbours where Llama turns halves of a head, so its files hold the rows of queries and keys as pairs; and it
    /// adds the one to Gemma's scales of norms that files of the Hub leave out.
    pub(super) fn in_hub_order(self, architecture: &Architecture, stored: &str, values: Vec<f32>) -> Vec<f32> {
        let is_of = |part: &str| stored.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with(part));
        match self {
            Self::Llama if is_of(".attn_q") || is_of(".attn_k") => {
                let heads = if is_of(".attn_q") { architecture.heads } else { architecture.key_heads };
                pairs_to_halves(&values, heads, architecture.head_width)
            }
            Self::Gemma if stored.ends_with("norm.weight") => values.into_iter().map(|scale| scale - 1.0).collect(),
            _ => values,
        }
    }
}

/// Rows `(head, pair, half)` as `(head, half, pair)`; each row has the same number of columns, one in a bias.
fn pairs_to_halves(values: &[f32], heads: usize, width: usize) -> Vec<f32> {
    let columns = values.len() / (heads * width).max(1);
    let mut rows = Vec::with_capacity(values.len());
    for head in 0..heads {
        for half in 0..2 {
            for pair in 0..width / 2 {
                let row = head * width + 2 * pair + half;
                rows.extend_from_slice(&values[row * columns..(row + 1) * columns]);
            }
        }
    }
    rows
}

/// The fields of `config.json`; `factors` divide the frequencies of the rotation.
pub(super) fn json(file: &Gguf, family: Family, factors: Option<Vec<f32>>) -> Result<Map<String, Value>, String> {
    let metadata = Metadata { file, architecture: family.architecture() };
    // Parts that were joined say 0.
    if matches!(file.value("split.count"), Some(GgufValue::Integer(2..))) {
        return Err("it is one part of a split file; join the parts with `llama-gguf-split --merge`".to_owned());
    }
    if metadata.integer("expert_count")?.unwrap_or(0) > 0 {
        return Err("it is a mixture of experts, which is not supported".to_owned());
    }
    let Some(vocabulary) = file.vocabulary() else { return Err("it has no tensor `token_embd.weight`".to_owned()) };
    let Some(positions) = file.positions() else {
        return Err(format!("the metadata has no number `{}.context_length`", family.architecture()));
    };
    let mut json = match family {
        Family::Bert => bert(&metadata, positions),
        Family::Gpt2 => gpt2(&metadata, positions),
        _ => llama(&metadata, family, positions, factors),
    }?;
    json["vocab_size"] = json!(vocabulary);
    for (key, field) in
        [("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id"), ("mask", "mask_token_id")]
    {
        if let Some(GgufValue::Integer(id)) = file.value(&format!("tokenizer.ggml.{key}_token_id"))
            && (0..vocabulary as i128).contains(id)
        {
            json[field] = json!(*id as u64);
        }
    }
    match json {
        Value::Object(fields) => Ok(fields),
        _ => Err("it describes no model".to_owned()),
    }
}

/// How token vectors become one, where the file says so.
pub(super) fn pooling(file: &Gguf, family: Family) -> Result<Option<Pooling>, String> {
    let metadata = Metadata { file, architecture: family.architecture() };
    match metadata.integer("pooling_type")? {
        None | Some(0) => Ok(None),
        Some(1) => Ok(Some(Pooling::Mean)),
        Some(2) => Ok(Some(Pooling::Cls)),
        Some(3) => Ok(Some(Pooling::LastToken)),
        Some(4) => {
            Err("it is a model that ranks pairs of texts (pooling_type 4), not one that gives vectors".to_owned())
        }
        Some(other) => {
            Err(format!("{}.pooling_type is {other}; known: 1 (mean), 2 (cls), 3 (last)", family.architecture()))
        }
    }
}

/// Metadata of one family.
struct Metadata<'a> {
    file: &'a Gguf,
    architecture: &'static str,
}

impl Metadata<'_> {
    fn value(&self, key: &str) -> Option<&GgufValue> {
        self.file.value(&format!("{}.{key}", self.architecture))
    }

    fn wrong(&self, key: &str, value: &GgufValue, expected: &str) -> String {
        format!("{}.{key} is {value:?}; it must be {expected}", self.architecture)
    }

    /// A count; of several, one for each layer, which must be the same.
    fn integer(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = match value {
            GgufValue::Integer(number) => Some(*number),
            GgufValue::Integers(all) if all.iter().all(|number| Some(number) == all.first()) => all.first().copied(),
            _ => None,
        };
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, value, "one integer, the same for all layers")),
        }
    }

    fn required(&self, key: &str) -> Result<u64, String> {
        self.integer(key)?.ok_or_else(|| format!("the metadata has no `{}.{key}`", self.architecture))
    }

    fn float(&self, key: &str) -> Result<Option<f64>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(GgufValue::Float(number)) if number.is_finite() => Ok(Some(*number)),
            Some(value) => Err(self.wrong(key, value, "a number")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(GgufValue::Text(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(key, value, "a text")),
        }
    }

    /// Whether tokens see only what is before them, where the file says so.
    fn causal(&self) -> Result<Option<bool>, String> {
        match self.value("attention.causal") {
            None => Ok(None),
            Some(GgufValue::Bool(causal)) => Ok(Some(*causal)),
            Some(value) => Err(self.wrong("attention.causal", value, "a truth value")),
        }
    }

    /// That the file does not ask for another attention than the family has.
    fn is_causal(&self, expected: bool) -> Result<(), String> {
        match self.causal()? {
            Some(causal) if causal != expected => Err(format!(
                "{}.attention.causal is {causal}, which is not supported for this family",
                self.architecture
            )),
            _ => Ok(()),
        }
    }

    fn has(&self, tensor: &str) -> bool {
        self.file.tensors().contains_key(tensor)
    }
}

fn bert(metadata: &Metadata<'_>, positions: usize) -> Result<Value, String> {
    metadata.is_causal(false)?;
    let segments = metadata.file.tensors().get("token_types.weight").and_then(|table| table.shape.first());
    Ok(json!({
        "model_type": "bert",
        "hidden_size": metadata.required("embedding_length")?,
        "num_hidden_layers": metadata.required("block_count")?,
        "num_attention_heads": metadata.required("attention.head_count")?,
        "intermediate_size": metadata.required("feed_forward_length")?,
        "hidden_act": "gelu",
        "max_position_embeddings": positions,
        "type_vocab_size": segments.copied().unwrap_or(2),
        "layer_norm_eps": metadata.float("attention.layer_norm_epsilon")?.unwrap_or(1e-12),
    }))
}

fn gpt2(metadata: &Metadata<'_>, positions: usize) -> Result<Value, String> {
    metadata.is_causal(true)?;
    let hidden = metadata.required("embedding_length")?;
    Ok(json!({
        "model_type": "gpt2",
        "n_embd": hidden,
        "n_layer": metadata.required("block_count")?,
        "n_head": metadata.required("attention.head_count")?,
        "n_inner": metadata.integer("feed_forward_length")?.unwrap_or(hidden.saturating_mul(4)),
        "n_positions": positions,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": metadata.float("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
    }))
}

fn llama(
    metadata: &Metadata<'_>,
    family: Family,
    positions: usize,
    factors: Option<Vec<f32>>,
) -> Result<Value, String> {
    let (hidden, heads) = (metadata.required("embedding_length")?, metadata.required("attention.head_count")?);
    let width = match metadata.integer("attention.key_length")? {
        Some(width) => width,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(format!("a width of {hidden} is not divisible by {heads} heads")),
    };
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = metadata.integer(key)?.filter(|other| *other != width) {
            return Err(format!(
                "{}.{key} is {other} for heads of width {width}; supported: the same",
                family.architecture()
            ));
        }
    }
    let theta = metadata.float("rope.freq_base")?.unwrap_or(10_000.0);
    // What older transformers call these fields, newer ones read too.
    let mut json = json!({
        "model_type": family.architecture(),
        "hidden_size": hidden,
        "intermediate_size": metadata.required("feed_forward_length")?,
        "num_hidden_layers": metadata.required("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.integer("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": width,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rms_norm_eps": metadata.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
        "rope_theta": theta,
        "tie_word_embeddings": !metadata.has("output.weight"),
    });
    if let Some(scaling) = scaling(metadata, factors, positions)? {
        json["rope_scaling"] = scaling;
    }
    match family {
        Family::Gemma => {
            json["hidden_act"] = json!("gelu_pytorch_tanh");
            json["hidden_activation"] = json!("gelu_pytorch_tanh");
            if metadata.causal()? == Some(false) {
                json["use_bidirectional_attention"] = json!(true);
            }
        }
        Family::Llama => {
            metadata.is_causal(true)?;
            json["attention_bias"] = json!(metadata.has("blk.0.attn_q.bias"));
            json["mlp_bias"] = json!(metadata.has("blk.0.ffn_up.bias"));
            // Mistral's files are of the architecture `llama`; its window is what tells it where texts are longer.
            if let Some(window) = metadata.integer("attention.sliding_window")?.filter(|window| *window > 0) {
                json["model_type"] = json!("mistral");
                json["sliding_window"] = json!(window);
            }
        }
        _ => metadata.is_causal(true)?,
    }
    Ok(json)
}

/// `rope_scaling`, if frequencies are changed.
fn scaling(metadata: &Metadata<'_>, factors: Option<Vec<f32>>, positions: usize) -> Result<Option<Value>, String> {
    let linear = match metadata.text("rope.scaling.type")? {
        Some("none") => None,
        Some("linear") => metadata.float("rope.scaling.factor")?,
        None => metadata.float("rope.scaling.factor")?.or(metadata.float("rope.scale_linear")?),
        Some(other) => {
            let architecture = metadata.architecture;
            return Err(format!("{architecture}.rope.scaling.type is `{other}`; supported: none, linear"));
        }
    };
    let linear = linear.filter(|factor| *factor != 0.0 && *factor != 1.0);
    let Some(factors) = factors else {
        return Ok(linear.map(|factor| json!({ "rope_type": "linear", "type": "linear", "factor": factor })));
    };
    if factors.iter().any(|factor| !factor.is_finite()) {
        return Err(format!("tensor `{}` has factors that are no numbers", names::FREQUENCIES));
    }
    // The form of `transformers` in which every frequency has a factor of its own.
    let factors: Vec<f64> = factors.iter().map(|factor| f64::from(*factor) * linear.unwrap_or(1.0)).collect();
    Ok(Some(json!({
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": positions,
    })))
}
