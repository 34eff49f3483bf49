//! From a [`Dataset`] to Parquet tables.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::NAME_KEY;
use crate::atomic::Replacement;
use crate::{DataError, Dataset, Events, Items, UserColumn};

/// Rows that are turned to Arrow at a time; bounds the memory, and fixes the bytes.
const ROWS_PER_BATCH: usize = 65_536;

/// Named columns of one length.
pub(crate) type Columns = Vec<(String, ArrayRef)>;

pub(super) fn dataset(dataset: &Dataset, folder: &Path) -> Result<(), DataError> {
    dataset.check()?;
    let name = Some(dataset.name.as_str());
    let Dataset { items, users, events, .. } = dataset;
    write_items(items, name, &folder.join("items.parquet"))?;

    table(&folder.join("users.parquet"), None, users.len(), &|rows| {
        let mut columns: Columns = vec![("user_id".into(), ids(&users.ids[rows.clone()]))];
        for (name, column) in &users.columns {
            let column = match column {
                UserColumn::Categorical(column) => texts(&column[rows.clone()]),
                UserColumn::Numeric(column) => numbers(&column[rows.clone()]),
            };
            columns.push((name.clone(), column));
        }
        columns
    })?;

    table(&folder.join("events.parquet"), None, events.len(), &|rows| {
        let mut columns: Columns = vec![
            ("user_id".into(), looked_up(&users.ids, &events.user[rows.clone()])),
            ("item_id".into(), looked_up(&items.ids, &events.item[rows.clone()])),
        ];
        columns.extend(event_columns(events, rows));
        columns
    })
}

/// Writes one table whole or not at all.
fn table(
    path: &Path,
    name: Option<&str>,
    rows: usize,
    columns: &dyn Fn(std::ops::Range<usize>) -> Columns,
) -> Result<(), DataError> {
    let mut file = Replacement::new(path)?;
    let written = encode(&mut file, name, rows, columns);
    written.map_err(DataError::io("write", file.target()))?;
    file.commit()
}

/// Writes the catalogue alone, with the name of its data set.
pub(crate) fn write_items(items: &Items, name: Option<&str>, path: &Path) -> Result<(), DataError> {
    table(path, name, items.len(), &|rows| {
        let mut columns: Columns = vec![("item_id".into(), ids(&items.ids[rows.clone()]))];
        for (name, column) in [("provider", &items.provider), ("category", &items.category)] {
            if let Some(column) = column {
                columns.push((name.into(), texts(&column[rows.clone()])));
            }
        }
        if let Some(column) = &items.price {
            columns.push(("price".into(), numbers(&column[rows.clone()])));
        }
        if let Some(column) = &items.created_at {
            let times = Int64Array::from_iter(column[rows.clone()].iter().copied());
            columns.push(("created_at".into(), Arc::new(times)));
        }
        for (name, column) in &items.text {
            columns.push((name.clone(), texts(&column[rows.clone()])));
        }
        columns
    })
}

fn event_columns(events: &Events, rows: std::ops::Range<usize>) -> Columns {
    let mut columns: Columns = Vec::new();
    if let Some(column) = &events.timestamp {
        let times = Int64Array::from(column[rows.clone()].to_vec());
        columns.push(("timestamp".into(), Arc::new(times)));
    }
    if let Some(column) = &events.request {
        let requests = Int64Array::from_iter_values(column[rows.clone()].iter().map(|n| i64::from(*n)));
        columns.push(("request_id".into(), Arc::new(requests)));
    }
    if let Some(column) = &events.position {
        let positions = Int32Array::from_iter_values(column[rows.clone()].iter().map(|n| i32::from(*n)));
        columns.push(("position".into(), Arc::new(positions)));
    }
    if let Some(column) = &events.propensity {
        columns.push(("propensity".into(), observed(&column[rows.clone()])));
    }
    if let Some(column) = &events.query {
        columns.push(("query".into(), texts(&column[rows.clone()])));
    }
    for (name, column) in &events.feedback {
        columns.push((name.clone(), observed(&column[rows.clone()])));
    }
    columns
}

/// Encodes a table of `rows` rows, whose columns `columns` gives for any range of rows.
pub(crate) fn encode(
    to: &mut (impl Write + Send),
    name: Option<&str>,
    rows: usize,
    columns: &dyn Fn(std::ops::Range<usize>) -> Columns,
) -> io::Result<()> {
    encode_at(9, to, name, rows, columns)
}

/// [`encode`] at a level of Zstandard's, 1 to 22.
pub(crate) fn encode_at(
    level: i32,
    to: &mut (impl Write + Send),
    name: Option<&str>,
    rows: usize,
    columns: &dyn Fn(std::ops::Range<usize>) -> Columns,
) -> io::Result<()> {
    let metadata = name.map(|name| vec![KeyValue::new(NAME_KEY.to_owned(), Some(name.to_owned()))]);
    let level = ZstdLevel::try_new(level).map_err(flatten)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        // The version of the library would change the bytes with every update of it.
        .set_created_by("paretune".to_owned())
        .set_key_value_metadata(metadata)
        .build();
    let mut start = 0;
    let mut batch = RecordBatch::try_from_iter_with_nullable(nullable(columns(0..rows.min(ROWS_PER_BATCH))))
        .map_err(|error| flatten(error.into()))?;
    let mut writer = ArrowWriter::try_new(to, batch.schema(), Some(properties)).map_err(flatten)?;
    loop {
        writer.write(&batch).map_err(flatten)?;
        start += batch.num_rows();
        if start >= rows {
            break;
        }
        let next = columns(start..rows.min(start + ROWS_PER_BATCH));
        batch = RecordBatch::try_from_iter_with_nullable(nullable(next)).map_err(|error| flatten(error.into()))?;
    }
    writer.close().map_err(flatten)?;
    Ok(())
}

/// Ids are never null; everything else may be.
pub(crate) fn nullable(columns: Columns) -> impl Iterator<Item = (String, ArrayRef, bool)> {
    columns.into_iter().map(|(name, column)| {
        let id = matches!(name.as_str(), "item_id" | "user_id");
        (name, column, !id)
    })
}

/// Digs out what the operating system said, such as "no space left on device".
pub(crate) fn flatten(error: ParquetError) -> io::Error {
    let error = match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => return *error,
            Err(inner) => match inner.downcast::<ArrowError>() {
                Ok(error) => match *error {
                    ArrowError::IoError(_, error) => return error,
                    other => ParquetError::External(Box::new(other)),
                },
                Err(inner) => ParquetError::External(inner),
            },
        },
        other => other,
    };
    io::Error::other(error)
}

pub(crate) fn ids(ids: &[String]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(ids))
}

fn looked_up(ids: &[String], rows: &[u32]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &ids[*row as usize])))
}

pub(crate) fn texts(column: &[Option<String>]) -> ArrayRef {
    Arc::new(StringArray::from_iter(column.iter().map(Option::as_deref)))
}

fn numbers(column: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from_iter(column.iter().copied()))
}

/// `NaN`, not observed, becomes null.
pub(crate) fn observed(column: &[f32]) -> ArrayRef {
    let values = column.iter().map(|value| (!value.is_nan()).then_some(*value));
    Arc::new(Float32Array::from_iter(values))
}
