//! Where a log comes from, block by block.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::rows::Rows;
use crate::store::{NAME_KEY, Table, read_items};
use crate::{DataError, Dataset, Items};

/// Rows of a block.
pub(super) const BLOCK: usize = 1 << 16;

/// A log that can be read once.
pub(super) enum Source<'a> {
    /// Parquet files.
    Files(Vec<PathBuf>),
    /// Tables in memory, which have these times.
    Memory(&'a Dataset, &'a [i64]),
}

/// Name and items of a folder of tables.
pub(super) fn catalogue(folder: &Path) -> Result<(String, Items), DataError> {
    let path = folder.join("items.parquet");
    let file = File::open(&path).map_err(DataError::io("open", &path))?;
    let table = Table::read(&path.display().to_string(), file)?;
    let folder = || folder.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    Ok((table.metadata.get(NAME_KEY).cloned().unwrap_or_else(folder), read_items(&table)?))
}

impl<'a> Source<'a> {
    /// `events.parquet`, or the files of the folder `events` by their names.
    pub(super) fn of_folder(folder: &Path) -> Result<Self, DataError> {
        let (one, many) = (folder.join("events.parquet"), folder.join("events"));
        if !many.is_dir() {
            return Ok(Self::Files(vec![one]));
        }
        if one.exists() {
            let problem = "stands beside a folder `events`; keep one of them".to_owned();
            return Err(DataError::Shards { path: one, problem });
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&many).map_err(DataError::io("read", &many))? {
            let path = entry.map_err(DataError::io("read", &many))?.path();
            if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
        files.sort();
        match files.is_empty() {
            true => Err(DataError::Shards {
                path: many,
                problem: "holds no file that ends in .parquet; put the events there".into(),
            }),
            false => Ok(Self::Files(files)),
        }
    }

    pub(super) fn of_dataset(dataset: &'a Dataset) -> Result<Self, DataError> {
        match &dataset.events.timestamp {
            Some(times) => Ok(Self::Memory(dataset, times)),
            None => Err(DataError::missing_column("events", "timestamp", dataset.events.feedback.keys())),
        }
    }

    /// Hands over all blocks in order, each with the name of the file that it came from.
    pub(super) fn for_each(
        self,
        items: &Items,
        mut each: impl FnMut(Rows, &str) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        match self {
            Self::Files(files) => {
                let known: HashMap<&str, u32> = items.ids.iter().map(String::as_str).zip(0..).collect();
                for path in files {
                    let name = path.display().to_string();
                    let file = File::open(&path).map_err(DataError::io("open", &path))?;
                    for part in Table::parts(&name, file, BLOCK, None)? {
                        each(Rows::of_table(&part?, &known)?, &name)?;
                    }
                }
            }
            Self::Memory(dataset, times) => {
                for start in (0..times.len()).step_by(BLOCK) {
                    let rows = start..times.len().min(start + BLOCK);
                    each(Rows::of_dataset(dataset, times, rows), "events")?;
                }
            }
        }
        Ok(())
    }
}
