//! One JSON object per line.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::lines::Lines;
use super::rows::{Cell, Each, Row, Wanted};
use super::{DropReason, Fault};
use crate::DataError;
use crate::descriptor::FileSpec;

/// Objects whose keys are remembered, for the message about a column that is nowhere.
const OBJECTS_REMEMBERED: u64 = 1_000;

/// Reads a file of JSON lines. A dot in a column's name leads into an object: `user.id`.
pub(super) fn scan(
    path: &Path,
    spec: &FileSpec,
    wanted: &Wanted,
    tick: &mut dyn FnMut(u64),
    each: &mut Each<'_>,
) -> Result<(), DataError> {
    let mut lines = Lines::open(path, spec)?;
    let mut seen = vec![false; wanted.names.len()];
    let mut keys = BTreeSet::new();
    let mut objects = 0;
    while let Some(line) = lines.next()? {
        tick(lines.bytes());
        if line.text.trim().is_empty() {
            continue;
        }
        let row = |cells| Row { line: line.number, raw: Some(&line.text), cells };
        let object = match (&line.fault, serde_json::from_str::<Value>(&line.text)) {
            (Some(fault), _) => Err(fault.clone()),
            (None, Ok(Value::Object(object))) => Ok(object),
            (None, Ok(_)) => Err(Fault::new(DropReason::BadJson, "not an object")),
            (None, Err(error)) => Err(Fault::new(DropReason::BadJson, error.to_string())),
        };
        let object = match object {
            Ok(object) => object,
            Err(fault) => {
                each(row(Err(fault)))?;
                continue;
            }
        };
        if objects < OBJECTS_REMEMBERED {
            keys.extend(object.keys().cloned());
        }
        objects += 1;
        let mut cells = Vec::with_capacity(wanted.names.len());
        for (name, seen) in wanted.names.iter().zip(&mut seen) {
            let value = find(&object, name);
            *seen |= value.is_some();
            cells.push(value.map_or(Cell::Missing, cell));
        }
        each(row(Ok(&cells)))?;
    }
    match seen.iter().position(|seen| !seen) {
        Some(place) if objects > 0 => {
            let file = path.display().to_string();
            Err(DataError::missing_column(&file, &wanted.names[place], keys))
        }
        _ => Ok(()),
    }
}

fn find<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = object.get(name) {
        return Some(value);
    }
    let (head, rest) = name.split_once('.')?;
    find(object.get(head)?.as_object()?, rest)
}

fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::Null => Cell::Missing,
        Value::Bool(value) => Cell::Integer(i64::from(*value)),
        Value::String(text) => Cell::Text(Cow::from(text)),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => Cell::Integer(integer),
            // Hashes used as ids fill all 64 bits.
            (None, Some(integer), _) => Cell::Text(integer.to_string().into()),
            (None, None, Some(float)) => Cell::Float(float),
            (None, None, None) => Cell::Text(number.to_string().into()),
        },
        Value::Array(values) => {
            let texts: Vec<String> = values
                .iter()
                .filter(|value| !value.is_null())
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            Cell::Text(texts.join(", ").into())
        }
        Value::Object(_) => Cell::Text(value.to_string().into()),
    }
}
