//! Models in llama.cpp files: metadata to a configuration, tensors to their Hub names, orders and numbers.
//!
//! - `config` makes the `config.json` that the metadata means;
//! - `names` knows what llama.cpp calls each tensor;
//! - `tensors` reads the numbers, whatever their quantization, and brings them into the order of the Hub.

mod config;
mod names;
mod tensors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{Device, Tensor};
use paretune_features::Gguf;

use crate::error::EncoderError;
use crate::family::{Architecture, ModelConfig};
use crate::pooling::Pooling;
use crate::weights;

/// What a file holds.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    /// How the file says that token vectors become one.
    pub(crate) pooling: Option<Pooling>,
    /// In `f32`, by their Hub names, matrices as `[out, in]`.
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// Reads the file at `path`; the numbers of one tensor at a time.
pub(crate) fn read(path: &Path, device: &Device) -> Result<Model, EncoderError> {
    let file = Gguf::read(path)?;
    let invalid = |reason: String| EncoderError::Config { path: path.to_owned(), reason };
    let family = match file.text("general.architecture") {
        None => return Err(invalid("the metadata has no `general.architecture`".to_owned())),
        Some(architecture) => config::family(architecture).ok_or_else(|| EncoderError::UnsupportedArchitecture {
            path: path.to_owned(),
            architecture: architecture.to_owned(),
            supported: config::SUPPORTED,
        })?,
    };
    let mut reader = tensors::Reader::open(&file)?;
    let factors = match file.tensors().contains_key(names::FREQUENCIES) {
        true => Some(reader.numbers(names::FREQUENCIES)?),
        false => None,
    };
    let json = config::json(&file, family, factors).map_err(invalid)?;
    let config = ModelConfig::from_json(json).map_err(|error| match error {
        EncoderError::InvalidConfig { reason } => invalid(reason),
        other => other,
    })?;
    let pooling = config::pooling(&file, family).map_err(invalid)?;
    let tensors = read_tensors(&file, &mut reader, &config.architecture, family, device)?;
    Ok(Model { config, pooling, tensors })
}

fn read_tensors(
    file: &Gguf,
    reader: &mut tensors::Reader<'_>,
    architecture: &Architecture,
    family: config::Family,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>, EncoderError> {
    let wanted: Vec<(String, Vec<usize>, String)> = architecture
        .tensors()
        .into_iter()
        .filter_map(|(name, shape)| Some((names::in_file(architecture, &name)?, shape, name)))
        .collect();
    let known: BTreeSet<&str> = wanted.iter().map(|(stored, ..)| stored.as_str()).collect();
    if let Some(name) = file.tensors().keys().find(|name| !known.contains(name.as_str()) && !names::is_idle(name)) {
        let reason = format!(
            "tensor `{name}` belongs to a part that a model of the family `{}` does not have here; without it the \
             vectors would be others",
            family.architecture()
        );
        return Err(EncoderError::Config { path: file.path().to_owned(), reason });
    }
    let missing: Vec<String> =
        known.iter().filter(|name| !file.tensors().contains_key(**name)).map(|name| (*name).to_owned()).collect();
    if !missing.is_empty() {
        return Err(EncoderError::MissingTensors { path: file.path().to_owned(), missing });
    }
    // All shapes before the first number is read.
    let shapes: BTreeMap<String, Vec<usize>> =
        wanted.iter().map(|(stored, shape, _)| (stored.clone(), shape.clone())).collect();
    let fits = weights::shaped(&shapes, |_| false);
    for (stored, tensor) in file.tensors() {
        fits(file.path(), stored, &tensor.shape)?;
    }
    reader.is_whole()?;
    let mut tensors = BTreeMap::new();
    for (stored, shape, name) in wanted {
        let values = family.in_hub_order(architecture, &stored, reader.numbers(&stored)?);
        tensors.insert(name, Tensor::from_vec(values, shape, device)?);
    }
    Ok(tensors)
}
