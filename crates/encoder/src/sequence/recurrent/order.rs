//! The order in which a recurrence takes rows: sequences of similar length together, step after step.

use std::cmp::Reverse;
use std::ops::Range;

use rayon::prelude::*;

use crate::kernels::slices::ROWS;

/// Sequences of a group: as many as a register tile of the matrix product has rows, so that a step of a group is one row of tiles,
/// and few enough that there are groups for all threads.
pub(super) const GROUP: usize = 12;

/// Sequences that are computed together, the longest first: those still alive at a step are the first ones of the step before.
#[derive(Debug)]
pub(super) struct Group {
    /// Rows of each step, counted from the first row of the group; at least one step, of at least one row each.
    pub(super) steps: Vec<Range<usize>>,
}

impl Group {
    fn rows(&self) -> usize {
        self.steps.last().map_or(0, |step| step.end)
    }
}

/// The rows of a packed matrix in the order of groups, and within a group in the order of steps.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) groups: Vec<Group>,
    /// For each row in this order, its row in the packed matrix; and the other way round.
    pub(super) rows: Vec<u32>,
    pub(super) places: Vec<u32>,
}

impl Order {
    /// The order of the sequences `offsets[i]..offsets[i + 1]`, in groups of `most` at most. Empty sequences have no rows in it.
    pub(super) fn new(offsets: &[u32], most: usize) -> Self {
        let spans = offsets.windows(2).map(|pair| (pair[0], pair[1] - pair[0]));
        let mut spans: Vec<(u32, u32)> = spans.filter(|(_, length)| *length > 0).collect();
        spans.sort_by_key(|(_, length)| Reverse(*length));
        let mut rows: Vec<u32> = Vec::new();
        let group = |spans: &[(u32, u32)]| {
            let mut end = 0;
            let steps = (0..spans.first().map_or(0, |(_, longest)| *longest)).map(|step| {
                let alive = spans.partition_point(|(_, length)| *length > step);
                rows.extend(spans[..alive].iter().map(|(start, _)| start + step));
                end += alive;
                end - alive..end
            });
            Group { steps: steps.collect() }
        };
        let groups = spans.chunks(most).map(group).collect();
        let mut places = vec![0; rows.len()];
        for (place, row) in rows.iter().enumerate() {
            places[*row as usize] = place as u32;
        }
        Self { groups, rows, places }
    }

    /// Rows of all sequences together.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Cuts the rows of each group off `values`, `width` numbers a row.
    pub(super) fn cut<'a>(&self, mut values: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
        let mut take = |group: &Group| {
            let (head, tail) = std::mem::take(&mut values).split_at_mut(group.rows() * width);
            values = tail;
            head
        };
        self.groups.iter().map(&mut take).collect()
    }

    /// The same of values that are only read.
    pub(super) fn parts<'a>(&self, mut values: &'a [f32], width: usize) -> Vec<&'a [f32]> {
        let mut take = |group: &Group| {
            let (head, tail) = values.split_at(group.rows() * width);
            values = tail;
            head
        };
        self.groups.iter().map(&mut take).collect()
    }

    /// Brings packed rows into this order.
    pub(super) fn sort(&self, packed: &[f32], width: usize, out: &mut [f32]) {
        pick(packed, &self.rows, width, out);
    }

    /// Brings rows of this order back to where they were.
    pub(super) fn restore(&self, sorted: &[f32], width: usize, out: &mut [f32]) {
        pick(sorted, &self.places, width, out);
    }
}

fn pick(from: &[f32], rows: &[u32], width: usize, out: &mut [f32]) {
    out.par_chunks_mut(ROWS * width).zip(rows.par_chunks(ROWS)).for_each(|(out, rows)| {
        for (out, row) in out.chunks_exact_mut(width).zip(rows) {
            out.copy_from_slice(&from[*row as usize * width..][..width]);
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offsets(lengths: &[u32]) -> Vec<u32> {
        let ends = lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }

    #[test]
    fn the_longest_come_first_and_steps_shrink() {
        let order = Order::new(&offsets(&[2, 0, 3, 1]), 2);
        assert_eq!(order.rows, [2, 0, 3, 1, 4, 5]);
        assert_eq!(order.groups[0].steps, [0..2, 2..4, 4..5]);
        assert_eq!((order.groups.len(), order.groups[1].steps.len()), (2, 1));
        assert_eq!(order.groups[1].steps[0], 0..1);
        assert!(Order::new(&[0, 0], 2).groups.is_empty());
    }

    proptest! {
        #[test]
        fn every_row_has_its_place(lengths in prop::collection::vec(0u32..9, 0..30), most in 1usize..15) {
            let order = Order::new(&offsets(&lengths), most);
            let total: u32 = lengths.iter().sum();
            prop_assert_eq!(order.len(), total as usize);
            let packed: Vec<f32> = (0..2 * total).map(|i| i as f32).collect();
            let (mut sorted, mut again) = (vec![-1.0; packed.len()], vec![-1.0; packed.len()]);
            order.sort(&packed, 2, &mut sorted);
            order.restore(&sorted, 2, &mut again);
            prop_assert_eq!(&again, &packed);
            for (group, rows) in order.groups.iter().zip(order.parts(&sorted, 2)) {
                prop_assert!(group.steps[0].len() <= most);
                prop_assert_eq!(group.steps[0].start, 0);
                for pair in group.steps.windows(2) {
                    prop_assert!(pair[0].end == pair[1].start && pair[1].len() <= pair[0].len() && !pair[1].is_empty());
                    // The same sequences, one row later.
                    for at in 0..pair[1].len() {
                        prop_assert_eq!(rows[2 * (pair[1].start + at)], rows[2 * (pair[0].start + at)] + 2.0);
                    }
                }
                prop_assert_eq!(rows.len(), 2 * group.rows());
            }
        }
    }
}
