//! The catalogue in the making.

use std::collections::HashMap;

use super::rows::{Cell, Wanted};
use super::{DropReason, Fault, FileReport, Taken, TakesRows};
use crate::Items;
use crate::descriptor::{FileSpec, ItemsSpec, NumberSpec, TextSpec, TimeSpec};

/// Items so far. A later row with the same id replaces the earlier one.
#[derive(Default)]
pub(super) struct Catalogue {
    /// Where there is no item file, every item that an event names is one.
    pub(super) open: bool,
    keep_empty: bool,
    wanted: Wanted,
    id: usize,
    /// Columns of the item file: place of the cell and what to make of it.
    texts: Vec<(usize, TextSpec)>,
    provider: Option<(usize, TextSpec)>,
    category: Option<(usize, TextSpec)>,
    price: Option<(usize, NumberSpec)>,
    created_at: Option<(usize, TimeSpec)>,
    items: Items,
    known: HashMap<String, u32>,
}

impl Catalogue {
    pub(super) fn new(spec: &ItemsSpec) -> Self {
        let mut wanted = Wanted::default();
        let id = wanted.add(&spec.item_id);
        let texts: Vec<_> = spec.text.values().map(|text| (wanted.add(&text.column), text.clone())).collect();
        let mut text = |text: &Option<TextSpec>| text.clone().map(|text| (wanted.add(&text.column), text));
        let provider = text(&spec.provider);
        let category = text(&spec.category);
        let price = spec.price.clone().map(|price| (wanted.add(&price.column), price));
        let created_at = spec.created_at.clone().map(|time| (wanted.add(&time.column), time));
        Self {
            open: false,
            keep_empty: spec.keep_empty,
            id,
            items: Items {
                ids: Vec::new(),
                text: spec.text.keys().map(|name| (name.clone(), Vec::new())).collect(),
                provider: provider.is_some().then(Vec::new),
                category: category.is_some().then(Vec::new),
                price: price.is_some().then(Vec::new),
                created_at: created_at.is_some().then(Vec::new),
            },
            texts,
            provider,
            category,
            price,
            created_at,
            wanted,
            known: HashMap::new(),
        }
    }

    /// The item of an event.
    pub(super) fn find(&mut self, id: &str) -> Result<u32, Fault> {
        if let Some(item) = self.known.get(id) {
            return Ok(*item);
        }
        if !self.open {
            return Err(Fault::new(DropReason::UnknownItem, format!("no item has the id {id:?}")));
        }
        let item = self.items.ids.len() as u32;
        self.items.ids.push(id.to_owned());
        self.known.insert(id.to_owned(), item);
        Ok(item)
    }

    pub(super) fn finish(self) -> Items {
        self.items
    }
}

impl TakesRows for Catalogue {
    fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    fn take(&mut self, file: &FileSpec, cells: &[Cell<'_>], report: &mut FileReport) -> Result<Taken, Fault> {
        let id = cells[self.id].id(&self.wanted.names[self.id])?;
        let texts: Vec<Option<String>> =
            self.texts.iter().map(|(place, spec)| cells[*place].cleaned(spec, file)).collect();
        if !self.keep_empty && !texts.is_empty() && texts.iter().all(Option::is_none) {
            return Err(Fault::new(DropReason::EmptyText, "every text field is empty"));
        }
        let (row, taken) = match self.known.get(id.as_ref()) {
            Some(row) => (*row as usize, Taken::Repeated),
            None => {
                let row = self.items.ids.len();
                self.known.insert(id.to_string(), row as u32);
                self.items.ids.push(id.into_owned());
                (row, Taken::New)
            }
        };
        for (column, text) in self.items.text.values_mut().zip(texts) {
            put(column, row, text);
        }
        for (column, spec) in [(&mut self.items.provider, &self.provider), (&mut self.items.category, &self.category)] {
            if let (Some(column), Some((place, spec))) = (column, spec) {
                put(column, row, cells[*place].cleaned(spec, file));
            }
        }
        if let (Some(column), Some((place, spec))) = (&mut self.items.price, &self.price) {
            put(column, row, or_empty(cells[*place].number(spec), &spec.column, report));
        }
        if let (Some(column), Some((place, spec))) = (&mut self.items.created_at, &self.created_at) {
            put(column, row, or_empty(cells[*place].time(spec), &spec.column, report));
        }
        Ok(taken)
    }
}

/// Sets a value, at the end or in a row that is there.
pub(super) fn put<T>(column: &mut Vec<Option<T>>, row: usize, value: Option<T>) {
    match column.get_mut(row) {
        Some(old) => *old = value,
        None => column.push(value),
    }
}

/// A value that only describes an item or a user is left empty where it cannot be read: dropping the row would drop its events.
pub(super) fn or_empty<T>(value: Result<Option<T>, Fault>, column: &str, report: &mut FileReport) -> Option<T> {
    value.unwrap_or_else(|_| {
        report.emptied(column);
        None
    })
}
