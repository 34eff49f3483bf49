use std::cmp::Reverse;

use rayon::prelude::*;

use super::Interactions;

/// How many users two items share: the Gram matrix `XᵀX` of the interactions, row by row, without ever holding all of it.
pub(super) struct Cooccurrence<'a> {
    users: &'a [Vec<u32>],
    by_item: Vec<Vec<u32>>,
}

/// Scratch space of one thread: a count for every item, all zero between rows.
pub(super) struct Counter {
    counts: Vec<u32>,
    row: Vec<(u32, u32)>,
}

impl<'a> Cooccurrence<'a> {
    pub(super) fn new(interactions: &'a Interactions) -> Self {
        Self { users: interactions.users(), by_item: interactions.by_item() }
    }

    pub(super) fn counter(&self) -> Counter {
        Counter { counts: vec![0; self.by_item.len()], row: Vec::new() }
    }

    /// Number of users of an item: the diagonal.
    pub(super) fn users_of(&self, item: usize) -> usize {
        self.by_item[item].len()
    }

    /// The items that share a user with `item`, itself among them, each with the number of users; ascending by item.
    pub(super) fn row<'c>(&self, item: usize, counter: &'c mut Counter) -> &'c [(u32, u32)] {
        let Counter { counts, row } = counter;
        row.clear();
        for &user in &self.by_item[item] {
            for &other in &self.users[user as usize] {
                let count = &mut counts[other as usize];
                if *count == 0 {
                    row.push((other, 0));
                }
                *count += 1;
            }
        }
        row.sort_unstable();
        for (other, count) in row.iter_mut() {
            *count = std::mem::take(&mut counts[*other as usize]);
        }
        row
    }
}

/// `(item, other)` for the `most` others that share the most users with each item; of equals, the rarer one, then the one that comes
/// first. Items that share no user have none.
pub(crate) fn companions(interactions: &Interactions, most: usize) -> Vec<(u32, u32)> {
    let shared = Cooccurrence::new(interactions);
    let of_item = |counter: &mut Counter, item: u32| {
        let mut others: Vec<(u32, u32)> = shared.row(item as usize, counter).to_vec();
        others.retain(|(other, _)| *other != item);
        let order = |(other, users): &(u32, u32)| (Reverse(*users), shared.users_of(*other as usize), *other);
        if others.len() > most {
            others.select_nth_unstable_by_key(most, order);
            others.truncate(most);
        }
        others.sort_unstable_by_key(order);
        others.into_iter().map(|(other, _)| (item, other)).collect::<Vec<_>>()
    };
    let items = 0..interactions.items() as u32;
    items.into_par_iter().map_init(|| shared.counter(), of_item).flatten_iter().collect()
}
