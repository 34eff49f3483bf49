//! How to read one raw file.

use std::fmt;

use encoding_rs::{Encoding, UTF_8};
use serde::{Deserialize, Deserializer, de};

use super::short::Short;

/// A raw file: its path, or a table with the path and how to read it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileSpec {
    /// Relative to the folder that is imported.
    pub(crate) path: String,
    pub(crate) format: Format,
    /// Between fields; in sequences `None` stands for any white space.
    pub(crate) delimiter: Option<String>,
    /// Whether `"` at the start of a field quotes it.
    pub(crate) quote: bool,
    pub(crate) header: Header,
    /// Lines to leave out at the top.
    pub(crate) skip: usize,
    pub(crate) encoding: &'static Encoding,
    /// Replaced in every raw line before it is split, in this order.
    pub(crate) repair: Vec<(String, String)>,
    /// Where a record has too many fields, the surplus belongs to this column.
    pub(crate) spill: Option<String>,
    /// Whether text holds HTML entities.
    pub(crate) entities: bool,
    /// Whether text is UTF-8 that was taken for Latin-1 and encoded once more.
    pub(crate) double_encoded: bool,
}

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// Fields between commas, quoted where need be.
    Csv,
    /// Fields between tabs, not quoted.
    Tsv,
    /// One JSON object per line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// `user item item …` per line, the oldest first.
    Sequences,
    /// Two fields: what stands before the first delimiter, and the rest.
    SplitOnce,
}

/// Where the names of a text file's columns come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Header {
    /// The first line.
    FirstLine,
    /// The descriptor.
    Named(Vec<String>),
    /// There are none: columns are called `1`, `2`, ….
    Numbered,
}

impl Format {
    /// What the end of a file's name says.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let (_, extension) = path.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// The long form, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    path: String,
    format: Option<Format>,
    delimiter: Option<String>,
    quote: Option<bool>,
    header: Option<bool>,
    columns: Option<Vec<String>>,
    #[serde(default)]
    skip: usize,
    #[serde(default)]
    encoding: Label,
    #[serde(default)]
    repair: Vec<(String, String)>,
    spill: Option<String>,
    #[serde(default)]
    entities: bool,
    #[serde(default)]
    double_encoded: bool,
}

/// The name of an encoding.
struct Label(&'static Encoding);

impl Default for Label {
    fn default() -> Self {
        Self(UTF_8)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Label;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of an encoding")
            }

            fn visit_str<E: de::Error>(self, label: &str) -> Result<Label, E> {
                Encoding::for_label(label.as_bytes()).map(Label).ok_or_else(|| {
                    E::custom(format!(
                        "no encoding is called {label:?}; write a name as web browsers know it, such as \
                         `utf-8`, `windows-1252`, `iso-8859-15`, `shift_jis` or `utf-16le`"
                    ))
                })
            }
        }
        from.deserialize_str(Visitor)
    }
}

fn no_format(path: &str) -> String {
    format!(
        "the format of {path:?} cannot be told from its name; write \
         `file = {{ path = {path:?}, format = \"…\" }}` with csv, tsv, jsonl, parquet, sequences or split-once"
    )
}

impl Short for FileSpec {
    const EXPECTED: &'static str = "a file name, or a table with `path` and how to read it";

    fn from_text(path: &str) -> Result<Self, String> {
        let format = Format::of_path(path).ok_or_else(|| no_format(path))?;
        Ok(Self::plain(path, format))
    }

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        let long = Long::deserialize(table)?;
        let format = long
            .format
            .or_else(|| Format::of_path(&long.path))
            .ok_or_else(|| de::Error::custom(no_format(&long.path)))?;
        let header = match (long.columns, long.header) {
            (Some(_), Some(true)) => {
                return Err(de::Error::custom(
                    "`columns` names the columns of a file without a header; to replace a header, add `skip = 1` \
                     and leave `header` out",
                ));
            }
            (Some(columns), _) => Header::Named(columns),
            (None, Some(false)) => Header::Numbered,
            (None, _) => Header::FirstLine,
        };
        Ok(Self {
            path: long.path,
            format,
            delimiter: long.delimiter,
            quote: long.quote.unwrap_or(format == Format::Csv),
            header,
            skip: long.skip,
            encoding: long.encoding.0,
            repair: long.repair,
            spill: long.spill,
            entities: long.entities,
            double_encoded: long.double_encoded,
        })
    }
}

impl FileSpec {
    /// A file of which nothing but the format is known: UTF-8, its first line the header.
    pub(crate) fn plain(path: &str, format: Format) -> Self {
        Self {
            path: path.to_owned(),
            format,
            delimiter: None,
            quote: format == Format::Csv,
            header: Header::FirstLine,
            skip: 0,
            encoding: UTF_8,
            repair: Vec::new(),
            spill: None,
            entities: false,
            double_encoded: false,
        }
    }

    /// What does not fit together.
    pub(super) fn fault(&self) -> Option<String> {
        if self.path.is_empty() {
            return Some("`path` is empty".into());
        }
        if self.delimiter.as_deref() == Some("") {
            return Some("`delimiter` is empty".into());
        }
        if self.repair.iter().any(|(from, _)| from.is_empty()) {
            return Some("`repair` replaces an empty text".into());
        }
        let columns = match &self.header {
            Header::Named(columns) => columns.len(),
            _ => 0,
        };
        match self.format {
            Format::SplitOnce if columns != 2 => Some("a `split-once` file needs `columns` with two names".into()),
            Format::Parquet | Format::Jsonl | Format::Sequences if self.header != Header::FirstLine => {
                Some("the names of the columns are fixed by the format; leave `columns` and `header` out".into())
            }
            _ => None,
        }
    }

    /// What separates the fields of a delimited file.
    pub(crate) fn delimiter(&self) -> &str {
        self.delimiter.as_deref().unwrap_or(match self.format {
            Format::Tsv => "\t",
            Format::SplitOnce => " ",
            _ => ",",
        })
    }
}
