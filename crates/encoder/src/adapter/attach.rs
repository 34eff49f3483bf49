//! Adding adapters to an encoder, switching between them, and merging them into the weights.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};

use super::config::{AdapterConfig, Bias, Ia3Config, LoraConfig};
use super::{Part, State};
use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::layer_cache::LayerCache;
use crate::network::layer::{Adapter, Linear};
use crate::network::{Network, Parameters};
use crate::parameter::{Parameter, Pass};

/// The weights as they were before an adapter was merged into them.
#[derive(Debug)]
pub(crate) struct Merged {
    name: String,
    originals: BTreeMap<String, Parameter>,
}

fn invalid(reason: String) -> EncoderError {
    EncoderError::InvalidConfig { reason }
}

impl Encoder {
    /// Adds an adapter under a name, with fresh parameters, and makes it the active one: from then on it alone is trained. A fresh
    /// adapter changes nothing: LoRA's `B` is zero, with `A` drawn from `±1/√in` by `seed`, and scales of IA³ are 1.
    ///
    /// # Errors
    /// [`EncoderError::InvalidConfig`] if the name is taken, the configuration makes no sense, or no linear layer is among its
    /// targets; [`EncoderError::Merged`] while another adapter is merged.
    pub fn add_adapter(&mut self, name: &str, config: impl Into<AdapterConfig>, seed: u64) -> Result<(), EncoderError> {
        let state = match config.into() {
            AdapterConfig::Lora(config) => self.fresh_lora(config, seed)?,
            AdapterConfig::Ia3(config) => self.fresh_ia3(config)?,
        };
        self.insert_adapter(name, state)
    }

    pub(super) fn insert_adapter(&mut self, name: &str, state: State) -> Result<(), EncoderError> {
        self.not_merged()?;
        if name.is_empty() || self.adapters.contains_key(name) {
            return Err(invalid(format!("there is an adapter `{name}` already; give each its own name")));
        }
        self.adapters.insert(name.to_owned(), state);
        let before = self.active.replace(name.to_owned());
        self.rebuild().inspect_err(|_| {
            self.adapters.remove(name);
            self.active = before;
        })
    }

    /// Makes an adapter the active one, or none.
    ///
    /// # Errors
    /// [`EncoderError::UnknownAdapter`]; [`EncoderError::Merged`] while one is merged.
    pub fn use_adapter(&mut self, name: Option<&str>) -> Result<(), EncoderError> {
        self.not_merged()?;
        if let Some(name) = name {
            self.adapter(name)?;
        }
        let before = std::mem::replace(&mut self.active, name.map(str::to_owned));
        self.rebuild().inspect_err(|_| self.active = before)
    }

    /// Takes an adapter away.
    ///
    /// # Errors
    /// [`EncoderError::UnknownAdapter`]; [`EncoderError::Merged`] while one is merged.
    pub fn remove_adapter(&mut self, name: &str) -> Result<(), EncoderError> {
        self.not_merged()?;
        self.adapter(name)?;
        if self.active.as_deref() == Some(name) {
            self.use_adapter(None)?;
        }
        self.adapters.remove(name);
        Ok(())
    }

    /// The adapters' names, sorted.
    pub fn adapters(&self) -> impl Iterator<Item = &str> {
        self.adapters.keys().map(String::as_str)
    }

    /// The active adapter, if one is.
    pub fn active_adapter(&self) -> Option<&str> {
        self.active.as_deref()
    }

    /// How an adapter is set up.
    ///
    /// # Errors
    /// [`EncoderError::UnknownAdapter`].
    pub fn adapter_config(&self, name: &str) -> Result<&AdapterConfig, EncoderError> {
        Ok(&self.adapter(name)?.config)
    }

    pub(super) fn adapter(&self, name: &str) -> Result<&State, EncoderError> {
        self.adapters.get(name).ok_or_else(|| EncoderError::UnknownAdapter {
            name: name.to_owned(),
            known: self.adapters.keys().cloned().collect(),
        })
    }

    fn not_merged(&self) -> Result<(), EncoderError> {
        match &self.merged {
            Some(merged) => Err(EncoderError::Merged { name: merged.name.clone() }),
            None => Ok(()),
        }
    }

