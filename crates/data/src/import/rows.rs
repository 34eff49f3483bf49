//! One row of a raw file, whatever its format.

use std::borrow::Cow;
use std::path::Path;

use super::{Fault, delimited, jsonl, parquet};
use crate::DataError;
use crate::descriptor::{FileSpec, Format};

/// The value of one column in one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Missing,
    Text(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    /// Seconds since 1970.
    Time(i64),
}

/// One row.
pub(super) struct Row<'a> {
    /// Line in a text file, row in a table; from 1.
    pub(super) line: u64,
    /// The line as it is; `None` where the file is no text.
    pub(super) raw: Option<&'a str>,
    /// The cells of the wanted columns, or why there are none.
    pub(super) cells: Result<&'a [Cell<'a>], Fault>,
}

/// The columns that are wanted from a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) names: Vec<String>,
}

impl Wanted {
    /// Asks for a column; the answer is the place of its cell.
    pub(super) fn add(&mut self, name: &str) -> usize {
        if let Some(place) = self.names.iter().position(|there| there == name) {
            return place;
        }
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    /// Where each of them stands among the columns `there`.
    pub(super) fn places<S: AsRef<str>>(&self, file: &str, there: &[S]) -> Result<Vec<usize>, DataError> {
        self.names
            .iter()
            .map(|name| {
                there
                    .iter()
                    .position(|other| other.as_ref() == name)
                    .ok_or_else(|| DataError::missing_column(file, name, there))
            })
            .collect()
    }
}

/// Takes each row in turn.
pub(super) type Each<'f> = dyn FnMut(Row<'_>) -> Result<(), DataError> + 'f;

/// Reads a file row by row. `tick` hears how many bytes are read.
pub(super) fn scan(
    path: &Path,
    spec: &FileSpec,
    wanted: &Wanted,
    tick: &mut dyn FnMut(u64),
    each: &mut Each<'_>,
) -> Result<(), DataError> {
    match spec.format {
        Format::Parquet => parquet::scan(path, wanted, tick, each),
        Format::Jsonl => jsonl::scan(path, spec, wanted, tick, each),
        Format::Sequences => delimited::scan_sequences(path, spec, wanted, tick, each),
        Format::Csv | Format::Tsv | Format::SplitOnce => delimited::scan(path, spec, wanted, tick, each),
    }
}
