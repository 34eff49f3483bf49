//! Which samples make which batch.

use std::collections::{BTreeMap, BTreeSet};

use paretune_data::{NewItem, Part, SplitStrategy};
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{Batch, Corpus, Reading};
use paretune_train::{Plan, TrainingConfig};

use crate::world;

/// A corpus whose rows carry their number as feedback, so that a batch says which rows it holds.
fn numbered() -> (Corpus, Objectives) {
    let mut dataset = world::dataset();
    let numbers = (0..dataset.events.len()).map(|row| row as f32).collect();
    dataset.events.feedback.insert("row".into(), numbers);
    let objectives =
        vec![Objective::new("row", Kind::Regression, "row"), Objective::new("click", Kind::Binary, "click")];
    (world::corpus_of(dataset, &world::TIME), Objectives::new(objectives).unwrap())
}

/// Row numbers of the samples that are rows, in order.
fn rows(batch: &Batch) -> Vec<u32> {
    batch.labels[0].iter().filter(|row| !row.is_nan()).map(|row| *row as u32).collect()
}

#[test]
fn an_epoch_meets_every_training_row_once() {
    let (corpus, objectives) = numbered();
    for negatives in [0, 2] {
        let config = TrainingConfig { batch: 64, epochs: 3, negatives, ..TrainingConfig::default() };
        let plan = Plan::new(&corpus, &objectives, &config, 4).unwrap();
        assert_eq!(plan.steps(), 3 * plan.steps_per_epoch());
        let epochs: Vec<Vec<u32>> = (0..3)
            .map(|epoch| plan.epoch_from(epoch * plan.steps_per_epoch()).flat_map(|batch| rows(&batch)).collect())
            .collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, corpus.split.rows(Part::Train));
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2], "every epoch has an order of its own");
    }
}

#[test]
fn rows_of_a_request_share_it() {
    let (corpus, objectives) = numbered();
    let plan = Plan::new(&corpus, &objectives, &TrainingConfig { batch: 64, ..TrainingConfig::default() }, 4).unwrap();
    let mut place = BTreeMap::new();
    for (number, batch) in plan.epoch_from(0).enumerate() {
        assert!(batch.len().abs_diff(64) <= 20 || number + 1 == plan.steps_per_epoch(), "{} samples", batch.len());
        for (row, request) in rows(&batch).into_iter().zip(&batch.requests) {
            let key = (corpus.dataset.events.user[row as usize], corpus.split.clock[row as usize]);
            assert_eq!(*place.entry(key).or_insert((number, *request)), (number, *request));
        }
        assert_eq!(batch.requests.iter().collect::<BTreeSet<_>>().len(), batch.viewers());
    }
}

#[test]
fn a_resumed_epoch_meets_the_batches_it_would_have_met() {
    let (corpus, objectives) = numbered();
    let config = TrainingConfig { batch: 64, epochs: 2, negatives: 1, ..TrainingConfig::default() };
    let plan = || Plan::new(&corpus, &objectives, &config, 4).unwrap();
    let text = |batches: Vec<Batch>| batches.iter().map(|batch| format!("{batch:?}")).collect::<Vec<_>>();
    let straight = text(plan().epoch_from(plan().steps_per_epoch()).collect());
    let resumed = text(plan().epoch_from(plan().steps_per_epoch() + 5).collect());
    assert_eq!(straight[5..], resumed);
    let other = Plan::new(&corpus, &objectives, &config, 5).unwrap();
    assert_ne!(straight, text(other.epoch_from(plan().steps_per_epoch()).collect()), "another seed, other batches");
}

#[test]
fn negatives_are_items_the_user_did_not_take() {
    let (corpus, objectives) = numbered();
    for pool in [0, 40] {
        let config = TrainingConfig { batch: 64, negatives: 3, negative_pool: pool, ..TrainingConfig::default() };
        let plan = Plan::new(&corpus, &objectives, &config, 4).unwrap();
        let (mut negatives, mut positives) = (0, 0);
        for batch in plan.epoch_from(0) {
            let mut user = 0;
            for at in 0..batch.len() {
                let row = batch.labels[0][at];
                if row.is_nan() {
                    negatives += 1;
                    assert_eq!((batch.labels[1][at], batch.positions[at]), (0.0, 0.0));
                    let item = batch.items[batch.slots[at] as usize];
                    assert!(!corpus.histories.engaged_items(user, true).contains(&item));
                } else {
                    user = corpus.dataset.events.user[row as usize];
                    positives += usize::from(batch.labels[1][at] > 0.0);
                }
            }
        }
        assert_eq!(negatives, 3 * positives);
    }
}

#[test]
fn max_steps_ends_a_run_early() {
    let (corpus, objectives) = numbered();
    let config = TrainingConfig { batch: 64, epochs: 5, max_steps: 7, ..TrainingConfig::default() };
    assert_eq!(Plan::new(&corpus, &objectives, &config, 4).unwrap().steps(), 7);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let (corpus, objectives) = numbered();
    let refused = |config: TrainingConfig| Plan::new(&corpus, &objectives, &config, 4).err().unwrap().to_string();
    let config = TrainingConfig::default;
    assert!(refused(TrainingConfig { batch: 0, ..config() }).contains("training.batch = 0"));
    assert!(refused(TrainingConfig { epochs: 0, ..config() }).contains("training.epochs"));
    assert!(refused(TrainingConfig { accumulate: 0, ..config() }).contains("training.accumulate"));
    assert!(refused(TrainingConfig { learning_rate: f64::NAN, ..config() }).contains("training.learning_rate"));
    assert!(
        refused(TrainingConfig { backbone_learning_rate: -1.0, ..config() })
            .contains("training.backbone_learning_rate")
    );
}

