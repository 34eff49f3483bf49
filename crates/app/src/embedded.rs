//! What the program carries with it: the simulated marketplace, a small text encoder, and the descriptors of known data sets.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Context;
use paretune_data::{Dataset, Descriptor};
use paretune_features::ModelFiles;
use toml::Table;

use crate::{failure::wrong_input, run_dir::write_atomically, suggest};

/// Name of the embedded data set.
pub(crate) const DATASET: &str = "marketplace";
/// Name of the embedded text encoder.
pub(crate) const MODEL: &str = "builtin";

const DESCRIPTORS: [(&str, &str); 5] = [
    (DATASET, include_str!("../../../datasets/marketplace.toml")),
    ("movielens-small", include_str!("../../../datasets/movielens-small.toml")),
    ("steam", include_str!("../../../datasets/steam.toml")),
    ("bookcrossing", include_str!("../../../datasets/bookcrossing.toml")),
    ("amazon-beauty", include_str!("../../../datasets/amazon-beauty.toml")),
];

/// Files of the embedded encoder, in the layout of a Hub model.
const MODEL_FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../../../models/builtin/config.json")),
    ("model.safetensors", include_bytes!("../../../models/builtin/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../../models/builtin/tokenizer.json")),
    ("modules.json", include_bytes!("../../../models/builtin/modules.json")),
    ("sentence_bert_config.json", include_bytes!("../../../models/builtin/sentence_bert_config.json")),
    ("1_Pooling/config.json", include_bytes!("../../../models/builtin/1_Pooling/config.json")),
];

/// The descriptor of a known data set, or of a descriptor file.
pub(crate) fn descriptor(dataset: &str) -> anyhow::Result<Option<Descriptor>> {
    if let Some((name, text)) = DESCRIPTORS.iter().find(|(name, _)| *name == dataset) {
        return Ok(Some(Descriptor::parse(name, text)?));
    }
    let path = Path::new(dataset);
    if path.is_file() {
        return Ok(Some(Descriptor::read(path)?));
    }
    if path.is_dir() {
        return Ok(None);
    }
    let known = DESCRIPTORS.map(|(name, _)| name).join(", ");
    Err(wrong_input(format!(
        "no data set `{dataset}`: known are {known}; or give a descriptor file or a folder of Parquet tables"
    )))
}

/// What a data set suggests for training on it; for a plain folder of tables, what the names of its columns suggest.
pub(crate) fn suggestions(dataset: &str) -> anyhow::Result<Table> {
    match descriptor(dataset)? {
        Some(descriptor) => Ok(descriptor.finetune),
        None => suggest::for_tables(&Dataset::read(Path::new(dataset))?),
    }
}

/// The embedded marketplace.
pub(crate) fn marketplace() -> anyhow::Result<Dataset> {
    Ok(Dataset::from_parquet(
        DATASET,
        include_bytes!("../../../datasets/marketplace/items.parquet"),
        include_bytes!("../../../datasets/marketplace/users.parquet"),
        include_bytes!("../../../datasets/marketplace/events.parquet"),
    )?)
}

/// The embedded encoder, unpacked into `folder`.
pub(crate) fn model(folder: &Path) -> anyhow::Result<ModelFiles> {
    for (name, bytes) in MODEL_FILES {
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        write_atomically(&path, bytes)?;
    }
    Ok(ModelFiles::local(folder)?)
}

/// The embedded encoder in a folder of its own, which goes when this is dropped.
pub(crate) struct Unpacked {
    folder: PathBuf,
    /// Its files.
    pub(crate) files: ModelFiles,
}

impl Unpacked {
    /// Unpacks it among the system's temporary files.
    pub(crate) fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("paretune-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        Ok(Self { files: model(&folder)?, folder })
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
