//! What can go wrong with data, said so that its owner can mend it.

use std::io;
use std::path::{Path, PathBuf};

/// Every way in which this crate can fail.
///
/// Each message names the file and the column or row where there is one, and ends with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },

    /// A table lacks a column that is needed.
    #[error("{file} has no column `{column}`; its columns are {found}. Rename one of them, or name the right one")]
    MissingColumn {
        /// The file, or the table where it came from memory.
        file: String,
        /// The column that is needed.
        column: String,
        /// The columns there are, quoted and joined by commas.
        found: String,
    },

    /// A column holds something else than what is needed.
    #[error("{file}: column `{column}` holds {found}, but {expected} is needed; cast it or leave it out")]
    WrongType {
        /// The file, or the table where it came from memory.
        file: String,
        /// The column.
        column: String,
        /// The type it has.
        found: String,
        /// The types that would do.
        expected: &'static str,
    },

    /// One value of a canonical table breaks the rules of the schema.
    #[error(
        "{file}, row {row}, column `{column}`: {problem}. Correct the table, or import the raw data, which sets bad rows aside"
    )]
    BadValue {
        /// The file, or the table where it came from memory.
        file: String,
        /// The row, from 1.
        row: usize,
        /// The column.
        column: String,
        /// What is wrong with the value.
        problem: String,
    },

    /// A file's name does not say what is in it, or is to be in it.
    #[error("the format of {} cannot be told from its name; known are {known}", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// How names may end.
        known: &'static str,
    },

    /// A column of a file was asked for that has lines only.
    #[error(
        "{file} has lines and no column `{column}`; leave the column out, or give a table (.csv, .tsv, .jsonl, .parquet)"
    )]
    NoColumns {
        /// The file.
        file: String,
        /// The column asked for.
        column: String,
    },

    /// A model is to read what users searched for, and the log does not say.
    #[error(
        "the events of data set \"{dataset}\" have no column `query`; map one in the descriptor (or add it to events.parquet), or leave out model.search"
    )]
    NoQueries {
        /// Name of the data set.
        dataset: String,
    },

    /// A row of a file of texts cannot be read.
    #[error("{file}, {unit} {number}{}: {problem}", column.as_ref().map(|name| format!(", column `{name}`")).unwrap_or_default())]
    BadRow {
        /// The file.
        file: String,
        /// `line` or `row`.
        unit: &'static str,
        /// Its number, from 1.
        number: u64,
        /// The column, where it is one column's fault.
        column: Option<String>,
        /// What is wrong, and how to mend it.
        problem: String,
    },

    /// A file holds no vectors, or not as they are needed.
    #[error("{file}: {problem}")]
    Vectors {
        /// The file.
        file: String,
        /// What is wrong, and how to mend it.
        problem: String,
    },

    /// A file about items names none of the catalogue.
    #[error(
        "{file}: none of its {rows} rows is about an item of this data set, whose ids look like `{known}`; the first row's is \
         `{found}`. Name the column that holds the items' ids"
    )]
    Strangers {
        /// The file.
        file: String,
        /// Its rows.
        rows: u64,
        /// The id of its first row.
        found: String,
        /// An id of the catalogue.
        known: String,
    },

    /// A file of several relations has no row of the one that is asked for.
    #[error("{file}: no row has the relation `{name}`; it has {}", found.join(", "))]
    UnknownRelation {
        /// The file.
        file: String,
        /// The relation.
        name: String,
        /// Some of those that it has.
        found: Vec<String>,
    },

    /// A column of a table in memory has another length than the table.
    #[error(
        "{table}: column `{column}` has {found} entries, the table has {expected}; give every column one entry per row"
    )]
    RaggedColumn {
        /// `items`, `users` or `events`.
        table: &'static str,
        /// The column.
        column: String,
        /// Entries of the column.
        found: usize,
        /// Rows of the table.
        expected: usize,
    },

    /// A file is not Parquet, or only part of it.
    #[error("{file} is not a whole Parquet file ({problem}); it may have been cut short: copy or write it again")]
    Parquet {
        /// The file, or the table where it came from memory.
        file: String,
        /// What the decoder said.
        problem: String,
    },

    /// A descriptor does not say what it must, or says it wrongly.
    #[error("{file}{}: {problem}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Descriptor {
        /// The descriptor's file, or its name where it came from memory.
        file: String,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// The field and what is wrong with it.
        problem: String,
    },

    /// More rows of a raw file are bad than the caller allows.
    #[error(
        "{file}: {bad} of {read} rows are bad ({:.1} %, at most {:.1} % are allowed), most often: {reason}. {} \
         Correct the descriptor or the file, or allow a larger share",
        100.0 * *bad as f64 / (*read).max(1) as f64,
        100.0 * allowed,
        quarantine.as_ref().map_or_else(
            || "Name a quarantine file to see them.".to_owned(),
            |path| format!("They are all in {}.", path.display()),
        )
    )]
    TooManyBadRows {
        /// The raw file.
        file: String,
        /// Rows that were set aside.
        bad: u64,
        /// Rows that were read.
        read: u64,
        /// The largest share that is allowed.
        allowed: f64,
        /// The most frequent reason.
        reason: String,
        /// Where the bad rows are.
        quarantine: Option<PathBuf>,
    },

    /// A table came out empty.
    #[error("{file}: no row is left for the table of {table}; check the file and the column names")]
    Empty {
        /// The file or folder it was read from.
        file: String,
        /// `items`, `users` or `events`.
        table: &'static str,
    },

    /// The tables of a data set do not fit together.
    #[error(
        "data set \"{dataset}\": {table}.{column} {fault}; every column of a table needs one entry per row, and events may only \
         point at rows that exist"
    )]
    Inconsistent {
        /// Name of the data set.
        dataset: String,
        /// The table at fault.
        table: &'static str,
        /// The column at fault.
        column: String,
        /// What is wrong with it.
        fault: String,
    },

    /// A split was asked to hold out impossible shares.
    #[error(
        "split: valid = {valid} and test = {test} cannot be held out; each share must lie above 0 and below 1, and their sum \
         below 1 (for example valid = 0.1, test = 0.1)"
    )]
    SplitShares {
        /// Share of the validation part.
        valid: f64,
        /// Share of the test part.
        test: f64,
    },

    /// A share of the training rows that is none.
    #[error("the share of training rows is {share}; it must be above 0 and at most 1")]
    Share {
        /// What was asked for.
        share: f64,
    },

    /// A split that needs times was asked of data without.
    #[error(
        "split: strategy \"{strategy}\" needs event times, but data set \"{dataset}\" has none; map a timestamp column, or use \
         strategy = \"random\""
    )]
    SplitWithoutTimes {
        /// The strategy asked for.
        strategy: &'static str,
        /// Name of the data set.
        dataset: String,
    },

    /// A part of a split came out empty.
    #[error(
        "split: the {part} part of data set \"{dataset}\" is empty ({events} events, strategy \"{strategy}\"); {hint}"
    )]
    SplitEmpty {
        /// The part without a row.
        part: &'static str,
        /// The strategy asked for.
        strategy: &'static str,
        /// Name of the data set.
        dataset: String,
        /// Rows in the log.
        events: usize,
        /// How to mend it.
        hint: &'static str,
    },

    /// A split that shuffles was asked of a log that is not in memory.
    #[error(
        "split: strategy \"{strategy}\" shuffles the whole log, which a log in shards is too large for; use strategy = \"time\" or \"leave-last\""
    )]
    SplitOfShards {
        /// The strategy asked for.
        strategy: &'static str,
    },

    /// A folder of shards, or what it is to be made of, is not as it must be.
    #[error("{} {problem}", path.display())]
    Shards {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what mends it.
        problem: String,
    },

    /// A split made for one log was used with another.
    #[error(
        "the split covers {split} events, but data set \"{dataset}\" has {events}; make the split from the same data set"
    )]
    SplitMismatch {
        /// Rows the split covers.
        split: usize,
        /// Rows in the log.
        events: usize,
        /// Name of the data set.
        dataset: String,
    },

    /// A feedback column was named that the events do not have.
    #[error(
        "data set \"{dataset}\" has no feedback column \"{column}\"; it has: {}",
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    )]
    UnknownFeedback {
        /// The column asked for.
        column: String,
        /// Name of the data set.
        dataset: String,
        /// The feedback columns there are.
        known: Vec<String>,
    },

    /// A feature of the configuration does not say what it must, says it wrongly, or asks for what the data has not.
    #[error("feature \"{feature}\", field `{field}`: {problem}")]
    Feature {
        /// Name of the feature.
        feature: String,
        /// The field at fault.
        field: String,
        /// What is wrong with it, and how to mend it.
        problem: String,
    },

    /// A feature reads what nobody knows when an item is scored.
    #[error("feature \"{feature}\" reads `{column}`, {why}. Leave the feature out")]
    ForbiddenFeature {
        /// Name of the feature.
        feature: String,
        /// The column it reads.
        column: String,
        /// Why that cannot be, and what to take instead.
        why: String,
    },

    /// A column or feature that is an input tells the label, or the future.
    #[error(
        "{leak}. Leave the column out of the data, or allow more ({option}) if you know that this is known before the event"
    )]
    Leak {
        /// What leaks, and how that shows.
        leak: String,
        /// The threshold that refuses it.
        option: &'static str,
    },

    /// A threshold of the search for leaks is out of range.
    #[error("leaks: {field} = {value} is out of range; {hint}")]
    LeakThreshold {
        /// The threshold.
        field: String,
        /// What it was set to.
        value: f64,
        /// What it may be.
        hint: &'static str,
    },

    /// The simulator was asked for a marketplace that cannot be.
    #[error("simulator: {field} = {value} is out of range; {hint}")]
    Simulation {
        /// Field of the configuration.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        hint: &'static str,
    },
}

impl DataError {
    /// Wraps an I/O error: `map_err(DataError::io("read", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A column is missing; `found` are the names there are.
    pub(crate) fn missing_column<S: AsRef<str>>(file: &str, column: &str, found: impl IntoIterator<Item = S>) -> Self {
        let found: Vec<String> = found.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
        Self::MissingColumn {
            file: file.to_owned(),
            column: column.to_owned(),
            found: if found.is_empty() { "none at all".to_owned() } else { found.join(", ") },
        }
    }
}
