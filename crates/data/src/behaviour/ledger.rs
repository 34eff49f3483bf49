//! Running totals by entity and clock: how often, how well received, how long ago, as of any moment.

use crate::{Dataset, Part, Split};

/// One feedback column as it is totalled.
pub(super) struct Source<'a> {
    /// Value of each event row; `NaN` = not observed.
    pub(super) values: &'a [f32],
}

/// Totals of the train rows of every entity (an item, a user, a provider, …), sorted by clock.
///
/// Totals run within an entity, so that no later row can change an earlier entry, not even in its last bit.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Entries of entity `e` are `starts[e]..starts[e + 1]`.
    starts: Vec<usize>,
    clocks: Vec<i64>,
    engaged: Vec<u32>,
    last_engaged: Vec<i64>,
    /// For each feedback column, how often it was observed and the sum of its values on the [`scale`].
    columns: Vec<Vec<(u32, f64)>>,
}

/// The scale feedback is averaged on: sign(x)·ln(1 + |x|), so that one day-long dwell does not drown a thousand short ones.
/// On binary feedback it is a constant factor.
pub(super) fn scale(value: f32) -> f64 {
    let value = f64::from(value);
    value.signum() * value.abs().ln_1p()
}

impl Ledger {
    /// `entity` names the entity of an event row; rows without one are not counted.
    pub(super) fn new(
        dataset: &Dataset,
        split: &Split,
        engaged: &[f32],
        sources: &[Source<'_>],
        entities: usize,
        entity: impl Fn(usize) -> Option<u32>,
    ) -> Self {
        let mut rows: Vec<(u32, i64, u32)> = (0..dataset.events.len())
            .filter(|&row| split.part[row] == Part::Train)
            .filter_map(|row| Some((entity(row)?, split.clock[row], row as u32)))
            .collect();
        rows.sort_unstable();

        let mut ledger = Self {
            starts: vec![0; entities + 1],
            clocks: Vec::with_capacity(rows.len()),
            engaged: Vec::with_capacity(rows.len()),
            last_engaged: Vec::with_capacity(rows.len()),
            columns: vec![Vec::with_capacity(rows.len()); sources.len()],
        };
        for of_entity in rows.chunk_by(|a, b| a.0 == b.0) {
            let (mut count, mut last) = (0, i64::MIN);
            let mut totals = vec![(0u32, 0f64); sources.len()];
            for &(_, clock, row) in of_entity {
                if engaged[row as usize] > 0.0 {
                    count += 1;
                    last = clock;
                }
                ledger.clocks.push(clock);
                ledger.engaged.push(count);
                ledger.last_engaged.push(last);
                for ((column, total), source) in ledger.columns.iter_mut().zip(&mut totals).zip(sources) {
                    let value = source.values[row as usize];
                    if value.is_finite() {
                        total.0 += 1;
                        total.1 += scale(value);
                    }
                    column.push(*total);
                }
            }
            if let Some(&(entity, ..)) = of_entity.first() {
                ledger.starts[entity as usize + 1] = of_entity.len();
            }
        }
        for entity in 0..entities {
            ledger.starts[entity + 1] += ledger.starts[entity];
        }
        ledger
    }

    /// What was known of an entity just before `clock`; nothing is known of an entity there is not.
    pub(super) fn before(&self, entity: Option<u32>, clock: i64) -> Known<'_> {
        let range = entity.and_then(|entity| {
            let entity = entity as usize;
            let &[from, to] = self.starts.get(entity..entity + 2)? else {
                return None;
            };
            Some(from..to)
        });
        let past = range.map_or(0..0, |range| {
            let count = self.clocks[range.clone()].partition_point(|&c| c < clock);
            range.start..range.start + count
        });
        Known { ledger: self, events: past.len(), newest: past.last() }
    }
}

/// Totals of one entity as of one moment.
pub(super) struct Known<'a> {
    ledger: &'a Ledger,
    events: usize,
    newest: Option<usize>,
}

impl Known<'_> {
    /// Events counted.
    pub(super) fn events(&self) -> f64 {
        self.events as f64
    }

    /// Events with engagement.
    pub(super) fn engaged(&self) -> f64 {
        self.newest.map_or(0.0, |newest| f64::from(self.ledger.engaged[newest]))
    }

    /// Clock of the last engagement.
    pub(super) fn last_engaged(&self) -> Option<i64> {
        let newest = self.newest?;
        (self.ledger.engaged[newest] > 0).then(|| self.ledger.last_engaged[newest])
    }

    /// How often a feedback column was observed, and the sum of its values on the [`scale`].
    pub(super) fn column(&self, column: usize) -> (f64, f64) {
        self.newest.map_or((0.0, 0.0), |newest| {
            let (observed, sum) = self.ledger.columns[column][newest];
            (f64::from(observed), sum)
        })
    }
}
