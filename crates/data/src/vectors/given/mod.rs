//! Reading vectors of items that were made elsewhere: of images, of sound, of anything.
//!
//! A file is read once, some rows at a time, straight into the rows of the items: beside the result there is a megabyte of the file, and
//! the map from ids to items.

mod array;
mod ids;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::VectorFormat;
use crate::DataError;

/// A file of item vectors, and how to read it.
///
/// | file | vectors | ids |
/// | --- | --- | --- |
/// | `.safetensors` | a tensor `[rows, width]` of `f32`, `f64`, `f16` or `bf16` | a file beside it, one id for each row |
/// | `.npy` | an array `[rows, width]` of `f4`, `f8` or `f2` in the order of C | the same |
/// | `.parquet` | a column of lists | a column |
///
/// ```
/// use paretune_data::{TextChunk, VectorFile, VectorParts};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("images.safetensors");
/// let mut parts = VectorParts::open(&path, "")?;
/// let chunk = TextChunk { texts: vec![String::new(); 2], ids: vec!["mug".into(), "gone".into()] };
/// parts.push(&chunk, &[0.5, 1.0, 1.5, 2.0], 0)?;
/// parts.finish(&[])?;
///
/// let table = VectorFile::new("image", &path).read(&["cup".into(), "mug".into()])?;
/// assert_eq!((table.present(), table.values()), (&[false, true][..], &[0.0, 0.0, 0.5, 1.0][..]));
/// assert_eq!(table.unknown(), 1, "nothing is called `gone`");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorFile {
    /// What the vectors are of, such as `image`.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The ids of the rows of an array: JSON strings or numbers, one a line (`.jsonl`), or plain lines. Absent = `FILE.ids.jsonl`, as
    /// `embed` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<PathBuf>,
    /// The column of ids of a Parquet file; absent = `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_column: Option<String>,
    /// The column of vectors of a Parquet file (absent = `embedding`), or the tensor of a safetensors file (absent = its only one, or
    /// `embeddings`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Whether each vector is divided by its length; vectors of zeros stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unit: bool,
}

/// Vectors for the items of a catalogue, as far as a file has them.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorTable {
    width: usize,
    values: Vec<f32>,
    present: Vec<bool>,
    unknown: u64,
    checksum: String,
}

impl VectorFile {
    /// A file with everything else as `embed` writes it.
    pub fn new(name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), file: file.into(), ids: None, id_column: None, column: None, unit: false }
    }

    /// Reads the vectors of the items with these ids; rows of other items are counted.
    ///
    /// # Errors
    /// A name that ends in no known way; a file that cannot be read, is cut short, or holds something else than vectors
    /// ([`DataError::Vectors`]); a row without id, with the id of another row, of another width, or with a number that is not finite
    /// ([`DataError::BadRow`]); a file that knows none of the items ([`DataError::Strangers`]).
    pub fn read(&self, items: &[String]) -> Result<VectorTable, DataError> {
        let format = VectorFormat::of(&self.file)?;
        let name = self.file.display().to_string();
        let file = File::open(&self.file).map_err(DataError::io("read", &self.file))?;
        let mut rows = Rows::new(name, items, self.unit);
        match format {
            VectorFormat::Parquet => table::read(self, file, &mut rows)?,
            VectorFormat::Npy | VectorFormat::Safetensors => array::read(self, file, format, &mut rows)?,
        }
        rows.finish(items)
    }
}

impl VectorTable {
    /// Vectors that are in memory already, one for each item that has one.
    ///
    /// # Errors
    /// No vector at all; vectors of different widths or with numbers that are not finite.
    pub fn from_rows(rows: &[Option<&[f32]>]) -> Result<Self, DataError> {
        let ids: Vec<String> = (0..rows.len()).map(|row| row.to_string()).collect();
        let mut sink = Rows::new("vectors in memory".into(), &ids, false);
        for (row, vector) in rows.iter().enumerate() {
            if let Some(vector) = vector {
                sink.push(row as u64 + 1, &ids[row], vector)?;
            }
        }
        sink.finish(&ids)
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `[items × width]`; zeros for items without a vector.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Whether each item has a vector.
    pub fn present(&self) -> &[bool] {
        &self.present
    }

    /// How many items have one.
    pub fn found(&self) -> usize {
        self.present.iter().filter(|present| **present).count()
    }

    /// Rows of the file whose id is none of the items'.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// SHA-256 of width, flags and values: the same for the same vectors, whatever file they come from.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// The values and the flags, without a copy.
    pub fn into_parts(self) -> (Vec<f32>, Vec<bool>) {
        (self.values, self.present)
    }
}

/// Takes rows in whatever order a file has them.
struct Rows<'a> {
    file: String,
    known: HashMap<&'a str, usize>,
    unit: bool,
    /// 0 until the first row or the head of the file says it.
    width: usize,
    values: Vec<f32>,
    present: Vec<bool>,
    unknown: u64,
    /// For the message about a file of another catalogue.
    stranger: Option<String>,
}

