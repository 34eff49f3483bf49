//! The encoder: loading, running and training a BERT.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use paretune_features::{ModelFiles, Packed, Tokenized};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::bert::{Bert, Parameters};
use crate::config::BertConfig;
use crate::error::EncoderError;
use crate::kernels::pool::pool;
use crate::layers::normal_tensor;
use crate::parameter::{Parameter, Pass};
use crate::pooling::Pooling;
use crate::weights;

/// Which weights training changes. For the others no gradient is computed, and layers below the lowest trained one
/// keep nothing for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trainable {
    /// Everything, embeddings included.
    #[default]
    All,
    /// The last so many transformer layers.
    LastLayers(usize),
    /// Nothing: the encoder is a fixed function.
    Nothing,
}

/// How [`Encoder::load`] sets a model up.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Which weights training changes.
    pub trainable: Trainable,
    /// Replaces both dropout rates of `config.json` in training; the saved configuration keeps its own.
    pub dropout: Option<f64>,
    /// Where the weights lie; only the CPU so far.
    pub device: Device,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            trainable: Trainable::All,
            dropout: None,
            device: Device::Cpu,
        }
    }
}

/// A BERT that turns packed token sequences into vectors, and can be trained.
///
/// Weights are shared between clones of the [`Var`]s which [`parameters`](Self::parameters) gives: an optimizer that
/// sets them changes the encoder.
#[derive(Debug)]
pub struct Encoder {
    pub(crate) config: BertConfig,
    pub(crate) pooling: Pooling,
    pub(crate) parameters: Parameters,
    /// Tensors of the file which the encoder does not use but other tools do: written again when the model is saved.
    pub(crate) unused: BTreeMap<String, Tensor>,
    bert: Bert,
}

impl Encoder {
    /// Loads a model in the Hub's layout: weights in `f32`, `f16` or `bf16`, in one file or several, with or without a
    /// `bert.` before their names. Without a pooling configuration, vectors are means.
    ///
    /// # Errors
    /// If a file is missing or broken, the model is not a BERT, tensors are missing or of the wrong shape, more layers
    /// are to be trained than there are, or the device is not the CPU.
    pub fn load(files: &ModelFiles, options: &LoadOptions) -> Result<Self, EncoderError> {
        let config = BertConfig::read(&files.config)?;
        let supported = ["Transformer", "Pooling", "Normalize"];
        if let Some(kind) = files
            .module_kinds()
            .into_iter()
            .find(|kind| !supported.contains(&kind.as_str()))
        {
            return Err(EncoderError::UnsupportedPart {
                path: files.dir.clone(),
                kind,
            });
        }
        let pooling = files
            .pooling
            .as_deref()
            .map(Pooling::read)
            .transpose()?
            .unwrap_or_default();
        check_device(&options.device)?;

        let shapes = config.tensors();
        let used = |name: &str| name.starts_with("embeddings.") || name.starts_with("encoder.");
        let wanted = |name: &str| {
            (used(name) && name != "embeddings.position_ids") || name.starts_with("pooler.")
        };
        let mut tensors = weights::read(&files.weights, &options.device, wanted)?;
        let missing: Vec<String> = shapes
            .iter()
            .filter(|(name, _)| !tensors.contains_key(name))
            .map(|(name, _)| name.clone())
            .collect();
        if !missing.is_empty() {
            let path = files
                .weights
                .first()
                .cloned()
                .unwrap_or_else(|| PathBuf::from(&files.dir));
            return Err(EncoderError::MissingTensors { path, missing });
        }
        let mut own = BTreeMap::new();
        for (name, expected) in shapes {
            let Some(tensor) = tensors.remove(&name) else {
                continue;
            };
            if tensor.dims() != expected {
                return Err(EncoderError::WrongShape {
                    name,
                    expected,
                    found: tensor.dims().to_vec(),
                });
            }
            own.insert(name, tensor);
        }
        tensors.retain(|name, _| name.starts_with("pooler."));
        Self::build(config, pooling, own, tensors, options)
    }

