//! Logs larger than memory: users dealt out to shards by a hash of their ids.
//!
//! A folder of shards holds `items.parquet`, a table `shard-00000.parquet` and so on for each shard, and `shards.json`, which says what each
//! file must hold. All events of a user are in one shard, by time, so that histories need nothing outside of it; and since a hash deals users
//! out, every shard is a fair sample of all of them.

mod manifest;
mod rows;
mod sample;
mod scatter;
mod source;
mod split;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use sample::{Log, UserSample};
pub use split::ShardSplit;

use crate::store::{Table, read_items, read_requests, write_items};
use crate::{DataError, Dataset, Events, Items, Split, SplitStrategy, Users, atomic};
use manifest::{FORMAT, FileSum, ITEMS, Manifest, damaged};
use rows::Rows;
use scatter::Scatter;
use source::{BLOCK, Source};

/// Shards at most: each needs an open file while the log is dealt out.
const MOST: usize = 512;

/// A log on disk, a shard of which fits in memory.
///
/// The log needs times. Of users nothing but the id is kept.
///
/// ```
/// use paretune_data::{Shards, SplitStrategy, UserSample, simulator};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
/// let (dataset, _truth) = simulator::Simulation::new(config).run()?;
/// dataset.write(&folder.join("tables"))?;
///
/// // Read block by block, whatever the size of the tables.
/// let shards = Shards::from_folder(&folder.join("tables"), &folder.join("shards"), 4, None)?;
/// assert_eq!(shards.events(), dataset.events.len() as u64);
/// let split = shards.split(&SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
/// let mut sample = shards.sample(20);
/// for shard in 0..shards.count() {
///     let log = shards.log(shard, &split, "click")?;
///     println!("shard {shard}: {} users, {} events", log.users.len(), log.events.len());
///     sample.add(&log);
/// }
/// println!("about 20 users: {}", sample.finish("click")?.users.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Shards {
    folder: PathBuf,
    manifest: Manifest,
}

impl Shards {
    /// Deals out the log of a folder of Parquet tables, which is read block by block: `items.parquet`, and `events.parquet` or any number of
    /// files `events/*.parquet` in the order of their names. Shards that `to` held before are replaced. `progress` hears the number of rows read so
    /// far.
    ///
    /// Takes as much memory as the items, the largest shard, and half a million rows. The same tables always give the same bytes.
    ///
    /// # Errors
    /// As [`Dataset::read`], with file and row; a log without times, files with other columns than the first, a number of shards that cannot be,
    /// other things in `to`.
    pub fn from_folder(
        tables: &Path,
        to: &Path,
        count: usize,
        progress: Option<&dyn Fn(u64)>,
    ) -> Result<Self, DataError> {
        let (name, items) = source::catalogue(tables)?;
        Self::write(&name, items, Source::of_folder(tables)?, to, count, progress)
    }

    /// Deals out the log of a data set in memory.
    ///
    /// # Errors
    /// A log without times, tables that do not fit together, a number of shards that cannot be, other things in `to`,
    /// or what the operating system says.
    pub fn from_dataset(dataset: &Dataset, to: &Path, count: usize) -> Result<Self, DataError> {
        dataset.check()?;
        Self::write(&dataset.name, dataset.items.clone(), Source::of_dataset(dataset)?, to, count, None)
    }

    fn write(
        name: &str,
        items: Items,
        source: Source<'_>,
        to: &Path,
        count: usize,
        progress: Option<&dyn Fn(u64)>,
    ) -> Result<Self, DataError> {
        if !(1..=MOST).contains(&count) {
            let problem = format!("cannot be made of {count} shards; ask for 1 to {MOST}");
            return Err(DataError::Shards { path: to.to_owned(), problem });
        }
        if holds_something_else(to)? {
            let problem =
                "holds other things than shards, which writing would replace; give an empty folder".to_owned();
            return Err(DataError::Shards { path: to.to_owned(), problem });
        }
        let beside = beside(to);
        if beside.exists() {
            // A writer that was killed left it.
            fs::remove_dir_all(&beside).map_err(DataError::io("write", &beside))?;
        }
        fs::create_dir_all(&beside).map_err(DataError::io("create the folder", &beside))?;
        let written = Self::fill(name, &items, source, &beside, count, progress).and_then(|manifest| {
            if to.exists() {
                fs::remove_dir_all(to).map_err(DataError::io("write", to))?;
            }
            fs::rename(&beside, to).map_err(DataError::io("write", to))?;
            atomic::sync_folder(to);
            Ok(Self { folder: to.to_owned(), manifest })
        });
        written.inspect_err(|_| {
            // The error that is reported is the first one; a leftover is the lesser evil.
            let _ = fs::remove_dir_all(&beside);
        })
    }

