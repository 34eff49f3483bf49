use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::SplitStrategy;
use crate::small_log::{ITEMS, USERS, dataset, rows};

fn draw(sampler: &NegativeSampler, user: u32, draw: u64, n: usize) -> Vec<u32> {
    let mut out = Vec::new();
    sampler.sample(user, draw, n, &mut out);
    out
}

proptest! {
    #[test]
    fn negatives_are_never_positives(rows in rows(), n in 0usize..9, seed: u64, popular: bool) {
        let data = dataset(&rows);
        let split = Split::new(&data, &SplitStrategy::Random { valid: 0.1, test: 0.1, seed: 1 }).unwrap();
        let how = if popular { NegativeSampling::Popularity } else { NegativeSampling::Uniform };
        let sampler = NegativeSampler::new(&data, &split, "click", how, seed).unwrap();
        let train = split.rows(Part::Train);
        let met: BTreeSet<u32> = train.iter().map(|&row| rows[row as usize].1).collect();
        for user in 0..USERS {
            let liked: BTreeSet<u32> = train
                .iter()
                .map(|&row| rows[row as usize])
                .filter(|row| row.0 == user && row.3)
                .map(|row| row.1)
                .collect();
            let negatives = draw(&sampler, user, 5, n);
            let distinct: BTreeSet<u32> = negatives.iter().copied().collect();
            prop_assert_eq!(distinct.len(), negatives.len());
            prop_assert!(distinct.is_disjoint(&liked));
            prop_assert!(distinct.is_subset(&met));
            // Fewer only where fewer are left.
            prop_assert_eq!(negatives.len(), n.min(met.difference(&liked).count()));
            prop_assert_eq!(draw(&sampler, user, 5, n), negatives);
        }
    }
}

/// One user clicks item `i` 3^i times; another, who clicks nothing, gets negatives.
fn skewed() -> (Dataset, Split) {
    let mut rows = Vec::new();
    for item in 0..5 {
        for _ in 0..3i64.pow(item) {
            rows.push((0, item, rows.len() as i64, true, 0));
        }
    }
    rows.extend([(1, 5, 0, false, 0), (1, 6, 1, false, 0), (1, 6, 2, false, 0)]);
    let data = dataset(&rows);
    // Holds out nothing that counts.
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    (data, split)
}

#[test]
fn draws_follow_the_weights() {
    let (data, split) = skewed();
    for (how, weight) in [
        (NegativeSampling::Uniform, (|_| 1.0) as fn(f64) -> f64),
        (NegativeSampling::Popularity, |n| (1.0 + n).powf(0.75)),
    ] {
        let sampler = NegativeSampler::new(&data, &split, "click", how, 1).unwrap();
        let mut counts = [0.0; ITEMS as usize];
        const DRAWS: u64 = 20_000;
        for step in 0..DRAWS {
            counts[draw(&sampler, 1, step, 1)[0] as usize] += 1.0 / DRAWS as f64;
        }
        // The two newest clicks, on item 4, are held out.
        let clicks = [1.0, 3.0, 9.0, 27.0, 79.0, 0.0, 0.0];
        // Item 6 is only met in held-out rows.
        let weights: Vec<f64> = clicks.iter().enumerate().map(|(i, &n)| if i == 6 { 0.0 } else { weight(n) }).collect();
        let total: f64 = weights.iter().sum();
        for item in 0..ITEMS as usize {
            let expected = weights[item] / total;
            assert!((counts[item] - expected).abs() < 0.015, "{how:?} item {item}: {} for {expected}", counts[item]);
        }
    }
}

#[test]
fn seeds_users_and_draws_tell_calls_apart() {
    let (data, split) = skewed();
    let sampler = |seed| NegativeSampler::new(&data, &split, "click", NegativeSampling::Uniform, seed).unwrap();
    let sequence = |seed, user, first: u64| -> Vec<u32> {
        (first..first + 30).flat_map(|step| draw(&sampler(seed), user, step, 2)).collect()
    };
    let base = sequence(1, 1, 0);
    assert_eq!(base, sequence(1, 1, 0));
    assert_ne!(base, sequence(2, 1, 0));
    assert_ne!(base, sequence(1, 2, 0));
    assert_ne!(base, sequence(1, 1, 30));
}

#[test]
fn who_likes_everything_gets_nothing() {
    let rows: Vec<_> = (0..21).map(|n| (0, n % ITEMS, i64::from(n), true, 0)).collect();
    let data = dataset(&rows);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let sampler = NegativeSampler::new(&data, &split, "click", NegativeSampling::Uniform, 1).unwrap();
    assert!(draw(&sampler, 0, 0, 4).is_empty());
    assert_eq!(draw(&sampler, u32::MAX, 0, usize::MAX).len(), ITEMS as usize);
}
