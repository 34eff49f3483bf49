//! Columns of the tables by name, and the refusal of those that no feature may read.

use super::cell::Cell;
use super::moment;
use super::spec::{FeatureSpec, Side};
use crate::{DataError, Dataset, Items, UserColumn, Users};

/// A column of the users or of the items.
#[derive(Clone, Copy)]
pub(crate) enum Column<'a> {
    Ids(&'a [String]),
    Texts(&'a [Option<String>]),
    Numbers(&'a [Option<f64>]),
    Times(&'a [Option<i64>]),
}

impl<'a> Column<'a> {
    /// The value of one row, if it is there.
    pub(crate) fn get(&self, row: usize) -> Option<Cell<'a>> {
        match *self {
            Self::Ids(column) => Cell::text(column.get(row)?),
            Self::Texts(column) => Cell::text(column.get(row)?.as_deref()?),
            Self::Numbers(column) => Cell::number((*column.get(row)?)?),
            Self::Times(column) => Cell::number((*column.get(row)?)? as f64),
        }
    }

    pub(super) fn of_users(users: &'a Users, name: &str) -> Option<Self> {
        match users.columns.get(name) {
            Some(UserColumn::Categorical(column)) => Some(Self::Texts(column)),
            Some(UserColumn::Numeric(column)) => Some(Self::Numbers(column)),
            None => (name == "user_id").then_some(Self::Ids(&users.ids)),
        }
    }

    pub(super) fn of_items(items: &'a Items, name: &str) -> Option<Self> {
        match name {
            "item_id" => Some(Self::Ids(&items.ids)),
            "provider" => items.provider.as_deref().map(Self::Texts),
            "category" => items.category.as_deref().map(Self::Texts),
            "price" => items.price.as_deref().map(Self::Numbers),
            "created_at" => items.created_at.as_deref().map(Self::Times),
            _ => items.text.get(name).map(|column| Self::Texts(column)),
        }
    }
}

/// All columns of the users but their ids, by name.
pub(crate) fn user_columns(users: &Users) -> impl Iterator<Item = (&str, Column<'_>)> {
    users.columns.keys().filter_map(|name| Some((name.as_str(), Column::of_users(users, name)?)))
}

/// All columns of the items but their ids.
pub(crate) fn item_columns(items: &Items) -> impl Iterator<Item = (&str, Column<'_>)> {
    let canonical = ["provider", "category", "price", "created_at"];
    let names = canonical.into_iter().chain(items.text.keys().map(String::as_str));
    names.filter_map(|name| Some((name, Column::of_items(items, name)?)))
}

/// The column of the users or the items that a feature reads.
pub(super) fn find<'a>(
    dataset: &'a Dataset,
    spec: &FeatureSpec,
    of: Side,
    name: &str,
) -> Result<Column<'a>, DataError> {
    let (found, table, known): (_, _, Vec<&str>) = match of {
        Side::Item => {
            let known = ["item_id"].into_iter().chain(item_columns(&dataset.items).map(|(name, _)| name));
            (Column::of_items(&dataset.items, name), "items", known.collect())
        }
        _ => {
            let known = ["user_id"].into_iter().chain(user_columns(&dataset.users).map(|(name, _)| name));
            (Column::of_users(&dataset.users, name), "users", known.collect())
        }
    };
    found.ok_or_else(|| missing(dataset, spec, name, table, &known))
}

/// Checks the column of a moment that a feature reads.
pub(super) fn find_context(
    dataset: &Dataset,
    spec: &FeatureSpec,
    name: &str,
    real_times: bool,
) -> Result<(), DataError> {
    match name {
        "query" if dataset.events.query.is_none() => {
            Err(spec
                .wrong("column", "`query` is not among the columns of the events; map one, or leave the feature out"))
        }
        "hour" | "weekday" | "month" if !real_times => Err(spec.wrong(
            "column",
            format!("`{name}` needs times, and data set \"{}\" has none; leave the feature out", dataset.name),
        )),
        _ if moment::COLUMNS.contains(&name) => Ok(()),
        _ => Err(missing(dataset, spec, name, "moment of a request", &moment::COLUMNS)),
    }
}

/// Why there is no such column: it is feedback, or an event's other columns, or nothing of the sort.
fn missing(dataset: &Dataset, spec: &FeatureSpec, name: &str, table: &str, known: &[&str]) -> DataError {
    let why = match name {
        _ if dataset.events.feedback.contains_key(name) => {
            "which is feedback of the very event that is scored: nobody knows it before the event has happened. Past feedback is an \
             input already, as behaviour features and histories, which count only events before the one that is scored"
        }
        "position" | "propensity" => {
            "which says where and how readily the item was shown: that is known only once it is shown. Training corrects for it \
             already; scoring answers for an average position"
        }
        "timestamp" | "request_id" => {
            "which numbers the very event that is scored, and never comes again. Take `hour`, `weekday` or `month` with \
             of = \"event-context\""
        }
        _ => {
            let known = known.join("`, `");
            return spec.wrong("column", format!("there is no `{name}` of the {table}; there are `{known}`"));
        }
    };
    DataError::ForbiddenFeature { feature: spec.name.clone(), column: name.to_owned(), why: why.to_owned() }
}
