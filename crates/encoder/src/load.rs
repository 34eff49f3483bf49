//! Setting an encoder up: from files, or at random; and what of it is trained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use candle_core::{DType, Device, Tensor};
use paretune_features::ModelFiles;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::device::Kernels;
use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::family::{Architecture, Dropout, ModelConfig};
use crate::gguf;
use crate::kernels::gemm::Arithmetic;
use crate::layer_cache::{CacheOptions, LayerCache};
use crate::layers::normal_tensor;
use crate::network::{Network, Parameters};
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
    /// The last so many transformer layers, and the norm after them where there is one.
    LastLayers(usize),
    /// Biases and the shifts of norms, of the transformer layers (Ben Zaken et al. 2022).
    Biases,
    /// Nothing: the encoder is a fixed function.
    Nothing,
}

/// How [`Encoder::load`] sets a model up.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Which weights training changes.
    pub trainable: Trainable,
    /// Texts leave after so many layers, of which alone the model is made; all of them without ([`ModelConfig::exit_after`]).
    pub exit_after: Option<usize>,
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
    /// What the network is made of: [`Kernels::Composed`] runs the network of other devices on the CPU too.
    pub kernels: Kernels,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            trainable: Trainable::All,
            exit_after: None,
            dropout: None,
            arithmetic: Arithmetic::F32,
            recompute: false,
            cache: None,
            device: Device::Cpu,
            kernels: Kernels::Fused,
        }
    }
}

