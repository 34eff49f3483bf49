//! Reading and writing safetensors files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::EncoderError;
use crate::file;

/// The number format of saved weights. Computation is always in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 4 bytes a number, exact.
    #[default]
    F32,
    /// 2 bytes a number, 11 significant bits, up to 65504.
    F16,
    /// 2 bytes a number, 8 significant bits, the range of `f32`.
    Bf16,
}

impl Precision {
    /// The name in `config.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

/// Reads tensors from one file or several shards, under the names that `rename` gives them; only those that `wanted` accepts, which is given the file, the name and the shape, so that a wrong shape is refused before its numbers are read.
/// Everything becomes `f32`.
pub(crate) fn read(
    paths: &[PathBuf],
    device: &Device,
    rename: impl Fn(&str) -> String,
    wanted: impl Fn(&Path, &str, &[usize]) -> Result<bool, EncoderError>,
) -> Result<BTreeMap<String, Tensor>, EncoderError> {
    let mut tensors = BTreeMap::new();
    for path in paths {
        let bytes = file::bytes(path)?;
        let broken = |reason: String| EncoderError::BrokenWeights { path: path.clone(), reason };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| broken(error.to_string()))?;
        // The reader's own order is random: without another, so would be which of two errors is reported.
        let mut views: Vec<_> = file.iter().collect();
        views.sort_unstable_by_key(|(name, _)| *name);
        for (name, view) in views {
            let hub_name = rename(name);
            if wanted(path, &hub_name, view.shape())? {
                // Strides are products of sides, which may be too large even where there is no element.
                let sides = view.shape().iter().filter(|side| **side > 0);
                if sides.copied().try_fold(1, usize::checked_mul).is_none() {
                    return Err(broken(format!("tensor `{name}` has the impossible shape {:?}", view.shape())));
                }
                let values = to_f32(path, name, &view)?;
                tensors.insert(hub_name, Tensor::from_vec(values, view.shape(), device)?);
            }
        }
    }
    Ok(tensors)
}

fn to_f32(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, EncoderError> {
    let bytes = view.data();
    let values = match view.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
        other => {
            let (path, name) = (path.to_owned(), name.to_owned());
            return Err(EncoderError::UnsupportedType { path, name, dtype: format!("{other:?}") });
        }
    };
    Ok(values)
}

/// The bytes of a safetensors file with these tensors.
pub(crate) fn to_bytes(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    precision: Precision,
) -> Result<Vec<u8>, EncoderError> {
    let mut data = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let (dtype, bytes): (_, Vec<u8>) = match precision {
            Precision::F32 => (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Precision::F16 => {
                (Dtype::F16, values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect())
            }
            Precision::Bf16 => {
                (Dtype::BF16, values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect())
            }
        };
        data.push((name, dtype, tensor.dims().to_vec(), bytes));
    }
    let failed = |error: safetensors::SafeTensorError| EncoderError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error.to_string()),
    };
    let views = data
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes).map_err(failed)?)))
        .collect::<Result<Vec<_>, EncoderError>>()?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}

/// Writes a file so that it appears whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), EncoderError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let write = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| {
        // Best effort: the error that matters is the one reported.
        let _ = std::fs::remove_file(&beside);
        EncoderError::Write { path: path.to_owned(), source }
    })
}

/// Accepts the tensors of `shapes` where they have their shape, and those others that `also` names, whatever their shape.
pub(crate) fn shaped<'a>(
    shapes: &'a BTreeMap<String, Vec<usize>>,
    also: impl Fn(&str) -> bool + 'a,
) -> impl Fn(&Path, &str, &[usize]) -> Result<bool, EncoderError> + 'a {
    move |path, name, found| match shapes.get(name) {
        Some(expected) if expected != found => Err(EncoderError::WeightShape {
            path: path.to_owned(),
            name: name.to_owned(),
            expected: expected.clone(),
            found: found.to_vec(),
        }),
        Some(_) => Ok(true),
        None => Ok(also(name)),
    }
}

/// That every tensor of `shapes` was found; `path` is the first file they were looked for in.
pub(crate) fn complete<'a>(
    path: Option<&PathBuf>,
    shapes: impl IntoIterator<Item = &'a String>,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), EncoderError> {
    let missing: Vec<String> = shapes.into_iter().filter(|name| !tensors.contains_key(*name)).cloned().collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(EncoderError::MissingTensors { path: path.cloned().unwrap_or_default(), missing }),
    }
}
