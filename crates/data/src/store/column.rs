//! Parquet columns of whatever type, as the four kinds of value that this crate knows.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatchReader, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use crate::DataError;

/// One chunk of a column.
#[derive(Debug)]
pub(crate) enum Column {
    /// Strings and dictionaries of strings.
    Text(StringArray),
    /// Integers and booleans.
    Integer(PrimitiveArray<Int64Type>),
    /// Floats and decimals.
    Float(PrimitiveArray<Float64Type>),
    /// Dates and timestamps, in seconds since 1970.
    Time(PrimitiveArray<Int64Type>),
}

impl Column {
    /// Takes in an Arrow array; `None` where its type is none that a table may hold (lists, structs, bytes, …).
    pub(crate) fn new(array: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        use DataType::{
            Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary, Float16, Float32,
            Float64, Int8, Int16, Int32, Int64, LargeUtf8, Null, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8,
            Utf8View,
        };
        Ok(Some(match array.data_type() {
            Utf8 | LargeUtf8 | Utf8View => Self::Text(strings(array)?),
            Dictionary(_, values) => return Self::new(&cast(array, values)?),
            Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => {
                Self::Integer(primitive(array, &Int64)?)
            }
            // Hashes used as ids fill all 64 bits.
            UInt64 => match primitive(array, &Int64) {
                Ok(integers) => Self::Integer(integers),
                Err(_) => Self::Text(strings(array)?),
            },
            Null | Float16 | Float32 | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => {
                Self::Float(primitive(array, &Float64)?)
            }
            Date32 | Date64 | Timestamp(..) => {
                let seconds = cast(array, &Timestamp(TimeUnit::Second, None))?;
                Self::Time(primitive(&seconds, &Int64)?)
            }
            _ => return Ok(None),
        }))
    }

    /// The values as text.
    fn texts(&self, out: &mut Vec<Option<String>>) {
        match self {
            Self::Text(array) => out.extend(array.iter().map(|text| text.map(str::to_owned))),
            Self::Integer(array) | Self::Time(array) => {
                out.extend(array.iter().map(|number| number.map(|n| n.to_string())));
            }
            Self::Float(array) => {
                out.extend(array.iter().map(|number| number.map(|n| n.to_string())));
            }
        }
    }

    /// The values as numbers; `false` where they are none.
    fn numbers(&self, out: &mut Vec<Option<f64>>) -> bool {
        match self {
            Self::Text(array) if array.null_count() < array.len() => return false,
            Self::Text(array) => out.extend(std::iter::repeat_n(None, array.len())),
            Self::Integer(array) | Self::Time(array) => {
                out.extend(array.iter().map(|number| number.map(|n| n as f64)));
            }
            Self::Float(array) => out.extend(array.iter().map(|n| n.filter(|n| !n.is_nan()))),
        }
        true
    }

    /// The values as whole numbers, rounded down; `false` where they are none.
    fn integers(&self, out: &mut Vec<Option<i64>>) -> bool {
        match self {
            Self::Text(array) if array.null_count() < array.len() => return false,
            Self::Text(array) => out.extend(std::iter::repeat_n(None, array.len())),
            Self::Integer(array) | Self::Time(array) => out.extend(array.iter()),
            Self::Float(array) => out.extend(array.iter().map(|n| n.filter(|n| !n.is_nan()).map(|n| n.floor() as i64))),
        }
        true
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &strict)
}

fn strings(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let array = cast(array, &DataType::Utf8)?;
    array
        .as_any()
        .downcast_ref::<StringArray>()
        .cloned()
        .ok_or_else(|| ArrowError::CastError("a cast to Utf8 gave something else".into()))
}

fn primitive<T: arrow_array::types::ArrowPrimitiveType>(
    array: &ArrayRef,
    to: &DataType,
) -> Result<PrimitiveArray<T>, ArrowError> {
    let array = cast(array, to)?;
    array
        .as_any()
        .downcast_ref::<PrimitiveArray<T>>()
        .cloned()
        .ok_or_else(|| ArrowError::CastError(format!("a cast to {to} gave something else")))
}

/// Runs one step of decoding `file`. The decoder panics on some damaged files where it should report them.
pub(crate) fn guarded<T, E: Display>(file: &str, step: impl FnOnce() -> Result<T, E>) -> Result<T, DataError> {
    // Nothing that the step touches is used again after an error.
    let problem = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its parts contradict each other".to_owned(),
    };
    Err(DataError::Parquet { file: file.to_owned(), problem })
}

/// A whole Parquet file in memory.
#[derive(Debug)]
pub(crate) struct Table {
    /// What messages call it.
    pub(crate) file: String,
    pub(crate) rows: usize,
    /// Rows of the file before these, where only a part of it was read.
    first: usize,
    /// Key-value metadata of the file.
    pub(crate) metadata: BTreeMap<String, String>,
    names: Vec<(String, DataType)>,
    /// Per column its chunks; `None` where the type is not supported.
    columns: Vec<Option<Vec<Column>>>,
}

impl Table {
    /// Reads every column of a Parquet file.
    pub(crate) fn read(file: &str, from: impl ChunkReader + 'static) -> Result<Self, DataError> {
        let builder = guarded(file, || ParquetRecordBatchReaderBuilder::try_new(from))?;
        let metadata = builder
            .metadata()
            .file_metadata()
            .key_value_metadata()
            .into_iter()
            .flatten()
            .filter_map(|entry| Some((entry.key.clone(), entry.value.clone()?)))
            .collect();
        let names: Vec<(String, DataType)> =
            builder.schema().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
        let mut columns: Vec<Option<Vec<Column>>> = names.iter().map(|_| Some(vec![])).collect();
        let mut rows = 0;
        let mut reader = guarded(file, || builder.build())?;
        while let Some(batch) = guarded(file, || reader.next().transpose())? {
            rows += batch.num_rows();
            for (chunks, array) in columns.iter_mut().zip(batch.columns()) {
                let chunk = guarded(file, || Column::new(array))?;
                match (chunk, chunks.as_mut()) {
                    (Some(chunk), Some(chunks)) => chunks.push(chunk),
                    _ => *chunks = None,
                }
            }
        }
        Ok(Self { file: file.to_owned(), rows, first: 0, metadata, names, columns })
    }

