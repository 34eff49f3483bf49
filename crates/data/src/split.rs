//! Who learns from what: the clock of every event, and the part (train, valid, test) it belongs to.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset, Events, consistency};

#[cfg(test)]
mod tests;

/// How the log is divided.
///
/// Configuration files name the strategy in kebab case:
///
/// ```
/// # use paretune_data::SplitStrategy;
/// let split: SplitStrategy = toml::from_str("strategy = \"time\"\nvalid = 0.1\ntest = 0.1")?;
/// assert_eq!(split, SplitStrategy::Time { valid: 0.1, test: 0.1 });
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "strategy", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SplitStrategy {
    /// The earliest events train, the next are validation, the latest are test. What deployment looks like; needs times.
    Time {
        /// Share of events held out for validation, in (0, 1).
        valid: f64,
        /// Share of events held out for test, in (0, 1).
        test: f64,
    },
    /// Of every user, the last event is test and the last but one validation; users with fewer than 3 events train only. Needs times.
    LeaveLast,
    /// Requests (or rows, where there are none) are dealt out by chance.
    Random {
        /// Share of requests held out for validation, in (0, 1).
        valid: f64,
        /// Share of requests held out for test, in (0, 1).
        test: f64,
        /// Seed of the shuffle.
        #[serde(default)]
        seed: u64,
    },
    /// Whole items are held out with all their events: how good is the model on items never met in training?
    ColdItems {
        /// Share of the items with events held out for validation, in (0, 1).
        valid: f64,
        /// Share of the items with events held out for test, in (0, 1).
        test: f64,
        /// Seed of the choice.
        #[serde(default)]
        seed: u64,
    },
    /// Whole users are held out with all their events: how good is the model for somebody new, of whom it sees a few events or none?
    ColdUsers {
        /// Share of the users with events held out for validation, in (0, 1).
        valid: f64,
        /// Share of the users with events held out for test, in (0, 1).
        test: f64,
        /// First events of a held-out user that are known when the user is ranked for; those after them are to be found.
        #[serde(default)]
        given: usize,
        /// Seed of the choice.
        #[serde(default)]
        seed: u64,
    },
}

impl SplitStrategy {
    /// Its name in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Time { .. } => "time",
            Self::LeaveLast => "leave-last",
            Self::Random { .. } => "random",
            Self::ColdItems { .. } => "cold-items",
            Self::ColdUsers { .. } => "cold-users",
        }
    }

    fn shares(&self) -> Option<(f64, f64)> {
        match *self {
            Self::LeaveLast => None,
            Self::Time { valid, test }
            | Self::Random { valid, test, .. }
            | Self::ColdItems { valid, test, .. }
            | Self::ColdUsers { valid, test, .. } => Some((valid, test)),
        }
    }

    /// Refuses shares that cannot be held out.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let inside = |share: f64| share > 0.0 && share < 1.0;
        match self.shares() {
            Some((valid, test)) if !inside(valid) || !inside(test) || valid + test >= 1.0 => {
                Err(DataError::SplitShares { valid, test })
            }
            _ => Ok(()),
        }
    }

    fn seed(&self) -> u64 {
        match *self {
            Self::Time { .. } | Self::LeaveLast => 0,
            Self::Random { seed, .. } | Self::ColdItems { seed, .. } | Self::ColdUsers { seed, .. } => seed,
        }
    }
}

/// What an event is for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The model learns from it, and features count it.
    Train,
    /// Chooses when to stop.
    Valid,
    /// Measures, once, at the end.
    Test,
}

impl Part {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

/// A division of a log, with the clock that says what is past and what is future.
///
/// The clock of an event is its timestamp; rows of one request count as happening when the first of them did. Where a
/// data set has no times, requests (or rows) get their place in a seeded shuffle, so that "the past" means something there too.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Part of each event row.
    pub part: Vec<Part>,
    /// Clock of each event row: seconds, a position in a sequence, or a place in the shuffle.
    pub clock: Vec<i64>,
    strategy: SplitStrategy,
    real_times: bool,
}