    /// A model with random weights, all trainable: normally distributed with deviation 0.02 as BERT's own, biases 0,
    /// layer norms 1. The same seed gives the same weights.
    ///
    /// # Errors
    /// If the configuration is not valid or the device is not the CPU.
    pub fn random(
        config: BertConfig,
        pooling: Pooling,
        seed: u64,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        config
            .check()
            .map_err(|reason| EncoderError::InvalidConfig { reason })?;
        check_device(device)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.tensors() {
            let tensor = if name.ends_with("LayerNorm.weight") {
                Tensor::ones(shape, DType::F32, device)?
            } else if name.ends_with(".bias") {
                Tensor::zeros(shape, DType::F32, device)?
            } else {
                normal_tensor(&shape, 0.02, &mut random, device)?
            };
            tensors.insert(name, tensor);
        }
        let options = LoadOptions {
            device: device.clone(),
            ..LoadOptions::default()
        };
        Self::build(config, pooling, tensors, BTreeMap::new(), &options)
    }

    fn build(
        config: BertConfig,
        pooling: Pooling,
        tensors: BTreeMap<String, Tensor>,
        unused: BTreeMap<String, Tensor>,
        options: &LoadOptions,
    ) -> Result<Self, EncoderError> {
        let layers = config.num_hidden_layers;
        let first_trained = match options.trainable {
            Trainable::All => None,
            Trainable::Nothing => Some(layers),
            Trainable::LastLayers(asked) if asked > layers => {
                return Err(EncoderError::TooManyLayers { asked, layers });
            }
            Trainable::LastLayers(asked) => Some(layers - asked),
        };
        let is_trained = |name: &str| match first_trained {
            None => true,
            Some(first) => layer_of(name).is_some_and(|layer| layer >= first),
        };
        let parameters = tensors
            .into_iter()
            .map(|(name, tensor)| {
                let trained = is_trained(&name);
                Ok((name, Parameter::new(tensor, trained)?))
            })
            .collect::<Result<Parameters, EncoderError>>()?;
        let rates = match options.dropout {
            Some(rate) if !(0.0..1.0).contains(&rate) => {
                let reason = format!("dropout is {rate}; it must be at least 0 and below 1");
                return Err(EncoderError::InvalidConfig { reason });
            }
            Some(rate) => (rate, rate),
            None => (
                config.hidden_dropout_prob,
                config.attention_probs_dropout_prob,
            ),
        };
        let bert = Bert::new(&config, &parameters, rates)?;
        Ok(Self {
            config,
            pooling,
            parameters,
            unused,
            bert,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Width of the vectors.
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    /// How token vectors become one.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The vectors of all tokens, `[tokens, hidden]`, differentiable with respect to the trained parameters.
    ///
    /// With a `dropout` seed, as in training: give every step a new one, and the same one to repeat a step.
    ///
    /// # Errors
    /// If the tokens are not well formed, do not belong to this vocabulary, or are too many for the positions.
    pub fn hidden_states(
        &self,
        packed: &Packed,
        dropout: Option<u64>,
    ) -> Result<Tensor, EncoderError> {
        Ok(self
            .run(
                packed,
                Pass {
                    track: true,
                    dropout,
                },
            )?
            .0)
    }

    /// One vector per sequence, `[sequences, hidden]`, differentiable with respect to the trained parameters.
    ///
    /// With a `dropout` seed, as in training: give every step a new one, and the same one to repeat a step.
    ///
    /// # Errors
    /// Those of [`hidden_states`](Self::hidden_states).
    pub fn encode(&self, packed: &Packed, dropout: Option<u64>) -> Result<Tensor, EncoderError> {
        self.pooled(
            packed,
            Pass {
                track: true,
                dropout,
            },
        )
    }

    /// One vector per text, `texts · hidden` numbers in the order of the texts, without dropout or graph.
    ///
    /// Texts of similar length share batches of at most `token_budget` tokens (8,192 is a good choice); `progress`
    /// hears after each batch how many texts are done. Tokenizing is not part of it, nor is scaling to length 1.
    ///
    /// # Errors
    /// Those of [`hidden_states`](Self::hidden_states).
    pub fn embed(
        &self,
        texts: &Tokenized,
        token_budget: usize,
        progress: Option<&dyn Fn(usize)>,
    ) -> Result<Vec<f32>, EncoderError> {
        let hidden = self.hidden_size();
        let mut vectors = vec![0f32; texts.len() * hidden];
        let mut done = 0;
        for batch in texts.batches(token_budget) {
            let pooled = self
                .pooled(&texts.pack(&batch), Pass::INFERENCE)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            for (&text, vector) in batch.iter().zip(pooled.chunks_exact(hidden)) {
                vectors[text as usize * hidden..][..hidden].copy_from_slice(vector);
            }
            done += batch.len();
            if let Some(progress) = progress {
                progress(done);
            }
        }
        Ok(vectors)
    }

    fn run(&self, packed: &Packed, pass: Pass) -> Result<(Tensor, Arc<[u32]>), EncoderError> {
        self.check(packed)?;
        let offsets: Arc<[u32]> = packed.offsets.as_slice().into();
        let hidden = if packed.ids.is_empty() {
            Tensor::zeros((0, self.hidden_size()), DType::F32, &Device::Cpu)?
        } else {
            self.bert.forward(packed, &offsets, pass)?
        };
        Ok((hidden, offsets))
    }

    fn pooled(&self, packed: &Packed, pass: Pass) -> Result<Tensor, EncoderError> {
        let (hidden, offsets) = self.run(packed, pass)?;
        if packed.ids.is_empty() {
            return Ok(hidden);
        }
        Ok(pool(&hidden, &offsets, self.pooling)?)
    }

    fn check(&self, packed: &Packed) -> Result<(), EncoderError> {
        let invalid = |reason: String| Err(EncoderError::InvalidTokens { reason });
        let tokens = packed.ids.len();
        if packed.positions.len() != tokens {
            return invalid(format!(
                "{tokens} ids but {} positions",
                packed.positions.len()
            ));
        }
        if packed.offsets.first() != Some(&0)
            || packed
                .offsets
                .last()
                .is_none_or(|&end| end as usize != tokens)
        {
            return invalid(format!(
                "offsets must go from 0 to the number of tokens, {tokens}"
            ));
        }
        if let Some(sequence) = packed
            .offsets
            .windows(2)
            .position(|pair| pair[0] >= pair[1])
        {
            return invalid(format!(
                "sequence {sequence} has no tokens; give each at least its special tokens"
            ));
        }
        let (vocabulary, limit) = (self.config.vocab_size, self.config.max_position_embeddings);
        if let Some(&id) = packed.ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(EncoderError::UnknownToken { id, vocabulary });
        }
        match packed
            .positions
            .iter()
            .find(|&&position| position as usize >= limit)
        {
            Some(&position) => Err(EncoderError::TooLong {
                position: position as usize,
                limit,
            }),
            None => Ok(()),
        }
    }

    /// The trained parameters by their Hub names (such as `encoder.layer.0.output.dense.weight`), sorted by name.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        let trained = |(name, parameter): (&String, &Parameter)| {
            Some((name.clone(), parameter.var()?.clone()))
        };
        self.parameters.iter().filter_map(trained).collect()
    }

