//! Metrics on logs small enough to check by hand.

use std::collections::BTreeMap;

use paretune_data::{Dataset, Events, Items, Part, SplitStrategy, Users};
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::Corpus;
use paretune_train::evaluation::{Metrics, Monitor, Ranking, Rows, baselines, predict, utilities};

use crate::world::{World, corpus_of};

const NO: f32 = f32::NAN;

/// Items a to e, users 0 to 2, rows (user, item, time, click, rating).
fn log(rows: &[(u32, u32, i64, f32, f32)]) -> Dataset {
    Dataset {
        name: "by hand".into(),
        items: Items {
            ids: ["a", "b", "c", "d", "e"].map(String::from).to_vec(),
            text: BTreeMap::from([(
                "title".into(),
                ["toy", "war", "love", "night", "life"].map(|t| Some(t.into())).to_vec(),
            )]),
            ..Items::default()
        },
        users: Users { ids: ["x", "y", "z"].map(String::from).to_vec(), ..Users::default() },
        events: Events {
            user: rows.iter().map(|row| row.0).collect(),
            item: rows.iter().map(|row| row.1).collect(),
            timestamp: Some(rows.iter().map(|row| row.2).collect()),
            feedback: BTreeMap::from([
                ("click".into(), rows.iter().map(|row| row.3).collect()),
                ("rating".into(), rows.iter().map(|row| row.4).collect()),
            ]),
            ..Events::default()
        },
    }
}

/// Six training rows, two for validation, three for test.
fn by_time() -> Corpus {
    let rows = [
        (0, 0, 1, 1.0, 5.0),
        (0, 1, 2, 1.0, 3.0),
        (0, 2, 7, 1.0, 4.0),
        (0, 3, 9, 1.0, 2.0),
        (1, 1, 3, 0.0, NO),
        (1, 2, 4, 1.0, 1.0),
        (1, 0, 8, 1.0, NO),
        (1, 4, 10, 1.0, 4.0),
        (2, 2, 5, 1.0, 3.0),
        (2, 3, 6, 0.0, NO),
        (2, 2, 11, 1.0, NO),
    ];
    corpus_of(log(&rows), &SplitStrategy::Time { valid: 0.2, test: 0.25 })
}

fn two() -> Objectives {
    let click = Objective::new("click", Kind::Binary, "click");
    Objectives::new(vec![click, Objective::new("rating", Kind::Regression, "rating")]).unwrap()
}

/// Ranks a before b before c before d before e.
const SCORES: [f32; 5] = [5.0, 4.0, 3.0, 2.0, 1.0];

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
}

#[test]
fn training_items_are_masked_where_parts_follow_in_time() {
    let corpus = by_time();
    let ranking = Ranking::new(&corpus, Part::Test, 100, &[1, 3]);
    // User 0 took a and b in training: d comes second after c. User 1 took c: e comes fourth after a, b, d. User 2 looks for what
    // they took before, and is left out.
    assert_eq!(ranking.len(), 2);
    let ranked = ranking.fixed(&SCORES, &[]).unwrap();
    near(ranked.ranking["ndcg@3"], (1.0 / 3f64.log2() + 0.0) / 2.0);
    near(ranked.ranking["recall@3"], 0.5);
    near(ranked.ranking["mrr@3"], 0.25);
    near(ranked.ranking["hit@1"], 0.0);
    assert_eq!(ranked.users, 2);
}

#[test]
fn leave_last_masks_nothing() {
    let mut rows = Vec::new();
    for (user, items) in [(0, [0, 1, 2, 3]), (1, [1, 2, 0, 4]), (2, [2, 3, 4, 0])] {
        rows.extend((0i64..).zip(items).map(|(time, item)| (user, item, time, 1.0, NO)));
    }
    let corpus = corpus_of(log(&rows), &SplitStrategy::LeaveLast);
    // The last items are d, e and a, at ranks 4, 5 and 1 of the whole catalogue.
    let ranked = Ranking::new(&corpus, Part::Test, 100, &[5]).fixed(&SCORES, &[]).unwrap();
    near(ranked.ranking["ndcg@5"], (1.0 / 5f64.log2() + 1.0 / 6f64.log2() + 1.0) / 3.0);
    near(ranked.ranking["mrr@5"], (0.25 + 0.2 + 1.0) / 3.0);
    assert!(corpus.only_positives());
    // Of a limited number of users some are left out, and nobody is ranked for twice.
    assert_eq!(Ranking::new(&corpus, Part::Test, 2, &[5]).len(), 2);
}

