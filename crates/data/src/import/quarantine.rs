//! The file of rows that were set aside.

use std::io::Write;
use std::path::Path;

use super::Fault;
use super::rows::{Cell, Row};
use crate::DataError;
use crate::atomic::Replacement;

/// Bad rows as tab-separated values; nothing is written where no file is named.
pub(super) struct Quarantine {
    file: Option<Replacement>,
}

impl Quarantine {
    pub(super) fn new(path: Option<&Path>) -> Result<Self, DataError> {
        let Some(path) = path else {
            return Ok(Self { file: None });
        };
        let mut file = Replacement::new(path)?;
        let written = writeln!(file, "file\tline\treason\trow");
        written.map_err(DataError::io("write", path))?;
        Ok(Self { file: Some(file) })
    }

    pub(super) fn add(&mut self, name: &str, row: &Row<'_>, fault: &Fault) -> Result<(), DataError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let text = match (row.raw, &row.cells) {
            (Some(raw), _) => escaped(raw),
            (None, Ok(cells)) => {
                let texts: Vec<String> = cells.iter().map(shown).collect();
                escaped(&texts.join("\t"))
            }
            (None, Err(_)) => String::new(),
        };
        let reason = format!("{}: {}", fault.reason, fault.detail);
        let written = writeln!(file, "{}\t{}\t{}\t{text}", escaped(name), row.line, escaped(&reason));
        written.map_err(DataError::io("write", file.target()))
    }

    /// Gives the file its name.
    pub(super) fn commit(&mut self) -> Result<(), DataError> {
        self.file.take().map_or(Ok(()), Replacement::commit)
    }
}

fn shown(cell: &Cell<'_>) -> String {
    cell.text().map(|text| text.into_owned()).unwrap_or_default()
}

/// One line and one field, whatever the text holds.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\r', "\\r").replace('\n', "\\n")
}
