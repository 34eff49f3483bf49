//! What a user engaged with, and when: the raw material of the user tower.

use crate::{DataError, Dataset, Events, Part, Split, consistency};

#[cfg(test)]
mod tests;

/// The engaged rows of every user, sorted by clock. A row is engaged when its value in the chosen feedback column is above 0.
///
/// ```
/// use paretune_data::{Dataset, Histories, Split, SplitStrategy, simulator};
///
/// let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
/// let (dataset, _truth) = simulator::Simulation::new(config).run()?;
/// let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
/// let histories = Histories::new(&dataset, &split, "click")?;
/// let rows = histories.before(0, split.boundary(), 20, true);
/// assert!(rows.iter().all(|&row| split.clock[row as usize] < split.boundary()));
/// # Ok::<(), paretune_data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Histories {
    /// Entries of user `u` are `starts[u]..starts[u + 1]`.
    starts: Vec<u32>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    clock: i64,
    row: u32,
    item: u32,
    train: bool,
}

impl Histories {
    /// Collects the engaged rows.
    ///
    /// # Errors
    /// `engaged` is no feedback column, or the split was made for another log.
    pub fn new(dataset: &Dataset, split: &Split, engaged: &str) -> Result<Self, DataError> {
        consistency::check_with(dataset, split)?;
        let value = consistency::feedback(dataset, engaged)?;
        Ok(Self::of_log(&dataset.events, dataset.users.len(), split, value))
    }

    /// Of a log that is known to be whole; `value` is its column of engagement.
    pub(crate) fn of_log(events: &Events, users: usize, split: &Split, value: &[f32]) -> Self {
        let mut rows: Vec<u32> = (0..events.len() as u32).filter(|&row| value[row as usize] > 0.0).collect();
        rows.sort_by_key(|&row| (events.user[row as usize], split.clock[row as usize], row));
        let mut starts = vec![0; users + 1];
        for &row in &rows {
            starts[events.user[row as usize] as usize + 1] += 1;
        }
        for user in 0..users {
            starts[user + 1] += starts[user];
        }
        let entries = rows.into_iter().map(|row| Entry {
            clock: split.clock[row as usize],
            row,
            item: events.item[row as usize],
            train: split.part[row as usize] == Part::Train,
        });
        Self { starts, entries: entries.collect() }
    }

    /// The newest `max` engaged rows with a clock strictly before `clock`, newest first; with `train_only`, only rows of the train part.
    ///
    /// Training uses `train_only = true`: then nothing held out can reach a sample. A user who is not known has no history.
    pub fn before(&self, user: u32, clock: i64, max: usize, train_only: bool) -> Vec<u32> {
        let entries = self.of(user);
        let past = &entries[..entries.partition_point(|entry| entry.clock < clock)];
        past.iter().rev().filter(|entry| entry.train || !train_only).take(max).map(|entry| entry.row).collect()
    }

    /// The distinct items a user engaged with at any time, ascending; with `train_only`, in rows of the train part.
    pub fn engaged_items(&self, user: u32, train_only: bool) -> Vec<u32> {
        let entries = self.of(user).iter();
        let mut items: Vec<u32> = entries.filter(|entry| entry.train || !train_only).map(|entry| entry.item).collect();
        items.sort_unstable();
        items.dedup();
        items
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    fn of(&self, user: u32) -> &[Entry] {
        let user = user as usize;
        match self.starts.get(user..user + 2) {
            Some(&[from, to]) => &self.entries[from as usize..to as usize],
            _ => &[],
        }
    }
}
