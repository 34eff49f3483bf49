//! One division for all shards: where the parts of a time split begin is found without ever holding all clocks.

use super::Shards;
use crate::split::{Clocks, REAL_TIMES_FROM, cut_times};
use crate::{DataError, Events, Split, SplitStrategy};

/// How a log in shards is divided: as [`Split::new`] divides the same log in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardSplit {
    strategy: SplitStrategy,
    /// Where validation and test begin.
    cut: Option<(i64, i64)>,
    real_times: bool,
}

impl ShardSplit {
    /// Finds where the parts begin. A time split reads the times of all shards a few times.
    pub(super) fn new(shards: &Shards, strategy: &SplitStrategy) -> Result<Self, DataError> {
        strategy.check()?;
        let cut = match *strategy {
            SplitStrategy::LeaveLast => None,
            SplitStrategy::Time { valid, test } => cut_times(&mut Streamed::new(shards)?, valid, test)?,
            _ => return Err(DataError::SplitOfShards { strategy: strategy.name() }),
        };
        let real_times = shards.manifest.earliest >= REAL_TIMES_FROM;
        Ok(Self { strategy: strategy.clone(), cut, real_times })
    }

    /// The division of a shard's events.
    pub(super) fn of(&self, events: &Events) -> Split {
        Split::of_users(events, &self.strategy, self.cut, self.real_times)
    }

    /// The strategy that made it.
    pub fn strategy(&self) -> &SplitStrategy {
        &self.strategy
    }
}

/// Buckets of a count over the clocks.
const BUCKETS: usize = 1 << 16;

/// Clocks that are read again for every question.
struct Streamed<'a> {
    shards: &'a Shards,
    extent: Option<(usize, i64, i64)>,
}

impl<'a> Streamed<'a> {
    fn new(shards: &'a Shards) -> Result<Self, DataError> {
        let mut extent: Option<(usize, i64, i64)> = None;
        for_each(shards, |clock| {
            let (count, first, last) = extent.unwrap_or((0, clock, clock));
            extent = Some((count + 1, first.min(clock), last.max(clock)));
        })?;
        Ok(Self { shards, extent })
    }
}

fn for_each(shards: &Shards, mut each: impl FnMut(i64)) -> Result<(), DataError> {
    for shard in 0..shards.count() {
        shards.clocks(shard)?.into_iter().for_each(&mut each);
    }
    Ok(())
}

/// Where the clock of one place lies: within `span` of `low`, `below` clocks being smaller than `low`.
struct Search {
    place: u64,
    low: i64,
    span: u64,
    below: u64,
}

impl Search {
    /// Clocks to a bucket.
    fn width(&self) -> u64 {
        self.span / BUCKETS as u64 + 1
    }

    fn bucket(&self, clock: i64) -> Option<usize> {
        let offset =
            u64::try_from(i128::from(clock) - i128::from(self.low)).ok().filter(|offset| *offset <= self.span)?;
        Some((offset / self.width()) as usize)
    }

    fn narrow(&mut self, counts: &[u64]) {
        let width = self.width();
        for (bucket, count) in counts.iter().enumerate() {
            if self.place < self.below + count {
                let before = bucket as u64 * width;
                self.low = self.low.wrapping_add_unsigned(before);
                self.span = (width - 1).min(self.span - before);
                return;
            }
            self.below += count;
        }
    }
}

impl Clocks for Streamed<'_> {
    fn extent(&self) -> Option<(usize, i64, i64)> {
        self.extent
    }

    fn at(&mut self, places: [usize; 2]) -> Result<[i64; 2], DataError> {
        let Some((_, low, last)) = self.extent else { return Ok([0; 2]) };
        let span = last.wrapping_sub(low) as u64;
        let mut searches = places.map(|place| Search { place: place as u64, low, span, below: 0 });
        while searches.iter().any(|search| search.span > 0) {
            let mut counts = searches.each_ref().map(|_| vec![0u64; BUCKETS]);
            for_each(self.shards, |clock| {
                for (counts, search) in counts.iter_mut().zip(&searches) {
                    if let Some(bucket) = search.bucket(clock) {
                        counts[bucket] += 1;
                    }
                }
            })?;
            searches.iter_mut().zip(&counts).for_each(|(search, counts)| search.narrow(counts));
        }
        Ok(searches.map(|search| search.low))
    }

    fn after(&mut self, clock: i64) -> Result<Option<i64>, DataError> {
        let mut found: Option<i64> = None;
        for_each(self.shards, |c| {
            if c > clock {
                found = Some(found.map_or(c, |found| found.min(c)));
            }
        })?;
        Ok(found)
    }

    fn before(&mut self, clock: i64) -> Result<Option<i64>, DataError> {
        let mut found: Option<i64> = None;
        for_each(self.shards, |c| {
            if c < clock {
                found = Some(found.map_or(c, |found| found.max(c)));
            }
        })?;
        Ok(found)
    }
}
