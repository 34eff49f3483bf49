//! What stands at the head of a llama.cpp file: metadata and where its tensors lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::FeatureError;
use crate::files::malformed;

/// More than any model has: a file that claims more is broken.
const MOST_TENSORS: u64 = 1 << 17;
const MOST_ENTRIES: u64 = 1 << 16;
const LONGEST_NAME: u64 = 1 << 12;
/// Longer arrays and texts are vocabularies and chat templates, which are passed over.
const LONGEST_KEPT: u64 = 1 << 12;

/// The head of a file in the GGUF format of llama.cpp: metadata, and name, shape and place of every tensor. The numbers of the tensors
/// are not read.
///
/// Nothing in the file is trusted: lengths are checked against the file's before anything is allocated for them.
///
/// ```no_run
/// use paretune_features::Gguf;
///
/// let file = Gguf::read("models/bge-small-en-v1.5-q8_0.gguf".as_ref())?;
/// println!("{}: {} tensors", file.text("general.architecture").unwrap_or("?"), file.tensors().len());
/// # Ok::<(), paretune_features::FeatureError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    path: PathBuf,
    length: u64,
    metadata: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, GgufTensor>,
}

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// An integer of any width.
    Integer(i128),
    /// A number of 32 or 64 bits; one of 32 bits as the shortest decimal that means it.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// Integers, of one layer each.
    Integers(Vec<i128>),
}

/// Where a tensor lies, and what its numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Rows before columns.
    pub shape: Vec<usize>,
    /// The number of the quantization (`ggml_type`).
    pub kind: u32,
    /// The first byte, from the start of the file.
    pub start: u64,
}

