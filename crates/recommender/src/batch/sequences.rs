//! What users did before they ask: packed, without padding.

use std::ops::Range;

/// Events of all histories of a batch end to end, oldest first. `T` events, `S` sequences, `U` requests.
///
/// A model whose state after an event depends on nothing later reads several requests of one user off one sequence: the request after
/// the third event sees the first three rows of it. Other models get a sequence for each request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequences {
    /// `[T]`: places in the batch's items.
    pub items: Vec<u32>,
    /// `[T × event features]`.
    pub events: Vec<f32>,
    /// `[S + 1]`: sequence `s` lies in rows `offsets[s]..offsets[s + 1]`.
    pub offsets: Vec<u32>,
    /// `[U]`: the rows a request sees, from the beginning of a sequence on.
    pub seen: Vec<Range<u32>>,
    /// `[U]`: the hidden row that a request asks for; `None` where it asks for what comes after the rows it sees.
    pub asked: Vec<Option<u32>>,
    /// Rows whose events are hidden from everyone, ascending.
    pub hidden: Vec<u32>,
}

impl Sequences {
    /// Number of events `T`.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nobody has a past.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The most events that a request sees.
    pub fn longest(&self) -> usize {
        self.seen.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
    }

    /// For each request the row of its newest event, `None` without a past.
    pub fn newest(&self) -> Vec<Option<u32>> {
        self.seen.iter().map(|rows| (!rows.is_empty()).then(|| rows.end - 1)).collect()
    }
}