#[test]
fn baselines_are_what_one_computes_by_hand() {
    let corpus = by_time();
    let objectives = two();
    let train = Rows::new(&corpus, &objectives, Part::Train, 0, 100, 0).unwrap();
    let test = Rows::new(&corpus, &objectives, Part::Test, 0, 100, 0).unwrap();
    assert_eq!(test.items, [3, 4, 2]);
    let [click, rating] = objectives.as_slice() else { unreachable!() };
    // Ratings in training: a 5, b 3, c 1 and 3; their mean is 3, and d and e have none.
    let means = baselines::item_mean(&corpus, rating, 1, &train, &test).unwrap();
    near(f64::from(means[0]), 3.0);
    near(f64::from(means[2]), (1.0 + 3.0 + 10.0 * 3.0) / 12.0);
    // Clicks in training: 4 of 6; d was shown once and not clicked.
    let means = baselines::item_mean(&corpus, click, 0, &train, &test).unwrap();
    near(f64::from(means[0]), (0.0 + 10.0 * 4.0 / 6.0) / 11.0);
    near(f64::from(means[1]), 4.0 / 6.0);
    // Engagements in training: a 1, b 1, c 2. Least squares of the ratings on ln(1 + n).
    assert_eq!(baselines::popularity_scores(&corpus), [1.0, 1.0, 2.0, 0.0, 0.0]);
    let fitted = baselines::popularity(&corpus, rating, 1, &train, &test).unwrap();
    near(f64::from(fitted[2]), 2.0);
    let slope = (2.0 - 4.0) / (3f64.ln() - 2f64.ln());
    assert!((f64::from(fitted[0]) - (4.0 - slope * 2f64.ln())).abs() < 1e-5, "{}", fitted[0]);
}

#[test]
fn rows_are_thinned_by_whole_requests_and_never_to_nothing() {
    let world = World::new();
    let rows = |limit| Rows::new(&world.corpus, &world.objectives, Part::Valid, 0, limit, 0).unwrap();
    let all = rows(1_000_000);
    assert_eq!(all.len(), world.corpus.split.rows(Part::Valid).len());
    for limit in [1, 20, 100] {
        let few = rows(limit);
        assert!(!few.is_empty() && few.len() <= 2 * limit.max(10), "{} rows for {limit}", few.len());
        let of = |rows: &Rows, user, clock| {
            (0..rows.len()).filter(|&at| (rows.users[at], rows.clocks[at]) == (user, clock)).count()
        };
        for at in 0..few.len() {
            let (user, clock) = (few.users[at], few.clocks[at]);
            assert_eq!(of(&few, user, clock), of(&all, user, clock), "a request is there or not");
        }
    }
}

#[test]
fn what_was_not_clicked_did_not_convert() {
    let mut dataset = crate::world::dataset();
    // Many logs leave the column empty there.
    let clicks = dataset.events.feedback["click"].clone();
    let conversions = dataset.events.feedback.get_mut("conversion").unwrap();
    conversions
        .iter_mut()
        .zip(&clicks)
        .filter(|(_, click)| **click == 0.0)
        .for_each(|(conversion, _)| *conversion = NO);
    let corpus = corpus_of(dataset, &crate::world::TIME);
    let rows = Rows::new(&corpus, &crate::world::objectives(), Part::Test, 0, 100_000, 0).unwrap();
    for at in 0..rows.len() {
        assert!(rows.labels[0][at] == 1.0 || rows.labels[1][at] == 0.0);
    }
}

#[test]
fn cold_rows_are_those_of_items_nobody_engaged_with_in_training() {
    let corpus = by_time();
    let rows = Rows::new(&corpus, &two(), Part::Test, 0, 100, 0).unwrap();
    assert_eq!(rows.cold, [true, true, false]);
}

