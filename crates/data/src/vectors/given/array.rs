//! Formats that are a head and then all numbers, end to end.

use std::fs::File;
use std::io::{self, BufReader, Read};

use half::{bf16, f16};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ids::Ids;
use super::{Rows, VectorFile};
use crate::{DataError, VectorFormat};

/// Bytes of numbers that are read at a time.
const CHUNK: usize = 1 << 20;
/// A head that says it is longer than this is none.
const LONGEST_HEAD: u64 = 1 << 26;
/// Name of the tensor that `embed` writes.
const TENSOR: &str = "embeddings";

/// How a number lies in the file, in little-endian bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    F16,
    Bf16,
    F32,
    F64,
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Appends the numbers of `bytes`.
    fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32())),
            Self::Bf16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32())),
            Self::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))),
            Self::F64 => out.extend(bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32)),
        }
    }
}

/// What a head says.
#[derive(Debug, PartialEq)]
struct Head {
    number: Number,
    rows: u64,
    width: usize,
    /// Where the numbers begin, in bytes after the head.
    begin: u64,
    /// Where the file ends.
    end: u64,
}

/// Reads all rows of an array with the ids beside it.
pub(super) fn read(spec: &VectorFile, file: File, format: VectorFormat, rows: &mut Rows<'_>) -> Result<(), DataError> {
    let failed = || DataError::io("read", &spec.file);
    let length = file.metadata().map_err(failed())?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (head, begin) = match format {
        VectorFormat::Npy => npy(&mut reader, length),
        _ => safetensors(&mut reader, length, spec.column.as_deref()),
    }
    .map_err(failed())?
    .map_err(|problem| rows.fault(problem))?;
    if begin.saturating_add(head.end) > length {
        let problem = format!(
            "its head promises {} bytes and it has {length}; copy or write it again",
            begin.saturating_add(head.end)
        );
        return Err(rows.fault(problem));
    }
    if head.rows == 0 {
        return Err(rows.fault("it has no rows; write one for each item".into()));
    }
    rows.widen(head.width)?;
    io::copy(&mut (&mut reader).take(head.begin), &mut io::sink()).map_err(failed())?;
    let mut ids = Ids::open(spec)?;
    let stride = head.width * head.number.bytes();
    let at_once = (CHUNK / stride).max(1) as u64;
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < head.rows {
        let count = at_once.min(head.rows - done) as usize;
        bytes.resize(count * stride, 0);
        reader.read_exact(&mut bytes).map_err(failed())?;
        values.clear();
        head.number.decode(&bytes, &mut values);
        for row in values.chunks_exact(head.width) {
            let Some(id) = ids.next()? else {
                return Err(rows.fault(unequal(head.rows, &ids, &done.to_string())));
            };
            done += 1;
            rows.push(done, &id, row)?;
        }
    }
    match ids.next()? {
        Some(_) => Err(rows.fault(unequal(head.rows, &ids, "more"))),
        None => Ok(()),
    }
}

fn unequal(rows: u64, ids: &Ids, found: &str) -> String {
    format!("it has {rows} rows and {} names {found}; give one id for each row", ids.name())
}

/// What is wrong with the head, apart from failures of the file itself.
type Parsed = io::Result<Result<(Head, u64), String>>;