impl<'a> Rows<'a> {
    fn new(file: String, items: &'a [String], unit: bool) -> Self {
        let known = items.iter().map(String::as_str).zip(0..).collect();
        let present = vec![false; items.len()];
        Self { file, known, unit, width: 0, values: Vec::new(), present, unknown: 0, stranger: None }
    }

    /// Says how wide vectors are, and makes room for them.
    fn widen(&mut self, width: usize) -> Result<(), DataError> {
        if width == 0 {
            return Err(self.fault("its vectors have no numbers; write one column or more".into()));
        }
        let numbers = self.present.len().checked_mul(width);
        let room = numbers.filter(|numbers| self.values.try_reserve_exact(*numbers).is_ok());
        let Some(numbers) = room else {
            let items = self.present.len();
            return Err(self.fault(format!("{items} items with {width} numbers each do not fit into memory")));
        };
        self.values.resize(numbers, 0.0);
        self.width = width;
        Ok(())
    }

    /// Row `number` of the file, from 1.
    fn push(&mut self, number: u64, id: &str, row: &[f32]) -> Result<(), DataError> {
        if self.width == 0 {
            self.widen(row.len())?;
        }
        if row.len() != self.width {
            let problem =
                format!("{} numbers, where rows before have {}; give every vector as many", row.len(), self.width);
            return Err(self.bad(number, problem));
        }
        if let Some(place) = row.iter().position(|value| !value.is_finite()) {
            let problem = format!("number {} of the vector of `{id}` is {}; leave the row out", place + 1, row[place]);
            return Err(self.bad(number, problem));
        }
        let Some(&item) = self.known.get(id) else {
            self.unknown += 1;
            self.stranger.get_or_insert_with(|| id.to_owned());
            return Ok(());
        };
        if std::mem::replace(&mut self.present[item], true) {
            return Err(self.bad(number, format!("`{id}` has a vector already; give every item one")));
        }
        let own = &mut self.values[item * self.width..][..self.width];
        own.copy_from_slice(row);
        if self.unit {
            let length = own.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            if length > 0.0 {
                own.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
            }
        }
        Ok(())
    }

    fn finish(self, items: &[String]) -> Result<VectorTable, DataError> {
        if !self.present.contains(&true) {
            return Err(match (self.stranger, items.first()) {
                (Some(found), Some(known)) => {
                    DataError::Strangers { file: self.file, rows: self.unknown, found, known: known.clone() }
                }
                _ => DataError::Vectors { file: self.file, problem: "it has no rows; write one for each item".into() },
            });
        }
        let checksum = checksum(self.width, &self.values, &self.present);
        let Self { width, values, present, unknown, .. } = self;
        Ok(VectorTable { width, values, present, unknown, checksum })
    }

    fn fault(&self, problem: String) -> DataError {
        DataError::Vectors { file: self.file.clone(), problem }
    }

    fn bad(&self, number: u64, problem: String) -> DataError {
        DataError::BadRow { file: self.file.clone(), unit: "row", number, column: None, problem }
    }
}

/// SHA-256 in hexadecimal digits.
fn checksum(width: usize, values: &[f32], present: &[bool]) -> String {
    let mut hasher = Sha256::new();
    hasher.update((width as u64).to_le_bytes());
    hasher.update(present.iter().map(|present| u8::from(*present)).collect::<Vec<u8>>());
    let mut bytes = Vec::new();
    for chunk in values.chunks(1 << 14) {
        bytes.clear();
        // The two zeros are the same number.
        chunk.iter().for_each(|value| bytes.extend((value + 0.0).to_le_bytes()));
        hasher.update(&bytes);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