/// Timestamps from here on (March 1973) are taken for seconds since 1970, smaller ones for positions in a sequence.
pub(crate) const REAL_TIMES_FROM: i64 = 100_000_000;

impl Split {
    /// Divides the log of `dataset`.
    ///
    /// # Errors
    /// Shares out of range, times missing where the strategy needs them, a part without a row, or tables that do not fit together.
    pub fn new(dataset: &Dataset, strategy: &SplitStrategy) -> Result<Self, DataError> {
        consistency::check(dataset)?;
        strategy.check()?;
        let events = &dataset.events;
        let timed = events.timestamp.is_some();
        let needs_times = matches!(strategy, SplitStrategy::Time { .. } | SplitStrategy::LeaveLast);
        if needs_times && !timed {
            return Err(DataError::SplitWithoutTimes { strategy: strategy.name(), dataset: dataset.name.clone() });
        }
        let groups = Groups::of(events);
        let mut rng = ChaCha8Rng::seed_from_u64(strategy.seed());
        let shuffled = groups.shuffled(&mut rng);
        let clock = match &events.timestamp {
            Some(times) => groups.earliest(times),
            None => groups.spread(&shuffled),
        };
        let part = match *strategy {
            SplitStrategy::Time { valid, test } => {
                let mut sorted = clock.clone();
                sorted.sort_unstable();
                cut_times(&mut Sorted(&sorted), valid, test)?.map_or_else(Vec::new, |cut| by_time(&clock, cut))
            }
            SplitStrategy::LeaveLast => leave_last(&events.user, &clock),
            SplitStrategy::Random { valid, test, .. } => {
                let parts = cut(groups.count, valid, test);
                groups.spread(&shuffled.iter().map(|&place| parts[place as usize]).collect::<Vec<_>>())
            }
            SplitStrategy::ColdItems { valid, test, .. } => {
                cold(&events.item, dataset.items.len(), valid, test, &mut rng)
            }
            SplitStrategy::ColdUsers { valid, test, .. } => {
                cold(&events.user, dataset.users.len(), valid, test, &mut rng)
            }
        };
        let train_times = part.iter().zip(&clock).filter(|(p, _)| **p == Part::Train);
        let split = Self {
            real_times: timed && train_times.map(|(_, c)| *c).min().is_some_and(|earliest| earliest >= REAL_TIMES_FROM),
            part,
            clock,
            strategy: strategy.clone(),
        };
        split.refuse_empty_parts(dataset)?;
        Ok(split)
    }

    /// The clocks of a log with times: those of requests, or of rows.
    pub(crate) fn clocks(events: &Events) -> Vec<i64> {
        events.timestamp.as_ref().map_or_else(Vec::new, |times| Groups::of(events).earliest(times))
    }

    /// The division of whole users out of a larger log with times: `cut` is where that log's validation and test begin, `None` where every
    /// user's last events are held out.
    pub(crate) fn of_users(
        events: &Events,
        strategy: &SplitStrategy,
        cut: Option<(i64, i64)>,
        real_times: bool,
    ) -> Self {
        let clock = Self::clocks(events);
        let part = match cut {
            Some(cut) => by_time(&clock, cut),
            None => leave_last(&events.user, &clock),
        };
        Self { part, clock, strategy: strategy.clone(), real_times }
    }

    /// The same division of no rows.
    pub(crate) fn without_rows(&self) -> Self {
        Self { part: Vec::new(), clock: Vec::new(), strategy: self.strategy.clone(), real_times: self.real_times }
    }

    /// The same division with the validation part added to what trains: for the last training, after settings and length were chosen.
    #[must_use]
    pub fn without_validation(&self) -> Self {
        let part = self.part.iter().map(|part| if *part == Part::Valid { Part::Train } else { *part });
        Self { part: part.collect(), ..self.clone() }
    }

    /// The rows of one part, ascending.
    pub fn rows(&self, part: Part) -> Vec<u32> {
        let rows = self.part.iter().enumerate();
        rows.filter(|(_, p)| **p == part).map(|(row, _)| row as u32).collect()
    }

