//! Two changed versions of each user's history.

use std::collections::BTreeMap;

use super::{BatchBuilder, Event};
use crate::batch::Sequences;
use crate::{Augmentations, Reading};

impl BatchBuilder<'_> {
    /// Asks for two views of a history of each user of the batch, for contrast: the newest that one of their requests reads, if it has any
    /// event. The same `seed` gives the same views. Without this call there are none.
    pub fn views(&mut self, augmentations: Augmentations, seed: u64) {
        self.augment = Some((augmentations, seed));
    }

    /// The first views of all users, by the number of the user, then the second ones; `slot` is the place of an item in the batch.
    pub(super) fn augmented(&self, slot: impl Fn(&u32) -> u32) -> Sequences {
        let Some((augmentations, seed)) = &self.augment else { return Sequences::default() };
        let mut newest: BTreeMap<u32, (i64, usize, usize)> = BTreeMap::new();
        for ((user, clock), (sequence, count)) in self.users.iter().zip(&self.clocks).zip(&self.reads) {
            let (Some(user), true) = (user, *count > 0) else { continue };
            let own = (*clock, *count, *sequence);
            newest.entry(*user).and_modify(|other| *other = own.max(*other)).or_insert(own);
        }
        let histories: Vec<(u32, &[Event])> = newest
            .into_iter()
            .map(|(user, (_, count, sequence))| {
                let events = &self.sequences[sequence][..count];
                (user, &events[count.saturating_sub(self.corpus.config.history)..])
            })
            .collect();
        let views = histories.iter().map(|(user, events)| {
            let places: Vec<u32> = (0..events.len() as u32).collect();
            augmentations.views(&places, *seed, u64::from(*user))
        });
        let (first, second): (Vec<_>, Vec<_>) = views.map(|[a, b]| (a, b)).unzip();
        let mut packed = Sequences { offsets: vec![0], ..Sequences::default() };
        for (view, (_, events)) in first.iter().chain(&second).zip(histories.iter().chain(&histories)) {
            self.pack(view, events, &slot, &mut packed);
        }
        packed
    }

    /// Appends a view of `events`. An event keeps what came of it and its time, and takes the place that it has in the view; of a masked one the
    /// place is all that is left.
    fn pack(&self, view: &[Option<u32>], events: &[Event], slot: impl Fn(&u32) -> u32, into: &mut Sequences) {
        let place_column = self.corpus.place_column();
        let start = into.items.len() as u32;
        for (at, event) in view.iter().enumerate() {
            // Who stands where this event stands now, counted as the user model counts.
            let there = match self.corpus.config.reading {
                Reading::Each => events.len() - view.len() + at,
                Reading::Prefixes | Reading::Cloze => at,
            };
            let place = events[there].1[place_column];
            let mut features = match event {
                Some(event) => events[*event as usize].1.clone(),
                None => vec![0.0; events[there].1.len()],
            };
            features[place_column] = place;
            into.events.extend(features);
            if event.is_none() {
                into.hidden.push(into.items.len() as u32);
            }
            // A masked event has the place of some item, which nobody looks at.
            into.items.push(event.map_or(0, |event| slot(&events[event as usize].0)));
        }
        let end = into.items.len() as u32;
        into.offsets.push(end);
        into.seen.push(start..end);
        into.asked.push(None);
    }
}
