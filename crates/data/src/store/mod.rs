//! The canonical tables as Parquet files.
//!
//! | file | needed columns | optional columns | any further columns |
//! | --- | --- | --- | --- |
//! | `items.parquet` | `item_id` | `provider`, `category`, `price`, `created_at` | text fields |
//! | `users.parquet` (may be absent) | `user_id` | | text: categories; numbers: numbers |
//! | `events.parquet` | `user_id`, `item_id` | `timestamp`, `request_id`, `position`, `propensity`, `query` | feedback, as numbers |
//!
//! Reading is lenient about types, since Spark, DuckDB, Polars and pandas each have their own habits; writing always makes the same
//! bytes of the same tables.

mod check;
mod column;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::fs::File;
use std::path::Path;

use bytes::Bytes;

pub(crate) use column::{Column, Table, guarded};
pub(crate) use read::{feedback, item_indices, positions, propensity, read_items, requests as read_requests};
pub(crate) use write::{Columns, encode, encode_at, flatten, ids, nullable, observed, texts, write_items};

use crate::{DataError, Dataset};

/// Names of the columns of `items.parquet` that are not text fields.
pub(crate) const ITEM_COLUMNS: [&str; 5] = ["item_id", "provider", "category", "price", "created_at"];
/// Names of the columns of `events.parquet` that are not feedback.
pub const EVENT_COLUMNS: [&str; 7] =
    ["user_id", "item_id", "timestamp", "request_id", "position", "propensity", "query"];

/// Key of the data set's name in the metadata of `items.parquet`.
pub(crate) const NAME_KEY: &str = "paretune.name";

impl Dataset {
    /// Reads `items.parquet`, `users.parquet` (which may be absent) and `events.parquet` from `folder`.
    ///
    /// Users that only the log knows are appended to the user table with no further columns known. The name is the one the tables
    /// were written with, else the folder's.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is not whole, a missing column, a column of another type, an id that occurs twice or is
    /// null, an event whose item is not in the catalogue, a number that is not finite.
    ///
    /// ```
    /// # use paretune_data::{Dataset, Events, Items, Users};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// let dataset = Dataset {
    ///     name: "tiny".into(),
    ///     items: Items { ids: vec!["tea".into(), "mug".into()], ..Items::default() },
    ///     users: Users { ids: vec!["ann".into()], ..Users::default() },
    ///     events: Events { user: vec![0], item: vec![1], ..Events::default() },
    /// };
    /// dataset.write(folder.path())?;
    /// assert_eq!(Dataset::read(folder.path())?, dataset);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let open = |name: &str| -> Result<Table, DataError> {
            let path = folder.join(name);
            let file = File::open(&path).map_err(DataError::io("open", &path))?;
            Table::read(&path.display().to_string(), file)
        };
        let items = open("items.parquet")?;
        let users = if folder.join("users.parquet").exists() { Some(open("users.parquet")?) } else { None };
        let events = open("events.parquet")?;
        let name = items.metadata.get(NAME_KEY).cloned().unwrap_or_else(|| {
            folder.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned())
        });
        read::dataset(name, &items, users.as_ref(), &events)
    }

    /// [`Dataset::read`] from memory, for tables that a program carries inside itself. `users` may be empty.
    ///
    /// # Errors
    ///
    /// As [`Dataset::read`]; messages name `NAME/items`, `NAME/users` or `NAME/events`.
    pub fn from_parquet(name: &str, items: &[u8], users: &[u8], events: &[u8]) -> Result<Self, DataError> {
        let open = |table: &str, bytes: &[u8]| Table::read(&format!("{name}/{table}"), Bytes::copy_from_slice(bytes));
        let items = open("items", items)?;
        let users = if users.is_empty() { None } else { Some(open("users", users)?) };
        let events = open("events", events)?;
        read::dataset(name.to_owned(), &items, users.as_ref(), &events)
    }

    /// Writes the three tables into `folder`, which is made if need be. The same tables always give the same bytes.
    ///
    /// Each file is written beside, synced and renamed, so a reader never finds half a file.
    ///
    /// # Errors
    ///
    /// A column whose length is not its table's, an event that points outside its tables, or what the operating system says.
    pub fn write(&self, folder: &Path) -> Result<(), DataError> {
        write::dataset(self, folder)
    }
}