    /// The clock at which the test part starts: the smallest clock of a test row.
    ///
    /// Only where parts follow each other in time (a time split, a random split of data without times) is everything before it
    /// train or validation; elsewhere parts overlap in time.
    pub fn boundary(&self) -> i64 {
        let rows = self.part.iter().zip(&self.clock);
        rows.filter(|(part, _)| **part == Part::Test).map(|(_, clock)| *clock).min().unwrap_or_else(|| self.end())
    }

    /// One past the largest clock of the log.
    pub fn end(&self) -> i64 {
        self.clock.iter().max().map_or(0, |last| last.saturating_add(1))
    }

    /// The strategy that made it.
    pub fn strategy(&self) -> &SplitStrategy {
        &self.strategy
    }

    /// Whether clocks are seconds since 1970 (and not positions or places in a shuffle).
    pub fn has_real_times(&self) -> bool {
        self.real_times
    }

    fn refuse_empty_parts(&self, dataset: &Dataset) -> Result<(), DataError> {
        for part in [Part::Train, Part::Valid, Part::Test] {
            if !self.part.contains(&part) {
                return Err(DataError::SplitEmpty {
                    part: part.name(),
                    strategy: self.strategy.name(),
                    dataset: dataset.name.clone(),
                    events: self.part.len(),
                    hint: match self.strategy {
                        SplitStrategy::Time { .. } => {
                            "too few distinct times to cut there: raise the share, or use strategy = \"random\""
                        }
                        SplitStrategy::LeaveLast => "no user has 3 events: use strategy = \"random\"",
                        SplitStrategy::Random { .. } => {
                            "raise its share, or bring more events (rows of one request stay together)"
                        }
                        SplitStrategy::ColdItems { .. } => "raise its share, or bring more items with events",
                        SplitStrategy::ColdUsers { .. } => "raise its share, or bring more users with events",
                    },
                });
            }
        }
        Ok(())
    }
}

/// Rows that must not be torn apart: those of one request, or single rows.
struct Groups {
    of_row: Vec<u32>,
    count: usize,
}

impl Groups {
    fn of(events: &Events) -> Self {
        let rows = events.len();
        match &events.request {
            None => Self { of_row: (0..rows as u32).collect(), count: rows },
            Some(requests) => {
                let mut known = BTreeMap::new();
                let of_row: Vec<u32> = requests
                    .iter()
                    .map(|request| {
                        let next = known.len() as u32;
                        *known.entry(*request).or_insert(next)
                    })
                    .collect();
                let count = known.len();
                Self { of_row, count }
            }
        }
    }

    /// A place in a shuffle for every group.
    fn shuffled(&self, rng: &mut ChaCha8Rng) -> Vec<i64> {
        let mut places: Vec<i64> = (0..self.count as i64).collect();
        places.shuffle(rng);
        places
    }

    /// Hands each row what its group has.
    fn spread<T: Copy>(&self, of_group: &[T]) -> Vec<T> {
        let rows = self.of_row.iter();
        rows.map(|&group| of_group[group as usize]).collect()
    }

    fn earliest(&self, times: &[i64]) -> Vec<i64> {
        let mut first = vec![i64::MAX; self.count];
        for (&group, &time) in self.of_row.iter().zip(times) {
            first[group as usize] = first[group as usize].min(time);
        }
        self.spread(&first)
    }
}

/// Parts of `n` things in order: train, then valid, then test; each held-out part gets one at least if there are enough.
fn cut(n: usize, valid: f64, test: f64) -> Vec<Part> {
    let share = |share: f64| ((n as f64 * share).round() as usize).max(1);
    let (valid, test) = (share(valid), share(test));
    (0..n)
        .map(|place| match n - place {
            left if left <= test => Part::Test,
            left if left <= test + valid => Part::Valid,
            _ => Part::Train,
        })
        .collect()
}