    fn fill(
        name: &str,
        items: &Items,
        source: Source<'_>,
        folder: &Path,
        count: usize,
        progress: Option<&dyn Fn(u64)>,
    ) -> Result<Manifest, DataError> {
        let catalogue = folder.join(ITEMS);
        write_items(items, Some(name), &catalogue)?;
        let bytes = fs::read(&catalogue).map_err(DataError::io("read", &catalogue))?;
        let catalogue = FileSum::of(ITEMS, &bytes);
        drop(bytes);
        let mut scatter = Scatter::new(folder, count, items.len());
        let mut read = 0;
        source.for_each(items, |rows, file| {
            read += rows.len() as u64;
            scatter.add(rows, file)?;
            progress.iter().for_each(|progress| progress(read));
            Ok(())
        })?;
        let Some((earliest, latest)) = scatter.extent else {
            return Err(DataError::Empty { file: name.to_owned(), table: "events" });
        };
        let feedback = scatter.feedback();
        let shards = scatter.finish()?;
        let manifest = Manifest {
            format: FORMAT,
            name: name.to_owned(),
            items: items.len(),
            users: shards.iter().map(|shard| shard.users).sum(),
            events: shards.iter().map(|shard| shard.events).sum(),
            earliest,
            latest,
            feedback,
            catalogue,
            shards,
        };
        let path = folder.join(manifest::FILE);
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| DataError::io("write", &path)(error.into()))?;
        scatter::write_synced(&path, &text).map_err(DataError::io("write", &path))?;
        atomic::sync_folder(&path);
        Ok(manifest)
    }

    /// Opens a folder of shards. Only the manifest is read; every other file is checked when it is.
    ///
    /// # Errors
    /// A manifest that is not there, or says what cannot be.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        Ok(Self { folder: folder.to_owned(), manifest: Manifest::read(folder)? })
    }

    /// Name of the data set.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Reads the catalogue.
    ///
    /// # Errors
    /// A file that is not there, cannot be read, or does not hold what was written.
    pub fn catalogue(&self) -> Result<Items, DataError> {
        let path = self.folder.join(ITEMS);
        let bytes = self.manifest.catalogue.read(&self.folder)?;
        let items = read_items(&Table::read(&path.display().to_string(), Bytes::from(bytes))?)?;
        if items.len() != self.items() {
            let problem = format!("has {} items, {} are expected", items.len(), self.items());
            return Err(damaged(path, problem));
        }
        Ok(items)
    }

    /// Number of items of the catalogue.
    pub fn items(&self) -> usize {
        self.manifest.items
    }

    /// Number of shards.
    pub fn count(&self) -> usize {
        self.manifest.shards.len()
    }

    /// Users that have events.
    pub fn users(&self) -> u64 {
        self.manifest.users
    }

    /// Events of all shards.
    pub fn events(&self) -> u64 {
        self.manifest.events
    }

    /// Names of the feedback columns.
    pub fn feedback(&self) -> &[String] {
        &self.manifest.feedback
    }

    /// Divides the log, all shards alike: by time, or by leaving each user's last events out.
    ///
    /// # Errors
    /// Another strategy (they shuffle what is not in memory), shares out of range, a shard that cannot be read.
    pub fn split(&self, strategy: &SplitStrategy) -> Result<ShardSplit, DataError> {
        ShardSplit::new(self, strategy)
    }

    /// An empty sample of about so many users, to which [`UserSample::add`] adds those of a shard that belong to it.
    pub fn sample(&self, users: usize) -> UserSample {
        UserSample::new(users, self.users(), self.name())
    }

    /// The shard that holds a user's events, if there are any.
    pub fn shard_of(&self, user: &str) -> usize {
        scatter::shard_of(user, self.count())
    }

    /// Reads one shard. `engaged` is the column whose positive values make histories.
    ///
    /// # Errors
    /// A shard that is not there, cannot be read, or does not hold what was written; `engaged` is no feedback column.
    pub fn log(&self, shard: usize, split: &ShardSplit, engaged: &str) -> Result<Log, DataError> {
        let table = Table::read(&self.path(shard).display().to_string(), self.bytes(shard)?)?;
        let (users, events) = self.tables(&table)?;
        let split = split.of(&events);
        Log::new(users, events, split, engaged, self.name())
    }

    fn path(&self, shard: usize) -> PathBuf {
        self.folder.join(manifest::shard_file(shard))
    }

    fn bytes(&self, shard: usize) -> Result<Bytes, DataError> {
        let path = self.path(shard);
        let Some(entry) = self.manifest.shards.get(shard) else {
            let problem = format!("is no shard: there are {}", self.count());
            return Err(DataError::Shards { path, problem });
        };
        Ok(Bytes::from(entry.sum.read(&self.folder)?))
    }

    fn tables(&self, table: &Table) -> Result<(Users, Events), DataError> {
        let request = read_requests(table)?;
        let rows = Rows::of_shard(table, self.items())?;
        let mut users = Users::default();
        let user = rows.user.into_iter().map(|id| {
            if users.ids.last() != Some(&id) {
                users.ids.push(id);
            }
            users.ids.len() as u32 - 1
        });
        let events = Events {
            user: user.collect(),
            item: rows.item,
            timestamp: Some(rows.timestamp),
            request,
            position: rows.position,
            propensity: rows.propensity,
            query: rows.query,
            feedback: rows.feedback,
        };
        Ok((users, events))
    }

    /// The clocks of a shard's events, in no order that matters.
    fn clocks(&self, shard: usize) -> Result<Vec<i64>, DataError> {
        let like = self.bytes(shard)?;
        let file = self.path(shard).display().to_string();
        let mut clocks = Vec::new();
        for part in Table::parts(&file, like.clone(), BLOCK, Some(&["timestamp", "request_id"]))? {
            let part = part?;
            if part.names().any(|name| name == "request_id") {
                // The clock of a request is that of its first event.
                let (_, events) = self.tables(&Table::read(&file, like)?)?;
                return Ok(Split::clocks(&events));
            }
            clocks.extend(part.integers("timestamp")?.into_iter().flatten().flatten());
        }
        Ok(clocks)
    }
}

/// Whether a folder holds files, but no shards.
fn holds_something_else(folder: &Path) -> Result<bool, DataError> {
    if !folder.exists() || folder.join(manifest::FILE).is_file() {
        return Ok(false);
    }
    Ok(fs::read_dir(folder).map_err(DataError::io("read the folder", folder))?.next().is_some())
}

/// Where a folder is made before it gets its name.
fn beside(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.partial"))
}
