//! The files of the `peft` library: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config::{AdapterConfig, Bias, Ia3Config, LoraConfig};
use super::targets::Targets;
use super::{Part, State};
use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::family::Architecture;
use crate::file;
use crate::parameter::{Parameter, Pass};
use crate::save::write_json;
use crate::weights::{self, Precision, to_bytes, write_whole};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What `peft` puts before the name of every module.
pub(crate) const PREFIX: &str = "base_model.model.";

/// One module, several by name, or a regular expression: `peft` spells all three in one field.
#[derive(Deserialize)]
#[serde(untagged)]
enum Modules {
    Pattern(String),
    Names(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Layers {
    One(usize),
    Some(Vec<usize>),
}

#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: Option<usize>,
    lora_alpha: Option<f64>,
    lora_dropout: Option<f64>,
    use_rslora: Option<bool>,
    use_dora: Option<bool>,
    bias: Option<String>,
    target_modules: Option<Modules>,
    feedforward_modules: Option<Modules>,
    exclude_modules: Option<Modules>,
    modules_to_save: Option<Vec<String>>,
    layers_to_transform: Option<Layers>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
}

impl From<Modules> for Targets {
    fn from(modules: Modules) -> Self {
        match modules {
            Modules::Pattern(pattern) if pattern == "all-linear" => Self::All,
            Modules::Pattern(pattern) => Self::Pattern(pattern),
            Modules::Names(names) => Self::Names(names),
        }
    }
}

fn read_config(path: &Path) -> Result<AdapterConfig, EncoderError> {
    let text = file::text(path)?;
    parse(&text).map_err(|reason| EncoderError::Config { path: path.to_owned(), reason })
}

fn parse(text: &str) -> Result<AdapterConfig, String> {
    let config: Config = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if config.use_dora == Some(true) {
        return Err("use_dora is true; DoRA is not supported".to_owned());
    }
    if let Some(modules) = config.modules_to_save.filter(|modules| !modules.is_empty()) {
        return Err(format!("modules_to_save is {modules:?}; modules that are stored whole are not supported"));
    }
    if config.exclude_modules.is_some() {
        return Err("exclude_modules is set; name the modules that are changed in target_modules instead".to_owned());
    }
    let targets = config.target_modules.map(Targets::from);
    match config.peft_type.as_str() {
        "LORA" => {
            let rank = config.r.unwrap_or(8);
            let bias = match config.bias.as_deref() {
                None | Some("none") => Bias::None,
                Some("lora_only") => Bias::Adapted,
                Some("all") => Bias::All,
                Some(other) => return Err(format!("bias is `{other}`; supported: none, lora_only, all")),
            };
            let layers = match config.layers_to_transform {
                None => Vec::new(),
                Some(Layers::One(layer)) => vec![layer],
                Some(Layers::Some(layers)) => layers,
            };
            let lora = LoraConfig {
                alpha: config.lora_alpha.unwrap_or(8.0),
                dropout: config.lora_dropout.unwrap_or(0.0),
                rank_stabilized: config.use_rslora.unwrap_or(false),
                targets: targets.unwrap_or_default(),
                rank_pattern: config.rank_pattern,
                alpha_pattern: config.alpha_pattern,
                layers,
                bias,
                ..LoraConfig::rank(rank)
            };
            lora.check()?;
            Ok(lora.into())
        }
        "IA3" => {
            let feed_forward = config.feedforward_modules.map(Targets::from);
            Ok(Ia3Config { targets, feed_forward }.into())
        }
        other => Err(format!("peft_type is `{other}`; supported: LORA, IA3")),
    }
}

fn modules(targets: &Targets, architecture: &Architecture) -> Value {
    match (targets, targets.spelled(architecture)) {
        (Targets::Pattern(pattern), _) => json!(pattern),
        (_, names) => json!(names),
    }
}

fn config_json(config: &AdapterConfig, architecture: &Architecture, base: &str) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("base_model_name_or_path", json!(base));
    put("task_type", json!("FEATURE_EXTRACTION"));
    put("inference_mode", json!(true));
    put("fan_in_fan_out", json!(architecture.transposed));
    match config {
        AdapterConfig::Lora(lora) => {
            put("peft_type", json!("LORA"));
            put("r", json!(lora.rank));
            put("lora_alpha", json!(lora.alpha));
            put("lora_dropout", json!(lora.dropout));
            put("use_rslora", json!(lora.rank_stabilized));
            put("target_modules", modules(&lora.targets, architecture));
            put("rank_pattern", json!(lora.rank_pattern));
            put("alpha_pattern", json!(lora.alpha_pattern));
            put("layers_to_transform", if lora.layers.is_empty() { Value::Null } else { json!(lora.layers) });
            let bias = match lora.bias {
                Bias::None => "none",
                Bias::Adapted => "lora_only",
                Bias::All => "all",
            };
            put("bias", json!(bias));
        }
        AdapterConfig::Ia3(ia3) => {
            put("peft_type", json!("IA3"));
            put("target_modules", modules(&ia3.targets(architecture), architecture));
            put("feedforward_modules", modules(&ia3.feed_forward(architecture), architecture));
        }
    }
    Value::Object(fields)
}

