//! Vectors in a column of a Parquet table.

use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef};
use arrow_cast::cast;
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Rows, VectorFile};
use crate::DataError;
use crate::store::{Column, guarded};

/// Rows that are decoded at a time.
const ROWS: usize = 1 << 10;

/// Reads all rows; those whose vector is null say nothing.
pub(super) fn read(spec: &VectorFile, file: File, rows: &mut Rows<'_>) -> Result<(), DataError> {
    let name = rows.file.clone();
    let id = spec.id_column.as_deref().unwrap_or("id");
    let vectors = spec.column.as_deref().unwrap_or("embedding");
    let builder = guarded(&name, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let place = |column: &str| {
        let place = names.iter().position(|name| name == column);
        place.ok_or_else(|| DataError::missing_column(&name, column, &names))
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [place(id)?, place(vectors)?]);
    let mut reader = guarded(&name, || builder.with_projection(mask).with_batch_size(ROWS).build())?;
    let mut number = 0;
    while let Some(batch) = guarded(&name, || reader.next().transpose())? {
        let column =
            |column: &str| batch.column_by_name(column).ok_or_else(|| DataError::missing_column(&name, column, &names));
        let (id_array, lists) = (column(id)?, column(vectors)?);
        let ids = guarded(&name, || Column::new(id_array))?;
        let wrong = |column: &str, found: &ArrayRef, expected| DataError::WrongType {
            file: name.clone(),
            column: column.to_owned(),
            found: found.data_type().to_string(),
            expected,
        };
        let ids = ids.ok_or_else(|| wrong(id, id_array, "text or a number"))?;
        let lists = Lists::new(lists).ok_or_else(|| wrong(vectors, lists, "lists of floats"))?;
        for row in 0..batch.num_rows() {
            number += 1;
            let bad = |column: &str, problem: String| DataError::BadRow {
                file: name.clone(),
                unit: "row",
                number,
                column: Some(column.to_owned()),
                problem,
            };
            let id = text(&ids, row).filter(|id| !id.is_empty());
            let id_value = id.ok_or_else(|| {
                bad(spec.id_column.as_deref().unwrap_or("id"), "the id is missing; give every row one".into())
            })?;
            let Some((begin, end)) = lists.place(row) else { continue };
            if let Some(null) = (begin..end).find(|place| lists.values.is_null(*place)) {
                let problem = format!("number {} of the vector is null; leave the row out", null - begin + 1);
                return Err(bad(vectors, problem));
            }
            rows.push(number, &id_value, &lists.values.as_primitive::<Float32Type>().values()[begin..end])?;
        }
    }
    Ok(())
}

fn text(column: &Column, row: usize) -> Option<String> {
    match column {
        Column::Text(array) => array.is_valid(row).then(|| array.value(row).to_owned()),
        Column::Integer(array) | Column::Time(array) => array.is_valid(row).then(|| array.value(row).to_string()),
        Column::Float(array) => array.is_valid(row).then(|| array.value(row).to_string()),
    }
}

/// A chunk of a column of lists.
struct Lists {
    lists: ArrayRef,
    /// All numbers of the chunk as `f32`.
    values: ArrayRef,
}

impl Lists {
    /// `None` where the column holds something else.
    fn new(lists: &ArrayRef) -> Option<Self> {
        let values = match lists.data_type() {
            DataType::FixedSizeList(..) => lists.as_fixed_size_list().values(),
            DataType::List(_) => lists.as_list::<i32>().values(),
            DataType::LargeList(_) => lists.as_list::<i64>().values(),
            _ => return None,
        };
        let float = matches!(values.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64);
        let values = float.then(|| cast(values, &DataType::Float32).ok()).flatten()?;
        Some(Self { lists: lists.clone(), values })
    }

    /// Where the numbers of a row begin and end; `None` for a null.
    fn place(&self, row: usize) -> Option<(usize, usize)> {
        if self.lists.is_null(row) {
            return None;
        }
        Some(match self.lists.data_type() {
            DataType::FixedSizeList(..) => {
                let lists = self.lists.as_fixed_size_list();
                let begin = lists.value_offset_at(row);
                (begin, begin + lists.value_length() as usize)
            }
            DataType::LargeList(_) => {
                let offsets = self.lists.as_list::<i64>().value_offsets();
                (offsets[row] as usize, offsets[row + 1] as usize)
            }
            _ => {
                let offsets = self.lists.as_list::<i32>().value_offsets();
                (offsets[row] as usize, offsets[row + 1] as usize)
            }
        })
    }
}
