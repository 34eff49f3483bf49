use proptest::prelude::*;

use super::*;

/// What the definition of `top_k` says, by sorting everything.
fn sorted_top(scores: &[f32], k: usize, excluded: &[u32]) -> Vec<u32> {
    let mut all: Vec<u32> = (0..scores.len() as u32).filter(|index| !excluded.contains(index)).collect();
    all.sort_by(|&a, &b| {
        let (a, b) = (scores[a as usize], scores[b as usize]);
        a.is_nan().cmp(&b.is_nan()).then(b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
    });
    all.truncate(k);
    all
}

fn score() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => (-6_i8..6).prop_map(|x| f32::from(x) / 4.0),
        1 => Just(f32::NAN),
        1 => Just(-0.0_f32),
        1 => prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ]
}

proptest! {
    #[test]
    fn top_k_is_the_head_of_the_sorted_list(
        scores in prop::collection::vec(score(), 0..120),
        k in 0_usize..30,
        excluded in prop::collection::vec(0_u32..140, 0..20),
    ) {
        prop_assert_eq!(top_k(&scores, k, &excluded), sorted_top(&scores, k, &excluded));
    }

    #[test]
    fn top_k_of_long_lists_is_the_head_of_the_sorted_list(
        scores in prop::collection::vec(score(), 200..900),
        k in 1_usize..12,
        excluded in prop::collection::vec(0_u32..900, 0..20),
    ) {
        prop_assert_eq!(top_k(&scores, k, &excluded), sorted_top(&scores, k, &excluded));
        let ascending: Vec<f32> = (0_u16..).map(f32::from).take(scores.len()).collect();
        prop_assert_eq!(top_k(&ascending, k, &excluded), sorted_top(&ascending, k, &excluded));
    }

    #[test]
    fn metrics_stay_between_zero_and_one(
        top in prop::collection::vec(0_u32..30, 0..20),
        relevant in prop::collection::vec(0_u32..30, 1..20),
        k in 1_usize..25,
    ) {
        let metrics = RankingMetrics::of_user(&top, &relevant, k).unwrap();
        for value in metrics.values() {
            prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{metrics:?}");
        }
    }

    #[test]
    fn moving_a_hit_up_never_hurts(rest in prop::collection::vec(10_u32..30, 1..12), place in 1_usize..12) {
        let place = place.min(rest.len());
        let with_hit = |at: usize| {
            let mut top = rest.clone();
            top.insert(at, 5);
            RankingMetrics::of_user(&top, &[5, 6], 10).unwrap().values()
        };
        for (higher, lower) in with_hit(place - 1).into_iter().zip(with_hit(place)) {
            prop_assert!(higher >= lower);
        }
    }
}

#[test]
fn a_user_by_hand() {
    // Hits at ranks 1 and 3 of 4; three items are relevant.
    let metrics = RankingMetrics::of_user(&[4, 8, 6, 1], &[6, 4, 9], 4).unwrap();
    let ideal = 1.0 + 1.0 / 3_f64.log2() + 0.5;
    let expected = RankingMetrics {
        ndcg: 1.5 / ideal,
        recall: 2.0 / 3.0,
        mrr: 1.0,
        hit: 1.0,
        precision: 0.5,
        map: (1.0 + 2.0 / 3.0) / 3.0,
    };
    for (ours, expected) in metrics.values().into_iter().zip(expected.values()) {
        assert!((ours - expected).abs() < 1e-12, "{metrics:?}");
    }
}

#[test]
fn users_without_relevant_items_are_not_counted() {
    let mut ranking = RankingAccumulator::new(&[2, 0, 1, 2]);
    ranking.add_user(&[1, 2], &[]);
    assert_eq!((ranking.users(), ranking.longest()), (0, 2));
    assert!(ranking.finish().is_empty());
    ranking.add_user(&[1, 2], &[2]);
    ranking.add_user(&[], &[2]);
    assert_eq!(ranking.users(), 2);
    assert_eq!(ranking.finish()["hit@2"], 0.5);
    assert_eq!(ranking.per_user()["hit@1"], [0.0, 0.0]);
    assert_eq!(RankingMetrics::of_user(&[1], &[], 3), None);
}

#[test]
fn an_item_ranked_twice_is_found_once() {
    let metrics = RankingMetrics::of_user(&[3, 3, 3], &[3], 3).unwrap();
    assert_eq!((metrics.recall, metrics.ndcg, metrics.map), (1.0, 1.0, 1.0));
    let again = RankingMetrics::of_user(&[3], &[3, 3], 3).unwrap();
    assert_eq!(again.recall, 1.0);
}