    /// Reads a file in parts of at most `rows` rows, and of all its columns or, if they are given, of those with these names alone.
    /// Only one part is in memory at a time.
    pub(crate) fn parts(
        file: &str,
        from: impl ChunkReader + 'static,
        rows: usize,
        only: Option<&[&str]>,
    ) -> Result<impl Iterator<Item = Result<Self, DataError>>, DataError> {
        let mut builder = guarded(file, || ParquetRecordBatchReaderBuilder::try_new(from))?.with_batch_size(rows);
        if let Some(only) = only {
            let mask = ProjectionMask::columns(builder.parquet_schema(), only.iter().copied());
            builder = builder.with_projection(mask);
        }
        let mut reader = guarded(file, || builder.build())?;
        let names: Vec<(String, DataType)> =
            reader.schema().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
        let (file, mut first, mut failed) = (file.to_owned(), 0, false);
        Ok(std::iter::from_fn(move || {
            // The decoder is not to be asked again after an error.
            if failed {
                return None;
            }
            let part = (|| {
                let Some(batch) = guarded(&file, || reader.next().transpose())? else { return Ok(None) };
                let column = |array| Ok(guarded(&file, || Column::new(array))?.map(|column| vec![column]));
                let columns = batch.columns().iter().map(column).collect::<Result<_, DataError>>()?;
                let (names, metadata, rows) = (names.clone(), BTreeMap::new(), batch.num_rows());
                Ok(Some(Self { file: file.clone(), rows, first, metadata, names, columns }))
            })();
            failed = part.is_err();
            first += part.as_ref().map_or(0, |part| part.as_ref().map_or(0, |part: &Self| part.rows));
            part.transpose()
        }))
    }

    /// Names of the columns, in the order of the file.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the column holds text. Of an empty table the declared type decides.
    pub(crate) fn is_text(&self, name: &str) -> bool {
        let Some(index) = self.index(name) else {
            return false;
        };
        match self.columns[index].as_deref() {
            Some([]) => {
                matches!(&self.names[index].1, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
                    || matches!(&self.names[index].1, DataType::Dictionary(..))
            }
            Some(chunks) => chunks.iter().any(|chunk| matches!(chunk, Column::Text(_))),
            None => false,
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.names().position(|there| there == name)
    }

    fn wrong_type(&self, index: usize, expected: &'static str) -> DataError {
        let (name, kind) = &self.names[index];
        DataError::WrongType { file: self.file.clone(), column: name.clone(), found: kind.to_string(), expected }
    }

    fn chunks(&self, index: usize, expected: &'static str) -> Result<&[Column], DataError> {
        self.columns[index].as_deref().ok_or_else(|| self.wrong_type(index, expected))
    }

    /// A column as text; `None` where there is no such column.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<Option<String>>>, DataError> {
        let Some(index) = self.index(name) else {
            return Ok(None);
        };
        let mut out = Vec::with_capacity(self.rows);
        for chunk in self.chunks(index, "text (or numbers)")? {
            chunk.texts(&mut out);
        }
        Ok(Some(out))
    }

    /// A column as finite numbers; `None` where there is no such column.
    pub(crate) fn numbers(&self, name: &str) -> Result<Option<Vec<Option<f64>>>, DataError> {
        const EXPECTED: &str = "numbers, booleans or times";
        let Some(index) = self.index(name) else {
            return Ok(None);
        };
        let mut out = Vec::with_capacity(self.rows);
        for chunk in self.chunks(index, EXPECTED)? {
            if !chunk.numbers(&mut out) {
                return Err(self.wrong_type(index, EXPECTED));
            }
        }
        match out.iter().position(|n| n.is_some_and(|n| !n.is_finite())) {
            Some(row) => Err(self.bad_value(row, name, "the number is infinite".into())),
            None => Ok(Some(out)),
        }
    }

    /// A column as whole numbers, times as seconds since 1970; `None` where there is no such column.
    pub(crate) fn integers(&self, name: &str) -> Result<Option<Vec<Option<i64>>>, DataError> {
        const EXPECTED: &str = "whole numbers or times";
        let Some(index) = self.index(name) else {
            return Ok(None);
        };
        let mut out = Vec::with_capacity(self.rows);
        for chunk in self.chunks(index, EXPECTED)? {
            if !chunk.integers(&mut out) {
                return Err(self.wrong_type(index, EXPECTED));
            }
        }
        Ok(Some(out))
    }

    /// A column that must be there, with no nulls.
    pub(crate) fn ids(&self, name: &str) -> Result<Vec<String>, DataError> {
        let texts = self.texts(name)?.ok_or_else(|| DataError::missing_column(&self.file, name, self.names()))?;
        texts
            .into_iter()
            .enumerate()
            .map(|(row, id)| id.ok_or_else(|| self.bad_value(row, name, "the id is null".into())))
            .collect()
    }

    /// A value that the schema does not allow; `row` counts from 0, from the first of the rows that were read.
    pub(crate) fn bad_value(&self, row: usize, column: &str, problem: String) -> DataError {
        DataError::BadValue { file: self.file.clone(), row: self.first + row + 1, column: column.to_owned(), problem }
    }
}
