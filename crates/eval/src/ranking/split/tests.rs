use proptest::prelude::*;

use super::*;
use crate::{EvalError, RankingMetrics};

/// Ranking, relevant items and count of events of each user.
type User = (Vec<u32>, Vec<u32>, u32);

fn user() -> impl Strategy<Value = User> {
    let items = |most: usize| prop::collection::vec(0_u32..30, 0..most);
    (items(20), items(10), 0_u32..40)
}

/// Counts of thirty items that reach every bucket of the default.
fn seen(item: u32) -> u32 {
    [0, 1, 5, 6, 20, 21, 100, 101, 4_000, 0][item as usize % 10]
}

proptest! {
    #[test]
    fn the_whole_is_that_of_the_plain_accumulator(users in prop::collection::vec(user(), 0..12)) {
        let mut plain = RankingAccumulator::new(&[1, 5, 10]);
        let mut by_item = SplitRanking::new(&[1, 5, 10], Buckets::default());
        let mut by_user = by_item.clone();
        for (top, relevant, events) in &users {
            plain.add_user(top, relevant);
            by_item.add_user(top, relevant, seen);
            by_user.add_user(top, relevant, |_| *events);
        }
        prop_assert_eq!(by_item.whole(), &plain);
        prop_assert_eq!(by_user.whole(), &plain);
        // Each user is in one bucket, so that the buckets' means weigh up to the whole's.
        for (name, value) in plain.finish() {
            let sum: f64 = by_user.finish().iter().filter(|b| b.users > 0).map(|b| b.metrics[&name] * b.users as f64).sum();
            prop_assert!((sum / plain.users() as f64 - value).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn a_users_recall_is_the_mean_of_the_buckets_by_relevant_items((top, relevant, _) in user(), k in 1_usize..12) {
        prop_assume!(!relevant.is_empty());
        let mut split = SplitRanking::new(&[k], Buckets::default());
        split.add_user(&top, &relevant, seen);
        let whole = RankingMetrics::of_user(&top, &relevant, k).unwrap();
        let (recall, precision) = (format!("recall@{k}"), format!("precision@{k}"));
        let parts: Vec<BucketRanking> = split.finish().into_iter().filter(|bucket| bucket.users > 0).collect();
        let all: usize = parts.iter().map(|bucket| bucket.relevant).sum();
        let mean: f64 = parts.iter().map(|bucket| bucket.relevant as f64 / all as f64 * bucket.metrics[&recall]).sum();
        prop_assert!((mean - whole.recall).abs() < 1e-12);
        let sum: f64 = parts.iter().map(|bucket| bucket.metrics[&precision]).sum();
        prop_assert!((sum - whole.precision).abs() < 1e-12);
    }

    #[test]
    fn with_one_relevant_item_each_every_metric_is_the_mean_of_the_buckets(
        users in prop::collection::vec((prop::collection::vec(0_u32..30, 0..20), 0_u32..30), 1..20),
    ) {
        let mut split = SplitRanking::new(&[3, 10], Buckets::default());
        for (top, target) in &users {
            split.add_user(top, &[*target], seen);
        }
        let parts = split.finish();
        prop_assert_eq!(parts.iter().map(|bucket| bucket.users).sum::<usize>(), users.len());
        for (name, value) in split.whole().finish() {
            let sum: f64 = parts.iter().filter(|b| b.users > 0).map(|b| b.users as f64 * b.metrics[&name]).sum();
            prop_assert!((sum / users.len() as f64 - value).abs() < 1e-12, "{name}");
        }
    }
}

#[test]
fn two_users_by_hand() {
    // Items 0 and 1 were never seen, item 2 three times, item 3 often.
    let counts = [0, 0, 3, 500];
    let mut split = SplitRanking::new(&[3], Buckets::new(&[0, 5]).unwrap());
    split.add_user(&[3, 0, 2], &[0, 1, 2, 2], |item| counts[item as usize]);
    split.add_user(&[3, 2, 0], &[3], |item| counts[item as usize]);
    let parts = split.finish();
    let [never, rarely, often] = &parts[..] else { panic!("three buckets") };

    assert_eq!((never.name.as_str(), never.users, never.relevant), ("0", 1, 2));
    assert_eq!((never.metrics["recall@3"], never.metrics["mrr@3"]), (0.5, 0.5));
    // One hit at rank 2; the ideal has both items, at ranks 1 and 2.
    let gain = 1.0 / 3_f64.log2();
    assert!((never.metrics["ndcg@3"] - gain / (1.0 + gain)).abs() < 1e-12);

    assert_eq!((rarely.name.as_str(), rarely.users, rarely.relevant), ("1-5", 1, 1));
    assert_eq!((rarely.metrics["recall@3"], rarely.metrics["mrr@3"], rarely.metrics["ndcg@3"]), (1.0, 1.0 / 3.0, 0.5));

    assert_eq!((often.name.as_str(), often.users, often.relevant), (">5", 1, 1));
    assert_eq!((often.metrics["hit@3"], often.metrics["mrr@3"]), (1.0, 1.0));
    assert_eq!(
        split.parts().map(|(name, part)| (name, part.users())).collect::<Vec<_>>(),
        [("0", 1), ("1-5", 1), (">5", 1)]
    );
}

#[test]
fn a_bucket_that_nobody_falls_into_says_so() {
    let mut split = SplitRanking::new(&[5], Buckets::default());
    split.add_user(&[1], &[1], |_| 50);
    split.add_user(&[1], &[], |_| 0);
    let users: Vec<usize> = split.finish().iter().map(|bucket| bucket.users).collect();
    assert_eq!(users, [0, 0, 0, 1, 0]);
    assert!(split.finish()[0].metrics.is_empty());
}

#[test]
fn every_count_has_one_bucket() {
    let buckets = Buckets::default();
    assert_eq!(buckets.names(), ["0", "1-5", "6-20", "21-100", ">100"]);
    let places = [0, 1, 5, 6, 20, 21, 100, 101, u32::MAX].map(|count| buckets.of(count));
    assert_eq!(places, [0, 1, 1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(Buckets::new(&[]).unwrap().names(), ["all"]);
    assert_eq!(Buckets::new(&[2, 3, u32::MAX]).unwrap().names(), ["0-2", "3", "4-4294967295", ">4294967295"]);
}

#[test]
fn ends_that_do_not_ascend_are_refused() {
    for ends in [&[5, 5][..], &[0, 9, 3]] {
        let error = Buckets::new(ends).unwrap_err();
        assert!(matches!(error, EvalError::Buckets { .. }), "{error}");
    }
    let error = Buckets::named(&[3], &["few"]).unwrap_err();
    assert!(error.to_string().contains("1 values where 2"), "{error}");
}
