//! Saving and loading.
//!
//! A saved model is a folder in Hub layout (the text encoder, which `sentence-transformers` loads) with two more files:
//! `recommender.safetensors`, the towers (and the id table, where there is one), and `recommender.json`, what is not a tensor; and, of a
//! model that reads features, `features.json`, as they were fitted.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use candle_core::{Device, Tensor};
use paretune_data::Transforms;
use paretune_features::ModelFiles;
use paretune_objectives::{Objective, Objectives, Scaler};
use serde::{Deserialize, Serialize};

use crate::prior::Prior;
use crate::{Combine, FeatureNames, GivenVectors, Inputs, Recommender, RecommenderConfig, RecommenderError};

/// Towers and id table.
const TENSORS: &str = "recommender.safetensors";
/// Which items training met, of a model that knows them by id and by something else.
const MET: &str = "items.met";
/// How often items were engaged with, of a model with a prior of rankings.
const COUNTS: &str = "items.counts";
/// Sizes, objectives, scalers.
const DESCRIPTION: &str = "recommender.json";
/// Fitted features.
const FEATURES: &str = "features.json";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    format: u32,
    pub(crate) config: RecommenderConfig,
    pub(crate) objectives: Vec<Objective>,
    pub(crate) scalers: Vec<Scaler>,
    /// What the columns of features mean; absent in models that were saved before it was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) features: Option<FeatureNames>,
    /// Of a model with conditioning, the preference it answers for where none is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preference: Option<Vec<f64>>,
    /// Vectors that were made elsewhere: they stay where they are, and others are not taken for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vectors: Vec<Reference>,
    /// How they and what else items are known by became one.
    #[serde(default, skip_serializing_if = "Combine::is_sum")]
    fusion: Combine,
}

/// Vectors that the model needs beside itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reference {
    name: String,
    width: usize,
    checksum: String,
}

impl Reference {
    fn of(given: &GivenVectors) -> Self {
        Self { name: given.name().to_owned(), width: given.width(), checksum: given.checksum().to_owned() }
    }
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
        if let Some(met) = self.vectors.met() {
            let met: Vec<u8> = met.iter().map(|met| u8::from(*met)).collect();
            tensors.insert(MET.to_owned(), Tensor::new(met, &Device::Cpu)?);
        }
        if let Some(prior) = &self.prior {
            tensors.insert(COUNTS.to_owned(), Tensor::new(prior.counts(), &Device::Cpu)?);
        }
        let bytes = safetensors::serialize(&tensors, None);
        write_whole(&dir.join(TENSORS), |beside| {
            bytes.map_err(io::Error::other).and_then(|bytes| fs::write(beside, bytes))
        })?;
        if let Some(transforms) = self.transforms() {
            let path = dir.join(FEATURES);
            let text = serde_json::to_string(transforms.as_ref())
                .map_err(|error| RecommenderError::BadFile { path: path.clone(), problem: error.to_string() })?;
            write_whole(&path, |beside| fs::write(beside, text))?;
        }
        let description = Description {
            format: FORMAT,
            config: self.config.clone(),
            objectives: self.objectives().as_slice().to_vec(),
            scalers: self.towers.scalers().to_vec(),
            features: (self.feature_names != FeatureNames::default()).then(|| self.feature_names.clone()),
            preference: self.preference().map(<[f64]>::to_vec),
            vectors: self.items.given().iter().map(Reference::of).collect(),
            fusion: self.items.combine(),
        };
        let path = dir.join(DESCRIPTION);
        let text = serde_json::to_string_pretty(&description)
            .map_err(|error| RecommenderError::BadFile { path: path.clone(), problem: error.to_string() })?;
        write_whole(&path, |beside| fs::write(beside, text))
    }

    /// Loads a model saved by [`Recommender::save`] around item vectors that are loaded already (for text: the encoder in the same
    /// folder; for ids: a table of the right size, whose values are replaced), the very vectors made elsewhere that it was trained
    /// with, and, where it had one, the graph it was trained on. Features are those of its own file ([`Self::saved_features`]).
    ///
    /// # Errors
    /// A folder without a saved model, a truncated file, tensors of another shape, vectors that are not those of the training, features
    /// other than the file's.
    pub fn load(dir: &Path, inputs: impl Into<Inputs>, device: &Device) -> Result<Self, RecommenderError> {
        let description = read_description(dir)?;
        let mut inputs = inputs.into();
        let path = dir.join(DESCRIPTION);
        let bad = |problem: String| RecommenderError::BadFile { path: path.clone(), problem };
        check_vectors(&description, &inputs).map_err(bad)?;
        let objectives = Objectives::new(description.objectives)?;
        let saved = match description.config.features {
            Some(_) => Some(Self::saved_features(dir)?.ok_or_else(|| bad(format!("needs {FEATURES} beside it")))?),
            None => None,
        };
        match (&inputs.features, &saved) {
            (Some(given), Some(saved)) if given != saved => {
                return Err(bad(format!("was trained with the features of {FEATURES}, not with those that are given")));
            }
            (Some(_), None) => return Err(bad("was trained without features".to_owned())),
            (Some(_), Some(_)) => {}
            (None, _) => inputs.features = saved,
        }
        let mut model = Self::new(description.config, inputs, &objectives, 0, device)?;
        model.towers.set_scalers(description.scalers)?;
        model.feature_names = description.features.unwrap_or_default();
        if let Some(preference) = &description.preference {
            model.prefer(preference)?;
        }
        let path = dir.join(TENSORS);
        let bad = |problem: String| RecommenderError::BadFile { path: path.clone(), problem };
        let tensors = read_tensors(dir, device)?;
        if model.prior.is_some() {
            let counts = tensors.get(COUNTS).ok_or_else(|| bad(format!("has no tensor `{COUNTS}`")))?;
            let counts = counts.to_vec1::<u32>().map_err(|error| bad(format!("`{COUNTS}`: {error}")))?;
            if counts.len() != model.config.items {
                return Err(bad(format!("`{COUNTS}` knows {} items, expected {}", counts.len(), model.config.items)));
            }
            model.prior = Some(Prior::new(counts, device)?);
        }
        for (name, var) in model.own_parameters() {
            let value = tensors.get(&name).ok_or_else(|| bad(format!("has no tensor `{name}`")))?;
            if (value.shape(), value.dtype()) != (var.shape(), var.dtype()) {
                let kind = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.dims());
                return Err(bad(format!("`{name}` is {}, expected {}", kind(value), kind(&var))));
            }
            var.set(value)?;
        }
        if let Some(met) = model.vectors.met_mut() {
            let value = tensors.get(MET).ok_or_else(|| bad(format!("has no tensor `{MET}`")))?;
            let value = value.to_vec1::<u8>().map_err(|error| bad(format!("`{MET}`: {error}")))?;
            if value.len() != met.len() {
                return Err(bad(format!("`{MET}` knows {} items, expected {}", value.len(), met.len())));
            }
            *met = value.into_iter().map(|met| met != 0).collect();
        }
        Ok(model)
    }

    /// The fitted features of the model that is saved in a folder, for [`Corpus::with_transforms`](crate::Corpus::with_transforms); `None` if
    /// it has none.
    ///
    /// # Errors
    /// A file that cannot be read, or is damaged.
    pub fn saved_features(dir: &Path) -> Result<Option<Arc<Transforms>>, RecommenderError> {
        let path = dir.join(FEATURES);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|source| RecommenderError::Io { path: path.clone(), source })?;
        match serde_json::from_str(&text) {
            Ok(transforms) => Ok(Some(Arc::new(transforms))),
            Err(error) => Err(RecommenderError::BadFile { path, problem: error.to_string() }),
        }
    }

    /// What the encoder's own files do not hold.
    pub(crate) fn own_parameters(&self) -> Vec<(String, candle_core::Var)> {
        let parameters = self.parameters();
        parameters.shared.into_iter().chain(parameters.tasks).chain(parameters.towers).collect()
    }
}