#[test]
fn utilities_do_not_depend_on_units() {
    let objectives = two();
    let clicks = vec![0.1, 0.5, 0.9];
    let ratings = vec![1.0, 3.0, 2.0];
    let scaled: Vec<f32> = ratings.iter().map(|rating| 20.0 * rating + 7.0).collect();
    let weights = [0.3, 0.7];
    let plain = utilities(&objectives, &[clicks.clone(), ratings], &weights);
    let other = utilities(&objectives, &[clicks.clone(), scaled], &weights);
    plain.iter().zip(&other).for_each(|(a, b)| near(f64::from(*a), f64::from(*b)));
    // Log-odds of 0.1, 0.5, 0.9 are -l, 0, l: standardised -√1.5, 0, √1.5. So are ratings 1, 3, 2: -√1.5, √1.5, 0.
    let root = 1.5f64.sqrt();
    for (found, expected) in plain.iter().zip([-root, 0.7 * root, 0.3 * root]) {
        near(f64::from(*found), expected);
    }
    // A weight of 0 leaves even what cannot be standardised out.
    assert_eq!(utilities(&objectives, &[clicks, vec![NO; 3]], &[1.0, 0.0]).len(), 3);
    assert!(utilities(&objectives, &[vec![0.0, 1.0], vec![2.0, 2.0]], &weights).iter().all(|u| u.is_finite()));
}

#[test]
fn the_default_monitor_is_the_mean_skill_of_what_is_trained() {
    let world = World::new();
    let model = world.model();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let monitor = Monitor::new(&world.corpus, &world.objectives, &BTreeMap::new(), 0, 300, 0).unwrap();
    let metrics = monitor.measure(&model, &world.corpus, &world.objectives, &known).unwrap();
    let names = ["click.auc", "conversion.auc", "satisfaction.r2", "dwell.r2"];
    let mean = names.iter().map(|name| metrics[*name]).sum::<f64>() / 4.0;
    near(monitor.combine(&metrics, &world.objectives, &[true; 4]).unwrap(), mean);
    let two = (metrics["click.auc"] + metrics["dwell.r2"]) / 2.0;
    near(monitor.combine(&metrics, &world.objectives, &[true, false, false, true]).unwrap(), two);
    // R² is the share of the variance in the unit of the loss that is explained: a fresh model explains next to nothing.
    assert!(metrics["dwell.r2"] < 0.5 && metrics["satisfaction.r2"] < 0.5);

    let weights = BTreeMap::from([
        ("click.auc".to_owned(), 2.0),
        ("satisfaction.rmse".to_owned(), 0.5),
        ("ndcg@10".to_owned(), 1.0),
    ]);
    let monitor = Monitor::new(&world.corpus, &world.objectives, &weights, 0, 300, 0).unwrap();
    let metrics = monitor.measure(&model, &world.corpus, &world.objectives, &known).unwrap();
    let expected = 2.0 * metrics["click.auc"] - 0.5 * metrics["satisfaction.rmse"] + metrics["ndcg@10"];
    near(monitor.combine(&metrics, &world.objectives, &[true; 4]).unwrap(), expected);
}

#[test]
fn ranking_by_a_model_is_ranking_by_its_utilities() {
    // Everybody looks for something at one moment, so one catalogue serves all.
    let rows: Vec<_> = (0u32..3)
        .flat_map(|user| {
            let own = i64::from(user);
            [
                (user, user, own, 1.0, 3.0 + user as f32),
                (user, user + 1, 5 + own, 1.0, 2.0),
                (user, user + 2, 20, 1.0, 5.0),
            ]
        })
        .collect();
    let corpus = corpus_of(log(&rows), &SplitStrategy::Time { valid: 0.3, test: 0.34 });
    let world = World { corpus, objectives: two(), ..World::new() };
    let model = world.model();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let ranking = Ranking::new(&world.corpus, Part::Test, 100, &[1, 2]);
    let found = ranking.model(&model, &world.objectives, &known, &[0.4, 0.6], &[]).unwrap();
    assert_eq!(found.users, ranking.len());
    assert!(found.ranking.values().chain(found.list.values()).all(|value| value.is_finite()));

    let test = Rows::new(&world.corpus, &world.objectives, Part::Test, 0, 100, 0).unwrap();
    let predictions = predict(&model, &world.corpus, &known, &test).unwrap();
    let mut metrics = Metrics::default();
    metrics.add("model", &world.objectives, &test, &predictions.into_iter().map(Some).collect::<Vec<_>>());
    assert!(metrics.primary(&world.objectives.as_slice()[1], "model").is_some_and(f64::is_finite));
    assert_eq!(metrics.primary(&world.objectives.as_slice()[1], "nobody"), None);
}
