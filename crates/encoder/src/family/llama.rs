//! Llama and its kin: root-mean-square norms before blocks, rotated positions, gates, and heads of queries that share keys.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{Architecture, Dropout, Fields, MOST_LAYERS, Names, Order, Rotation, activation, fields};
use crate::kernels::norm::NormKind;
use crate::kernels::rotary::Scaling;

/// What these families' configurations have in common; absent fields take each family's default.
#[derive(Deserialize)]
struct Settings {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    attention_dropout: Option<f64>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    use_bidirectional_attention: Option<bool>,
    /// What embedding models made of a causal one say, as transformers reads it.
    is_causal: Option<bool>,
}

const NAMES: Names = Names {
    fields: Fields { epsilon: "rms_norm_eps", dropout: ["", "attention_dropout", ""], ..Fields::BERT },
    prefixes: &["model."],
    words: "embed_tokens",
    positions: None,
    segments: None,
    embedding_norm: None,
    relative: None,
    layers: "layers",
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.o_proj",
    wide: &["mlp.gate_proj", "mlp.up_proj"],
    narrow: "mlp.down_proj",
    attention_norm: ("input_layernorm", false),
    feed_forward_norm: ("post_attention_layernorm", false),
    head_norms: None,
    final_norm: Some(("norm", false)),
    kept: &[],
};

pub(super) fn llama(json: Value) -> Result<Architecture, String> {
    let (config, rotation) = read(json)?;
    let bias = config.attention_bias.unwrap_or(false);
    Ok(Architecture { qkv_bias: bias, out_bias: bias, ..architecture(&config, rotation, None)? })
}

pub(super) fn mistral(json: Value) -> Result<Architecture, String> {
    let (config, rotation) = read(json)?;
    let near = config.sliding_window.map(|window| (window, vec![true; config.num_hidden_layers.min(MOST_LAYERS)]));
    architecture(&config, rotation, near)
}

pub(super) fn qwen2(json: Value) -> Result<Architecture, String> {
    let (config, rotation) = read(json)?;
    let near = qwen_window(&config)?;
    Ok(Architecture { qkv_bias: true, ..architecture(&config, rotation, near)? })
}

pub(super) fn qwen3(json: Value) -> Result<Architecture, String> {
    let (mut config, rotation) = read(json)?;
    config.head_dim = Some(config.head_dim.unwrap_or(128));
    let near = qwen_window(&config)?;
    let bias = config.attention_bias.unwrap_or(false);
    let base = architecture(&config, rotation, near)?;
    let head_norms = Some(["self_attn.q_norm", "self_attn.k_norm"]);
    Ok(Architecture { qkv_bias: bias, out_bias: bias, names: Names { head_norms, ..base.names }, ..base })
}

/// Gemma stores the scales of norms less one, and multiplies embeddings by the root of their width.
pub(super) fn gemma(json: Value) -> Result<Architecture, String> {
    let (mut config, rotation) = read(json)?;
    config.head_dim = Some(config.head_dim.unwrap_or(256));
    // Files that say `gelu` mean its approximation by tanh.
    let act = config.hidden_activation.take().or(config.hidden_act.take()).filter(|act| act != "gelu");
    config.hidden_act = Some(act.unwrap_or_else(|| "gelu_pytorch_tanh".to_owned()));
    let bias = config.attention_bias.unwrap_or(false);
    Ok(Architecture {
        scales_less_one: true,
        embedding_scale: (config.hidden_size as f32).sqrt(),
        causal: !config.use_bidirectional_attention.unwrap_or(false) && config.is_causal.unwrap_or(true),
        qkv_bias: bias,
        out_bias: bias,
        ..architecture(&config, rotation, None)?
    })
}

fn read(json: Value) -> Result<(Settings, Rotation), String> {
    let rotation = rotation(&json, None, "rope_theta", 10_000.0)?;
    Ok((fields(json)?, rotation))
}

fn architecture(
    config: &Settings,
    rotation: Rotation,
    near: Option<(usize, Vec<bool>)>,
) -> Result<Architecture, String> {
    let heads = config.num_attention_heads;
    let head_width = match config.head_dim {
        Some(width) => width,
        None => super::bert::evenly("hidden_size", config.hidden_size, "num_attention_heads", heads)?.1,
    };
    let layers = config.num_hidden_layers;
    let windows = match near {
        // A window counts the token itself.
        Some((window, near)) => near.iter().map(|near| near.then_some(window.saturating_sub(1))).collect(),
        None => Vec::new(),
    };
    let bias = config.mlp_bias.unwrap_or(false);
    Ok(Architecture {
        vocabulary: config.vocab_size,
        hidden: config.hidden_size,
        inner: config.intermediate_size,
        layers,
        key_heads: config.num_key_value_heads.unwrap_or(heads),
        order: Order::Before,
        norm: NormKind::Rms,
        epsilon: config.rms_norm_eps.unwrap_or(1e-6),
        activation: activation("hidden_act", config.hidden_act.as_deref().unwrap_or("silu"))?,
        gated: true,
        causal: config.is_causal.unwrap_or(true),
        windows,
        rotations: vec![Some(rotation); layers.min(MOST_LAYERS)],
        longest: config.max_position_embeddings.unwrap_or(2048),
        qkv_bias: false,
        out_bias: false,
        feed_forward_bias: bias,
        dropout: Dropout { embeddings: 0.0, attention: config.attention_dropout.unwrap_or(0.0), hidden: 0.0 },
        ..Architecture::post_norm(NAMES, (heads, head_width))
    })
}