impl Gguf {
    /// Reads the head of a file of version 1, 2 or 3.
    ///
    /// # Errors
    /// [`FeatureError::Io`] if it cannot be read; [`FeatureError::Malformed`] if it is no such file, or is cut off or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, FeatureError> {
        let failed = |source| FeatureError::Io { action: "read", path: path.to_path_buf(), source };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut head = Head { reader: BufReader::with_capacity(1 << 16, file), at: 0, length, short: false };
        let (metadata, tensors) = head.read().map_err(|failure| match failure {
            Failure::Io(source) => failed(source),
            Failure::Broken(reason) => malformed(path, reason),
        })?;
        Ok(Self { path: path.to_path_buf(), length, metadata, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The value of a key of the metadata. Long arrays and texts are passed over.
    pub fn value(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// The text of a key of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key) {
            Some(GgufValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The tensors by their names.
    pub fn tensors(&self) -> &BTreeMap<String, GgufTensor> {
        &self.tensors
    }

    /// Rows of the table of word vectors.
    pub fn vocabulary(&self) -> Option<usize> {
        self.tensors.get("token_embd.weight")?.shape.first().copied()
    }

    /// The longest sequence: rows of the table of positions, or else what the metadata says.
    pub fn positions(&self) -> Option<usize> {
        if let Some(table) = self.tensors.get("position_embd.weight") {
            return table.shape.first().copied();
        }
        match self.value(&format!("{}.context_length", self.text("general.architecture")?)) {
            Some(GgufValue::Integer(length)) => usize::try_from(*length).ok(),
            _ => None,
        }
    }
}

/// Whether the name is one of a llama.cpp file.
pub(crate) fn is_named(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

enum Failure {
    Io(io::Error),
    Broken(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn broken<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Broken(reason.into()))
}

/// Metadata and tensors.
type Contents = (BTreeMap<String, GgufValue>, BTreeMap<String, GgufTensor>);

/// A file that is being read from its start.
struct Head {
    reader: BufReader<File>,
    at: u64,
    length: u64,
    /// Whether lengths have 32 bits, as in the first version.
    short: bool,
}

impl Head {
    fn read(&mut self) -> Result<Contents, Failure> {
        if self.length < 4 || self.bytes::<4>()? != *b"GGUF" {
            return broken("it does not begin with `GGUF`, as files of llama.cpp do");
        }
        let version = self.u32()?;
        if !(1..=3).contains(&version) {
            return broken(format!("version {version} of the format; supported: 1 to 3, of little-endian machines"));
        }
        self.short = version == 1;
        let (tensors, entries) = (self.size()?, self.size()?);
        if tensors > MOST_TENSORS || entries > MOST_ENTRIES {
            return broken(format!(
                "it claims {tensors} tensors and {entries} entries of metadata; no model has so many"
            ));
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = self.name()?;
            let kind = self.u32()?;
            if let Some(value) = self.value(&key, kind)?
                && metadata.insert(key.clone(), value).is_some()
            {
                return broken(format!("the metadata has `{key}` twice"));
            }
        }
        let mut found = BTreeMap::new();
        for _ in 0..tensors {
            let name = self.name()?;
            let tensor = self.tensor(&name)?;
            if found.insert(name.clone(), tensor).is_some() {
                return broken(format!("it has tensor `{name}` twice"));
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(GgufValue::Integer(alignment)) if (1..=1 << 20).contains(alignment) => *alignment as u64,
            Some(other) => return broken(format!("general.alignment is {other:?}; it must be from 1 to 2^20")),
        };
        let data = self.at.next_multiple_of(alignment);
        for (name, tensor) in &mut found {
            let start = tensor.start.checked_add(data).filter(|start| *start <= self.length);
            let Some(start) = start else {
                let length = self.length;
                return broken(format!("tensor `{name}` begins behind the end of the file, which has {length} bytes"));
            };
            tensor.start = start;
        }
        Ok((metadata, found))
    }

    /// A tensor whose place is still counted from the start of the data.
    fn tensor(&mut self, name: &str) -> Result<GgufTensor, Failure> {
        let dimensions = self.u32()?;
        if dimensions > 4 {
            return broken(format!("tensor `{name}` has {dimensions} dimensions; at most 4 are possible"));
        }
        let mut shape = Vec::with_capacity(4);
        for _ in 0..dimensions {
            let size = self.size()?;
            let Ok(size) = usize::try_from(size) else {
                return broken(format!("tensor `{name}` has a side of {size} numbers"));
            };
            shape.push(size);
        }
        // The file counts from the innermost.
        shape.reverse();
        Ok(GgufTensor { shape, kind: self.u32()?, start: self.u64()? })
    }

    /// The value of an entry, if it is one that is kept.
    fn value(&mut self, key: &str, kind: u32) -> Result<Option<GgufValue>, Failure> {
        match kind {
            8 => {
                let length = self.size()?;
                if length > LONGEST_KEPT {
                    self.skip(length)?;
                    return Ok(None);
                }
                self.text(length).map(GgufValue::Text).map(Some)
            }
            9 => self.array(key),
            _ => self.scalar(key, kind).map(Some),
        }
    }

    fn array(&mut self, key: &str) -> Result<Option<GgufValue>, Failure> {
        let (kind, length) = (self.u32()?, self.size()?);
        if kind == 8 {
            for _ in 0..length {
                let bytes = self.size()?;
                self.skip(bytes)?;
            }
            return Ok(None);
        }
        let Some(width) = width(kind) else {
            return broken(format!("`{key}` is an array of values of type {kind}, which is not known"));
        };
        if length > LONGEST_KEPT || matches!(kind, 6 | 7 | 12) {
            let Some(bytes) = length.checked_mul(width) else {
                return broken(format!("`{key}` claims {length} values"));
            };
            self.skip(bytes)?;
            return Ok(None);
        }
        let mut values = Vec::new();
        for _ in 0..length {
            if let GgufValue::Integer(value) = self.scalar(key, kind)? {
                values.push(value);
            }
        }
        Ok(Some(GgufValue::Integers(values)))
    }

    fn scalar(&mut self, key: &str, kind: u32) -> Result<GgufValue, Failure> {
        let integer = |value: i128| Ok(GgufValue::Integer(value));
        match kind {
            0 => integer(i128::from(u8::from_le_bytes(self.bytes()?))),
            1 => integer(i128::from(i8::from_le_bytes(self.bytes()?))),
            2 => integer(i128::from(u16::from_le_bytes(self.bytes()?))),
            3 => integer(i128::from(i16::from_le_bytes(self.bytes()?))),
            4 => integer(i128::from(self.u32()?)),
            5 => integer(i128::from(i32::from_le_bytes(self.bytes()?))),
            6 => {
                let value = f32::from_le_bytes(self.bytes()?);
                // 1e-5 is meant, not the nearest number of 32 bits written with all its digits.
                Ok(GgufValue::Float(value.to_string().parse().unwrap_or(f64::from(value))))
            }
            7 => match self.bytes::<1>()? {
                [0] => Ok(GgufValue::Bool(false)),
                [1] => Ok(GgufValue::Bool(true)),
                [other] => broken(format!("`{key}` is {other}; it must be 0 or 1")),
            },
            10 => integer(i128::from(self.u64()?)),
            11 => integer(i128::from(i64::from_le_bytes(self.bytes()?))),
            12 => Ok(GgufValue::Float(f64::from_le_bytes(self.bytes()?))),
            other => broken(format!("`{key}` is of type {other}, which is not known")),
        }
    }

    fn name(&mut self) -> Result<String, Failure> {
        match self.size()? {
            length if length > LONGEST_NAME => broken(format!("it has a name of {length} bytes at byte {}", self.at)),
            length => self.text(length),
        }
    }

    /// So many bytes, which are few.
    fn text(&mut self, length: u64) -> Result<String, Failure> {
        self.advance(length)?;
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => broken(format!("the text that ends at byte {} is not UTF-8", self.at)),
        }
    }

    fn size(&mut self) -> Result<u64, Failure> {
        if self.short { self.u32().map(u64::from) } else { self.u64() }
    }

    fn u32(&mut self) -> Result<u32, Failure> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Failure> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        self.advance(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Failure> {
        self.advance(bytes)?;
        // A file has at most `i64::MAX` bytes.
        Ok(self.reader.seek_relative(bytes as i64)?)
    }

    /// Notes that so many bytes are taken, if there are so many.
    fn advance(&mut self, bytes: u64) -> Result<(), Failure> {
        match self.at.checked_add(bytes).filter(|end| *end <= self.length) {
            Some(end) => {
                self.at = end;
                Ok(())
            }
            None => broken(format!("it ends at byte {}, in the middle of its head", self.length)),
        }
    }
}

/// Bytes of a number of this type.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
