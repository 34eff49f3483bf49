//! What a raw data set looks like, in TOML: which files, which columns mean what, what to mend.
//!
//! `docs/datasets.md` explains every key for those who write one.

mod column;
mod file;
mod relation;
mod short;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

pub(crate) use column::{FeedbackSpec, NumberSpec, TextSpec, TimeSpec, TimeUnit};
pub(crate) use file::{FileSpec, Format, Header};
pub use relation::{RawFile, RelationFile, RelationTo};

use crate::DataError;
use crate::store::{EVENT_COLUMNS, ITEM_COLUMNS};

/// How to turn a folder of raw files into a [`Dataset`](crate::Dataset).
///
/// A descriptor with neither `[items]` nor `[[events]]` describes a folder that holds the canonical tables already.
///
/// ```
/// use paretune_data::Descriptor;
///
/// let descriptor = Descriptor::parse("shop.toml", r#"
///     name = "shop"
///
///     [items]
///     file = "goods.tsv"
///     item_id = "sku"
///     text.title = "name"
///
///     [[events]]
///     file = { path = "orders.csv", delimiter = ";" }
///     user_id = "customer"
///     item_id = "sku"
///     timestamp = { column = "at", unit = "iso" }
///     feedback.conversion = 1
/// "#)?;
/// assert_eq!(descriptor.name, "shop");
///
/// let error = Descriptor::parse("shop.toml", "name = \"shop\"\nitem = 3").unwrap_err();
/// assert!(error.to_string().starts_with("shop.toml, line 2: unknown field `item`"));
/// # Ok::<(), paretune_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// Short name of the data set.
    pub name: String,
    /// Where it comes from.
    #[serde(default)]
    pub source: String,
    /// What may be done with it.
    #[serde(default)]
    pub licence: String,
    /// Passed through untouched, for whoever trains on the data.
    #[serde(default)]
    pub finetune: toml::Table,
    pub(crate) items: Option<ItemsSpec>,
    pub(crate) users: Option<UsersSpec>,
    #[serde(default)]
    pub(crate) events: Vec<EventsSpec>,
}

/// `[items]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemsSpec {
    pub(crate) file: FileSpec,
    pub(crate) item_id: String,
    #[serde(default)]
    pub(crate) text: BTreeMap<String, TextSpec>,
    pub(crate) provider: Option<TextSpec>,
    pub(crate) category: Option<TextSpec>,
    pub(crate) price: Option<NumberSpec>,
    pub(crate) created_at: Option<TimeSpec>,
    /// Whether items without any text stay.
    #[serde(default)]
    pub(crate) keep_empty: bool,
}

/// `[users]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersSpec {
    pub(crate) file: FileSpec,
    pub(crate) user_id: String,
    #[serde(default)]
    pub(crate) categories: BTreeMap<String, TextSpec>,
    #[serde(default)]
    pub(crate) numbers: BTreeMap<String, NumberSpec>,
}

/// One `[[events]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsSpec {
    pub(crate) file: FileSpec,
    pub(crate) user_id: String,
    pub(crate) item_id: String,
    pub(crate) timestamp: Option<TimeSpec>,
    pub(crate) request_id: Option<String>,
    pub(crate) position: Option<String>,
    pub(crate) propensity: Option<NumberSpec>,
    pub(crate) query: Option<TextSpec>,
    #[serde(default)]
    pub(crate) feedback: BTreeMap<String, FeedbackSpec>,
}

impl Descriptor {
    /// Reads a descriptor's file.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`] where the file cannot be read, else as [`Descriptor::parse`].
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = fs::read_to_string(path).map_err(DataError::io("read", path))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses a descriptor; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`DataError::Descriptor`] with the line and the field that is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, DataError> {
        let descriptor: Self = toml::from_str(text).map_err(|error| DataError::Descriptor {
            file: file.to_owned(),
            line: error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1),
            problem: error.message().trim_end().replace('\n', "; "),
        })?;
        match descriptor.fault() {
            None => Ok(descriptor),
            Some(problem) => Err(DataError::Descriptor { file: file.to_owned(), line: None, problem }),
        }
    }

    /// Whether the folder holds the canonical tables, so that there is nothing to import.
    pub(crate) fn is_canonical(&self) -> bool {
        self.items.is_none() && self.users.is_none() && self.events.is_empty()
    }

    /// What does not fit together.
    fn fault(&self) -> Option<String> {
        if self.name.trim().is_empty() {
            return Some("`name` is empty; give the data set a short name".into());
        }
        if self.events.is_empty() && !self.is_canonical() {
            return Some("there is no `[[events]]`; name the file of interactions".into());
        }
        let items = self.items.iter().map(|items| ("items".to_owned(), &items.file));
        let users = self.users.iter().map(|users| ("users".to_owned(), &users.file));
        let events = self.events.iter().enumerate();
        let events = events.map(|(n, events)| (format!("events[{n}]"), &events.file));
        for (table, file) in items.chain(users).chain(events) {
            if let Some(fault) = file.fault() {
                return Some(format!("`{table}.file`: {fault}"));
            }
        }
        let taken = |name: &str, reserved: &[&str]| reserved.contains(&name);
        if let Some(name) =
            self.items.iter().flat_map(|items| items.text.keys()).find(|name| taken(name, &ITEM_COLUMNS))
        {
            return Some(format!(
                "`items.text.{name}`: the name has a meaning of its own; write `items.{name}`, or choose another"
            ));
        }
        if let Some(users) = &self.users
            && let Some(name) =
                users.categories.keys().find(|name| taken(name, &["user_id"]) || users.numbers.contains_key(*name))
        {
            return Some(format!("`users.categories.{name}`: the name is taken; choose another"));
        }
        let feedback = self.events.iter().flat_map(|events| events.feedback.keys());
        if let Some(name) = feedback.into_iter().find(|name| taken(name, &EVENT_COLUMNS)) {
            return Some(format!("`events.feedback.{name}`: the name has a meaning of its own; choose another"));
        }
        for (what, count) in [
            ("timestamp", self.events.iter().filter(|events| events.timestamp.is_some()).count()),
            ("request_id", self.events.iter().filter(|events| events.request_id.is_some()).count()),
        ] {
            if count != 0 && count != self.events.len() {
                return Some(format!(
                    "`events.{what}` is given for {count} of {} files; rows are merged by it, so give it for all or for none",
                    self.events.len()
                ));
            }
        }
        None
    }
}
