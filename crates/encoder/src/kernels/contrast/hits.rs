//! Rivals that do not count: accidental hits, which are the match, and those that a row exempts.

use super::{Exempt, Rivals};

/// For each row, which of its rivals do not count.
pub(super) struct Hits {
    /// Where each row's begin; one more than rows.
    starts: Vec<usize>,
    /// Numbers of rivals, ascending within a row.
    rivals: Vec<u32>,
}

impl Hits {
    /// The lists and places have been checked against each other.
    pub(super) fn new(matches: &[u32], rivals: Rivals<'_>, identities: &[u32], exempt: Option<Exempt<'_>>) -> Self {
        let identity = |place: u32| identities[place as usize];
        // Shared rivals by identity, to be searched once for each row.
        let order = match rivals {
            Rivals::Shared(places) => {
                let mut order: Vec<(u32, u32)> = places.iter().map(|&place| identity(place)).zip(0..).collect();
                order.sort_unstable();
                order
            }
            Rivals::Own { .. } => Vec::new(),
        };
        let mut hits = Self { starts: Vec::with_capacity(matches.len() + 1), rivals: Vec::new() };
        hits.starts.push(0);
        let mut none: Vec<u32> = Vec::new();
        for (row, &place) in matches.iter().enumerate() {
            none.clear();
            none.push(identity(place));
            none.extend(exempt.iter().flat_map(|exempt| exempt.of(row)));
            none.sort_unstable();
            none.dedup();
            let first = hits.rivals.len();
            match rivals {
                Rivals::Shared(_) => {
                    for identity in &none {
                        let start = order.partition_point(|(other, _)| other < identity);
                        let same = order[start..].iter().take_while(|(other, _)| other == identity);
                        hits.rivals.extend(same.map(|(_, rival)| *rival));
                    }
                    hits.rivals[first..].sort_unstable();
                }
                Rivals::Own { per_row, places } => {
                    let rivals = places[row * per_row..][..per_row].iter().zip(0..);
                    let same = rivals.filter(|(rival, _)| none.binary_search(&identity(**rival)).is_ok());
                    hits.rivals.extend(same.map(|(_, at)| at));
                }
            }
            hits.starts.push(hits.rivals.len());
        }
        hits
    }

    /// The rivals of `row` that do not count.
    pub(super) fn of(&self, row: usize) -> &[u32] {
        &self.rivals[self.starts[row]..self.starts[row + 1]]
    }
}
