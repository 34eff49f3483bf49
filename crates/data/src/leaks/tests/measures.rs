//! Against SciPy and scikit-learn, stored by `fixtures/make_transforms.py`, and against the definitions.

use proptest::prelude::*;
use serde::Deserialize;

use super::rank::{auc, correlation, partial, rank_correlation, ranks};

#[derive(Deserialize)]
struct Fixture {
    score: Vec<f64>,
    binary: Vec<u8>,
    graded: Vec<f64>,
    third: Vec<f64>,
    auc: f64,
    rank_correlation: f64,
    partial: f64,
}

#[test]
fn measures_are_those_of_scipy_and_scikit_learn() {
    let fixture: Fixture = serde_json::from_str(include_str!("../../../fixtures/transforms.json")).unwrap();
    let positive: Vec<bool> = fixture.binary.iter().map(|label| *label == 1).collect();
    let close = |ours: Option<f64>, theirs: f64| {
        let ours = ours.unwrap();
        assert!((ours - theirs).abs() < 1e-12, "{ours} is not {theirs}");
    };
    close(auc(&fixture.score, &positive), fixture.auc);
    close(rank_correlation(&fixture.score, &fixture.graded), fixture.rank_correlation);
    let [ab, ac, bc] =
        [(&fixture.score, &fixture.graded), (&fixture.score, &fixture.third), (&fixture.graded, &fixture.third)]
            .map(|(a, b)| rank_correlation(a, b).unwrap());
    close(partial(ab, ac, bc), fixture.partial);
}

#[test]
fn what_has_no_measure() {
    assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
    assert_eq!(auc(&[], &[]), None);
    assert_eq!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
    assert_eq!(correlation(&[], &[]), None);
    assert_eq!(partial(0.9, 1.0, 0.9), None);
}

proptest! {
    #[test]
    fn auc_counts_pairs(rows in proptest::collection::vec((0i32..9, any::<bool>()), 2..40)) {
        let (scores, positive): (Vec<f64>, Vec<bool>) = rows.iter().map(|(score, label)| (f64::from(*score), *label)).unzip();
        let pairs = rows.iter().flat_map(|a| rows.iter().map(move |b| (a, b))).filter(|(a, b)| a.1 && !b.1);
        let (mut won, mut all) = (0.0, 0.0);
        for ((a, _), (b, _)) in pairs {
            all += 1.0;
            won += match a.cmp(b) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
        match auc(&scores, &positive) {
            None => prop_assert_eq!(all, 0.0),
            Some(auc) => prop_assert!((auc - won / all).abs() < 1e-12),
        }
    }

    #[test]
    fn ranks_are_means_of_places(values in proptest::collection::vec(-5i32..5, 0..40)) {
        let floats: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        for (value, rank) in values.iter().zip(ranks(&floats)) {
            let below = values.iter().filter(|other| *other < value).count() as f64;
            let equal = values.iter().filter(|other| *other == value).count() as f64;
            prop_assert_eq!(rank, below + (equal + 1.0) / 2.0);
        }
    }
}
