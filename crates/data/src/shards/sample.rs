//! Whole users drawn from all shards, as many as memory has room for.

use super::scatter::{hash, mix};
use crate::{DataError, Events, Histories, Split, Users, consistency};

/// Whole users of a log, divided: those of a shard, or a sample of all.
#[derive(Debug, Clone)]
pub struct Log {
    /// The users, of whom nothing but the id is known.
    pub users: Users,
    /// Their events: users count from 0 here, items as in the catalogue.
    pub events: Events,
    /// Parts and clocks of the events, those that the whole log has for them.
    pub split: Split,
    /// What they engaged with.
    pub histories: Histories,
}

impl Log {
    pub(super) fn new(
        users: Users,
        events: Events,
        split: Split,
        engaged: &str,
        name: &str,
    ) -> Result<Self, DataError> {
        let value = consistency::feedback_of(&events, engaged, name)?;
        let histories = Histories::of_log(&events, users.len(), &split, value);
        Ok(Self { users, events, split, histories })
    }
}

/// Collects a sample of users. Who is in it is a matter of the id alone, not of the shards.
#[derive(Debug)]
pub struct UserSample {
    /// Hashes below it are in the sample; `None` for everybody.
    below: Option<u64>,
    name: String,
    users: Users,
    events: Events,
    split: Option<Split>,
}

impl UserSample {
    /// About `wanted` of `users` users, all of them if there are not so many.
    pub(super) fn new(wanted: usize, users: u64, name: &str) -> Self {
        let below =
            ((wanted as u64) < users).then(|| ((u128::from(wanted as u64) << 64) / u128::from(users.max(1))) as u64);
        Self { below, name: name.to_owned(), users: Users::default(), events: Events::default(), split: None }
    }

    fn draws(&self, user: &str) -> bool {
        // Another hash than the one that deals out shards: a sample is drawn from all of them alike.
        self.below.is_none_or(|below| mix(hash(user) ^ 0x5a_3d_1e) < below)
    }

    /// Adds the users of a shard that belong to the sample.
    pub fn add(&mut self, log: &Log) {
        let first = self.users.len() as u32;
        let drawn: Vec<bool> = log.users.ids.iter().map(|id| self.draws(id)).collect();
        // New numbers of those who are drawn.
        let mut next = first;
        let numbers: Vec<u32> = drawn
            .iter()
            .map(|drawn| {
                next += u32::from(*drawn);
                next.wrapping_sub(1)
            })
            .collect();
        let ids = log.users.ids.iter().zip(&drawn).filter(|(_, drawn)| **drawn).map(|(id, _)| id.clone());
        self.users.ids.extend(ids);
        let from = &log.events;
        let rows: Vec<usize> = (0..from.len()).filter(|row| drawn[from.user[*row] as usize]).collect();
        let events = &mut self.events;
        // Requests count from 0 in every shard.
        let requests = events.request.iter().flatten().max().map_or(0, |last| last.saturating_add(1));
        events.user.extend(rows.iter().map(|row| numbers[from.user[*row] as usize]));
        pick(&mut events.item, &from.item, &rows);
        pick_some(&mut events.timestamp, &from.timestamp, &rows);
        if let Some(of) = &from.request {
            let numbers = rows.iter().map(|row| of[*row].saturating_add(requests));
            events.request.get_or_insert_default().extend(numbers);
        }
        pick_some(&mut events.position, &from.position, &rows);
        pick_some(&mut events.propensity, &from.propensity, &rows);
        pick_some(&mut events.query, &from.query, &rows);
        for (name, column) in &from.feedback {
            pick(events.feedback.entry(name.clone()).or_default(), column, &rows);
        }
        let split = self.split.get_or_insert_with(|| log.split.without_rows());
        pick(&mut split.part, &log.split.part, &rows);
        pick(&mut split.clock, &log.split.clock, &rows);
    }

    /// The sample. `engaged` is the column whose positive values make histories.
    ///
    /// # Errors
    /// `engaged` is no feedback column, or nobody was added.
    pub fn finish(self, engaged: &str) -> Result<Log, DataError> {
        let Some(split) = self.split.filter(|_| !self.users.is_empty()) else {
            return Err(DataError::Empty { file: self.name, table: "users" });
        };
        Log::new(self.users, self.events, split, engaged, &self.name)
    }
}

fn pick<T: Clone>(to: &mut Vec<T>, from: &[T], rows: &[usize]) {
    to.extend(rows.iter().map(|row| from[*row].clone()));
}

fn pick_some<T: Clone>(to: &mut Option<Vec<T>>, from: &Option<Vec<T>>, rows: &[usize]) {
    if let Some(from) = from {
        pick(to.get_or_insert_default(), from, rows);
    }
}
