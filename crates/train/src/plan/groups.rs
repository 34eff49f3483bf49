//! Which training rows stay together in a batch.

use paretune_data::{Events, Part, Split};
use paretune_recommender::{CorpusConfig, Reading};

/// Training rows in the order in which they are grouped.
pub(crate) struct Grouped {
    pub(crate) train: Vec<u32>,
    /// Rows `train[start..end]` of each group.
    pub(crate) groups: Vec<(u32, u32)>,
    pub(crate) size: Size,
}

/// How much there is to train on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) groups: usize,
    pub(crate) rows: usize,
    /// Rows with engagement, each of which gets its negatives.
    pub(crate) positives: usize,
}

impl Size {
    /// As many groups as hold about `samples` samples, on average.
    pub(crate) fn groups_per_batch(&self, samples: usize, negatives: usize) -> usize {
        let per_group = (self.rows + self.positives * negatives) as f64 / self.groups.max(1) as f64;
        ((samples as f64 / per_group).round() as usize).max(1)
    }
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.groups += other.groups;
        self.rows += other.rows;
        self.positives += other.positives;
    }
}

impl Grouped {
    /// Rows of one user with one clock, or, where requests share a sequence, as many consecutive ones of a user as one history holds: after
    /// the first such group of a user half as many, so that every request sees half of a history at least.
    pub(crate) fn new(events: &Events, split: &Split, config: &CorpusConfig) -> Self {
        let mut train = split.rows(Part::Train);
        let key = |row: u32| (events.user[row as usize], split.clock[row as usize]);
        if config.reading != Reading::Each {
            // A log without times lies in no order.
            train.sort_by_key(|&row| (key(row), row));
        }
        let engaged = events.feedback.get(&config.engaged);
        let mut groups: Vec<(u32, u32)> = Vec::new();
        let mut positives = 0;
        // Events of the group that enter histories, and how many of them it may have.
        let (mut held, mut room) = (0, config.history);
        for (at, &row) in (0u32..).zip(&train) {
            let is_event = usize::from(engaged.is_some_and(|column| column[row as usize] > 0.0));
            positives += is_event;
            let last = groups.last().map(|(_, end)| key(train[*end as usize - 1]));
            let same_user = last.is_some_and(|(user, _)| user == key(row).0);
            let joins = last == Some(key(row)) || (config.reading != Reading::Each && same_user && held < room);
            match groups.last_mut() {
                Some((_, end)) if joins => {
                    *end = at + 1;
                    held += is_event;
                }
                _ => {
                    groups.push((at, at + 1));
                    room = if same_user { (config.history / 2).max(1) } else { config.history };
                    held = is_event;
                }
            }
        }
        let size = Size { groups: groups.len(), rows: train.len(), positives };
        Self { train, groups, size }
    }
}
