//! Saving and loading.
//!
//! A saved model is a folder in Hub layout (the text encoder, which `sentence-transformers` loads) with two more files:
//! `recommender.safetensors`, the towers (and the id table, where there is one), and `recommender.json`, what is not a tensor.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::Path,
};

use candle_core::{Device, Tensor};
use paretune_features::ModelFiles;
use paretune_objectives::{Objective, Objectives, Scaler};
use serde::{Deserialize, Serialize};

use crate::{Inputs, ItemVectors, Recommender, RecommenderConfig, RecommenderError};

/// Towers and id table.
const TENSORS: &str = "recommender.safetensors";
/// Which items training met, of a model that knows them by text and id.
const MET: &str = "items.met";
/// Sizes, objectives, scalers.
const DESCRIPTION: &str = "recommender.json";

#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    config: RecommenderConfig,
    objectives: Vec<Objective>,
    scalers: Vec<Scaler>,
    /// Of a model with conditioning, the preference it answers for where none is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preference: Option<Vec<f64>>,
}

/// Number of the layout this version writes.
const FORMAT: u32 = 2;

impl Recommender {
    /// Saves everything into `dir`; tokenizer files are copied from `files`. Each file appears whole or not at all.
    ///
    /// # Errors
    /// A disk that is full or not writable.
    pub fn save(&self, dir: &Path, files: &ModelFiles) -> Result<(), RecommenderError> {
        fs::create_dir_all(dir).map_err(|source| RecommenderError::Io { path: dir.into(), source })?;
        if let Some(encoder) = self.encoder() {
            encoder.save(dir, files)?;
        }
        let mut tensors: BTreeMap<String, Tensor> =
            self.own_parameters().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
        if let ItemVectors::Hybrid { met, .. } = &self.vectors {
            let met: Vec<u8> = met.iter().map(|met| u8::from(*met)).collect();
            tensors.insert(MET.to_owned(), Tensor::new(met, &Device::Cpu)?);
        }
        let bytes = safetensors::serialize(&tensors, None);
        write_whole(&dir.join(TENSORS), |beside| {
            bytes.map_err(io::Error::other).and_then(|bytes| fs::write(beside, bytes))
        })?;
        let description = Description {
            format: FORMAT,
            config: self.config.clone(),
            objectives: self.objectives().as_slice().to_vec(),
            scalers: self.towers.scalers().to_vec(),
            preference: self.preference().map(<[f64]>::to_vec),
        };
        let path = dir.join(DESCRIPTION);
        let text = serde_json::to_string_pretty(&description)
            .map_err(|error| RecommenderError::BadFile { path: path.clone(), problem: error.to_string() })?;
        write_whole(&path, |beside| fs::write(beside, text))
    }

    /// Loads a model saved by [`Recommender::save`] around item vectors that are loaded already (for text: the encoder in the same
    /// folder; for ids: a table of the right size, whose values are replaced) and, where it had one, the graph it was trained on.
    ///
    /// # Errors
    /// A folder without a saved model, a truncated file, tensors of another shape.
    pub fn load(dir: &Path, inputs: impl Into<Inputs>, device: &Device) -> Result<Self, RecommenderError> {
        let path = dir.join(DESCRIPTION);
        let text = fs::read_to_string(&path).map_err(|source| RecommenderError::Io { path: path.clone(), source })?;
        let bad = |problem: String| RecommenderError::BadFile { path: path.clone(), problem };
        let description: Description = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if description.format != FORMAT {
            return Err(bad(format!("has format {}, this version reads {FORMAT}", description.format)));
        }
        let objectives = Objectives::new(description.objectives)?;
        let mut model = Self::new(description.config, inputs, &objectives, 0, device)?;
        model.towers.set_scalers(description.scalers)?;
        if let Some(preference) = &description.preference {
            model.prefer(preference)?;
        }
        let path = dir.join(TENSORS);
        let bad = |problem: String| RecommenderError::BadFile { path: path.clone(), problem };
        let tensors: BTreeMap<String, Tensor> = candle_core::safetensors::load(&path, device)
            .map_err(|error| bad(error.to_string()))?
            .into_iter()
            .collect();
        for (name, var) in model.own_parameters() {
            let value = tensors.get(&name).ok_or_else(|| bad(format!("has no tensor `{name}`")))?;
            if (value.shape(), value.dtype()) != (var.shape(), var.dtype()) {
                let kind = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.dims());
                return Err(bad(format!("`{name}` is {}, expected {}", kind(value), kind(&var))));
            }
            var.set(value)?;
        }
        if let ItemVectors::Hybrid { met, .. } = &mut model.vectors {
            let value = tensors.get(MET).ok_or_else(|| bad(format!("has no tensor `{MET}`")))?;
            let value = value.to_vec1::<u8>().map_err(|error| bad(format!("`{MET}`: {error}")))?;
            if value.len() != met.len() {
                return Err(bad(format!("`{MET}` knows {} items, expected {}", value.len(), met.len())));
            }
            *met = value.into_iter().map(|met| met != 0).collect();
        }
        Ok(model)
    }

    /// What the encoder's own files do not hold.
    fn own_parameters(&self) -> Vec<(String, candle_core::Var)> {
        let parameters = self.parameters();
        parameters.shared.into_iter().chain(parameters.tasks).chain(parameters.towers).collect()
    }
}

/// Lets `write` write a file beside `path`, syncs it and puts it in place.
fn write_whole(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), RecommenderError> {
    let beside = path.with_added_extension("writing");
    write(&beside).and_then(|()| File::open(&beside)?.sync_all()).and_then(|()| fs::rename(&beside, path)).map_err(
        |source| {
            // Best effort: the error that matters is the one reported.
            let _ = fs::remove_file(&beside);
            RecommenderError::Io { path: path.into(), source }
        },
    )
}
