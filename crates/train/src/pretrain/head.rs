//! BERT's head for masked words.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::{Encoder, LayerNorm, Linear, gelu};
use paretune_features::ModelFiles;

use crate::TrainError;

const WORDS: &str = "embeddings.word_embeddings.weight";
const TRANSFORM: &str = "cls.predictions.transform.dense";
const NORM: &str = "cls.predictions.transform.LayerNorm";
const BIAS: &str = "cls.predictions.bias";
/// The same numbers under another name, in some checkpoints.
const DECODER_BIAS: &str = "cls.predictions.decoder.bias";

/// Token vectors to logits over the vocabulary: `LayerNorm(gelu(x·Wᵀ + b))·Eᵀ + c`, where `E` are the encoder's own word embeddings, so
/// that what it learns about words reaches them from both ends.
#[derive(Debug, Clone)]
pub struct MaskedWordHead {
    transform: Linear,
    norm: LayerNorm,
    /// The encoder's table `[vocabulary, hidden]`.
    words: Var,
    /// `[vocabulary]`
    bias: Var,
}

impl MaskedWordHead {
    /// A fresh head: normal weights of deviation 0.02, biases 0, reproducible by `seed`.
    ///
    /// # Errors
    /// If the encoder is no BERT or trains no word embeddings, or tensors cannot be made.
    pub fn new(encoder: &Encoder, seed: u64) -> Result<Self, TrainError> {
        let (words, width, device) = (word_embeddings(encoder)?, encoder.hidden_size(), encoder.device());
        let bias = Var::from_tensor(&Tensor::zeros(words.dim(0)?, DType::F32, &device)?)?;
        let transform = Linear::normal(width, width, 0.02, seed, &device)?;
        let norm = LayerNorm::new(width, epsilon(encoder)?, &device)?;
        Ok(Self { transform, norm, words, bias })
    }

    /// The head that the encoder's files hold (`cls.predictions`), if they do.
    ///
    /// # Errors
    /// Weights that cannot be read or are of the wrong shape, and those of [`new`](Self::new).
    pub fn load(encoder: &Encoder, files: &ModelFiles) -> Result<Option<Self>, TrainError> {
        let device = encoder.device();
        let mut found: HashMap<String, Tensor> = HashMap::new();
        for path in &files.weights {
            // Mapping the file would need `unsafe`.
            let bytes = fs::read(path).map_err(|source| TrainError::Io { path: path.clone(), source })?;
            let file = candle_core::safetensors::SliceSafetensors::new(&bytes)?;
            for (name, _) in file.tensors().into_iter().filter(|(name, _)| name.starts_with("cls.predictions.")) {
                let tensor = file.load(&name, &device)?.to_dtype(DType::F32)?;
                let name =
                    name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
                found.insert(name, tensor);
            }
        }
        let mut take = |name: String| found.remove(&name);
        let bias = take(BIAS.into()).or_else(|| take(DECODER_BIAS.into()));
        let mut both = |part: &str| Some((take(format!("{part}.weight"))?, take(format!("{part}.bias"))?));
        let (Some(transform), Some(norm), Some(bias)) = (both(TRANSFORM), both(NORM), bias) else { return Ok(None) };
        let (words, width) = (word_embeddings(encoder)?, encoder.hidden_size());
        for (field, tensor, shape) in [
            ("cls.predictions.transform.dense.weight", &transform.0, vec![width, width]),
            ("cls.predictions.transform.LayerNorm.weight", &norm.0, vec![width]),
            (BIAS, &bias, vec![words.dim(0)?]),
        ] {
            if tensor.dims() != shape {
                let value = format!("{:?}", tensor.dims());
                return Err(TrainError::BadConfig { field, value, problem: "is not of the encoder's shape" });
            }
        }
        Ok(Some(Self {
            transform: Linear::from_weights(transform.0, transform.1, true)?,
            norm: LayerNorm::from_weights(norm.0, norm.1, epsilon(encoder)?, true)?,
            words,
            bias: Var::from_tensor(&bias)?,
        }))
    }

    /// Token vectors `[n, hidden]` to logits `[n, vocabulary]`.
    ///
    /// # Errors
    /// If `x` is not of the encoder's width.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        let x = self.norm.forward(&gelu(&self.transform.forward(x)?)?)?;
        Ok(x.matmul(&self.words.t()?)?.broadcast_add(&self.bias)?)
    }

    /// The head's own parameters by their Hub names; the word embeddings are the encoder's.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.norm.parameters(NORM);
        all.extend(self.transform.parameters(TRANSFORM));
        all.push((BIAS.to_owned(), self.bias.clone()));
        all
    }

    /// Writes encoder and head to one file, as `BertForMaskedLM` reads it; [`Encoder::load`] takes the encoder from it again.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, encoder: &Encoder, path: &Path) -> Result<(), TrainError> {
        let own = encoder.tensors()?.into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor));
        let head = self.parameters().into_iter().map(|(name, var)| (name, var.as_tensor().clone()));
        let all: BTreeMap<String, Tensor> = own.chain(head).collect();
        let all = all.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?.contiguous()?)));
        let all = all.collect::<Result<BTreeMap<_, _>, TrainError>>()?;
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let failed = |error: safetensors::SafeTensorError| TrainError::Io {
            path: path.to_owned(),
            source: std::io::Error::other(error.to_string()),
        };
        let bytes = safetensors::serialize(all.iter(), Some(metadata));
        fs::write(path, bytes.map_err(failed)?).map_err(|source| TrainError::Io { path: path.to_owned(), source })
    }
}

/// Of the layer norms; only a BERT has this head.
fn epsilon(encoder: &Encoder) -> Result<f64, TrainError> {
    encoder.config().bert().map(|config| config.layer_norm_eps).ok_or_else(|| TrainError::BadConfig {
        field: "model",
        value: encoder.config().model_type().to_owned(),
        problem: "has no head for masked words here, only `bert` has: take the contrastive objective (simcse)",
    })
}

fn word_embeddings(encoder: &Encoder) -> Result<Var, TrainError> {
    let found = encoder.parameters().into_iter().find(|(name, _)| name == WORDS);
    found.map(|(_, var)| var).ok_or_else(|| TrainError::BadConfig {
        field: "model",
        value: WORDS.to_owned(),
        problem: "is not among its trained tensors, and masked words are predicted with it",
    })
}
