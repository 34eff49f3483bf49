//! Whether the tables of a data set fit together, asked once before anything indexes into them.

use crate::{DataError, Dataset, Events, Split, UserColumn};

/// Checks column lengths and indices, so that what follows can index without fear.
pub(crate) fn check(dataset: &Dataset) -> Result<(), DataError> {
    let wrong = |table: &'static str, column: &str, fault: String| DataError::Inconsistent {
        dataset: dataset.name.clone(),
        table,
        column: column.to_owned(),
        fault,
    };
    let lengths =
        |table, rows: usize, columns: Vec<(&str, usize)>| match columns.into_iter().find(|(_, len)| *len != rows) {
            None => Ok(()),
            Some((column, len)) => Err(wrong(table, column, format!("has {len} entries for {rows} rows"))),
        };
    let Dataset { items, users, events, .. } = dataset;

    let mut columns = named(items.text.iter(), Vec::len);
    columns.extend(length("provider", &items.provider));
    columns.extend(length("category", &items.category));
    columns.extend(length("price", &items.price));
    columns.extend(length("created_at", &items.created_at));
    lengths("items", items.len(), columns)?;

    let columns = named(users.columns.iter(), |column| match column {
        UserColumn::Categorical(values) => values.len(),
        UserColumn::Numeric(values) => values.len(),
    });
    lengths("users", users.len(), columns)?;

    let mut columns = named(events.feedback.iter(), Vec::len);
    columns.push(("item", events.item.len()));
    columns.extend(length("timestamp", &events.timestamp));
    columns.extend(length("request", &events.request));
    columns.extend(length("position", &events.position));
    columns.extend(length("propensity", &events.propensity));
    columns.extend(length("query", &events.query));
    lengths("events", events.len(), columns)?;

    let pointers =
        |column: &str, values: &[u32], rows: usize| match values.iter().position(|&value| value as usize >= rows) {
            None => Ok(()),
            Some(row) => {
                let value = values[row];
                let fault = format!("points at {column} {value} in row {row}, but there are {rows}");
                Err(wrong("events", column, fault))
            }
        };
    pointers("user", &events.user, users.len())?;
    pointers("item", &events.item, items.len())
}

/// [`check`], and whether the split was made for a log of this length.
pub(crate) fn check_with(dataset: &Dataset, split: &Split) -> Result<(), DataError> {
    check(dataset)?;
    let events = dataset.events.len();
    for rows in [split.part.len(), split.clock.len()] {
        if rows != events {
            return Err(DataError::SplitMismatch { split: rows, events, dataset: dataset.name.clone() });
        }
    }
    Ok(())
}

/// One feedback column, or an error that lists those there are.
pub(crate) fn feedback<'a>(dataset: &'a Dataset, column: &str) -> Result<&'a [f32], DataError> {
    feedback_of(&dataset.events, column, &dataset.name)
}

/// [`feedback`] of a log that belongs to the data set of this name.
pub(crate) fn feedback_of<'a>(events: &'a Events, column: &str, dataset: &str) -> Result<&'a [f32], DataError> {
    let feedback = &events.feedback;
    feedback.get(column).map(Vec::as_slice).ok_or_else(|| DataError::UnknownFeedback {
        column: column.to_owned(),
        dataset: dataset.to_owned(),
        known: feedback.keys().cloned().collect(),
    })
}

fn named<'a, T: 'a>(
    columns: impl Iterator<Item = (&'a String, &'a T)>,
    len: impl Fn(&T) -> usize,
) -> Vec<(&'a str, usize)> {
    columns.map(|(name, column)| (name.as_str(), len(column))).collect()
}

fn length<'a, T>(name: &'a str, column: &Option<Vec<T>>) -> Option<(&'a str, usize)> {
    column.as_ref().map(|values| (name, values.len()))
}
