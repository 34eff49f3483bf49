//! The texts of a file, chunk by chunk: whatever the size of the file, one chunk of it is in memory.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::rows::{Cell, Row, Wanted, scan};
use super::{DropReason, Fault};
use crate::DataError;
use crate::descriptor::{FileSpec, Format};

/// Bytes of the longest text; no text model reads as much.
const LONGEST_TEXT: usize = 1 << 20;

/// Bytes of texts and ids at which a chunk ends.
const CHUNK_BYTES: usize = 1 << 22;

/// A file of texts: a table (`.csv`, `.tsv`, `.jsonl`, `.parquet`) of which some columns are wanted, or lines (`.txt`).
///
/// Every row counts, an empty text or a missing value included: row `n` of what is computed belongs to row `n` of the file. Only blank
/// lines of a table are no rows. A row that cannot be read is an error which says where it is, not a gap.
///
/// ```
/// use std::num::NonZeroUsize;
/// use paretune_data::{DataError, TextTable};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("goods.csv");
/// std::fs::write(&path, "sku,name,maker\n7,Tea pot,Ann\n8,Mug,\n")?;
///
/// let table = TextTable::open(&path, &["name", "maker"], Some("sku"))?;
/// assert_eq!(table.count(&mut |_bytes| ())?, 2);
/// let two = NonZeroUsize::MIN.saturating_add(1);
/// table.chunks(two, &|fields| fields.iter().flatten().copied().collect::<Vec<_>>().join(" by "), &mut |chunk| {
///     assert_eq!((chunk.texts, chunk.ids), (vec!["Tea pot by Ann".into(), "Mug".into()], vec!["7".into(), "8".into()]));
///     Ok::<(), DataError>(())
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TextTable {
    path: PathBuf,
    /// `None` for plain lines.
    spec: Option<FileSpec>,
    wanted: Wanted,
    /// Places of the cells that make the text.
    fields: Vec<usize>,
    /// Place of the cell that is the id.
    id: Option<usize>,
}

/// Some consecutive rows of a [`TextTable`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextChunk {
    /// One text for each row.
    pub texts: Vec<String>,
    /// The id of each row; empty where the table is read without ids.
    pub ids: Vec<String>,
}

/// What a row gives: the values of the fields, and the id.
struct TextRow<'a> {
    fields: Vec<Option<Cow<'a, str>>>,
    id: Option<Cow<'a, str>>,
}

impl TextTable {
    /// Looks at a file's name and existence; nothing is read yet. `fields` are the columns that make a text, `id` the one that names
    /// a row. A file of lines has no columns: its one field is the line, whatever `fields` says.
    ///
    /// # Errors
    /// [`DataError::UnknownFormat`] for a name that ends in none of the known ways; [`DataError::Io`] where there is no such file;
    /// [`DataError::NoColumns`] where the id of a line is asked for.
    pub fn open(path: &Path, fields: &[&str], id: Option<&str>) -> Result<Self, DataError> {
        let name = path.to_string_lossy();
        let lines = Self::is_lines(path);
        let format = Format::of_path(&name);
        if format.is_none() && !lines {
            return Err(DataError::UnknownFormat {
                path: path.to_owned(),
                known: ".txt (one text a line), .csv, .tsv, .jsonl or .parquet",
            });
        }
        let metadata = fs::metadata(path).map_err(DataError::io("read", path))?;
        if !metadata.is_file() {
            // It is read twice, which a pipe would not bear.
            return Err(DataError::io("read", path)(io::Error::other("it is no regular file")));
        }
        let mut wanted = Wanted::default();
        let fields = if lines { vec![0] } else { fields.iter().map(|field| wanted.add(field)).collect() };
        match id {
            Some(column) if lines => {
                Err(DataError::NoColumns { file: path.display().to_string(), column: column.to_owned() })
            }
            _ => Ok(Self {
                spec: format.map(|format| FileSpec::plain(&name, format)),
                id: id.map(|id| wanted.add(id)),
                path: path.to_owned(),
                wanted,
                fields,
            }),
        }
    }

    /// Whether a file is one of lines rather than a table, by its name.
    pub fn is_lines(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"))
    }

    /// Size of the file in bytes; 0 where it cannot be told.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Reads the whole file for its faults and gives the number of its rows. `tick` hears how many bytes are read.
    ///
    /// # Errors
    /// A column that is not there, or the first row that cannot be read ([`DataError::BadRow`]).
    pub fn count(&self, tick: &mut dyn FnMut(u64)) -> Result<u64, DataError> {
        let mut rows = 0;
        self.scan(tick, &mut |row| {
            self.row(&row)?;
            rows += 1;
            Ok(())
        })?;
        Ok(rows)
    }