    /// Folds the active adapter into the weights: the same vectors without an adapter, and the weights can be trained as they could
    /// before there were adapters. [`unmerge_adapter`](Self::unmerge_adapter) brings the weights back as they were.
    ///
    /// # Errors
    /// [`EncoderError::InvalidConfig`] if none is active.
    pub fn merge_adapter(&mut self) -> Result<(), EncoderError> {
        self.not_merged()?;
        let Some(name) = self.active.clone() else {
            return Err(invalid("no adapter is active; make one active before it is merged".to_owned()));
        };
        let mut originals = BTreeMap::new();
        for (parameter, tensor) in self.changed(self.adapter(&name)?)? {
            let Some(original) = self.parameters.get(&parameter) else { continue };
            let merged = Parameter::new(tensor, original.var().is_some())?;
            if let Some(original) = self.parameters.insert(parameter.clone(), merged) {
                originals.insert(parameter, original);
            }
        }
        self.active = None;
        self.merged = Some(Merged { name, originals });
        self.rebuild()
    }

    /// Takes a merged adapter out of the weights again, bit for bit, and makes it active. What was trained of the merged weights
    /// meanwhile is lost.
    ///
    /// # Errors
    /// [`EncoderError::InvalidConfig`] if none is merged.
    pub fn unmerge_adapter(&mut self) -> Result<(), EncoderError> {
        let Some(merged) = self.merged.take() else {
            return Err(invalid("no adapter is merged".to_owned()));
        };
        self.parameters.extend(merged.originals);
        self.active = Some(merged.name);
        self.rebuild()
    }