    /// Sets all trained parameters, as from a checkpoint that stored [`parameters`](Self::parameters).
    ///
    /// # Errors
    /// If the names are not exactly those of the trained parameters, or a shape differs; then nothing is changed.
    pub fn set_parameters(&self, tensors: &HashMap<String, Tensor>) -> Result<(), EncoderError> {
        let parameters = self.parameters();
        let absent = |(name, _): &&(String, Var)| !tensors.contains_key(name);
        let missing: Vec<String> = parameters
            .iter()
            .filter(absent)
            .map(|(name, _)| name.clone())
            .collect();
        let known = |name: &str| {
            parameters
                .binary_search_by(|(other, _)| other.as_str().cmp(name))
                .is_ok()
        };
        let mut unknown: Vec<String> = tensors
            .keys()
            .filter(|name| !known(name))
            .cloned()
            .collect();
        unknown.sort();
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(EncoderError::ParameterMismatch { missing, unknown });
        }
        for (name, var) in &parameters {
            let found = tensors[name].dims();
            if found != var.dims() {
                let (expected, found) = (var.dims().to_vec(), found.to_vec());
                return Err(EncoderError::WrongShape {
                    name: name.clone(),
                    expected,
                    found,
                });
            }
        }
        for (name, var) in &parameters {
            // A copy, so that the checkpoint's tensor and the variable never share memory.
            var.set(
                &tensors[name]
                    .to_dtype(DType::F32)?
                    .to_device(var.device())?
                    .contiguous()?
                    .copy()?,
            )?;
        }
        Ok(())
    }
}

/// The number of the transformer layer that a tensor belongs to.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("encoder.layer.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

fn check_device(device: &Device) -> Result<(), EncoderError> {
    match device {
        Device::Cpu => Ok(()),
        other => Err(EncoderError::UnsupportedDevice {
            device: format!("{:?}", other.location()),
        }),
    }
}
