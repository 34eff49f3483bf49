//! The ids beside an array, one a line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use serde_json::Value;

use super::VectorFile;
use crate::{DataError, VectorParts};

/// Reads them one by one.
pub(super) struct Ids {
    path: PathBuf,
    reader: BufReader<File>,
    json: bool,
    line: String,
    number: u64,
}

impl Ids {
    pub(super) fn open(spec: &VectorFile) -> Result<Self, DataError> {
        let path = spec.ids.clone().unwrap_or_else(|| VectorParts::ids_path(&spec.file));
        let file = File::open(&path).map_err(|error| match spec.ids {
            None if error.kind() == std::io::ErrorKind::NotFound => DataError::Vectors {
                file: spec.file.display().to_string(),
                problem: format!(
                    "{} is not there to say which row is which item; `embed --id-column` writes it, or name a file of ids with `ids`",
                    path.display()
                ),
            },
            _ => DataError::io("read", &path)(error),
        })?;
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
        Ok(Self { path, reader: BufReader::new(file), json, line: String::new(), number: 0 })
    }

    /// What messages call the file.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The next id; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<String>, DataError> {
        self.line.clear();
        if self.reader.read_line(&mut self.line).map_err(DataError::io("read", &self.path))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let line = self.line.trim_end_matches(['\n', '\r']);
        let bad = |problem: String| {
            let (file, number) = (self.path.display().to_string(), self.number);
            DataError::BadRow { file, unit: "line", number, column: None, problem }
        };
        let id = match (self.json, serde_json::from_str(line)) {
            (false, _) => line.to_owned(),
            (true, Ok(Value::String(id))) => id,
            (true, Ok(Value::Number(id))) => id.to_string(),
            (true, _) => return Err(bad(format!("`{line}` is no JSON string; write the id of one row a line"))),
        };
        match id.is_empty() {
            true => Err(bad("the id is empty; give every row one".into())),
            false => Ok(Some(id)),
        }
    }
}