impl Encoder {
    /// Adds an adapter from a folder that `peft` or [`save_adapter`](Self::save_adapter) wrote, and makes it the active one. It can
    /// be trained further.
    ///
    /// # Errors
    /// If a file is missing or broken, the kind of adapter is not supported, its tensors are not those of its targets in this model,
    /// or the name is taken.
    pub fn load_adapter(&mut self, name: &str, dir: &Path) -> Result<(), EncoderError> {
        let config_path = dir.join(CONFIG);
        let config = read_config(&config_path)?;
        let path = dir.join(WEIGHTS);
        if !path.is_file() && dir.join("adapter_model.bin").is_file() {
            let reason =
                "only adapter_model.bin is here, a pickle that could run code; save the adapter as safetensors \
                          (`save_pretrained(..., safe_serialization=True)`)"
                    .to_owned();
            return Err(EncoderError::Config { path: dir.join("adapter_model.bin"), reason });
        }
        let device = self.parameter_device();
        let tensors = weights::read(std::slice::from_ref(&path), &device, str::to_owned, |_, _, _| Ok(true))?;
        let broken = |reason: String| EncoderError::Adapter { path: path.clone(), reason };
        let state = self.assemble(config, tensors, &config_path, &broken)?;
        self.insert_adapter(name, state)
    }

    fn assemble(
        &self,
        config: AdapterConfig,
        tensors: BTreeMap<String, Tensor>,
        config_path: &Path,
        broken: &dyn Fn(String) -> EncoderError,
    ) -> Result<State, EncoderError> {
        let names = &self.config.architecture.names;
        let linears = self.all_linears();
        let mut state = State { config, parts: BTreeMap::new(), biases: BTreeMap::new(), other: BTreeMap::new() };
        let mut factors: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
        for (key, tensor) in tensors {
            let Some(whole) = key.strip_prefix(PREFIX) else {
                return Err(broken(format!("tensor `{key}` does not begin with `{PREFIX}`")));
            };
            let ends = [".lora_A.weight", ".lora_B.weight", ".ia3_l", ".base_layer.bias", ".bias"];
            let Some((kind, module)) =
                ends.iter().enumerate().find_map(|(kind, end)| Some((kind, whole.strip_suffix(end)?)))
            else {
                return Err(broken(format!(
                    "tensor `{key}` is of no kind that is supported: lora_A, lora_B, ia3_l, bias"
                )));
            };
            let stem = names.hub_name(module);
            let linear = linears.get(&stem);
            let bias = format!("{stem}.bias");
            match (kind, linear) {
                (0 | 1, Some(_)) => factors.entry(stem).or_default()[kind] = Some(tensor),
                (2, Some(linear)) => {
                    let part = match tensor.dims() {
                        [outputs, 1] if *outputs == linear.outputs => Part::ScaleOutput,
                        [1, inputs] if *inputs == linear.inputs => Part::ScaleInput,
                        found => {
                            let expected = format!("[{}, 1] or [1, {}]", linear.outputs, linear.inputs);
                            return Err(broken(format!("tensor `{key}` has shape {found:?}, expected {expected}")));
                        }
                    };
                    state.parts.insert(stem, part(Parameter::new(tensor.flatten_all()?.contiguous()?, true)?));
                }
                (3 | 4, _) if self.parameters.contains_key(&bias) => {
                    let expected = self.parameters[&bias].get(Pass::INFERENCE).dims().to_vec();
                    if tensor.dims() != expected {
                        let found = tensor.dims();
                        return Err(broken(format!("tensor `{key}` has shape {found:?}, expected {expected:?}")));
                    }
                    state.biases.insert(bias, Parameter::new(tensor, true)?);
                }
                // Of parts which other tools use, such as a pooler: written again when the adapter is saved.
                _ if names.kept.iter().any(|kept| stem.starts_with(kept)) => {
                    state.other.insert(key, tensor);
                }
                _ => return Err(broken(format!("tensor `{key}` changes `{stem}`, which the model does not have"))),
            }
        }
        let invalid = |reason: String| EncoderError::Config { path: config_path.to_owned(), reason };
        for (stem, pair) in factors {
            let [Some(a), Some(b)] = pair else {
                return Err(broken(format!("`{stem}` has only one of lora_A and lora_B")));
            };
            let AdapterConfig::Lora(config) = &state.config else {
                return Err(broken(format!("`{stem}` has lora_A and lora_B, but {CONFIG} says IA3")));
            };
            let (rank, scale) = config.of(&stem).map_err(invalid)?;
            let linear = linears[&stem];
            if a.dims() != [rank, linear.inputs] || b.dims() != [linear.outputs, rank] {
                return Err(broken(format!(
                    "`{stem}` has lora_A {:?} and lora_B {:?}, expected [{rank}, {}] and [{}, {rank}]",
                    a.dims(),
                    b.dims(),
                    linear.inputs,
                    linear.outputs
                )));
            }
            let (a, b) = (Parameter::new(a, true)?, Parameter::new(b, true)?);
            state.parts.insert(stem, Part::Lora { a, b, scale, dropout: config.dropout });
        }
        let targets = self.targets(&state.config).map_err(|error| match error {
            EncoderError::InvalidConfig { reason } => invalid(reason),
            other => other,
        })?;
        let missing = targets.into_iter().find(|(stem, _)| !state.parts.contains_key(stem));
        match missing {
            Some((stem, _)) => {
                Err(broken(format!("there are no tensors for `{stem}`, which is among the targets of {CONFIG}")))
            }
            None => Ok(state),
        }
    }

