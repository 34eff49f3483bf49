//! What all models without gradients have in common, and their numbers against those of numpy.

use std::collections::BTreeMap;

use paretune_data::{Dataset, Events, Items, Split, SplitStrategy, Users};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::*;

#[derive(Deserialize)]
struct Log {
    users: Vec<Vec<u32>>,
    items: usize,
}

/// One section of the fixtures: the log that it was made from, and what was made of it.
pub(super) fn fixture<T: DeserializeOwned>(section: &str) -> (Interactions, T) {
    let mut all: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(include_str!("../../fixtures/classic.json")).unwrap();
    let section = all.remove(section).unwrap();
    let log: Log = serde_json::from_value(section["log"].clone()).unwrap();
    (Interactions::new(log.users, log.items).unwrap(), serde_json::from_value(section).unwrap())
}

/// Scores of some histories.
#[derive(Deserialize)]
struct Scored {
    histories: Vec<Vec<u32>>,
    scores: Vec<Vec<f64>>,
}

#[track_caller]
fn agree(model: &dyn Scorer, theirs: &Scored, tolerance: f64) {
    for (history, theirs) in theirs.histories.iter().zip(&theirs.scores) {
        let ours = model.score(history);
        assert_eq!(ours.len(), theirs.len());
        for (item, (ours, theirs)) in ours.into_iter().zip(theirs).enumerate() {
            assert!((f64::from(ours) - theirs).abs() < tolerance, "{history:?}, item {item}: {ours} is not {theirs}");
        }
    }
}

#[test]
fn ease_agrees_with_numpy() {
    #[derive(Deserialize)]
    struct Small {
        lambda: f64,
        weights: Vec<Vec<f64>>,
    }
    let (log, theirs): (_, Small) = fixture("ease");
    let ours = Ease::fit(&log, &EaseConfig { lambda: theirs.lambda }).unwrap();
    for (from, row) in (0..).zip(&theirs.weights) {
        for (to, theirs) in (0..).zip(row) {
            let ours = f64::from(ours.weight(from, to).unwrap());
            assert!((ours - theirs).abs() < 1e-6, "{from}, {to}: {ours} is not {theirs}");
        }
    }

    // More items than a tile has rows.
    #[derive(Deserialize)]
    struct Large {
        lambda: f64,
        #[serde(flatten)]
        scored: Scored,
    }
    let (log, theirs): (_, Large) = fixture("ease_in_tiles");
    let ours = Ease::fit(&log, &EaseConfig { lambda: theirs.lambda }).unwrap();
    agree(&ours, &theirs.scored, 1e-6);
}

#[test]
fn item_knn_agrees_with_numpy() {
    #[derive(Deserialize)]
    struct Knn {
        neighbours: usize,
        shrinkage: f64,
        #[serde(flatten)]
        scored: Scored,
    }
    let (log, theirs): (_, Knn) = fixture("knn");
    let config = ItemKnnConfig { neighbours: theirs.neighbours, shrinkage: theirs.shrinkage };
    agree(&ItemKnn::fit(&log, &config).unwrap(), &theirs.scored, 1e-6);
}

#[test]
fn ease_of_two_items_by_hand() {
    // Three users of item 0, two of item 1, one of both: B_01 = c / (b + λ), and so on.
    let log = Interactions::new(vec![vec![0, 1], vec![0], vec![0], vec![1]], 2).unwrap();
    let model = Ease::fit(&log, &EaseConfig { lambda: 0.5 }).unwrap();
    let weights = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(from, to)| model.weight(from, to).unwrap());
    for (ours, expected) in weights.into_iter().zip([0.0, 1.0 / 3.5, 1.0 / 2.5, 0.0]) {
        assert!((ours - expected).abs() < 1e-7, "{weights:?}");
    }
    assert_eq!((model.weight(2, 0), model.weight(0, 2)), (None, None));
}

fn users() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0_u32..12, 0..8), 0..16)
}

