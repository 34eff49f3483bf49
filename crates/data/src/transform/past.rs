//! What users engaged with before a moment, for features of the last few items.

use serde::{Deserialize, Serialize};

use super::category::{MISSING, Rows};
use crate::{Dataset, Histories};

/// A column of the items that a user last engaged with.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Recent {
    pub(super) name: String,
    pub(super) last: u32,
    pub(super) rows: Rows,
    /// The row of each item.
    pub(super) of_item: Vec<u32>,
}

impl Recent {
    /// Appends the rows of the newest items, newest first, padded with that of a missing value. Items that there are not are passed over.
    pub(super) fn write(&self, newest_first: impl Iterator<Item = u32>, categories: &mut Vec<u32>) {
        let until = categories.len() + self.last as usize;
        let rows = newest_first.filter_map(|item| self.of_item.get(item as usize).copied());
        categories.extend(rows.take(self.last as usize));
        categories.resize(until, MISSING);
    }
}

/// The engaged training rows of every user, by clock.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Past {
    /// Entries of user `u` are `starts[u]..starts[u + 1]`.
    starts: Vec<u32>,
    clocks: Vec<i64>,
    items: Vec<u32>,
}

impl Past {
    pub(super) fn new(dataset: &Dataset, clock: &[i64], histories: &Histories) -> Self {
        let mut past = Self { starts: vec![0], ..Self::default() };
        for user in 0..dataset.users.len() as u32 {
            let mut rows = histories.before(user, i64::MAX, usize::MAX, true);
            rows.reverse();
            past.clocks.extend(rows.iter().map(|row| clock[*row as usize]));
            past.items.extend(rows.iter().map(|row| dataset.events.item[*row as usize]));
            past.starts.push(past.items.len() as u32);
        }
        past
    }

    /// The items a user engaged with before `clock`, newest first.
    pub(super) fn before(&self, user: u32, clock: i64) -> impl Iterator<Item = u32> {
        let user = user as usize;
        let range = match self.starts.get(user..user.saturating_add(2)) {
            Some(&[from, to]) => from as usize..to as usize,
            _ => 0..0,
        };
        let clocks = self.clocks.get(range.clone()).unwrap_or_default();
        let until = range.start + clocks.partition_point(|c| *c < clock);
        self.items.get(range.start..until).unwrap_or_default().iter().rev().copied()
    }

    /// Whether it was made of a log, where it was read from a file.
    pub(super) fn is_sound(&self) -> bool {
        let end = self.starts.last().copied().unwrap_or_default() as usize;
        self.starts.is_sorted() && end == self.items.len() && self.items.len() == self.clocks.len()
    }
}