    /// Writes an adapter as `peft` reads it: `adapter_config.json` and `adapter_model.safetensors`. `base` is the name or the folder
    /// of the model that it belongs to.
    ///
    /// # Errors
    /// [`EncoderError::UnknownAdapter`], or if a file cannot be written.
    pub fn save_adapter(&self, name: &str, dir: &Path, base: &str) -> Result<(), EncoderError> {
        let state = self.adapter(name)?;
        write_json(&dir.join(CONFIG), &config_json(&state.config, &self.config.architecture, base))?;
        let mut tensors = state.other.clone();
        for (key, parameter) in state.named() {
            let tensor = parameter.get(Pass::INFERENCE);
            let tensor = match (key.ends_with(".ia3_l"), state.scales_input(&key)) {
                (true, true) => tensor.unsqueeze(0)?,
                (true, false) => tensor.unsqueeze(1)?,
                _ => tensor,
            };
            tensors.insert(key, tensor);
        }
        let path = dir.join(WEIGHTS);
        write_whole(&path, &to_bytes(&path, &tensors, Precision::F32)?)
    }
}

impl State {
    /// The parameters by their keys in a file, sorted.
    pub(crate) fn named(&self) -> Vec<(String, Parameter)> {
        let mut named = Vec::new();
        for (stem, part) in &self.parts {
            let mut put = |end: &str, parameter: &Parameter| {
                named.push((format!("{PREFIX}{stem}.{end}"), parameter.clone()));
            };
            match part {
                Part::Lora { a, b, .. } => {
                    put("lora_A.weight", a);
                    put("lora_B.weight", b);
                }
                Part::ScaleOutput(scales) | Part::ScaleInput(scales) => put("ia3_l", scales),
            }
        }
        for (name, bias) in &self.biases {
            let stem = name.trim_end_matches(".bias");
            // `peft` wraps the linear layers that it changes.
            let end = if self.parts.contains_key(stem) { "base_layer.bias" } else { "bias" };
            named.push((format!("{PREFIX}{stem}.{end}"), bias.clone()));
        }
        named.sort_by(|(left, _), (right, _)| left.cmp(right));
        named
    }

    fn scales_input(&self, key: &str) -> bool {
        let stem = key.strip_prefix(PREFIX).and_then(|key| key.strip_suffix(".ia3_l"));
        stem.is_some_and(|stem| matches!(self.parts.get(stem), Some(Part::ScaleInput(_))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_supported_is_refused_by_field() {
        for (json, part) in [
            (r#"{"peft_type": "PREFIX_TUNING"}"#, "supported: LORA, IA3"),
            (r#"{"peft_type": "LORA", "use_dora": true}"#, "use_dora"),
            (r#"{"peft_type": "LORA", "modules_to_save": ["classifier"]}"#, "classifier"),
            (r#"{"peft_type": "LORA", "exclude_modules": ["query"]}"#, "exclude_modules"),
            (r#"{"peft_type": "LORA", "bias": "some"}"#, "supported: none"),
            (r#"{"peft_type": "LORA", "r": 0}"#, "rank"),
            (r#"{"peft_type": "LORA", "lora_dropout": 1.0}"#, "dropout"),
            (r#"{"r": 8}"#, "peft_type"),
            ("[]", "expected"),
        ] {
            let message = parse(json).unwrap_err();
            assert!(message.contains(part), "{json}: {message}");
        }
    }
}
