//! Rows of a log as they travel from a source into shards: users by id, items by index.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Int32Array, Int64Array};

use crate::store::{Columns, Table, feedback, ids, item_indices, observed, positions, propensity, texts};
use crate::{DataError, Dataset};

/// Columns of one length.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) user: Vec<String>,
    pub(super) item: Vec<u32>,
    pub(super) timestamp: Vec<i64>,
    pub(super) request: Option<Vec<Option<String>>>,
    pub(super) position: Option<Vec<u16>>,
    pub(super) propensity: Option<Vec<f32>>,
    pub(super) query: Option<Vec<Option<String>>>,
    pub(super) feedback: BTreeMap<String, Vec<f32>>,
}

impl Rows {
    /// No row of the same columns.
    pub(super) fn none_of(like: &Self) -> Self {
        Self {
            request: like.request.as_ref().map(|_| Vec::new()),
            position: like.position.as_ref().map(|_| Vec::new()),
            propensity: like.propensity.as_ref().map(|_| Vec::new()),
            query: like.query.as_ref().map(|_| Vec::new()),
            feedback: like.feedback.keys().map(|name| (name.clone(), Vec::new())).collect(),
            ..Self::default()
        }
    }

    /// Part of a table whose items are `known`.
    pub(super) fn of_table(table: &Table, known: &HashMap<&str, u32>) -> Result<Self, DataError> {
        Self::with_items(table, item_indices(table, known)?)
    }

    /// Part of a shard of a log of so many items.
    pub(super) fn of_shard(table: &Table, items: usize) -> Result<Self, DataError> {
        let column = table
            .integers("item_id")?
            .ok_or_else(|| DataError::missing_column(&table.file, "item_id", table.names()))?;
        let index = |(row, item): (usize, Option<i64>)| {
            let known = item.and_then(|item| u32::try_from(item).ok()).filter(|item| (*item as usize) < items);
            known.ok_or_else(|| table.bad_value(row, "item_id", format!("{item:?} is no index of {items} items")))
        };
        let item = column.into_iter().enumerate().map(index).collect::<Result<_, _>>()?;
        Self::with_items(table, item)
    }

    fn with_items(table: &Table, item: Vec<u32>) -> Result<Self, DataError> {
        let times = table
            .integers("timestamp")?
            .ok_or_else(|| DataError::missing_column(&table.file, "timestamp", table.names()))?;
        let null = |row| table.bad_value(row, "timestamp", "the time is null; a log in shards needs every time".into());
        let timestamp = times.into_iter().enumerate().map(|(row, time)| time.ok_or_else(|| null(row)));
        let request = table.texts("request_id")?;
        if let Some(row) = request.iter().flatten().position(Option::is_none) {
            return Err(table.bad_value(row, "request_id", "the id is null".into()));
        }
        Ok(Self {
            user: table.ids("user_id")?,
            item,
            timestamp: timestamp.collect::<Result<_, _>>()?,
            request,
            position: positions(table)?,
            propensity: propensity(table)?,
            query: table.texts("query")?,
            feedback: feedback(table)?,
        })
    }

    /// Some events of a data set that has times.
    pub(super) fn of_dataset(dataset: &Dataset, times: &[i64], rows: Range<usize>) -> Self {
        let events = &dataset.events;
        let feedback = events.feedback.iter();
        Self {
            user: events.user[rows.clone()].iter().map(|user| dataset.users.ids[*user as usize].clone()).collect(),
            item: events.item[rows.clone()].to_vec(),
            timestamp: times[rows.clone()].to_vec(),
            request: events.request.as_ref().map(|of| of[rows.clone()].iter().map(|id| Some(id.to_string())).collect()),
            position: events.position.as_ref().map(|of| of[rows.clone()].to_vec()),
            propensity: events.propensity.as_ref().map(|of| of[rows.clone()].to_vec()),
            query: events.query.as_ref().map(|of| of[rows.clone()].to_vec()),
            feedback: feedback.map(|(name, of)| (name.clone(), of[rows.clone()].to_vec())).collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.user.len()
    }

    /// The first column that one has and the other has not, and whether it is `other` that has it.
    pub(super) fn unlike(&self, other: &Self) -> Option<(String, bool)> {
        let optional = [
            ("request_id", self.request.is_some(), other.request.is_some()),
            ("position", self.position.is_some(), other.position.is_some()),
            ("propensity", self.propensity.is_some(), other.propensity.is_some()),
            ("query", self.query.is_some(), other.query.is_some()),
        ];
        let feedback = self.feedback.keys().chain(other.feedback.keys());
        let feedback =
            feedback.map(|name| (name.as_str(), self.feedback.contains_key(name), other.feedback.contains_key(name)));
        optional
            .into_iter()
            .chain(feedback)
            .find(|(_, ours, theirs)| ours != theirs)
            .map(|(name, _, has)| (name.to_owned(), has))
    }

    /// Adds one row of `from`, which has the same columns.
    pub(super) fn push(&mut self, from: &mut Self, row: usize) {
        fn copy<T: Clone>(to: &mut Option<Vec<T>>, from: &Option<Vec<T>>, row: usize) {
            if let (Some(to), Some(from)) = (to, from) {
                to.push(from[row].clone());
            }
        }
        self.user.push(std::mem::take(&mut from.user[row]));
        self.item.push(from.item[row]);
        self.timestamp.push(from.timestamp[row]);
        copy(&mut self.request, &from.request, row);
        copy(&mut self.position, &from.position, row);
        copy(&mut self.propensity, &from.propensity, row);
        copy(&mut self.query, &from.query, row);
        for (to, from) in self.feedback.values_mut().zip(from.feedback.values()) {
            to.push(from[row]);
        }
    }

    /// The rows in another order.
    pub(super) fn ordered(mut self, order: &[usize]) -> Self {
        let mut sorted = Self::none_of(&self);
        for &row in order {
            sorted.push(&mut self, row);
        }
        sorted
    }

    /// As columns of a shard's file.
    pub(super) fn columns(&self, rows: Range<usize>) -> Columns {
        let item = Int64Array::from_iter_values(self.item[rows.clone()].iter().map(|item| i64::from(*item)));
        let mut columns: Columns = vec![
            ("user_id".into(), ids(&self.user[rows.clone()])),
            ("item_id".into(), Arc::new(item)),
            ("timestamp".into(), Arc::new(Int64Array::from(self.timestamp[rows.clone()].to_vec()))),
        ];
        if let Some(column) = &self.request {
            columns.push(("request_id".into(), texts(&column[rows.clone()])));
        }
        if let Some(column) = &self.position {
            let positions = Int32Array::from_iter_values(column[rows.clone()].iter().map(|n| i32::from(*n)));
            columns.push(("position".into(), Arc::new(positions)));
        }
        if let Some(column) = &self.propensity {
            columns.push(("propensity".into(), observed(&column[rows.clone()])));
        }
        if let Some(column) = &self.query {
            columns.push(("query".into(), texts(&column[rows.clone()])));
        }
        for (name, column) in &self.feedback {
            columns.push((name.clone(), observed(&column[rows.clone()])));
        }
        columns
    }
}
