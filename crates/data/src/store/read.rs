//! From Parquet tables to a [`Dataset`].

use std::collections::{BTreeMap, HashMap};

use super::check::unique;
use super::{EVENT_COLUMNS, ITEM_COLUMNS, Table};
use crate::{DataError, Dataset, Events, Items, UserColumn, Users};

pub(super) fn dataset(
    name: String,
    items: &Table,
    users: Option<&Table>,
    events: &Table,
) -> Result<Dataset, DataError> {
    let items = read_items(items)?;
    let mut users = users.map(read_users).transpose()?.unwrap_or_default();
    let events = read_events(events, &items, &mut users)?;
    Ok(Dataset { name, items, users, events })
}

pub(crate) fn read_items(table: &Table) -> Result<Items, DataError> {
    let ids = table.ids("item_id")?;
    unique(&table.file, "item_id", &ids)?;
    let mut text = BTreeMap::new();
    for name in table.names().filter(|name| !ITEM_COLUMNS.contains(name)) {
        if let Some(column) = table.texts(name)? {
            text.insert(name.to_owned(), column);
        }
    }
    Ok(Items {
        ids,
        text,
        provider: table.texts("provider")?,
        category: table.texts("category")?,
        price: table.numbers("price")?,
        created_at: table.integers("created_at")?,
    })
}

fn read_users(table: &Table) -> Result<Users, DataError> {
    let ids = table.ids("user_id")?;
    unique(&table.file, "user_id", &ids)?;
    let mut columns = BTreeMap::new();
    for name in table.names().filter(|name| *name != "user_id") {
        let column = if table.is_text(name) {
            table.texts(name)?.map(UserColumn::Categorical)
        } else {
            table.numbers(name)?.map(UserColumn::Numeric)
        };
        if let Some(column) = column {
            columns.insert(name.to_owned(), column);
        }
    }
    Ok(Users { ids, columns })
}

fn read_events(table: &Table, items: &Items, users: &mut Users) -> Result<Events, DataError> {
    let known: HashMap<&str, u32> = items.ids.iter().map(String::as_str).zip(0..).collect();
    let item = item_indices(table, &known)?;
    let mut known: HashMap<String, u32> = users.ids.iter().cloned().zip(0..).collect();
    let user: Vec<u32> = table
        .ids("user_id")?
        .into_iter()
        .map(|id| {
            *known.entry(id).or_insert_with_key(|id| {
                users.push_unknown(id.clone());
                users.ids.len() as u32 - 1
            })
        })
        .collect();

    let mut events = Events {
        user,
        item,
        timestamp: timestamps(table)?,
        request: requests(table)?,
        position: positions(table)?,
        propensity: propensity(table)?,
        query: table.texts("query")?,
        feedback: feedback(table)?,
    };
    events.sort();
    Ok(events)
}

/// The index of each row's item.
pub(crate) fn item_indices(table: &Table, known: &HashMap<&str, u32>) -> Result<Vec<u32>, DataError> {
    let unknown = |row, id: &str| table.bad_value(row, "item_id", format!("no item has the id {id:?}"));
    let index = |(row, id): (usize, &String)| known.get(id.as_str()).copied().ok_or_else(|| unknown(row, id));
    table.ids("item_id")?.iter().enumerate().map(index).collect()
}

/// Every column of numbers that is not one of the format's own.
pub(crate) fn feedback(table: &Table) -> Result<BTreeMap<String, Vec<f32>>, DataError> {
    let mut feedback = BTreeMap::new();
    for name in table.names().filter(|name| !EVENT_COLUMNS.contains(name)) {
        if let Some(numbers) = table.numbers(name)? {
            feedback.insert(name.to_owned(), to_f32(table, name, &numbers)?);
        }
    }
    Ok(feedback)
}

pub(crate) fn propensity(table: &Table) -> Result<Option<Vec<f32>>, DataError> {
    table.numbers("propensity")?.map(|numbers| to_f32(table, "propensity", &numbers)).transpose()
}

fn to_f32(table: &Table, name: &str, numbers: &[Option<f64>]) -> Result<Vec<f32>, DataError> {
    let narrow = |(row, number): (usize, &Option<f64>)| match *number {
        Some(number) if !(number as f32).is_finite() => {
            Err(table.bad_value(row, name, format!("{number} is too large")))
        }
        number => Ok(number.map_or(f32::NAN, |number| number as f32)),
    };
    numbers.iter().enumerate().map(narrow).collect()
}

fn timestamps(table: &Table) -> Result<Option<Vec<i64>>, DataError> {
    let Some(column) = table.integers("timestamp")? else {
        return Ok(None);
    };
    if !column.is_empty() && column.iter().all(Option::is_none) {
        return Ok(None);
    }
    let null = "the time is null; give every event a time, or none";
    column
        .into_iter()
        .enumerate()
        .map(|(row, time)| time.ok_or_else(|| table.bad_value(row, "timestamp", null.to_owned())))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Small whole numbers stay what they are, so that a table survives being written and read; other ids are numbered as they come.
pub(crate) fn requests(table: &Table) -> Result<Option<Vec<u32>>, DataError> {
    let Some(texts) = table.texts("request_id")? else {
        return Ok(None);
    };
    let ids: Vec<String> = texts
        .into_iter()
        .enumerate()
        .map(|(row, id)| id.ok_or_else(|| table.bad_value(row, "request_id", "the id is null".into())))
        .collect::<Result<_, _>>()?;
    let plain: Option<Vec<u32>> = ids.iter().map(|id| id.parse().ok().filter(|n: &u32| n.to_string() == *id)).collect();
    Ok(Some(plain.unwrap_or_else(|| number_as_they_come(&ids))))
}

/// Dense numbers in order of first appearance.
fn number_as_they_come(ids: &[String]) -> Vec<u32> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    ids.iter()
        .map(|id| {
            let next = numbers.len() as u32;
            *numbers.entry(id).or_insert(next)
        })
        .collect()
}

pub(crate) fn positions(table: &Table) -> Result<Option<Vec<u16>>, DataError> {
    let Some(column) = table.integers("position")? else {
        return Ok(None);
    };
    column
        .into_iter()
        .enumerate()
        .map(|(row, position)| {
            u16::try_from(position.unwrap_or(0)).map_err(|_| {
                let problem = format!("{} is not within 0 … 65535", position.unwrap_or(0));
                table.bad_value(row, "position", problem)
            })
        })
        .collect::<Result<_, _>>()
        .map(Some)
}