/// All models of a log of twelve items.
fn models(users: &[Vec<u32>], seed: u64) -> [Box<dyn Scorer>; 3] {
    let log = Interactions::new(users.to_vec(), 12).unwrap();
    [
        Box::new(ItemKnn::fit(&log, &ItemKnnConfig { neighbours: 4, shrinkage: 1.0 }).unwrap()),
        Box::new(Ease::fit(&log, &EaseConfig { lambda: 2.0 }).unwrap()),
        Box::new(Mf::fit(&log, &MfConfig { factors: 5, sweeps: 2, seed, ..MfConfig::default() }).unwrap()),
    ]
}

fn bits(scores: Vec<f32>) -> Vec<u32> {
    scores.into_iter().map(f32::to_bits).collect()
}

/// Item kNN as its definition says, pair by pair.
fn plain_knn(log: &Interactions, config: &ItemKnnConfig, history: &[u32]) -> Vec<f32> {
    let has = |user: &Vec<u32>, item: u32| user.contains(&item);
    let items = 0..log.items() as u32;
    let count = |a: u32, b: u32| log.users().iter().filter(|user| has(user, a) && has(user, b)).count() as f64;
    let similarity = |a: u32, b: u32| (count(a, b) / ((count(a, a) * count(b, b)).sqrt() + config.shrinkage)) as f32;
    let history: Vec<u32> = items.clone().filter(|item| history.contains(item)).collect();
    let score = |item: u32| {
        let mut others: Vec<u32> = items.clone().filter(|&other| other != item && count(item, other) > 0.0).collect();
        others.sort_by(|&a, &b| similarity(item, b).total_cmp(&similarity(item, a)));
        others.truncate(config.neighbours);
        history.iter().filter(|other| others.contains(other)).fold(0.0, |sum, &other| sum + similarity(item, other))
    };
    items.clone().map(score).collect()
}

proptest! {
    #[test]
    fn item_knn_is_its_definition(
        users in users(),
        neighbours in 1_usize..6,
        shrinkage in 0_u8..4,
        history in prop::collection::vec(0_u32..12, 0..6),
    ) {
        let log = Interactions::new(users, 12).unwrap();
        let config = ItemKnnConfig { neighbours, shrinkage: f64::from(shrinkage) };
        let ours = ItemKnn::fit(&log, &config).unwrap().score(&history);
        prop_assert_eq!(ours, plain_knn(&log, &config, &history));
    }

    #[test]
    fn the_diagonal_of_ease_is_zero_and_its_columns_solve_their_regression(users in users(), lambda in 0.1_f64..50.0) {
        let log = Interactions::new(users, 12).unwrap();
        let model = Ease::fit(&log, &EaseConfig { lambda }).unwrap();
        let weight = |from: u32, to: u32| f64::from(model.weight(from, to).unwrap());
        let gram = |a: u32, b: u32| log.users().iter().filter(|user| user.contains(&a) && user.contains(&b)).count() as f64;
        for to in 0..12 {
            prop_assert_eq!(model.weight(to, to), Some(0.0));
            // The gradient of ‖x_to − X b‖² + λ‖b‖² vanishes in all rows but the one that is held at zero.
            for row in (0..12).filter(|row| *row != to) {
                let product: f64 = (0..12).map(|from| gram(row, from) * weight(from, to)).sum();
                let gradient = product + lambda * weight(row, to) - gram(row, to);
                prop_assert!(gradient.abs() < 1e-4, "{row}, {to}: {gradient}");
            }
        }
    }

    #[test]
    fn neither_order_nor_repeats_nor_unknown_items_change_a_bit(
        users in users(),
        history in prop::collection::vec(0_u32..12, 0..6),
        seed in any::<u64>(),
    ) {
        let noisy: Vec<u32> = history.iter().rev().chain(&[12, u32::MAX]).chain(&history).copied().collect();
        for model in models(&users, seed) {
            let scores = model.score(&history);
            prop_assert_eq!(scores.len(), 12);
            prop_assert!(scores.iter().all(|score| score.is_finite()), "{}", model.name());
            prop_assert_eq!(bits(scores), bits(model.score(&noisy)), "{}", model.name());
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit(users in users(), history in prop::collection::vec(0_u32..12, 0..6)) {
        let all = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| models(&users, 7).map(|model| bits(model.score(&history))))
        };
        let one = all(1);
        prop_assert_eq!(&one, &all(2));
        prop_assert_eq!(&one, &all(5));
    }
}