/// Which layers of a Qwen see only what is near, and how far.
fn qwen_window(config: &Settings) -> Result<Option<(usize, Vec<bool>)>, String> {
    let Some(window) = config.sliding_window.filter(|_| config.use_sliding_window == Some(true)) else {
        return Ok(None);
    };
    let layers = config.num_hidden_layers;
    let first = config.max_window_layers.unwrap_or(28);
    let near = match &config.layer_types {
        Some(types) => near_layers(types, layers)?,
        None => (0..layers.min(MOST_LAYERS)).map(|layer| layer >= first).collect(),
    };
    Ok(Some((window, near)))
}

/// Which layers see only what is near, from `layer_types`.
pub(super) fn near_layers(types: &[String], layers: usize) -> Result<Vec<bool>, String> {
    if types.len() != layers {
        return Err(format!("layer_types has {} entries for {layers} layers", types.len()));
    }
    let near = |kind: &String| match kind.as_str() {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        other => Err(format!("layer_types has `{other}`; supported: full_attention, sliding_attention")),
    };
    types.iter().map(near).collect()
}

/// The rotation that `rope_parameters` describes (those of a kind of layers, where they differ by kind), or the fields `field` and
/// `rope_scaling` of older files.
pub(super) fn rotation(json: &Value, kind: Option<&str>, field: &str, theta: f64) -> Result<Rotation, String> {
    let object = |value: &'_ Value| value.is_object();
    let parameters = json.get("rope_parameters").filter(|value| object(value));
    let parameters = match kind {
        Some(kind) => parameters.and_then(|all| all.get(kind)).filter(|value| object(value)),
        None => parameters,
    };
    let scaling = parameters.or_else(|| json.get("rope_scaling").filter(|value| object(value)));
    let number = |value: Option<&Value>, name: &str| -> Result<Option<f64>, String> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| format!("{name} is {value}; it must be a number")),
        }
    };
    let in_parameters = number(parameters.and_then(|parameters| parameters.get("rope_theta")), "rope_theta")?;
    let theta = in_parameters.or(number(json.get(field), field)?).unwrap_or(theta) as f32;
    let Some(scaling) = scaling else { return Ok(Rotation { theta, scaling: Scaling::None }) };
    let name = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
    let positive = |name: &str| match number(scaling.get(name), name)? {
        Some(value) if value > 0.0 && value.is_finite() => Ok(value as f32),
        other => Err(format!("{name} of the rotation is {other:?}; it must be a positive number")),
    };
    let scaling = match name {
        "default" => Scaling::None,
        "linear" => Scaling::Linear(positive("factor")?),
        "llama3" => Scaling::Llama3 {
            factor: positive("factor")?,
            low: positive("low_freq_factor")?,
            high: positive("high_freq_factor")?,
            original: positive("original_max_position_embeddings")?,
        },
        "longrope" => Scaling::Factors(factors(scaling)?),
        other => {
            return Err(format!(
                "rope_type is `{other}`; supported: default, linear, llama3, and longrope with one list"
            ));
        }
    };
    Ok(Rotation { theta, scaling })
}

/// The factors of `longrope`, where texts of any length have the same and attention is not changed: the form in which a model with
/// frequencies of its own is saved.
fn factors(scaling: &Value) -> Result<Arc<[f32]>, String> {
    let lists = ["short_factor", "long_factor"].map(|name| scaling.get(name));
    let attention = scaling.get("attention_factor").and_then(Value::as_f64);
    let (Some(Value::Array(short)), true, Some(1.0)) = (lists[0], lists[0] == lists[1], attention) else {
        let needed = "supported with equal short_factor and long_factor and an attention_factor of 1";
        return Err(format!("rope_type is `longrope`, which is {needed}"));
    };
    let positive = |value: &Value| match value.as_f64().map(|value| value as f32) {
        Some(factor) if factor > 0.0 && factor.is_finite() => Ok(factor),
        _ => Err(format!("short_factor of the rotation has {value}; it must be a positive number")),
    };
    short.iter().map(positive).collect()
}
