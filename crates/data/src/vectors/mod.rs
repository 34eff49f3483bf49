//! Files of vectors, one for each text: safetensors, Parquet or npy.
//!
//! What was computed is kept in parts beside the file until the last one is there; then the file is made of them, a part at a time. A
//! part knows what it was computed from, so that a job that was cut off is simply started again.

mod array;
mod given;
mod part;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use self::given::{VectorFile, VectorTable};
use self::part::{Key, Part};
use crate::atomic::{Replacement, sync_folder};
use crate::{DataError, TextChunk};

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorFormat {
    /// The tensor `embeddings` `[rows, width]` in `f32`.
    Safetensors,
    /// Columns `id` (or `row`, from 0, without ids) and `embedding`, lists of fixed size of `f32`.
    Parquet,
    /// One `f32` array `[rows, width]` in the order of C, version 1.0.
    Npy,
}

impl VectorFormat {
    /// By the end of a file's name.
    ///
    /// ```
    /// use std::path::Path;
    /// use paretune_data::VectorFormat;
    ///
    /// assert_eq!(VectorFormat::of(Path::new("out/titles.npy"))?, VectorFormat::Npy);
    /// assert!(VectorFormat::of(Path::new("titles.csv")).is_err());
    /// # Ok::<(), paretune_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// [`DataError::UnknownFormat`] for any other name.
    pub fn of(path: &Path) -> Result<Self, DataError> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("parquet" | "pq") => Ok(Self::Parquet),
            Some("npy") => Ok(Self::Npy),
            _ => Err(DataError::UnknownFormat { path: path.to_owned(), known: ".safetensors, .parquet or .npy" }),
        }
    }
}

/// A file of vectors in the making.
///
/// Its parts lie in a folder beside it ([`VectorParts::folder`]). For each chunk of texts, in order: [`keep`](Self::keep) the part that
/// an earlier run left, or else [`push`](Self::push) a new one; then [`finish`](Self::finish).
///
/// ```
/// use paretune_data::{TextChunk, VectorParts};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("vectors.npy");
/// let chunk = TextChunk { texts: vec!["a mug".into(), "a cup".into()], ids: vec![] };
///
/// let mut cut_off = VectorParts::open(&file, "model 1")?;
/// assert!(!cut_off.keep(&chunk)?);
/// cut_off.push(&chunk, &[0.5, 1.0, 1.5, 2.0], 0)?;
/// drop(cut_off);
///
/// let mut again = VectorParts::open(&file, "model 1")?;
/// assert!(again.keep(&chunk)?, "the part is there");
/// again.finish(&[])?;
/// assert_eq!(std::fs::metadata(&file)?.len(), 128 + 16);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct VectorParts {
    target: PathBuf,
    folder: PathBuf,
    format: VectorFormat,
    settings: String,
    keys: Vec<Key>,
    shape: Shape,
    truncated: u64,
}

/// What all parts together hold.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    rows: u64,
    width: u64,
    ids: bool,
}

impl VectorParts {
    /// The folder beside `target` that holds the parts until the file is whole.
    pub fn folder(target: &Path) -> PathBuf {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        target.with_file_name(format!(".{name}.parts"))
    }

    /// Begins a file, or goes on with one. `settings` says everything beside the texts that decides the vectors: parts that were made
    /// with other ones do not count.
    ///
    /// # Errors
    /// [`DataError::UnknownFormat`], or what the operating system says of the folder.
    pub fn open(target: &Path, settings: &str) -> Result<Self, DataError> {
        let format = VectorFormat::of(target)?;
        let folder = Self::folder(target);
        fs::create_dir_all(&folder).map_err(DataError::io("create the folder", &folder))?;
        Ok(Self {
            target: target.to_owned(),
            folder,
            format,
            settings: settings.to_owned(),
            keys: Vec::new(),
            shape: Shape::default(),
            truncated: 0,
        })
    }

    /// Takes over the next part if an earlier run left it: whole, and made of the same texts and ids with the same settings.
    ///
    /// # Errors
    /// If a part is there that cannot be read.
    pub fn keep(&mut self, chunk: &TextChunk) -> Result<bool, DataError> {
        let path = self.path(self.keys.len());
        let key = self.key(chunk);
        let part = Part::open(&path).map_err(DataError::io("read", &path))?;
        let Some(part) = part.filter(|part| part.key == key && part.rows == chunk.texts.len() as u64) else {
            return Ok(false);
        };
        self.take(&part);
        Ok(true)
    }