/// The clocks of a log in ascending order, wherever they lie.
pub(crate) trait Clocks {
    /// How many there are, the smallest and the largest; `None` without any.
    fn extent(&self) -> Option<(usize, i64, i64)>;

    /// Those at two places.
    fn at(&mut self, places: [usize; 2]) -> Result<[i64; 2], DataError>;

    /// The smallest that is larger than `clock`.
    fn after(&mut self, clock: i64) -> Result<Option<i64>, DataError>;

    /// The largest that is smaller than `clock`.
    fn before(&mut self, clock: i64) -> Result<Option<i64>, DataError>;
}

/// In memory.
struct Sorted<'a>(&'a [i64]);

impl Clocks for Sorted<'_> {
    fn extent(&self) -> Option<(usize, i64, i64)> {
        Some((self.0.len(), *self.0.first()?, *self.0.last()?))
    }

    fn at(&mut self, places: [usize; 2]) -> Result<[i64; 2], DataError> {
        Ok(places.map(|place| self.0[place]))
    }

    fn after(&mut self, clock: i64) -> Result<Option<i64>, DataError> {
        Ok(self.0.get(self.0.partition_point(|&c| c <= clock)).copied())
    }

    fn before(&mut self, clock: i64) -> Result<Option<i64>, DataError> {
        Ok(self.0[..self.0.partition_point(|&c| c < clock)].last().copied())
    }
}

/// Where validation and test begin, between distinct clocks, as near to the wanted shares as ties allow; every part non-empty if three
/// clocks differ. `None` without events.
pub(crate) fn cut_times(clocks: &mut dyn Clocks, valid: f64, test: f64) -> Result<Option<(i64, i64)>, DataError> {
    let Some((n, first, last)) = clocks.extent() else { return Ok(None) };
    let place = |share: f64| ((n as f64 * share).round() as usize).min(n - 1);
    let [mut valid_start, mut test_start] = clocks.at([place(1.0 - valid - test), place(1.0 - test)])?;
    if valid_start == first {
        valid_start = clocks.after(first)?.unwrap_or(last);
    }
    if test_start <= valid_start {
        match clocks.after(valid_start)? {
            Some(next) => test_start = next,
            // Everything from `valid_start` on shares one clock: that is test, and validation takes the clock before it.
            None => {
                test_start = valid_start;
                valid_start = clocks.before(test_start)?.filter(|before| *before > first).unwrap_or(valid_start);
            }
        }
    }
    Ok(Some((valid_start, test_start)))
}

/// Parts of rows by where validation and test begin.
fn by_time(clock: &[i64], (valid_start, test_start): (i64, i64)) -> Vec<Part> {
    let part = |&clock: &i64| match clock {
        clock if clock >= test_start => Part::Test,
        clock if clock >= valid_start => Part::Valid,
        _ => Part::Train,
    };
    clock.iter().map(part).collect()
}

fn leave_last(user: &[u32], clock: &[i64]) -> Vec<Part> {
    let mut rows: Vec<u32> = (0..user.len() as u32).collect();
    rows.sort_by_key(|&row| (user[row as usize], clock[row as usize], row));
    let mut part = vec![Part::Train; user.len()];
    for of_user in rows.chunk_by(|a, b| user[*a as usize] == user[*b as usize]) {
        if let [_, .., valid, test] = of_user {
            part[*valid as usize] = Part::Valid;
            part[*test as usize] = Part::Test;
        }
    }
    part
}

/// Parts of rows by what they are of: `of_row` names one of `count` items, or users.
fn cold(of_row: &[u32], count: usize, valid: f64, test: f64, rng: &mut ChaCha8Rng) -> Vec<Part> {
    let mut met = vec![false; count];
    for &one in of_row {
        met[one as usize] = true;
    }
    let mut order: Vec<usize> = (0..count).filter(|&one| met[one]).collect();
    order.shuffle(rng);
    let mut parts = vec![Part::Train; count];
    for (&one, part) in order.iter().zip(cut(order.len(), valid, test)) {
        parts[one] = part;
    }
    of_row.iter().map(|&one| parts[one as usize]).collect()
}