    /// Reads the rows in chunks of `rows` (of fewer where texts are long; the same file is always cut at the same places). `text`
    /// makes one text of the values of the fields. An error of `each` ends the reading.
    ///
    /// # Errors
    /// Those of [`count`](Self::count), and of `each`.
    pub fn chunks<E: From<DataError>>(
        &self,
        rows: NonZeroUsize,
        text: &dyn Fn(&[Option<&str>]) -> String,
        each: &mut dyn FnMut(TextChunk) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut chunk, mut bytes) = (TextChunk::default(), 0);
        let mut stopped = None;
        let scanned = self.scan(&mut |_| (), &mut |row| {
            let row = self.row(&row)?;
            let text = text(&row.fields.iter().map(Option::as_deref).collect::<Vec<_>>());
            bytes += text.len() + row.id.as_ref().map_or(0, |id| id.len());
            chunk.texts.push(text);
            chunk.ids.extend(row.id.map(Cow::into_owned));
            if chunk.texts.len() < rows.get() && bytes < CHUNK_BYTES {
                return Ok(());
            }
            bytes = 0;
            each(std::mem::take(&mut chunk)).map_err(|error| {
                stopped = Some(error);
                // Never seen: the error of `each` takes its place.
                DataError::io("read", &self.path)(io::ErrorKind::Interrupted.into())
            })
        });
        match stopped {
            Some(error) => return Err(error),
            None => scanned?,
        }
        if chunk.texts.is_empty() { Ok(()) } else { each(chunk) }
    }

    /// Reads every row, whatever the format.
    fn scan(
        &self,
        tick: &mut dyn FnMut(u64),
        each: &mut dyn FnMut(Row<'_>) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let Some(spec) = &self.spec else {
            let spec = FileSpec::plain("", Format::Csv);
            let mut lines = Lines::open(&self.path, &spec)?;
            while let Some(line) = lines.next()? {
                tick(lines.bytes());
                let cells = [Cell::Text(Cow::from(&line.text))];
                each(Row {
                    line: line.number,
                    raw: Some(&line.text),
                    cells: line.fault.clone().map_or(Ok(&cells), Err),
                })?;
            }
            return Ok(());
        };
        scan(&self.path, spec, &self.wanted, tick, each)
    }

    fn row<'a>(&self, row: &Row<'a>) -> Result<TextRow<'a>, DataError> {
        let cells = match &row.cells {
            Ok(cells) => *cells,
            Err(fault) => return Err(self.bad(row, None, explained(fault))),
        };
        let values = cells.iter().map(Cell::text);
        let values: Vec<Option<Cow<'a, str>>> = values.collect();
        for (place, value) in values.iter().enumerate() {
            let length = value.as_ref().map_or(0, |value| value.len());
            if length > LONGEST_TEXT {
                let problem = format!("the text has {length} bytes, of at most {LONGEST_TEXT}; cut it");
                return Err(self.bad(row, Some(place), problem));
            }
        }
        let id = match self.id {
            Some(place) => {
                let id = values[place].clone();
                Some(id.ok_or_else(|| self.bad(row, Some(place), "the id is missing; give every row one".into()))?)
            }
            None => None,
        };
        Ok(TextRow { fields: self.fields.iter().map(|place| values[*place].clone()).collect(), id })
    }

    fn bad(&self, row: &Row<'_>, place: Option<usize>, problem: String) -> DataError {
        DataError::BadRow {
            file: self.path.display().to_string(),
            // Parquet has no lines.
            unit: if row.raw.is_some() { "line" } else { "row" },
            number: row.line,
            column: place.and_then(|place| self.wanted.names.get(place)).cloned(),
            problem,
        }
    }
}

/// What to do about a fault.
pub(super) fn explained(fault: &Fault) -> String {
    let detail = &fault.detail;
    match fault.reason {
        DropReason::Undecodable => "the bytes are no UTF-8; convert the file".to_owned(),
        // The parser counts lines within the line.
        DropReason::BadJson => {
            format!("no JSON object ({}); write one a line", detail.replace(" at line 1 column ", " at column "))
        }
        DropReason::FieldCount => format!("{detail}; quote fields that hold the delimiter"),
        DropReason::OpenQuote => format!("{detail}; close it, or double it where it is part of the text"),
        _ => detail.clone(),
    }
}

#[cfg(test)]
mod tests;