    /// Writes the next part: one vector for each text of `chunk`, end to end, and how many of the texts were cut. The part is on disk
    /// when this returns.
    ///
    /// # Errors
    /// What the operating system says.
    ///
    /// # Panics
    /// If there are not as many numbers for each text, and as many in each part: a mistake of the caller.
    pub fn push(&mut self, chunk: &TextChunk, vectors: &[f32], truncated: u64) -> Result<(), DataError> {
        let rows = chunk.texts.len();
        assert!(rows > 0 && vectors.len().is_multiple_of(rows), "{} numbers for {rows} texts", vectors.len());
        let part = Part {
            key: self.key(chunk),
            rows: rows as u64,
            width: (vectors.len() / rows) as u64,
            ids: !chunk.ids.is_empty(),
            truncated,
        };
        let path = self.path(self.keys.len());
        let mut file = Replacement::new(&path)?;
        part.write(&mut file, vectors, &chunk.ids).map_err(DataError::io("write", &path))?;
        file.commit()?;
        self.take(&part);
        Ok(())
    }

    fn take(&mut self, part: &Part) {
        let before = self.shape;
        assert!(
            self.keys.is_empty() || (before.width, before.ids) == (part.width, part.ids),
            "parts of one file have one width, and ids or none"
        );
        self.shape = Shape { rows: before.rows + part.rows, width: part.width, ids: part.ids };
        self.truncated += part.truncated;
        self.keys.push(part.key);
    }

    /// Rows of all parts so far.
    pub fn rows(&self) -> u64 {
        self.shape.rows
    }

    /// How many texts of all parts so far were cut.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Numbers of a vector; 0 before the first part.
    pub fn width(&self) -> u64 {
        self.shape.width
    }

    /// The file of ids beside an array, one JSON string a line; Parquet has them in a column.
    pub fn ids_path(target: &Path) -> PathBuf {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".ids.jsonl");
        target.with_file_name(name)
    }

    /// Makes the file of its parts and removes them. `metadata` is written into safetensors and Parquet files, in the order given. The
    /// file appears last, whole or not at all; ids that belong beside it appear just before.
    ///
    /// # Errors
    /// What the operating system says. The parts stay.
    pub fn finish(self, metadata: &[(&str, String)]) -> Result<(), DataError> {
        let failed = || DataError::io("write", &self.target);
        let assembled = self.folder.join("assembled");
        let ids = self.folder.join("ids");
        let metadata: BTreeMap<&str, &str> = metadata.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let beside = self.shape.ids && self.format != VectorFormat::Parquet;
        let write = || -> io::Result<()> {
            match self.format {
                VectorFormat::Parquet => table::write(File::create(&assembled)?, &self, &metadata)?.sync_all()?,
                VectorFormat::Npy => self.array(&assembled, &array::npy_header(self.shape))?,
                VectorFormat::Safetensors => {
                    self.array(&assembled, &array::safetensors_header(self.shape, &metadata)?)?;
                }
            }
            let ids_target = Self::ids_path(&self.target);
            if beside {
                let mut out = BufWriter::new(File::create(&ids)?);
                self.each_part(&mut |part, file| part.copy_ids(file, &mut out))?;
                out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
                fs::rename(&ids, &ids_target)?;
            } else if let Err(error) = fs::remove_file(&ids_target)
                && error.kind() != io::ErrorKind::NotFound
            {
                // Those of an older file would be taken for this one's.
                return Err(error);
            }
            fs::rename(&assembled, &self.target)?;
            sync_folder(&self.target);
            Ok(())
        };
        write().map_err(failed())?;
        fs::remove_dir_all(&self.folder).map_err(DataError::io("write", &self.folder))
    }

    fn array(&self, path: &Path, header: &[u8]) -> io::Result<()> {
        let mut out = File::create(path)?;
        out.write_all(header)?;
        self.each_part(&mut |part, file| part.copy_vectors(file, &mut out))?;
        out.sync_all()
    }

    /// Opens each part in turn.
    fn each_part(&self, each: &mut dyn FnMut(&Part, File) -> io::Result<()>) -> io::Result<()> {
        for (index, key) in self.keys.iter().enumerate() {
            let path = self.path(index);
            match Part::open(&path)? {
                Some(part) if part.key == *key => each(&part, File::open(&path)?)?,
                _ => {
                    let what = format!("{} was changed meanwhile, by another run perhaps; run again", path.display());
                    return Err(io::Error::other(what));
                }
            }
        }
        Ok(())
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{index:08}"))
    }

    /// Identifies what a part is made of: settings, texts, ids, each with its length before it.
    fn key(&self, chunk: &TextChunk) -> Key {
        let mut hasher = Sha256::new();
        let counts = [chunk.texts.len(), chunk.ids.len()];
        counts.iter().for_each(|count| hasher.update((*count as u64).to_le_bytes()));
        for text in [&self.settings].into_iter().chain(&chunk.texts).chain(&chunk.ids) {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize().into()
    }
}