impl Encoder {
    /// Loads a model in the Hub's layout: weights in `f32`, `f16` or `bf16`, in one file or several, with or without what models
    /// with a head put before their names (`bert.`, `model.`). Without a pooling configuration, vectors are means, and those of
    /// the last token where tokens see only what is before them.
    ///
    /// A llama.cpp file (`.gguf`) brings its own configuration, and its pooling where `1_Pooling/config.json` is not there. Its weights
    /// become `f32` whatever their quantization, with four bytes of memory each: frozen or trained like any others, and saved
    /// as an ordinary folder.
    ///
    /// # Errors
    /// If a file is missing or broken, the model is of no supported family, tensors are missing or of the wrong shape, more layers
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
        let pooling = files.pooling.as_deref().map(Pooling::read).transpose()?;
        if let Some(path) = files.gguf() {
            let model = gguf::read(path, &options.device)?;
            let pooling = pooling.or(model.pooling).unwrap_or_else(|| Pooling::usual(&model.config));
            let config =
                options.exit_after.map_or(Ok(model.config.clone()), |layers| model.config.exit_after(layers))?;
            let names: BTreeSet<String> = config.architecture.tensors().into_iter().map(|(name, _)| name).collect();
            let mut tensors = model.tensors;
            if options.exit_after.is_some() {
                tensors.retain(|name, _| names.contains(name));
            }
            return Self::build(config, pooling, tensors, BTreeMap::new(), options);
        }
        let config = ModelConfig::read(&files.config)?;
        let config = options.exit_after.map_or(Ok(config.clone()), |layers| config.exit_after(layers))?;
        let pooling = pooling.unwrap_or_else(|| Pooling::usual(&config));
        let architecture = &config.architecture;
        let named = architecture.tensors();
        let stored = |(name, shape): &(String, Vec<usize>)| {
            let mut shape = shape.clone();
            if architecture.is_transposed(name, &shape) {
                shape.reverse();
            }
            (name.clone(), shape)
        };
        let shapes: BTreeMap<String, Vec<usize>> = named.iter().map(stored).collect();
        let kept = |name: &str| architecture.names.kept.iter().any(|prefix| name.starts_with(prefix));
        let rename = |name: &str| architecture.names.hub_name(name);
        let mut own = weights::read(&files.weights, &options.device, rename, weights::shaped(&shapes, kept))?;
        weights::complete(files.weights.first(), named.iter().map(|(name, _)| name), &own)?;
        let tensors = own.extract_if(.., |name, _| !shapes.contains_key(name)).collect();
        for (name, tensor) in &mut own {
            if architecture.is_transposed(name, tensor.dims()) {
                *tensor = tensor.t()?.contiguous()?;
            }
        }
        Self::build(config, pooling, own, tensors, options)
    }

    /// A model with random weights, all trainable: normally distributed with deviation 0.02 as BERT's own, biases 0,
    /// norms 1. The same seed gives the same weights.
    ///
    /// # Errors
    /// If the configuration is not valid or the tensors cannot be made.
    pub fn random<C>(config: C, pooling: Pooling, seed: u64, device: &Device) -> Result<Self, EncoderError>
    where
        C: TryInto<ModelConfig, Error: Into<EncoderError>>,
    {
        let config = config.try_into().map_err(Into::into)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.architecture.tensors() {
            let tensor = if name.ends_with(".bias") {
                Tensor::zeros(shape, DType::F32, device)?
            } else if shape.len() > 1 {
                normal_tensor(&shape, 0.02, &mut random, device)?
            } else if config.architecture.scales_less_one {
                Tensor::zeros(shape, DType::F32, device)?
            } else {
                Tensor::ones(shape, DType::F32, device)?
            };
            tensors.insert(name, tensor);
        }
        let options = LoadOptions { device: device.clone(), ..LoadOptions::default() };
        Self::build(config, pooling, tensors, BTreeMap::new(), &options)
    }

    fn build(
        config: ModelConfig,
        pooling: Pooling,
        tensors: BTreeMap<String, Tensor>,
        unused: BTreeMap<String, Tensor>,
        options: &LoadOptions,
    ) -> Result<Self, EncoderError> {
        let architecture = Arc::clone(&config.architecture);
        let is_trained = trained(&architecture, options.trainable)?;
        let parameters = tensors
            .into_iter()
            .map(|(name, tensor)| {
                let trained = is_trained(&name);
                Ok((name, Parameter::new(tensor, trained)?))
            })
            .collect::<Result<Parameters, EncoderError>>()?;
        let dropout = match options.dropout {
            Some(rate) if !(0.0..1.0).contains(&rate) => {
                let reason = format!("dropout is {rate}; it must be at least 0 and below 1");
                return Err(EncoderError::InvalidConfig { reason });
            }
            Some(rate) => Dropout { embeddings: rate, attention: rate, hidden: rate },
            None => config.architecture.dropout,
        };
        if options.arithmetic == Arithmetic::Int8 {
            let reason = "8-bit arithmetic cannot train; use f32 or bf16 here, and int8 for an embedder".to_owned();
            return Err(EncoderError::InvalidConfig { reason });
        }
        let network = Network::new(&config.architecture, &parameters, dropout)?;
        let (kernels, recompute) = (options.kernels, options.recompute);
        let fused = kernels.fused_on(&options.device);
        // Other devices have instructions of their own.
        let arithmetic = if fused { options.arithmetic.available() } else { options.arithmetic };
        let cache = match &options.cache {
            Some(cache) if fused => LayerCache::open(&network, arithmetic, cache)?,
            _ => None,
        };
        Ok(Self {
            config,
            pooling,
            parameters,
            unused,
            network,
            arithmetic,
            recompute,
            kernels,
            cache,
            cache_options: options.cache.clone(),
            dropout,
            adapters: BTreeMap::new(),
            active: None,
            merged: None,
            awake_from: AtomicUsize::new(0),
        })
    }
}

/// Which tensors are trained.
fn trained(architecture: &Architecture, trainable: Trainable) -> Result<impl Fn(&str) -> bool, EncoderError> {
    let layers = architecture.layers;
    if let Trainable::LastLayers(asked) = trainable
        && asked > layers
    {
        return Err(EncoderError::TooManyLayers { asked, layers });
    }
    let final_norm = architecture.names.final_norm.map(|(stem, _)| format!("{stem}."));
    let layer_of = move |name: &str| {
        let is_final = final_norm.as_ref().is_some_and(|stem| name.starts_with(stem));
        if is_final { Some(layers) } else { architecture.layer_of(name) }
    };
    Ok(move |name: &str| match trainable {
        Trainable::All => true,
        Trainable::Nothing | Trainable::LastLayers(0) => false,
        Trainable::LastLayers(asked) => layer_of(name).is_some_and(|layer| layer >= layers - asked),
        Trainable::Biases => name.ends_with(".bias") && layer_of(name).is_some(),
    })
}
