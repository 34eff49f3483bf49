//! Parquet files as raw data.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use arrow_array::Array;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::rows::{Cell, Each, Row, Wanted};
use crate::DataError;
use crate::store::{Column, guarded};

/// Reads the wanted columns of a Parquet file, some thousand rows at a time.
pub(super) fn scan(
    path: &Path,
    wanted: &Wanted,
    tick: &mut dyn FnMut(u64),
    each: &mut Each<'_>,
) -> Result<(), DataError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let builder = guarded(&name, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let total = builder.metadata().file_metadata().num_rows().max(1) as f64;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let places = wanted.places(&name, &names)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), places.iter().copied());
    let builder = builder.with_projection(mask).with_batch_size(8_192);
    let mut reader = guarded(&name, || builder.build())?;
    let mut line = 0;
    while let Some(batch) = guarded(&name, || reader.next().transpose())? {
        let mut columns = Vec::with_capacity(wanted.names.len());
        for column in &wanted.names {
            let array = batch.column_by_name(column).ok_or_else(|| DataError::missing_column(&name, column, &names))?;
            let chunk = guarded(&name, || Column::new(array))?;
            columns.push(chunk.ok_or_else(|| DataError::WrongType {
                file: name.clone(),
                column: column.clone(),
                found: array.data_type().to_string(),
                expected: "text, a number, a boolean or a time",
            })?);
        }
        for row in 0..batch.num_rows() {
            line += 1;
            let cells: Vec<Cell<'_>> = columns.iter().map(|column| cell(column, row)).collect();
            each(Row { line, raw: None, cells: Ok(&cells) })?;
        }
        tick((bytes as f64 * (line as f64 / total).min(1.0)) as u64);
    }
    tick(bytes);
    Ok(())
}

fn cell(column: &Column, row: usize) -> Cell<'_> {
    match column {
        Column::Text(array) if array.is_valid(row) => Cell::Text(Cow::from(array.value(row))),
        Column::Integer(array) if array.is_valid(row) => Cell::Integer(array.value(row)),
        Column::Float(array) if array.is_valid(row) => Cell::Float(array.value(row)),
        Column::Time(array) if array.is_valid(row) => Cell::Time(array.value(row)),
        _ => Cell::Missing,
    }
}