/// Whether the inputs bring the vectors that the model was trained with.
fn check_vectors(description: &Description, inputs: &Inputs) -> Result<(), String> {
    let found: Vec<Reference> = inputs.given.iter().map(Reference::of).collect();
    let names = |all: &[Reference]| match all {
        [] => "no vectors made elsewhere".to_owned(),
        all => all.iter().map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(", "),
    };
    if !found.iter().map(|one| &one.name).eq(description.vectors.iter().map(|one| &one.name)) {
        let (needed, found) = (names(&description.vectors), names(&found));
        return Err(format!("is of a model with {needed} (model.vectors), and it was given {found}"));
    }
    let changed = description.vectors.iter().zip(&found).find(|(needed, found)| needed != found);
    if let Some((needed, found)) = changed {
        return Err(format!(
            "is of a model whose vectors `{}` were others ({} wide, checksum {}) than those that it was given ({} wide, checksum {}): \
             its scores would mean nothing; bring back the file that it was trained with",
            needed.name, needed.width, needed.checksum, found.width, found.checksum
        ));
    }
    match description.fusion == inputs.combine {
        true => Ok(()),
        false => Err(format!(
            "is of a model with model.fusion = \"{}\", and \"{}\" was asked for",
            description.fusion.name(),
            inputs.combine.name()
        )),
    }
}

/// What a saved model says of itself.
pub(crate) fn read_description(dir: &Path) -> Result<Description, RecommenderError> {
    let path = dir.join(DESCRIPTION);
    let text = fs::read_to_string(&path).map_err(|source| RecommenderError::Io { path: path.clone(), source })?;
    let bad = |problem: String| RecommenderError::BadFile { path: path.clone(), problem };
    let description: Description = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if description.format != FORMAT {
        return Err(bad(format!("has format {}, this version reads {FORMAT}", description.format)));
    }
    Ok(description)
}

/// Its tensors above the text encoder.
pub(crate) fn read_tensors(dir: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, RecommenderError> {
    let path = dir.join(TENSORS);
    let tensors = candle_core::safetensors::load(&path, device);
    let bad = |error: candle_core::Error| RecommenderError::BadFile { path, problem: error.to_string() };
    Ok(tensors.map_err(bad)?.into_iter().collect())
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
