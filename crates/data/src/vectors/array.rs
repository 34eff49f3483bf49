//! Formats that are a head and then all numbers, end to end.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Map, Value, json};

use super::Shape;

/// Name of the tensor.
const TENSOR: &str = "embeddings";

/// The head of a safetensors file: eight bytes of length, then JSON padded so that the numbers are aligned.
pub(super) fn safetensors_header(shape: Shape, metadata: &BTreeMap<&str, &str>) -> io::Result<Vec<u8>> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let tensor = json!({
        "dtype": "F32",
        "shape": [shape.rows, shape.width],
        "data_offsets": [0, shape.rows * shape.width * 4],
    });
    header.insert(TENSOR.into(), tensor);
    let mut text = serde_json::to_vec(&Value::Object(header))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    Ok(out)
}

/// The head of an npy file, version 1.0: a Python literal, padded to a multiple of 64 bytes.
pub(super) fn npy_header(shape: Shape) -> Vec<u8> {
    let (rows, width) = (shape.rows, shape.width);
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    // Magic, version and length are ten bytes; the line end is the last of the padding.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    // Two numbers of at most 20 digits never come near the limit.
    out.extend((padded as u16).to_le_bytes());
    out.extend(text.into_bytes());
    out
}
