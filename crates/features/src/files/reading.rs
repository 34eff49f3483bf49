//! Reading the small files of a model, with errors that name them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::FeatureError;

pub(crate) fn existing(dir: &Path, name: &str) -> Option<PathBuf> {
    Some(dir.join(name)).filter(|path| path.is_file())
}

pub(super) fn required(dir: &Path, name: &str, advice: &str) -> Result<PathBuf, FeatureError> {
    existing(dir, name).ok_or_else(|| missing(dir, name, advice))
}

pub(super) fn missing(dir: &Path, name: &str, advice: &str) -> FeatureError {
    FeatureError::MissingFile { model: dir.display().to_string(), file: name.to_owned(), advice: advice.to_owned() }
}

pub(crate) fn malformed(path: &Path, reason: impl ToString) -> FeatureError {
    FeatureError::Malformed { path: path.to_path_buf(), reason: reason.to_string() }
}

pub(super) fn read(path: &Path) -> Result<String, FeatureError> {
    String::from_utf8(read_bytes(path)?).map_err(|error| malformed(path, error))
}

/// What a file holds. A folder or a device in its place is refused: reading `/dev/zero` would not end.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, FeatureError> {
    let read = || match fs::metadata(path)?.is_file() {
        true => fs::read(path),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    };
    read().map_err(|source| FeatureError::Io { action: "read", path: path.to_path_buf(), source })
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FeatureError> {
    serde_json::from_str(&read(path)?).map_err(|error| malformed(path, error))
}
