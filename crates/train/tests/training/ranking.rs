//! Whom the catalogue is ranked for, as of when, and how the result is divided.

use std::collections::BTreeSet;
use std::sync::Mutex;

use paretune_data::{Part, SplitStrategy};
use paretune_eval::BucketRanking;
use paretune_recommender::{Scorer, UserKind};
use paretune_train::evaluation::{Ranking, baselines};

use crate::clicks::{self, ITEMS};

/// Scores items by what somebody said of all of them, and keeps the histories it was shown.
struct Witness {
    scores: Vec<f32>,
    shown: Mutex<Vec<Vec<u32>>>,
}

impl Scorer for Witness {
    fn name(&self) -> &str {
        "witness"
    }

    fn score(&self, history: &[u32]) -> Vec<f32> {
        self.shown.lock().unwrap().push(history.to_vec());
        self.scores.clone()
    }
}

#[test]
fn a_scorer_sees_the_whole_past_and_is_ranked_as_fixed_scores_are() {
    let corpus = clicks::corpus(UserKind::Attention, clicks::groups(), &SplitStrategy::LeaveLast);
    let scores = baselines::popularity_scores(&corpus);
    let witness = Witness { scores: scores.clone(), shown: Mutex::default() };
    let ranking = Ranking::new(&corpus, Part::Test, usize::MAX, &[1, 5]);
    let found = ranking.scorer(&witness, &[]).unwrap();
    let fixed = ranking.fixed(&scores, &[]).unwrap();
    assert_eq!((found.ranking, found.list, found.users), (fixed.ranking, fixed.list, fixed.users));
    // Of eight clicks the last is asked for: the seven before it, the newest first.
    let shown = witness.shown.into_inner().unwrap();
    assert_eq!(shown.len(), clicks::USERS as usize);
    assert!(shown.contains(&(0..7).rev().map(|at| at * 7 % 10).collect()));
    assert!(shown.iter().all(|history| history.len() == 7));
}

#[test]
fn a_new_user_is_known_by_the_events_that_are_given() {
    for given in [0, 3] {
        let strategy = SplitStrategy::ColdUsers { valid: 0.2, test: 0.3, given, seed: 2 };
        let corpus = clicks::corpus(UserKind::Attention, clicks::groups(), &strategy);
        let test: BTreeSet<u32> =
            corpus.split.rows(Part::Test).iter().map(|&row| corpus.dataset.events.user[row as usize]).collect();
        let ranking = Ranking::new(&corpus, Part::Test, usize::MAX, &[ITEMS as usize]);
        assert_eq!(ranking.len(), test.len());
        // What is given stands first, and must not be recommended again.
        let witness = Witness { scores: vec![1.0; ITEMS as usize], shown: Mutex::default() };
        let found = ranking.scorer(&witness, &[]).unwrap();
        assert!(witness.shown.into_inner().unwrap().iter().all(|history| history.len() == given));
        assert_eq!(found.ranking[&format!("recall@{ITEMS}")], 1.0);
        let precision = found.ranking[&format!("precision@{ITEMS}")];
        assert!((precision - (8 - given) as f64 / f64::from(ITEMS)).abs() < 1e-12, "{given}: {precision}");
    }
}

#[test]
fn buckets_divide_the_whole() {
    // The last of six clicks is item 39 for half of the users, and rare for the others.
    let last = |user: u32| if user.is_multiple_of(2) { 39 } else { user % 30 };
    let log = clicks::dataset(|user| {
        (0..3 + user % 7)
            .map(|at| if user < 8 && at == 0 { 39 } else { (user + at) % 30 })
            .chain([last(user)])
            .collect()
    });
    let corpus = clicks::corpus(UserKind::Attention, log, &SplitStrategy::LeaveLast);
    let ranking = Ranking::new(&corpus, Part::Test, usize::MAX, &[10]);
    let found = ranking.fixed(&(0..ITEMS).map(|item| (item * 17 % 40) as f32).collect::<Vec<_>>(), &[]).unwrap();
    let check = |buckets: &[BucketRanking]| {
        let users: usize = buckets.iter().map(|bucket| bucket.users).sum();
        assert_eq!(users, found.users);
        assert!(buckets.iter().filter(|bucket| bucket.users > 0).count() > 1, "{buckets:?}");
        // Everybody has one item to find: the whole is the mean of the parts.
        let of = |bucket: &BucketRanking| bucket.metrics.get("ndcg@10").map_or(0.0, |ndcg| ndcg * bucket.users as f64);
        let mean = buckets.iter().map(of).sum::<f64>() / users as f64;
        assert!((mean - found.ranking["ndcg@10"]).abs() < 1e-12);
    };
    check(&found.by_item);
    check(&found.by_user);
    // Item 39 was met by eight users in training: one bucket holds half of all users.
    let bucket = found.by_item.iter().find(|bucket| bucket.name == "6-20").unwrap();
    assert_eq!(bucket.relevant, 120, "{:?}", found.by_item);
}
