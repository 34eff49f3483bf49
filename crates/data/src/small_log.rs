//! Logs small enough to reason about, for tests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{Dataset, Events, Items, Users};

/// Users and items of a small log.
pub(crate) const USERS: u32 = 5;
pub(crate) const ITEMS: u32 = 7;
/// A time that counts as real.
pub(crate) const NOON: i64 = 1_700_000_000;

/// User, item, seconds after [`NOON`], click, rating (0 = none).
pub(crate) type Row = (u32, u32, i64, bool, u8);

pub(crate) fn row() -> impl Strategy<Value = Row> {
    (0..USERS, 0..ITEMS, 0i64..200_000, any::<bool>(), 0u8..6)
}

/// Rows in the order of the schema: by user, then time.
pub(crate) fn rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec(row(), 12..60).prop_map(|mut rows| {
        rows.sort_by_key(|row| (row.0, row.2));
        rows
    })
}

pub(crate) fn dataset(rows: &[Row]) -> Dataset {
    let items = 0..ITEMS;
    Dataset {
        name: "small".to_owned(),
        items: Items {
            ids: items.clone().map(|i| format!("i{i}")).collect(),
            provider: Some(items.clone().map(|i| (i > 0).then(|| format!("p{}", i % 2))).collect()),
            price: Some(items.clone().map(|i| (i != 3).then_some(f64::from(i))).collect()),
            created_at: Some(items.map(|i| (i != 2).then_some(NOON - i64::from(i) * 86_400)).collect()),
            ..Items::default()
        },
        users: Users { ids: (0..USERS).map(|u| format!("u{u}")).collect(), ..Users::default() },
        events: Events {
            user: rows.iter().map(|row| row.0).collect(),
            item: rows.iter().map(|row| row.1).collect(),
            timestamp: Some(rows.iter().map(|row| NOON + row.2).collect()),
            feedback: BTreeMap::from([
                ("click".to_owned(), rows.iter().map(|row| f32::from(u8::from(row.3))).collect()),
                ("rating".to_owned(), rows.iter().map(|row| rating(row.4)).collect()),
            ]),
            ..Events::default()
        },
    }
}

pub(crate) fn rating(stars: u8) -> f32 {
    if stars == 0 { f32::NAN } else { f32::from(stars) }
}
