use proptest::prelude::*;

use super::*;

/// Scores on a coarse grid (so that they tie) with labels of both classes.
fn samples() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    prop::collection::vec((0_u8..20, any::<bool>()), 2..80)
        .prop_filter("both classes", |samples| {
            samples.iter().any(|sample| sample.1) && samples.iter().any(|sample| !sample.1)
        })
        .prop_map(|samples| {
            let sample = |(score, label): (u8, bool)| (f32::from(score) / 20.0, f32::from(label));
            samples.into_iter().map(sample).unzip()
        })
}

proptest! {
    #[test]
    fn auc_counts_pairs((scores, labels) in samples()) {
        let (mut won, mut pairs) = (0.0, 0.0);
        for (s, _) in scores.iter().zip(&labels).filter(|(_, y)| **y > 0.5) {
            for (t, _) in scores.iter().zip(&labels).filter(|(_, y)| **y < 0.5) {
                pairs += 1.0;
                won += if s > t { 1.0 } else if s == t { 0.5 } else { 0.0 };
            }
        }
        prop_assert!((auc(&scores, &labels).unwrap() - won / pairs).abs() < 1e-12);
    }

    #[test]
    fn auc_sees_only_the_order((scores, labels) in samples()) {
        let stretched: Vec<f32> = scores.iter().map(|s| (3.0 * s).exp() - 7.0).collect();
        prop_assert_eq!(auc(&scores, &labels), auc(&stretched, &labels));
    }

    #[test]
    fn auc_of_the_opposite_is_the_complement((scores, labels) in samples()) {
        let opposite: Vec<f32> = scores.iter().map(|s| -s).collect();
        let sum = auc(&scores, &labels).unwrap() + auc(&opposite, &labels).unwrap();
        prop_assert!((sum - 1.0).abs() < 1e-12);
    }

    #[test]
    fn gauc_of_one_user_is_the_auc((scores, labels) in samples()) {
        let users = vec![9; scores.len()];
        let gap = auc(&scores, &labels).unwrap() - gauc(&scores, &labels, &users).unwrap();
        prop_assert!(gap.abs() < 1e-12);
    }

    #[test]
    fn unobserved_labels_change_nothing((mut scores, mut labels) in samples(), extra in -1.0_f32..2.0) {
        let before = [auc(&scores, &labels), log_loss(&scores, &labels), rmse(&scores, &labels), mae(&scores, &labels)];
        scores.insert(1, extra);
        labels.insert(1, f32::NAN);
        let after = [auc(&scores, &labels), log_loss(&scores, &labels), rmse(&scores, &labels), mae(&scores, &labels)];
        prop_assert_eq!(before, after);
    }
}

#[test]
fn gauc_weighs_users_by_positives_and_skips_one_class() {
    // User 0: AUC 1 with one positive; user 1: AUC 0.5 with two; user 2 has only positives.
    let scores = [0.9, 0.1, 0.8, 0.2, 0.5, 0.5, 0.4];
    let labels = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
    let users = [0, 0, 1, 1, 1, 2, 2];
    let expected = (1.0 + 2.0 * 0.5) / 3.0;
    assert!((gauc(&scores, &labels, &users).unwrap() - expected).abs() < 1e-12);
    assert_eq!(gauc(&scores[5..], &labels[5..], &users[5..]), None);
}

#[test]
fn certain_and_wrong_costs_the_clipped_maximum() {
    let expected = -(1e-15_f64.ln());
    let wrong = log_loss(&[0.0], &[1.0]).unwrap();
    assert!((wrong - expected).abs() < 1e-9, "{wrong}");
    let wrong = log_loss(&[1.0], &[0.0]).unwrap();
    // 1 − (1 − 1e-15) is not exactly 1e-15 in double precision.
    assert!((wrong - expected).abs() < 0.2, "{wrong}");
    assert!(log_loss(&[1.0], &[1.0]).unwrap() < 1e-14);
}

#[test]
fn missing_metrics_are_none_and_broken_scores_are_nan() {
    assert_eq!(auc(&[], &[]), None);
    assert_eq!(auc(&[0.5], &[1.0]), None);
    assert_eq!(rmse(&[0.5, 1.0], &[1.0]), None);
    assert_eq!(rmse(&[0.5], &[f32::NAN]), None);
    assert_eq!(gauc(&[0.5, 0.1], &[1.0, 0.0], &[1]), None);
    assert!(auc(&[f32::NAN, 0.1], &[1.0, 0.0]).unwrap().is_nan());
    assert!(rmse(&[f32::NAN, 0.1], &[1.0, 0.0]).unwrap().is_nan());
    assert!(log_loss(&[f32::NAN], &[1.0]).unwrap().is_nan());
    assert_eq!(auc(&[0.0, -0.0], &[1.0, 0.0]), Some(0.5));
}