/// The head of an npy file, and its length.
fn npy(reader: &mut impl Read, length: u64) -> Parsed {
    let mut start = [0; 8];
    if length < 10 || reader.read_exact(&mut start).is_err() || !start.starts_with(b"\x93NUMPY") {
        return Ok(Err("it is no npy file; write one with numpy.save".into()));
    }
    // Version 1 has two bytes of length, later ones four.
    let wide = start[6] > 1;
    let mut size = [0; 4];
    reader.read_exact(&mut size[..if wide { 4 } else { 2 }])?;
    let size = u64::from(u32::from_le_bytes(size));
    let begin = if wide { 12 } else { 10 } + size;
    if begin > length || size > LONGEST_HEAD {
        return Ok(Err("it is cut short within its head; copy or write it again".into()));
    }
    let mut text = vec![0; size as usize];
    reader.read_exact(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(npy_head(&text).map(|head| (head, begin)))
}

/// The literal of a Python dictionary with `descr`, `fortran_order` and `shape`.
fn npy_head(text: &str) -> Result<Head, String> {
    let value = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let missing = |key| format!("its head has no `{key}`; write it again with numpy.save");
    let descr = value("descr").and_then(|rest| rest.strip_prefix('\'')?.split('\'').next());
    let number = match descr.ok_or_else(|| missing("descr"))? {
        "<f4" => Number::F32,
        "<f8" => Number::F64,
        "<f2" => Number::F16,
        other => {
            return Err(format!(
                "its numbers are `{other}`; write little-endian floats, as array.astype(\"<f4\") gives them"
            ));
        }
    };
    if value("fortran_order").ok_or_else(|| missing("fortran_order"))?.starts_with("True") {
        return Err("its columns lie one after another; write numpy.ascontiguousarray(array)".into());
    }
    let shape = value("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next());
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let sizes = sizes.map(|size| size.parse().ok()).collect::<Option<Vec<u64>>>();
    let sizes = sizes.ok_or_else(|| format!("its shape ({shape}) is none; write it again with numpy.save"))?;
    matrix(number, &sizes, None)
}

/// One tensor in the head of a safetensors file.
#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The head of a safetensors file, and its length.
fn safetensors(reader: &mut impl Read, length: u64, wanted: Option<&str>) -> Parsed {
    let none = || "it is no whole safetensors file; copy or write it again".to_owned();
    let mut size = [0; 8];
    if length < 8 {
        return Ok(Err(none()));
    }
    reader.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST_HEAD || size > length - 8 {
        return Ok(Err(none()));
    }
    let mut text = vec![0; size as usize];
    reader.read_exact(&mut text)?;
    let Ok(mut entries) = serde_json::from_slice::<Map<String, Value>>(&text) else { return Ok(Err(none())) };
    entries.remove("__metadata__");
    let names: Vec<&str> = entries.keys().map(String::as_str).collect();
    let name = match (wanted, names.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => TENSOR,
    };
    let Some(tensor) = entries.get(name) else {
        return Ok(Err(format!("it has no tensor `{name}`; name one of its own with `column`: {}", names.join(", "))));
    };
    let Ok(tensor) = Tensor::deserialize(tensor) else { return Ok(Err(none())) };
    let number = match tensor.dtype.as_str() {
        "F32" => Number::F32,
        "F64" => Number::F64,
        "F16" => Number::F16,
        "BF16" => Number::Bf16,
        other => return Ok(Err(format!("its tensor `{name}` holds {other}; write F32, F64, F16 or BF16"))),
    };
    // A file that is cut short is refused even where this tensor is whole: nobody meant it.
    let ends = entries.values().filter_map(|entry| entry.get("data_offsets")?.get(1)?.as_u64());
    let whole = ends.max().unwrap_or(0);
    let head = matrix(number, &tensor.shape, Some(tensor.data_offsets));
    Ok(head.map(|head| (Head { end: head.end.max(whole), ..head }, 8 + size)))
}

/// Checks that the sizes are those of a matrix, and that its place is as long.
fn matrix(number: Number, sizes: &[u64], place: Option<[u64; 2]>) -> Result<Head, String> {
    let shape = || sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let [rows, width] = *sizes else {
        return Err(format!("its shape is [{}]; a matrix of one row for each item is needed", shape()));
    };
    let bytes = rows.checked_mul(width).and_then(|numbers| numbers.checked_mul(number.bytes() as u64));
    let stride = usize::try_from(width).ok().filter(|width| width.checked_mul(number.bytes()).is_some());
    let (Some(bytes), Some(width)) = (bytes, stride) else {
        return Err(format!("its shape is [{}], more than any file holds; copy or write it again", shape()));
    };
    let [begin, end] = place.unwrap_or([0, bytes]);
    if end.checked_sub(begin) != Some(bytes) {
        return Err(format!("its shape is [{}], and its numbers are as many as another's; write it again", shape()));
    }
    Ok(Head { number, rows, width, begin, end })
}
