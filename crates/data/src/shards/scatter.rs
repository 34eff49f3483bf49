//! Deals a log out to shards, of which none but one is ever in memory.
//!
//! Rows are read block by block and appended to a file for each shard as they come; then one file after the other is read back, sorted and
//! written in its final form.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::manifest::{Entry, FileSum, shard_file};
use super::rows::Rows;
use crate::DataError;
use crate::store::{Table, encode_at, flatten, nullable};

/// Rows that wait in memory for all shards together before they are appended to their files.
const WAITING: usize = 1 << 19;
/// Shards are read as often as they are trained on, and written once: quick to write, a little larger.
const LEVEL: i32 = 3;

/// The shard that holds all of a user's events; depends on nothing but the id and the number of shards.
pub(super) fn shard_of(user: &str, shards: usize) -> usize {
    ((u128::from(hash(user)) * shards as u128) >> 64) as usize
}

/// FNV-1a, with the last step of MurmurHash3 to spread it over all bits.
pub(super) fn hash(user: &str) -> u64 {
    let fnv = user
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    mix(fnv)
}

/// A bijection of 64 bits of which every bit of the result depends on every bit of the argument (MurmurHash3's finalizer).
pub(super) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

/// Collects rows for shards in files of `folder`.
pub(super) struct Scatter {
    folder: PathBuf,
    items: usize,
    piles: Vec<Pile>,
    /// Rows of a pile that make it worth writing.
    enough: usize,
    /// Columns of the log, and the file that was the first to have them.
    like: Option<(Rows, String)>,
    pub(super) extent: Option<(i64, i64)>,
}

/// What waits for one shard, and where it goes.
struct Pile {
    waiting: Rows,
    path: PathBuf,
    writer: Option<ArrowWriter<BufWriter<File>>>,
}

impl Scatter {
    /// For `shards` shards of a log of so many items.
    pub(super) fn new(folder: &Path, shards: usize, items: usize) -> Self {
        let pile = |shard| Pile {
            waiting: Rows::default(),
            path: folder.join(format!("{}.unsorted", shard_file(shard))),
            writer: None,
        };
        let piles = (0..shards).map(pile).collect();
        Self { folder: folder.to_owned(), items, piles, enough: (WAITING / shards).max(256), like: None, extent: None }
    }

    /// Deals out rows that came from `file`.
    pub(super) fn add(&mut self, mut rows: Rows, file: &str) -> Result<(), DataError> {
        match &self.like {
            None => {
                let like = Rows::none_of(&rows);
                self.piles.iter_mut().for_each(|pile| pile.waiting = like.clone());
                self.like = Some((like, file.to_owned()));
            }
            Some((like, first)) => {
                if let Some((column, new)) = like.unlike(&rows) {
                    let (with, without) = if new { (file, first.as_str()) } else { (first.as_str(), file) };
                    let problem =
                        format!("has no column `{column}`, but {with} has; all files of a log need the same columns");
                    return Err(DataError::Shards { path: without.into(), problem });
                }
            }
        }
        for row in 0..rows.len() {
            let time = rows.timestamp[row];
            let (first, last) = self.extent.unwrap_or((time, time));
            self.extent = Some((first.min(time), last.max(time)));
            let shard = shard_of(&rows.user[row], self.piles.len());
            let pile = &mut self.piles[shard];
            pile.waiting.push(&mut rows, row);
            if pile.waiting.len() >= self.enough {
                pile.append()?;
            }
        }
        Ok(())
    }

    /// Names of the feedback columns.
    pub(super) fn feedback(&self) -> Vec<String> {
        self.like.iter().flat_map(|(like, _)| like.feedback.keys().cloned()).collect()
    }

    /// Sorts and writes every shard; says what each holds.
    pub(super) fn finish(mut self) -> Result<Vec<Entry>, DataError> {
        for pile in &mut self.piles {
            pile.append()?;
            if let Some(writer) = pile.writer.take() {
                writer.close().map_err(|error| DataError::io("write", &pile.path)(flatten(error)))?;
            }
            // Nothing waits any more: what it took is free for the sorting.
            pile.waiting = Rows::none_of(&pile.waiting);
        }
        let (folder, items) = (self.folder, self.items);
        self.piles
            .into_iter()
            .enumerate()
            .map(|(shard, pile)| pile.sorted(&folder.join(shard_file(shard)), items))
            .collect()
    }
}

impl Pile {
    fn failed(&self) -> impl FnOnce(io::Error) -> DataError + use<> {
        DataError::io("write", &self.path)
    }

    /// Appends what waits to the shard's unsorted file.
    fn append(&mut self) -> Result<(), DataError> {
        if self.waiting.len() == 0 {
            return Ok(());
        }
        let columns = nullable(self.waiting.columns(0..self.waiting.len()));
        let batch = RecordBatch::try_from_iter_with_nullable(columns);
        let batch = batch.map_err(|error| self.failed()(flatten(error.into())))?;
        if self.writer.is_none() {
            let file = BufWriter::new(File::create(&self.path).map_err(self.failed())?);
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            let writer = ArrowWriter::try_new(file, batch.schema(), Some(properties));
            self.writer = Some(writer.map_err(|error| self.failed()(flatten(error)))?);
        }
        if let Some(writer) = &mut self.writer {
            // A group of rows of its own, so that the writer keeps nothing in memory.
            let written = writer.write(&batch).and_then(|()| writer.flush());
            written.map_err(|error| self.failed()(flatten(error)))?;
        }
        self.waiting = Rows::none_of(&self.waiting);
        Ok(())
    }

    /// Writes the shard: users in the order in which they came, each with its events by time, then as they came.
    fn sorted(self, path: &Path, items: usize) -> Result<Entry, DataError> {
        let unsorted = &self.path;
        let rows = match unsorted.exists() {
            true => {
                let file = File::open(unsorted).map_err(DataError::io("open", unsorted))?;
                let table = Table::read(&unsorted.display().to_string(), file)?;
                fs::remove_file(unsorted).map_err(DataError::io("write", unsorted))?;
                Rows::of_shard(&table, items)?
            }
            false => self.waiting,
        };
        let mut known: HashMap<&str, usize> = HashMap::new();
        let users: Vec<usize> = rows
            .user
            .iter()
            .map(|user| {
                let next = known.len();
                *known.entry(user).or_insert(next)
            })
            .collect();
        let count = known.len();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| (users[*row], rows.timestamp[*row]));
        let rows = rows.ordered(&order);

        let mut bytes = Vec::new();
        encode_at(LEVEL, &mut bytes, None, rows.len(), &|range| rows.columns(range))
            .and_then(|()| write_synced(path, &bytes))
            .map_err(DataError::io("write", path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Entry { users: count as u64, events: rows.len() as u64, sum: FileSum::of(&name, &bytes) })
    }
}

/// Writes a file of a folder that gets its name when all files are on disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}
