//! What the cleaning did, for people and for files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::ImportOptions;
use crate::{DataError, Events};

/// What became of every raw row. Printed, it is a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CleaningReport {
    /// Name of the data set.
    pub dataset: String,
    /// Items it has now.
    pub items: usize,
    /// Users it has now.
    pub users: usize,
    /// Events it has now.
    pub events: usize,
    /// The raw files in the order in which they were read.
    pub files: Vec<FileReport>,
    /// What each feedback column holds.
    pub feedback: BTreeMap<String, FeedbackSummary>,
    /// Where the dropped rows are.
    pub quarantine: Option<PathBuf>,
}

/// What became of the rows of one raw file: `read = kept + repeated + merged + Σ dropped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// As the descriptor names it.
    pub file: String,
    /// `items`, `users` or `events`.
    pub table: &'static str,
    /// Rows read.
    pub read: u64,
    /// Rows that became rows of the table.
    pub kept: u64,
    /// Rows whose ids (and time, and request) the same file had before; the later values stand.
    pub repeated: u64,
    /// Rows that were merged with a row from another file.
    pub merged: u64,
    /// Rows set aside, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// By column: values of items and users that could not be read and were left empty.
    pub emptied: BTreeMap<String, u64>,
}

/// Why a row was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DropReason {
    /// A number cannot be read.
    BadNumber,
    /// A time cannot be read.
    BadTime,
    /// A line is no JSON object.
    BadJson,
    /// An item has no text at all.
    EmptyText,
    /// A record has too few or too many fields.
    FieldCount,
    /// A field that must be there is empty.
    MissingField,
    /// A quote is opened and never closed.
    OpenQuote,
    /// A number is outside the range that the descriptor allows.
    OutOfRange,
    /// A line is longer than any text.
    TooLong,
    /// Some bytes mean nothing in the file's encoding.
    Undecodable,
    /// The item of an event is not in the catalogue.
    UnknownItem,
}

/// What a feedback column holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FeedbackSummary {
    /// Events in which it was observed.
    pub observed: usize,
    /// Events in which it is above zero.
    pub positive: usize,
    /// Mean of the observed values.
    pub mean: f64,
    /// The smallest observed value.
    pub min: f32,
    /// The largest observed value.
    pub max: f32,
}

impl FileReport {
    pub(super) fn new(file: &str, table: &'static str) -> Self {
        Self {
            file: file.to_owned(),
            table,
            read: 0,
            kept: 0,
            repeated: 0,
            merged: 0,
            dropped: BTreeMap::new(),
            emptied: BTreeMap::new(),
        }
    }

    pub(super) fn dropped(&mut self, reason: DropReason) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    pub(super) fn emptied(&mut self, column: &str) {
        *self.emptied.entry(column.to_owned()).or_default() += 1;
    }

    /// Rows set aside, for whatever reason.
    pub fn bad(&self) -> u64 {
        self.dropped.values().sum()
    }
}

/// An error where too many rows of a file are bad.
pub(super) fn check_share(report: &FileReport, path: &Path, options: &ImportOptions<'_>) -> Result<(), DataError> {
    let bad = report.bad();
    if bad as f64 <= options.max_bad_share * report.read as f64 {
        return Ok(());
    }
    let reason = report.dropped.iter().max_by_key(|(_, count)| **count);
    Err(DataError::TooManyBadRows {
        file: path.display().to_string(),
        bad,
        read: report.read,
        allowed: options.max_bad_share,
        reason: reason.map(|(reason, _)| reason.to_string()).unwrap_or_default(),
        quarantine: options.quarantine.clone(),
    })
}

/// What each feedback column holds.
pub(super) fn summarize(events: &Events) -> BTreeMap<String, FeedbackSummary> {
    let summary = |column: &Vec<f32>| {
        let observed = || column.iter().copied().filter(|value| !value.is_nan());
        let count = observed().count();
        FeedbackSummary {
            observed: count,
            positive: observed().filter(|value| *value > 0.0).count(),
            mean: observed().map(f64::from).sum::<f64>() / count.max(1) as f64,
            min: if count == 0 { 0.0 } else { observed().fold(f32::INFINITY, f32::min) },
            max: if count == 0 { 0.0 } else { observed().fold(f32::NEG_INFINITY, f32::max) },
        }
    };
    events.feedback.iter().map(|(name, column)| (name.clone(), summary(column))).collect()
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadNumber => "bad number",
            Self::BadTime => "bad time",
            Self::BadJson => "bad JSON",
            Self::EmptyText => "empty text",
            Self::FieldCount => "wrong number of fields",
            Self::MissingField => "missing field",
            Self::OpenQuote => "open quote",
            Self::OutOfRange => "out of range",
            Self::TooLong => "line too long",
            Self::Undecodable => "undecodable text",
            Self::UnknownItem => "unknown item",
        })
    }
}

impl fmt::Display for CleaningReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [items, users, events] = [self.items, self.users, self.events].map(|n| grouped(n as u64));
        writeln!(f, "{}: {items} items, {users} users, {events} events", self.dataset)?;
        if !self.files.is_empty() {
            let header = ["file", "table", "read", "kept", "repeated", "merged", "dropped"];
            let mut rows = vec![header.map(str::to_owned)];
            rows.extend(self.files.iter().map(|file| {
                let [read, kept, repeated, merged, dropped] =
                    [file.read, file.kept, file.repeated, file.merged, file.bad()].map(grouped);
                [file.file.clone(), file.table.to_owned(), read, kept, repeated, merged, dropped]
            }));
            write_table(f, &rows, 2)?;
        }
        if !self.feedback.is_empty() {
            let mut rows = vec![["feedback", "observed", "positive", "mean", "min", "max"].map(str::to_owned)];
            rows.extend(self.feedback.iter().map(|(name, summary)| {
                [
                    name.clone(),
                    grouped(summary.observed as u64),
                    grouped(summary.positive as u64),
                    format!("{:.3}", summary.mean),
                    summary.min.to_string(),
                    summary.max.to_string(),
                ]
            }));
            write_table(f, &rows, 1)?;
        }
        for file in &self.files {
            for (reason, count) in &file.dropped {
                writeln!(f, "{}: {} dropped: {reason}", file.file, grouped(*count))?;
            }
            for (column, count) in &file.emptied {
                writeln!(
                    f,
                    "{}: {} values of `{column}` could not be read and were left empty",
                    file.file,
                    grouped(*count)
                )?;
            }
        }
        match &self.quarantine {
            Some(path) if self.files.iter().any(|file| file.bad() > 0) => {
                writeln!(f, "dropped rows are in {}", path.display())
            }
            _ => Ok(()),
        }
    }
}

/// Writes rows in aligned columns, the first `left` of them to the left.
fn write_table<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]], left: usize) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            line += &if column < left { format!("  {cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
