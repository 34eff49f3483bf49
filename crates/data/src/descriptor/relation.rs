//! A file of what items have to do with each other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::Value;

use super::FileSpec;

/// One `[[…relations]]`: `head, tail` rows, or `head, relation, tail` rows of several relations.
///
/// ```
/// use paretune_data::RelationFile;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("pairs.csv");
/// std::fs::write(&path, "item;with\nmug;cup\nmug;gone\n")?;
/// let relation: RelationFile = toml::from_str(&format!(
///     "name = \"bought together\"\nfile = {{ path = {path:?}, delimiter = \";\" }}\nweight = 0.5\nhead = \"item\"\ntail = \"with\""
/// ))?;
/// let relations = relation.read(&["cup".into(), "mug".into()])?;
/// assert_eq!((relations.rows, relations.unknown), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationFile {
    /// What the relation is called; of a file with several, the one that is meant.
    pub name: String,
    /// The file, and how to read it.
    pub file: RawFile,
    /// What an edge weighs; an interaction weighs 1.
    #[serde(default = "one")]
    pub weight: f32,
    /// What the tail is.
    #[serde(default)]
    pub to: RelationTo,
    /// The column of the item that a row is about.
    #[serde(default = "head")]
    pub head: String,
    /// The column of the relation's name; absent = `relation` if the file has one, else every row counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// The column of what the item is related to.
    #[serde(default = "tail")]
    pub tail: String,
}

fn one() -> f32 {
    1.0
}

fn head() -> String {
    "head".into()
}

fn tail() -> String {
    "tail".into()
}

/// What the tail of a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelationTo {
    /// The id of another item.
    #[default]
    Items,
    /// A name that other items may share: a brand, a series, an author.
    Attributes,
}

/// A raw file as descriptors write it: its path, or a table with `path`, `delimiter`, `columns` and whatever else says how to read it.
#[derive(Debug, Clone, PartialEq)]
pub struct RawFile {
    written: Value,
    pub(crate) spec: FileSpec,
}

impl RawFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        Path::new(&self.spec.path)
    }

    /// The same at another place.
    #[must_use]
    pub fn at(&self, path: PathBuf) -> Self {
        let mut moved = self.clone();
        moved.spec.path = path.display().to_string();
        match &mut moved.written {
            Value::Table(table) => drop(table.insert("path".into(), moved.spec.path.clone().into())),
            written => *written = moved.spec.path.clone().into(),
        }
        moved
    }
}

impl Serialize for RawFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(to)
    }
}

impl<'de> Deserialize<'de> for RawFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Value::deserialize(from)?;
        let spec: FileSpec =
            written.clone().try_into().map_err(|error: toml::de::Error| de::Error::custom(error.message()))?;
        match spec.fault() {
            Some(fault) => Err(de::Error::custom(fault)),
            None => Ok(Self { written, spec }),
        }
    }
}