#[test]
fn an_item_without_users_and_an_empty_history_score_zero() {
    let users = vec![vec![0, 1], vec![1, 2], vec![0, 2, 3]];
    for model in models(&users, 1) {
        let scores = model.score(&[0, 11]);
        assert_eq!(scores[10].abs(), 0.0, "{}: {scores:?}", model.name());
        assert!(scores[1] > 0.0, "{}: {scores:?}", model.name());
        assert!(model.score(&[]).iter().all(|score| *score == 0.0), "{}", model.name());
        assert!(model.score(&[11]).iter().all(|score| *score == 0.0), "{}", model.name());
    }
    // Nobody and nothing.
    let nothing = Interactions::new(Vec::new(), 0).unwrap();
    assert!(Ease::fit(&nothing, &EaseConfig::default()).unwrap().score(&[3]).is_empty());
    assert!(ItemKnn::fit(&nothing, &ItemKnnConfig::default()).unwrap().score(&[3]).is_empty());
    assert!(Mf::fit(&nothing, &MfConfig::default()).unwrap().score(&[3]).is_empty());
}

#[test]
fn settings_that_do_not_work_are_named() {
    let log = Interactions::new(vec![vec![0, 1]], 2).unwrap();
    let wrong = [
        ItemKnn::fit(&log, &ItemKnnConfig { neighbours: 0, ..Default::default() }).err(),
        ItemKnn::fit(&log, &ItemKnnConfig { shrinkage: -1.0, ..Default::default() }).err(),
        Ease::fit(&log, &EaseConfig { lambda: 0.0 }).err(),
        Ease::fit(&log, &EaseConfig { lambda: f64::NAN }).err(),
        Mf::fit(&log, &MfConfig { factors: 0, ..Default::default() }).err(),
        Mf::fit(&log, &MfConfig { lambda: -0.1, ..Default::default() }).err(),
        Mf::fit(&log, &MfConfig { alpha: f64::INFINITY, ..Default::default() }).err(),
        Mf::fit(&log, &MfConfig { sweeps: 0, ..Default::default() }).err(),
    ];
    let settings = ["neighbours", "shrinkage", "lambda", "lambda", "factors", "lambda", "alpha", "sweeps"];
    for (error, setting) in wrong.into_iter().zip(settings) {
        let message = error.unwrap().to_string();
        assert!(message.contains(setting), "{message}");
    }

    // Two items with the same users: without λ there is no inverse.
    let error = Ease::fit(&log, &EaseConfig { lambda: 1e-300 }).unwrap_err();
    assert!(matches!(error, ClassicError::Singular { .. }), "{error}");

    let large = Interactions::new(Vec::new(), 40_000).unwrap();
    let error = Ease::fit(&large, &EaseConfig::default()).unwrap_err();
    assert!(error.to_string().contains("11.9 GiB"), "{error}");

    let error = Interactions::new(vec![vec![0], vec![7]], 7).unwrap_err();
    assert!(matches!(error, ClassicError::ItemOutOfRange { user: 1, item: 7, items: 7 }), "{error}");
}

#[test]
fn only_engagements_of_the_training_part_are_seen() {
    // One user clicks items 0 to 4 in this order, but not on 1; another sees item 5 only.
    let dataset = Dataset {
        name: "small".to_owned(),
        items: Items { ids: (0..6).map(|item| format!("i{item}")).collect(), ..Items::default() },
        users: Users { ids: vec!["a".to_owned(), "b".to_owned()], ..Users::default() },
        events: Events {
            user: vec![0, 0, 0, 0, 0, 1],
            item: vec![0, 1, 2, 3, 4, 5],
            timestamp: Some((0..6).collect()),
            feedback: BTreeMap::from([("click".to_owned(), vec![1.0, 0.0, 1.0, 1.0, 1.0, f32::NAN])]),
            ..Events::default()
        },
    };
    let split = Split::new(&dataset, &SplitStrategy::LeaveLast).unwrap();
    let log = Interactions::of(&dataset, &split, "click").unwrap();
    assert_eq!((log.users(), log.items()), (&[vec![0, 2], vec![]][..], 6));
    assert!(matches!(Interactions::of(&dataset, &split, "clack"), Err(ClassicError::Data(_))));
}
