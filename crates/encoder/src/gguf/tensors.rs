//! Numbers of quantized tensors.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use paretune_features::{Gguf, GgufTensor};

use crate::error::EncoderError;

/// What can be read, for messages.
const SUPPORTED: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";

/// Numbers that are dequantized at a time: whole blocks of every kind.
const PART: usize = 1 << 18;

/// Reads tensors of a file.
pub(super) struct Reader<'a> {
    head: &'a Gguf,
    file: File,
}

impl<'a> Reader<'a> {
    pub(super) fn open(head: &'a Gguf) -> Result<Self, EncoderError> {
        let path = head.path();
        let file = File::open(path).map_err(|source| unread(path, source))?;
        Ok(Self { head, file })
    }

    /// That every tensor lies within the file, those included that are not read: a file that was cut off is refused whatever is lost.
    pub(super) fn is_whole(&self) -> Result<(), EncoderError> {
        for (name, tensor) in self.head.tensors() {
            if let Some(kind) = kind(tensor.kind) {
                placed(self.head, name, tensor, kind)?;
            }
        }
        Ok(())
    }

    /// The numbers of a tensor, rows before columns, as `f32`.
    pub(super) fn numbers(&mut self, name: &str) -> Result<Vec<f32>, EncoderError> {
        let path = self.head.path();
        let Some(tensor) = self.head.tensors().get(name) else {
            return Err(EncoderError::MissingTensors { path: path.to_owned(), missing: vec![name.to_owned()] });
        };
        let kind = kind(tensor.kind).ok_or_else(|| EncoderError::UnsupportedQuantization {
            path: path.to_owned(),
            name: name.to_owned(),
            kind: unsupported(tensor.kind),
            supported: SUPPORTED,
        })?;
        let bytes = placed(self.head, name, tensor, kind)?;
        self.file.seek(SeekFrom::Start(tensor.start)).map_err(|source| unread(path, source))?;
        // Part by part, so that beside the result only little memory is needed.
        let count = bytes as usize / kind.type_size() * kind.block_size();
        let mut numbers = Vec::with_capacity(count);
        let mut raw = Vec::new();
        while numbers.len() < count {
            let part = (count - numbers.len()).min(PART);
            raw.resize(part / kind.block_size() * kind.type_size(), 0);
            self.file.read_exact(&mut raw).map_err(|source| unread(path, source))?;
            let part = qtensor_from_ggml(kind, &raw, vec![part], &Device::Cpu)?.dequantize(&Device::Cpu)?;
            numbers.extend(part.to_vec1::<f32>()?);
        }
        Ok(numbers)
    }
}

fn unread(path: &Path, source: std::io::Error) -> EncoderError {
    EncoderError::Read { path: path.to_owned(), source }
}

/// How many bytes a tensor takes, if they lie within the file.
fn placed(head: &Gguf, name: &str, tensor: &GgufTensor, kind: GgmlDType) -> Result<u64, EncoderError> {
    let broken = |reason: String| EncoderError::Config { path: head.path().to_owned(), reason };
    let bytes = bytes(tensor, kind).map_err(|reason| broken(format!("tensor `{name}` {reason}")))?;
    match tensor.start.checked_add(bytes).filter(|end| *end <= head.length()) {
        Some(_) => Ok(bytes),
        None => {
            let (start, length) = (tensor.start, head.length());
            Err(broken(format!(
                "tensor `{name}` has {bytes} bytes from byte {start} on, but the file ends at byte {length}; copy it again"
            )))
        }
    }
}

/// How many bytes a tensor takes in the file.
fn bytes(tensor: &GgufTensor, kind: GgmlDType) -> Result<u64, String> {
    let shape = &tensor.shape;
    let numbers = shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
    let Some(&columns) = shape.last() else { return Err("has no dimensions".to_owned()) };
    if !columns.is_multiple_of(kind.block_size()) {
        let block = kind.block_size();
        return Err(format!("has rows of {columns} numbers, which are no whole blocks of {block}"));
    }
    let blocks = numbers.map(|numbers| numbers / kind.block_size());
    let bytes = blocks.and_then(|blocks| blocks.checked_mul(kind.type_size()));
    bytes.map(|bytes| bytes as u64).ok_or_else(|| format!("has the shape {shape:?}, more than any memory holds"))
}

fn kind(number: u32) -> Option<GgmlDType> {
    Some(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// The name of a quantization that is not read.
fn unsupported(number: u32) -> String {
    const NAMES: [(u32, &str); 23] = [
        (9, "Q8_1"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
        (40, "NVFP4"),
        (41, "Q1_0"),
        (4, "Q4_2"),
        (5, "Q4_3"),
    ];
    match NAMES.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("number {number}"),
    }
}
