//! What a folder of shards holds, and how one can tell that it still does.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;

/// The one format there is.
pub(super) const FORMAT: u32 = 1;
/// Name of the manifest in the folder.
pub(super) const FILE: &str = "shards.json";
/// The catalogue in the folder.
pub(super) const ITEMS: &str = "items.parquet";

/// The manifest: `shards.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// Name of the data set.
    pub(super) name: String,
    pub(super) items: usize,
    pub(super) users: u64,
    pub(super) events: u64,
    /// First and last time of the log.
    pub(super) earliest: i64,
    pub(super) latest: i64,
    /// Feedback columns.
    pub(super) feedback: Vec<String>,
    pub(super) catalogue: FileSum,
    pub(super) shards: Vec<Entry>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) users: u64,
    pub(super) events: u64,
    #[serde(flatten)]
    pub(super) sum: FileSum,
}

/// Size and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSum {
    pub(super) file: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl FileSum {
    pub(super) fn of(file: &str, bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { file: file.to_owned(), bytes: bytes.len() as u64, sha256 }
    }

    /// Reads the file, which must hold the very bytes that were written.
    pub(super) fn read(&self, folder: &Path) -> Result<Vec<u8>, DataError> {
        let path = folder.join(&self.file);
        let bytes = fs::read(&path).map_err(DataError::io("read", &path))?;
        if Self::of(&self.file, &bytes) == *self {
            return Ok(bytes);
        }
        let problem = format!("does not hold what was written ({} of {} bytes, or others)", bytes.len(), self.bytes);
        Err(damaged(path, problem))
    }
}

/// Shards that are not what was written.
pub(super) fn damaged(path: PathBuf, problem: String) -> DataError {
    DataError::Shards { path, problem: format!("{problem}. Write the shards again from the tables") }
}

/// The name of a shard's file.
pub(super) fn shard_file(shard: usize) -> String {
    format!("shard-{shard:05}.parquet")
}

impl Manifest {
    pub(super) fn read(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).map_err(DataError::io("read", &path))?;
        let bad = |problem: String| damaged(path.clone(), problem);
        let manifest: Self =
            serde_json::from_str(&text).map_err(|error| bad(format!("is not a list of shards: {error}")))?;
        if manifest.format != FORMAT {
            return Err(bad(format!("has format {}, this version reads {FORMAT}", manifest.format)));
        }
        // A name out of a file must not lead out of its folder.
        let named = (0..).zip(&manifest.shards).find(|(shard, entry)| entry.sum.file != shard_file(*shard));
        if let Some((shard, entry)) = named {
            return Err(bad(format!("names shard {shard} {:?} instead of {}", entry.sum.file, shard_file(shard))));
        }
        if manifest.catalogue.file != ITEMS {
            return Err(bad(format!("names its catalogue {:?} instead of {ITEMS}", manifest.catalogue.file)));
        }
        let sums = |of: fn(&Entry) -> u64| manifest.shards.iter().map(of).fold(0u64, u64::saturating_add);
        if (sums(|entry| entry.users), sums(|entry| entry.events)) != (manifest.users, manifest.events) {
            return Err(bad("counts other users or events in its shards than in all".into()));
        }
        if manifest.earliest > manifest.latest {
            return Err(bad("has a log that ends before it begins".into()));
        }
        Ok(manifest)
    }
}
