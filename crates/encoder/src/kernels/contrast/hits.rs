//! Accidental hits: rivals that are the match.

use super::Rivals;

/// For each row, which of its rivals do not count.
pub(super) struct Hits {
    /// Where each row's begin; one more than rows.
    starts: Vec<usize>,
    /// Numbers of rivals, ascending within a row.
    rivals: Vec<u32>,
}

impl Hits {
    /// The lists and places have been checked against each other.
    pub(super) fn new(matches: &[u32], rivals: Rivals<'_>, identities: &[u32]) -> Self {
        let identity = |place: u32| identities[place as usize];
        let mut hits = Self { starts: Vec::with_capacity(matches.len() + 1), rivals: Vec::new() };
        hits.starts.push(0);
        match rivals {
            Rivals::Shared(places) => {
                let mut order: Vec<(u32, u32)> = places.iter().map(|&place| identity(place)).zip(0..).collect();
                order.sort_unstable();
                for &place in matches {
                    let own = identity(place);
                    let first = order.partition_point(|(identity, _)| *identity < own);
                    let same = order[first..].iter().take_while(|(identity, _)| *identity == own);
                    hits.rivals.extend(same.map(|(_, rival)| *rival));
                    hits.starts.push(hits.rivals.len());
                }
            }
            Rivals::Own { per_row, places } => {
                for (row, &place) in matches.iter().enumerate() {
                    let rivals = places[row * per_row..][..per_row].iter().zip(0..);
                    hits.rivals
                        .extend(rivals.filter(|(rival, _)| identity(**rival) == identity(place)).map(|(_, at)| at));
                    hits.starts.push(hits.rivals.len());
                }
            }
        }
        hits
    }

    /// The rivals of `row` that do not count.
    pub(super) fn of(&self, row: usize) -> &[u32] {
        &self.rivals[self.starts[row]..self.starts[row + 1]]
    }
}
