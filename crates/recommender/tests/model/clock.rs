//! No batch sees what happens at its clock or later.

use std::collections::BTreeSet;

use paretune_data::{Dataset, Part, Split};
use paretune_recommender::{BatchBuilder, Corpus, Encode, Viewer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world;

/// Another outcome, and another item, for every row that `pick` names.
fn rewritten(dataset: &Dataset, seed: u64, pick: impl Fn(usize) -> bool) -> Dataset {
    let mut changed = dataset.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for row in (0..dataset.events.len()).filter(|row| pick(*row)) {
        changed.events.item[row] = rng.random_range(0..120);
        for (name, column) in &mut changed.events.feedback {
            let most = if name == "rating" || name == "dwell_seconds" { 5 } else { 1 };
            column[row] = if rng.random_bool(0.2) { f32::NAN } else { f32::from(rng.random_range(0..=most) as u8) };
        }
    }
    changed
}

/// A batch of one request and a few samples of it, as text: the same text means the same numbers.
fn seen(corpus: &Corpus, user: u32, clock: i64, train_only: bool) -> String {
    let mut builder = BatchBuilder::new(corpus, 0);
    let request = builder.request(&Viewer::Known { user, clock, train_only });
    (0..120).step_by(7).for_each(|item| builder.sample(request, item, 0, []));
    format!("{:?}", builder.build(Encode::ShownAndHistory))
}

#[test]
fn held_out_events_change_no_bit_of_what_was_there_before_them() {
    let dataset = world::dataset();
    let split = Split::new(&dataset, &world::TIME).unwrap();
    let held_out = |row: usize| split.part[row] != Part::Train;
    let first = (0..dataset.events.len()).filter(|row| held_out(*row)).map(|row| split.clock[row]).min().unwrap();
    let corpus = world::corpus_of(dataset.clone(), split.clone());
    let clocks: BTreeSet<i64> = split.clock.iter().copied().filter(|clock| *clock < first).chain([first]).collect();
    for seed in 0..4 {
        let other = world::corpus_of(rewritten(&dataset, seed, held_out), split.clone());
        for (user, &clock) in (0..60).cycle().zip(clocks.iter().rev().step_by(3)) {
            for train_only in [true, false] {
                assert_eq!(seen(&corpus, user, clock, train_only), seen(&other, user, clock, train_only));
            }
        }
        // What trains never sees the held-out part, at no clock; what is evaluated may see what came before it.
        let (end, user) =
            (split.end(), (0..60).find(|user| !corpus.histories.before(*user, i64::MAX, 1, false).is_empty()));
        assert_eq!(seen(&corpus, user.unwrap(), end, true), seen(&other, user.unwrap(), end, true));
        assert!((0..60).any(|user| seen(&corpus, user, end, false) != seen(&other, user, end, false)));
    }
}

#[test]
fn later_training_events_change_no_history() {
    let dataset = world::dataset();
    let split = Split::new(&dataset, &world::TIME).unwrap();
    let corpus = world::corpus_of(dataset.clone(), split.clone());
    let mut clocks: Vec<i64> = split.clock.clone();
    clocks.sort_unstable();
    for seed in 0..6 {
        let clock = clocks[clocks.len() * (seed as usize + 1) / 8];
        let other = world::corpus_of(rewritten(&dataset, seed, |row| split.clock[row] >= clock), split.clone());
        for user in 0..60 {
            // Means and deviations of features are those of all training rows, so only the items can be compared bit by bit.
            let past = |corpus: &Corpus| {
                let mut builder = BatchBuilder::new(corpus, 0);
                builder.request(&Viewer::Known { user, clock, train_only: true });
                let batch = builder.build(Encode::Nothing);
                batch.histories.items.iter().map(|slot| batch.items[*slot as usize]).collect::<Vec<_>>()
            };
            assert_eq!(past(&corpus), past(&other));
            let rows = corpus.histories.before(user, clock, 99, false);
            assert!(rows.iter().all(|&row| split.clock[row as usize] < clock));
        }
    }
}

#[test]
fn events_of_one_request_do_not_see_each_other() {
    let corpus = world::corpus();
    let batch = world::batch(&corpus, &world::late_rows(&corpus, 60), Encode::Nothing);
    let width = corpus.event_width();
    // The last but one value of an event is the time since, which is above zero for everything that is past.
    assert!(!batch.histories.is_empty());
    for event in batch.histories.events.chunks(width) {
        assert!(event[width - 2] > 0.0);
    }
}
