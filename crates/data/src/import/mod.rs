//! From raw files to a clean [`Dataset`]: read as the descriptor says, mend what can be mended, set the rest aside.

mod cells;
mod delimited;
mod events;
mod items;
mod jsonl;
mod lines;
mod parquet;
mod quarantine;
mod relations;
mod report;
mod rows;
#[cfg(test)]
mod tests;
mod text;
mod texts;
mod users;

use std::fs;
use std::path::{Path, PathBuf};

pub use relations::{Related, Relations};
pub use report::{CleaningReport, DropReason, FeedbackSummary, FileReport};
pub use texts::{TextChunk, TextTable};

use self::quarantine::Quarantine;
use self::report::{check_share, summarize};
use self::rows::{Row, Wanted, scan};
use crate::descriptor::FileSpec;
use crate::{DataError, Dataset, Descriptor, Events, Items, Users};

/// How to import.
#[derive(Clone)]
pub struct ImportOptions<'a> {
    /// Where to write the rows that are set aside, as tab-separated `file`, `line`, `reason`, `row`. It is replaced if it exists.
    pub quarantine: Option<PathBuf>,
    /// The import stops where more than this share of a file's rows is bad.
    pub max_bad_share: f64,
    /// Told now and then how many bytes of how many are read.
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

impl Default for ImportOptions<'_> {
    /// No quarantine file, at most 5 % of bad rows, no progress.
    fn default() -> Self {
        Self { quarantine: None, max_bad_share: 0.05, progress: None }
    }
}

/// Imports the raw files in the folder `from`.
///
/// Every file is cleaned on its own: rows that cannot be used go to the quarantine file with file, line and reason; a user, item
/// and time (and request) seen before is merged into the row that is there, the later value winning. The same files give the same
/// data set.
///
/// # Errors
///
/// A file that is missing or cannot be read, a column that the descriptor names and the file lacks, a table that comes out empty,
/// and [`DataError::TooManyBadRows`]; the quarantine file is complete even then.
pub fn import(
    descriptor: &Descriptor,
    from: &Path,
    options: ImportOptions<'_>,
) -> Result<(Dataset, CleaningReport), DataError> {
    let mut dataset;
    let mut files = Vec::new();
    if descriptor.is_canonical() {
        dataset = Dataset::read(from)?;
        descriptor.name.clone_into(&mut dataset.name);
    } else {
        let mut importer = Importer::new(descriptor, from, options.clone())?;
        let imported = importer.run(descriptor);
        // Committed first: whatever went wrong, the quarantine file shows it.
        importer.quarantine.commit()?;
        let (items, users, events) = imported?;
        files = importer.files;
        dataset = Dataset { name: descriptor.name.clone(), items, users, events };
    }
    for (table, empty) in [("items", dataset.items.is_empty()), ("events", dataset.events.is_empty())] {
        if empty {
            let file = from.display().to_string();
            return Err(DataError::Empty { file, table });
        }
    }
    let report = CleaningReport {
        dataset: dataset.name.clone(),
        items: dataset.items.len(),
        users: dataset.users.len(),
        events: dataset.events.len(),
        files,
        feedback: summarize(&dataset.events),
        quarantine: options.quarantine,
    };
    Ok((dataset, report))
}

/// What the import of every table needs.
struct Importer<'a> {
    from: &'a Path,
    options: ImportOptions<'a>,
    quarantine: Quarantine,
    files: Vec<FileReport>,
    bytes_done: u64,
    bytes_total: u64,
}

impl<'a> Importer<'a> {
    fn new(descriptor: &Descriptor, from: &'a Path, options: ImportOptions<'a>) -> Result<Self, DataError> {
        let items = descriptor.items.iter().map(|items| &items.file);
        let users = descriptor.users.iter().map(|users| &users.file);
        let events = descriptor.events.iter().map(|events| &events.file);
        let mut bytes_total = 0;
        for file in items.chain(users).chain(events) {
            let path = from.join(&file.path);
            let metadata = fs::metadata(&path).map_err(DataError::io("find", &path))?;
            bytes_total += metadata.len();
        }
        Ok(Self {
            from,
            quarantine: Quarantine::new(options.quarantine.as_deref())?,
            options,
            files: Vec::new(),
            bytes_done: 0,
            bytes_total,
        })
    }

    fn run(&mut self, descriptor: &Descriptor) -> Result<(Items, Users, Events), DataError> {
        let mut catalogue = items::Catalogue::default();
        if let Some(spec) = &descriptor.items {
            catalogue = items::Catalogue::new(spec);
            self.file(&spec.file, "items", &mut catalogue)?;
        }
        let mut people = users::People::default();
        if let Some(spec) = &descriptor.users {
            people = users::People::new(spec);
            self.file(&spec.file, "users", &mut people)?;
        }
        let mut log = events::Log::new(&mut catalogue, &mut people, descriptor);
        for (index, spec) in descriptor.events.iter().enumerate() {
            log.open(index, spec);
            self.file(&spec.file, "events", &mut log)?;
        }
        let events = log.finish();
        Ok((catalogue.finish(), people.finish(), events))
    }

    /// Feeds one file to a table.
    fn file(&mut self, spec: &FileSpec, table: &'static str, into: &mut dyn TakesRows) -> Result<(), DataError> {
        let path = self.from.join(&spec.path);
        let mut report = FileReport::new(&spec.path, table);
        let (before, total, progress) = (self.bytes_done, self.bytes_total, self.options.progress);
        let mut read = 0;
        let mut tick = |bytes: u64| {
            read = bytes;
            if let Some(progress) = progress {
                progress(before + bytes, total);
            }
        };
        let wanted = into.wanted().clone();
        let quarantine = &mut self.quarantine;
        scan(&path, spec, &wanted, &mut tick, &mut |row: Row<'_>| {
            report.read += 1;
            let cells = match row.cells {
                Ok(cells) => cells,
                Err(ref fault) => {
                    report.dropped(fault.reason);
                    return quarantine.add(&spec.path, &row, fault);
                }
            };
            match into.take(spec, cells, &mut report) {
                Ok(Taken::New) => report.kept += 1,
                Ok(Taken::Repeated) => report.repeated += 1,
                Ok(Taken::Merged) => report.merged += 1,
                Err(fault) => {
                    report.dropped(fault.reason);
                    quarantine.add(&spec.path, &row, &fault)?;
                }
            }
            Ok(())
        })?;
        self.bytes_done += read;
        let checked = check_share(&report, &path, &self.options);
        self.files.push(report);
        checked
    }
}

/// A table in the making.
trait TakesRows {
    /// The columns it needs, in the order in which [`TakesRows::take`] gets their cells.
    fn wanted(&self) -> &Wanted;

    /// Takes one row, or says why it cannot.
    fn take(&mut self, file: &FileSpec, cells: &[rows::Cell<'_>], report: &mut FileReport) -> Result<Taken, Fault>;
}

/// What became of a good row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// It is a row of its own.
    New,
    /// The same file had such a row before; the later values stand.
    Repeated,
    /// Another file had such a row; they are one now.
    Merged,
}

/// Why a row cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    reason: DropReason,
    detail: String,
}

impl Fault {
    fn new(reason: DropReason, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { reason, detail }
    }
}