    /// The tensors that an adapter changes, by Hub name, as they are with it.
    pub(crate) fn changed(&self, state: &State) -> Result<BTreeMap<String, Tensor>, EncoderError> {
        let get = |parameter: &Parameter| parameter.get(Pass::INFERENCE);
        let mut changed: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, bias) in &state.biases {
            changed.insert(name.clone(), get(bias));
        }
        for (stem, part) in &state.parts {
            let (weight_name, bias_name) = (format!("{stem}.weight"), format!("{stem}.bias"));
            let Some(weight) = self.parameters.get(&weight_name).map(get) else { continue };
            let weight = match part {
                Part::Lora { a, b, scale, .. } => (weight + (get(b).matmul(&get(a))? * f64::from(*scale))?)?,
                Part::ScaleInput(scales) => weight.broadcast_mul(&get(scales))?,
                Part::ScaleOutput(scales) => {
                    let scales = get(scales);
                    if let Some(bias) = changed.get(&bias_name).cloned().or(self.parameters.get(&bias_name).map(get)) {
                        changed.insert(bias_name, (bias * &scales)?);
                    }
                    weight.broadcast_mul(&scales.unsqueeze(1)?)?
                }
            };
            changed.insert(weight_name, weight.contiguous()?);
        }
        Ok(changed)
    }

    /// Sets the network up again after adapters came or went.
    fn rebuild(&mut self) -> Result<(), EncoderError> {
        let state = self.active.as_deref().map(|name| self.adapter(name)).transpose()?.cloned();
        let named: Parameters = match &state {
            None => self.parameters.clone(),
            Some(state) => {
                let frozen = |(name, parameter): (&String, &Parameter)| {
                    let own = state.biases.get(name).cloned();
                    (name.clone(), own.unwrap_or_else(|| Parameter::Frozen(parameter.get(Pass::INFERENCE))))
                };
                self.parameters.iter().map(frozen).collect()
            }
        };
        let mut network = Network::new(&self.config.architecture, &named, self.dropout)?;
        if let Some(state) = &state {
            attach(&mut network, state);
        }
        // The file of the old one must be closed before it can be opened again.
        self.cache = None;
        if let Some(options) = self.cache_options.as_ref().filter(|_| self.kernels.fused_on(&network.device())) {
            self.cache = LayerCache::open(&network, self.arithmetic, options)?;
        }
        self.network = network;
        Ok(())
    }

    /// The linear layers that `wanted` accepts, by stem, in the order of the network.
    fn linears(&self, wanted: impl Fn(usize, &str) -> bool) -> Vec<(String, Linear)> {
        let layers = self.network.layers.iter().enumerate();
        let all = layers.flat_map(|(layer, parameters)| {
            let named = parameters.stems.iter().cloned().zip(parameters.places.linears().copied());
            named.map(move |(stem, linear)| (layer, stem, linear)).collect::<Vec<_>>()
        });
        all.filter(|(layer, stem, _)| wanted(*layer, stem)).map(|(_, stem, linear)| (stem, linear)).collect()
    }

    /// All linear layers by stem.
    pub(super) fn all_linears(&self) -> BTreeMap<String, Linear> {
        self.linears(|_, _| true).into_iter().collect()
    }

    /// The targets of a configuration.
    pub(super) fn targets(&self, config: &AdapterConfig) -> Result<Vec<(String, Linear)>, EncoderError> {
        let architecture = &self.config.architecture;
        let (matcher, layers): (_, &[usize]) = match config {
            AdapterConfig::Lora(config) => (config.targets.matcher(architecture), &config.layers),
            AdapterConfig::Ia3(config) => (config.targets(architecture).matcher(architecture), &[]),
        };
        let matches = matcher.map_err(invalid)?;
        let found = self.linears(|layer, stem| (layers.is_empty() || layers.contains(&layer)) && matches(stem));
        if found.is_empty() {
            let first: Vec<&String> = self.network.layers.iter().take(1).flat_map(|layer| layer.stems.iter()).collect();
            return Err(invalid(format!(
                "no linear layer is among the adapter's targets; the first layer has {first:?}"
            )));
        }
        Ok(found)
    }

    fn fresh_lora(&self, config: LoraConfig, seed: u64) -> Result<State, EncoderError> {
        config.check().map_err(invalid)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut parts = BTreeMap::new();
        let mut biases = BTreeMap::new();
        let device = self.device();
        let whole = AdapterConfig::Lora(config.clone());
        for (stem, linear) in self.targets(&whole)? {
            let (rank, scale) = config.of(&stem).map_err(invalid)?;
            if rank > linear.inputs.min(linear.outputs) {
                let (inputs, outputs) = (linear.inputs, linear.outputs);
                return Err(invalid(format!("rank {rank} is more than `{stem}`, {outputs} x {inputs}, can have")));
            }
            let bound = 1.0 / (linear.inputs as f32).sqrt();
            let uniform = Uniform::new_inclusive(-bound, bound).map_err(candle_core::Error::wrap)?;
            let values: Vec<f32> = (0..rank * linear.inputs).map(|_| uniform.sample(&mut random)).collect();
            let a = Tensor::from_vec(values, (rank, linear.inputs), &device)?;
            let b = Tensor::zeros((linear.outputs, rank), DType::F32, &device)?;
            let (a, b) = (Parameter::new(a, true)?, Parameter::new(b, true)?);
            parts.insert(stem.clone(), Part::Lora { a, b, scale, dropout: config.dropout });
            if config.bias == Bias::Adapted {
                self.own_bias(&mut biases, &format!("{stem}.bias"))?;
            }
        }
        if config.bias == Bias::All {
            for name in self.parameters.keys().filter(|name| name.ends_with(".bias")) {
                self.own_bias(&mut biases, name)?;
            }
        }
        Ok(State { config: whole, parts, biases, other: BTreeMap::new() })
    }

    /// A trained copy of a bias, if there is one of this name.
    fn own_bias(&self, biases: &mut BTreeMap<String, Parameter>, name: &str) -> Result<(), EncoderError> {
        if let Some(bias) = self.parameters.get(name) {
            biases.insert(name.to_owned(), Parameter::new(bias.get(Pass::INFERENCE).copy()?, true)?);
        }
        Ok(())
    }

    fn fresh_ia3(&self, config: Ia3Config) -> Result<State, EncoderError> {
        let inputs = config.scales_inputs(&self.config.architecture).map_err(invalid)?;
        let device = self.device();
        let ones = |width: usize| -> Result<Parameter, EncoderError> {
            Ok(Parameter::new(Tensor::ones(width, DType::F32, &device)?, true)?)
        };
        let whole = AdapterConfig::Ia3(config);
        let mut parts = BTreeMap::new();
        for (stem, linear) in self.targets(&whole)? {
            let part = match inputs(&stem) {
                true => Part::ScaleInput(ones(linear.inputs)?),
                false => Part::ScaleOutput(ones(linear.outputs)?),
            };
            parts.insert(stem, part);
        }
        Ok(State { config: whole, parts, biases: BTreeMap::new(), other: BTreeMap::new() })
    }

    /// Where fresh parameters are made.
    pub(super) fn parameter_device(&self) -> Device {
        self.device()
    }
}

/// Puts an adapter's parts into the layers they change.
fn attach(network: &mut Network, state: &State) {
    for layer in &mut network.layers {
        for (number, stem) in layer.stems.iter().enumerate() {
            let Some(part) = state.parts.get(stem) else { continue };
            let mut put = |parameter: &Parameter| {
                layer.all.push(parameter.clone());
                layer.all.len() - 1
            };
            layer.adapters[number] = Some(match part {
                Part::Lora { a, b, scale, dropout } => {
                    Adapter::Lora { a: put(a), b: put(b), scale: *scale, dropout: *dropout }
                }
                Part::ScaleOutput(scales) => Adapter::ScaleOutput(put(scales)),
                Part::ScaleInput(scales) => Adapter::ScaleInput(put(scales)),
            });
        }
    }
    network.find_first_trained();
}
