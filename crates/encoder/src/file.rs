//! Reading the files of a model.

use std::path::Path;
use std::{fs, io};

use crate::error::EncoderError;

/// What a file holds. A folder or a device in its place is refused: reading `/dev/zero` would not end.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, EncoderError> {
    let read = || match fs::metadata(path)?.is_file() {
        true => fs::read(path),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    };
    read().map_err(|source| EncoderError::Read { path: path.to_owned(), source })
}

/// The text that a file holds.
pub(crate) fn text(path: &Path) -> Result<String, EncoderError> {
    String::from_utf8(bytes(path)?).map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error);
        EncoderError::Read { path: path.to_owned(), source }
    })
}
