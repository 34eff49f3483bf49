//! What lies in a model's folder.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::PICKLES;
use super::reading::{existing, malformed, missing, read_json, required};
use crate::FeatureError;
use crate::gguf;
use crate::modules::{self, Module};

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: std::collections::BTreeMap<String, String>,
}

/// The llama.cpp file of a folder that has no other weights.
pub(super) fn only_gguf(dir: &Path) -> Result<Option<PathBuf>, FeatureError> {
    if ["model.safetensors", "model.safetensors.index.json"].iter().any(|name| dir.join(name).is_file()) {
        return Ok(None);
    }
    let failed = |source| FeatureError::Io { action: "read", path: dir.to_path_buf(), source };
    let mut found = match fs::read_dir(dir) {
        Ok(entries) => {
            let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
            paths.into_iter().filter(|path| gguf::is_named(path) && path.is_file()).collect::<Vec<_>>()
        }
        // What is missing there is said where it is looked for.
        Err(_) => return Ok(None),
    };
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [_] => Ok(found.pop()),
        [first, ..] => {
            let (count, first) = (found.len(), first.display());
            let advice = format!("it holds {count} llama.cpp files instead; give the path of one, such as {first}");
            Err(missing(dir, "model.safetensors", &advice))
        }
    }
}

pub(super) fn weights(dir: &Path) -> Result<Vec<PathBuf>, FeatureError> {
    if let Some(single) = existing(dir, "model.safetensors") {
        return Ok(vec![single]);
    }
    if let Some(path) = existing(dir, "model.safetensors.index.json") {
        let index: ShardIndex = read_json(&path)?;
        let shards: BTreeSet<&String> = index.weight_map.values().collect();
        if shards.is_empty() {
            return Err(malformed(&path, "`weight_map` names no shard"));
        }
        return shards
            .into_iter()
            .map(|shard| match modules::stays_inside(shard) {
                true => required(dir, shard, "`model.safetensors.index.json` names it; fetch the model again"),
                false => Err(malformed(&path, format!("the shard `{shard}` leads out of the model's folder"))),
            })
            .collect();
    }
    match PICKLES.iter().find(|name| dir.join(name).is_file()) {
        Some(file) => Err(FeatureError::UnsafeWeights { model: dir.display().to_string(), file: (*file).to_owned() }),
        None => Err(missing(dir, "model.safetensors", "copy the weights there, or give a model that has some")),
    }
}

pub(super) fn pooling(dir: &Path, modules: &[Module]) -> Result<Option<PathBuf>, FeatureError> {
    match modules.iter().find(|module| module.kind() == "Pooling") {
        // Without it the vectors would silently be pooled in another way than the model was trained for.
        Some(module) => {
            let name = format!("{}/config.json", module.path());
            required(dir, name.trim_start_matches('/'), "`modules.json` names it; fetch the model again").map(Some)
        }
        None => Ok(existing(dir, "1_Pooling/config.json")),
    }
}

pub(super) fn copy_whole(from: &Path, to: &Path) -> Result<(), FeatureError> {
    if let (Ok(from), Ok(to)) = (from.canonicalize(), to.canonicalize())
        && from == to
    {
        return Ok(());
    }
    let contents =
        fs::read(from).map_err(|source| FeatureError::Io { action: "read", path: from.to_path_buf(), source })?;
    let mut beside = to.as_os_str().to_owned();
    beside.push(".partial");
    let written = (|| {
        let mut file = fs::File::create(&beside)?;
        io::Write::write_all(&mut file, &contents)?;
        file.sync_all()?;
        fs::rename(&beside, to)
    })();
    written.map_err(|source| FeatureError::Io { action: "write", path: to.to_path_buf(), source })
}
