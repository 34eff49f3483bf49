//! Whether the tables of a data set fit together, asked before anything indexes into them.

use std::collections::HashMap;

use crate::{DataError, Dataset};

impl Dataset {
    /// Whether all columns have their table's length, ids are unique and events point into the tables.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let Self { items, users, events, .. } = self;
        let rows = items.len();
        for (name, column) in &items.text {
            length("items", name, column.len(), rows)?;
        }
        let lengths = [
            ("provider", items.provider.as_ref().map(Vec::len)),
            ("category", items.category.as_ref().map(Vec::len)),
            ("price", items.price.as_ref().map(Vec::len)),
            ("created_at", items.created_at.as_ref().map(Vec::len)),
        ];
        for (name, found) in lengths {
            length("items", name, found.unwrap_or(rows), rows)?;
        }
        let rows = users.len();
        for (name, column) in &users.columns {
            length("users", name, column.len(), rows)?;
        }
        let rows = events.len();
        let lengths = [
            ("item", Some(events.item.len())),
            ("timestamp", events.timestamp.as_ref().map(Vec::len)),
            ("request", events.request.as_ref().map(Vec::len)),
            ("position", events.position.as_ref().map(Vec::len)),
            ("propensity", events.propensity.as_ref().map(Vec::len)),
            ("query", events.query.as_ref().map(Vec::len)),
        ];
        for (name, found) in lengths {
            length("events", name, found.unwrap_or(rows), rows)?;
        }
        for (name, column) in &events.feedback {
            length("events", name, column.len(), rows)?;
        }
        unique("items", "item_id", &items.ids)?;
        unique("users", "user_id", &users.ids)?;
        within("user_id", &events.user, users.len())?;
        within("item_id", &events.item, items.len())
    }
}

fn length(table: &'static str, column: &str, found: usize, expected: usize) -> Result<(), DataError> {
    if found == expected {
        return Ok(());
    }
    Err(DataError::RaggedColumn { table, column: column.to_owned(), found, expected })
}

/// Whether no id of a table (or of the file it came from) is there twice.
pub(super) fn unique(file: &str, column: &str, ids: &[String]) -> Result<(), DataError> {
    let mut first = HashMap::with_capacity(ids.len());
    for (row, id) in ids.iter().enumerate() {
        if let Some(before) = first.insert(id.as_str(), row) {
            return Err(DataError::BadValue {
                file: file.to_owned(),
                row: row + 1,
                column: column.to_owned(),
                problem: format!("the id {id:?} is there already, in row {}", before + 1),
            });
        }
    }
    Ok(())
}

fn within(column: &str, indices: &[u32], length: usize) -> Result<(), DataError> {
    match indices.iter().position(|index| *index as usize >= length) {
        None => Ok(()),
        Some(row) => Err(DataError::BadValue {
            file: "events".to_owned(),
            row: row + 1,
            column: column.to_owned(),
            problem: format!("index {} points past the {length} rows there are", indices[row]),
        }),
    }
}
