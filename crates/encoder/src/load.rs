//! Setting an encoder up: from files, or at random; and what of it is trained.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use paretune_features::ModelFiles;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::bert::{Bert, Parameters};
use crate::config::BertConfig;
use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::kernels::gemm::Arithmetic;
use crate::layer_cache::{CacheOptions, LayerCache};
use crate::layers::normal_tensor;
use crate::parameter::Parameter;
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
    /// How matrices are multiplied in training: `bf16` costs less, with weights, sums and all else in `f32`. What the
    /// processor lacks is done in `f32`; 8-bit integers are for inference only and refused here.
    pub arithmetic: Arithmetic,
    /// Whether backward passes compute the inner values of a layer again instead of keeping them: one more forward pass, for
    /// a fraction of the memory.
    pub recompute: bool,
    /// Remembers what frozen lower layers make of each text.
    pub cache: Option<CacheOptions>,
    /// Where the weights lie. On the CPU, layers are hand-written kernels; elsewhere they are made of Candle's operations.
    pub device: Device,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            trainable: Trainable::All,
            dropout: None,
            arithmetic: Arithmetic::F32,
            recompute: false,
            cache: None,
            device: Device::Cpu,
        }
    }
}

impl Encoder {
    /// Loads a model in the Hub's layout: weights in `f32`, `f16` or `bf16`, in one file or several, with or without a
    /// `bert.` before their names. Without a pooling configuration, vectors are means.
    ///
    /// # Errors
    /// If a file is missing or broken, the model is not a BERT, tensors are missing or of the wrong shape, more layers
    /// are to be trained than there are, or an option makes no sense.
    pub fn load(files: &ModelFiles, options: &LoadOptions) -> Result<Self, EncoderError> {
        let supported = ["Transformer", "Pooling", "Normalize"];
        if let Some(kind) = files.module_kinds().into_iter().find(|kind| !supported.contains(&kind.as_str())) {
            let supported = "Transformer, Pooling, Normalize; `SentenceEncoder` embeds with Dense too";
            return Err(EncoderError::UnsupportedPart { path: files.dir.clone(), kind, supported });
        }
        Self::load_transformer(files, options)
    }

    /// The transformer and the pooling of a model, whatever follows them.
    pub(crate) fn load_transformer(files: &ModelFiles, options: &LoadOptions) -> Result<Self, EncoderError> {
        let config = BertConfig::read(&files.config)?;
        let pooling = files.pooling.as_deref().map(Pooling::read).transpose()?.unwrap_or_default();
        let named = config.tensors();
        let shapes: BTreeMap<String, Vec<usize>> = named.iter().cloned().collect();
        let pooler = |name: &str| name.starts_with("pooler.");
        let mut own = weights::read(&files.weights, &options.device, weights::shaped(&shapes, pooler))?;
        weights::complete(files.weights.first(), named.iter().map(|(name, _)| name), &own)?;
        let tensors = own.extract_if(.., |name, _| pooler(name)).collect();
        Self::build(config, pooling, own, tensors, options)
    }

    /// A model with random weights, all trainable: normally distributed with deviation 0.02 as BERT's own, biases 0,
    /// layer norms 1. The same seed gives the same weights.
    ///
    /// # Errors
    /// If the configuration is not valid or the tensors cannot be made.
    pub fn random(config: BertConfig, pooling: Pooling, seed: u64, device: &Device) -> Result<Self, EncoderError> {
        config.check().map_err(|reason| EncoderError::InvalidConfig { reason })?;
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
        let options = LoadOptions { device: device.clone(), ..LoadOptions::default() };
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
            None => (config.hidden_dropout_prob, config.attention_probs_dropout_prob),
        };
        if options.arithmetic == Arithmetic::Int8 {
            let reason = "8-bit arithmetic cannot train; use f32 or bf16 here, and int8 for an embedder".to_owned();
            return Err(EncoderError::InvalidConfig { reason });
        }
        let bert = Bert::new(&config, &parameters, rates)?;
        let (arithmetic, recompute) = (options.arithmetic.available(), options.recompute);
        let cache = match &options.cache {
            Some(cache) if options.device.is_cpu() => LayerCache::open(&bert, arithmetic, cache)?,
            _ => None,
        };
        Ok(Self { config, pooling, parameters, unused, bert, arithmetic, recompute, cache })
    }
}

/// The number of the transformer layer that a tensor belongs to.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("encoder.layer.")?.split('.').next()?.parse().ok()
}
