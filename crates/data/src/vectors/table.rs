//! Vectors as a Parquet table.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::VectorParts;
use crate::store::flatten;

/// Bytes of vectors at which a row group ends; as many are held in memory.
const GROUP_BYTES: u64 = 1 << 25;

/// Writes all parts, and gives the file back to be synced.
pub(super) fn write(file: File, parts: &VectorParts, metadata: &BTreeMap<&str, &str>) -> io::Result<File> {
    let width = i32::try_from(parts.shape.width).map_err(io::Error::other)?;
    let element = Arc::new(Field::new("element", DataType::Float32, false));
    let first = match parts.shape.ids {
        true => Field::new("id", DataType::Utf8, false),
        false => Field::new("row", DataType::Int64, false),
    };
    let list = Field::new("embedding", DataType::FixedSizeList(Arc::clone(&element), width), false);
    let schema = Arc::new(Schema::new(vec![first, list]));
    let rows_per_group = (GROUP_BYTES / (4 * parts.shape.width).max(1)).max(1) as usize;
    let entries = metadata.iter().map(|(name, value)| KeyValue::new((*name).to_owned(), Some((*value).to_owned())));
    // Neither a dictionary nor compression makes floats smaller; the column's path is that of lists in Parquet.
    let column = ColumnPath::from(vec!["embedding".to_owned(), "list".to_owned(), "element".to_owned()]);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(column.clone(), false)
        .set_column_statistics_enabled(column, EnabledStatistics::None)
        .set_max_row_group_row_count(Some(rows_per_group))
        // The version of the library would change the bytes with every update of it.
        .set_created_by("paretune".to_owned())
        .set_key_value_metadata(Some(entries.collect()))
        .build();
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(flatten)?;
    let mut row = 0;
    parts.each_part(&mut |part, file| {
        let (vectors, ids) = part.read(file)?;
        let rows = part.rows as i64;
        let first: ArrayRef = match parts.shape.ids {
            true => Arc::new(StringArray::from_iter_values(ids)),
            false => Arc::new(Int64Array::from_iter_values(row..row + rows)),
        };
        row += rows;
        let values = Arc::new(Float32Array::from(vectors));
        let lists = FixedSizeListArray::try_new(Arc::clone(&element), width, values, None).map_err(io::Error::other)?;
        let batch =
            RecordBatch::try_new(Arc::clone(&schema), vec![first, Arc::new(lists)]).map_err(io::Error::other)?;
        writer.write(&batch).map_err(flatten)
    })?;
    writer.into_inner().map_err(flatten)
}