#[test]
fn requests_stay_whole_where_parts_are_dealt_out_by_chance() {
    let mut dataset = world::dataset();
    let numbers = (0..dataset.events.len()).map(|row| row as f32).collect();
    dataset.events.feedback.insert("row".into(), numbers);
    let corpus = world::corpus_of(dataset, &SplitStrategy::Random { valid: 0.2, test: 0.2, seed: 1 });
    let objectives = Objectives::new(vec![Objective::new("row", Kind::Regression, "row")]).unwrap();
    let plan = Plan::new(&corpus, &objectives, &TrainingConfig { batch: 50, ..TrainingConfig::default() }, 0).unwrap();
    let mut met: Vec<u32> = plan.epoch_from(0).flat_map(|batch| rows(&batch)).collect();
    met.sort_unstable();
    assert_eq!(met, corpus.split.rows(Part::Train));
}

#[test]
fn the_past_is_hidden_from_as_many_samples_as_asked_for() {
    let (corpus, objectives) = numbered();
    let mut new = Vec::new();
    corpus.behaviour.new_item(&NewItem::default(), &mut new);
    for (share, expected) in [(0.0, 0.0..0.2), (0.4, 0.3..0.6), (1.0, 1.0..1.1)] {
        let config = TrainingConfig { hide_past: share, negatives: 1, ..TrainingConfig::default() };
        let plan = Plan::new(&corpus, &objectives, &config, 4).unwrap();
        let (mut hidden, mut all) = (0.0, 0.0);
        for batch in plan.epoch_from(0) {
            let samples = batch.item_features.chunks(new.len());
            hidden += samples.filter(|features| *features == new.as_slice()).count() as f64;
            all += batch.len() as f64;
        }
        assert!(expected.contains(&(hidden / all)), "{share}: {hidden} of {all}");
    }
}

/// The same log for models that share a sequence between the requests of a user.
fn chained(reading: Reading) -> (Corpus, Objectives) {
    let (mut corpus, objectives) = numbered();
    corpus.config.reading = reading;
    (corpus, objectives)
}

#[test]
fn requests_of_a_user_share_one_sequence_and_see_their_past() {
    let (corpus, objectives) = chained(Reading::Prefixes);
    let plan = Plan::new(&corpus, &objectives, &TrainingConfig { batch: 64, ..TrainingConfig::default() }, 4).unwrap();
    let (mut met, mut sequences, mut requests) = (Vec::new(), 0, 0);
    for batch in plan.epoch_from(0) {
        sequences += batch.histories.offsets.len() - 1;
        requests += batch.viewers();
        for (row, request) in rows(&batch).into_iter().zip(&batch.requests) {
            met.push(row);
            let (user, clock) = (corpus.dataset.events.user[row as usize], corpus.split.clock[row as usize]);
            let seen = batch.histories.seen[*request as usize].clone();
            let seen: Vec<u32> =
                seen.map(|at| batch.items[batch.histories.items[at as usize] as usize]).rev().collect();
            let before = corpus.histories.before(user, clock, 99, true);
            let before: Vec<u32> = before.iter().map(|&row| corpus.dataset.events.item[row as usize]).collect();
            // The newest of it, half a history at least.
            assert_eq!(seen, before[..seen.len()]);
            assert!(seen.len() >= before.len().min(4) && seen.len() <= 8, "{} of {}", seen.len(), before.len());
        }
    }
    met.sort_unstable();
    assert_eq!(met, corpus.split.rows(Part::Train));
    assert!(requests > 2 * sequences, "{requests} requests off {sequences} sequences");
}

#[test]
fn cloze_hides_events_and_asks_for_them() {
    let (corpus, objectives) = chained(Reading::Cloze);
    let config = TrainingConfig { batch: 64, cloze: 0.3, ..TrainingConfig::default() };
    let plan = Plan::new(&corpus, &objectives, &config, 4).unwrap();
    let (mut hidden, mut events) = (0, 0);
    for batch in plan.epoch_from(0) {
        let histories = &batch.histories;
        assert!(histories.hidden.is_sorted_by(|a, b| a < b));
        hidden += histories.hidden.len();
        events += histories
            .offsets
            .windows(2)
            .filter(|ends| histories.hidden.iter().any(|row| (ends[0]..ends[1]).contains(row)))
            .map(|ends| ends[1] - ends[0])
            .sum::<u32>();
        for (slot, request) in batch.slots.iter().zip(&batch.requests) {
            if let Some(row) = histories.asked[*request as usize] {
                assert_eq!(histories.items[row as usize], *slot, "what is hidden is what is asked for");
                assert!(histories.hidden.binary_search(&row).is_ok());
                assert!(histories.seen[*request as usize].contains(&row));
            }
        }
        assert_eq!(histories.asked.iter().flatten().count(), histories.hidden.len());
    }
    let share = hidden as f64 / f64::from(events);
    assert!((0.25..0.45).contains(&share), "{share}");
}
