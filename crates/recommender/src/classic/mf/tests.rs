use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::classic::tests::fixture;

/// What `fixtures/make_classic.py` made with dense matrices.
#[derive(Deserialize)]
struct Als {
    factors: usize,
    lambda: f64,
    alpha: f64,
    start: Vec<f64>,
    users_after_one_half: Vec<f64>,
    items: Vec<f64>,
    losses: Vec<f64>,
    history: Vec<u32>,
    scores: Vec<f64>,
}

#[track_caller]
fn close(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() < 1e-9 * (1.0 + theirs.abs()), "{at}: {ours} is not {theirs}");
    }
}

#[test]
fn alternating_agrees_with_dense_solves() {
    let (log, theirs): (Interactions, Als) = fixture("als");
    let start = Factors::new(theirs.factors, theirs.start);
    let users = solve(log.users(), &start, theirs.lambda, theirs.alpha);
    for user in 0..users.len() {
        close(users.row(user), &theirs.users_after_one_half[user * theirs.factors..][..theirs.factors]);
    }
    let config = MfConfig {
        factors: theirs.factors,
        lambda: theirs.lambda,
        alpha: theirs.alpha,
        sweeps: theirs.losses.len(),
        seed: 0,
    };
    let ours = Mf::alternate(&log, start, &config);
    for item in 0..log.items() {
        close(ours.items.row(item), &theirs.items[item * theirs.factors..][..theirs.factors]);
    }
    close(ours.losses(), &theirs.losses);
    for (ours, theirs) in ours.score(&theirs.history).into_iter().zip(theirs.scores) {
        assert!((f64::from(ours) - theirs).abs() < 1e-6, "{ours} is not {theirs}");
    }
}

proptest! {
    #[test]
    fn no_sweep_raises_the_loss(
        users in prop::collection::vec(prop::collection::vec(0_u32..9, 0..7), 1..14),
        factors in 1_usize..12,
        lambda in 0.01_f64..5.0,
        alpha in 0.0_f64..40.0,
        seed in any::<u64>(),
    ) {
        let log = Interactions::new(users, 9).unwrap();
        let model = Mf::fit(&log, &MfConfig { factors, lambda, alpha, sweeps: 8, seed }).unwrap();
        for pair in model.losses().windows(2) {
            prop_assert!(pair[1] <= pair[0] * (1.0 + 1e-9), "{:?}", model.losses());
        }
    }

    #[test]
    fn a_solve_meets_its_normal_equations(
        row in prop::collection::btree_set(0_u32..8, 1..6),
        values in prop::collection::vec(-1.0_f64..1.0, 8 * 11),
        lambda in 0.01_f64..2.0,
        alpha in 0.0_f64..20.0,
    ) {
        let fixed = Factors::new(11, values);
        let row: Vec<u32> = row.into_iter().collect();
        let x = solve(std::slice::from_ref(&row), &fixed, lambda, alpha);
        let x = x.row(0);
        // Half the gradient of the loss: Σ_i c_i (x·y_i − p_i) y_i + λ x.
        let mut gradient: Vec<f64> = x.iter().map(|value| lambda * value).collect();
        for item in 0..fixed.len() {
            let seen = f64::from(u8::from(row.contains(&(item as u32))));
            let y = fixed.row(item);
            let score: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
            for (gradient, y) in gradient.iter_mut().zip(y) {
                *gradient += (1.0 + alpha * seen) * (score - seen) * y;
            }
        }
        for value in gradient {
            prop_assert!(value.abs() < 1e-8 * (1.0 + alpha), "{value}");
        }
    }
}

#[test]
fn the_loss_is_its_definition() {
    let log = Interactions::new(vec![vec![0, 2], vec![], vec![1]], 3).unwrap();
    let users = Factors::new(2, vec![0.3, -0.2, 0.5, 0.1, -0.4, 0.9]);
    let items = Factors::new(2, vec![1.0, 0.2, -0.3, 0.8, 0.6, 0.6]);
    let (lambda, alpha) = (0.7, 3.0);
    let mut expected = 0.0;
    for (user, row) in log.users().iter().enumerate() {
        for item in 0..3 {
            let seen = f64::from(u8::from(row.contains(&(item as u32))));
            let (x, y) = (users.row(user), items.row(item));
            expected += (1.0 + alpha * seen) * (seen - x[0] * y[0] - x[1] * y[1]).powi(2);
        }
    }
    for factors in [&users, &items] {
        expected += lambda * (0..3).flat_map(|row| factors.row(row)).map(|value| value * value).sum::<f64>();
    }
    assert!((loss(log.users(), &users, &items, lambda, alpha) - expected).abs() < 1e-12);
}

#[test]
fn a_lambda_lost_to_rounding_gives_numbers_all_the_same() {
    let log = Interactions::new(vec![vec![0, 1], vec![0, 1], vec![1]], 2).unwrap();
    let model = Mf::fit(&log, &MfConfig { factors: 16, lambda: 1e-300, alpha: 40.0, sweeps: 5, seed: 1 }).unwrap();
    assert!(model.score(&[0]).iter().all(|score| score.is_finite()));
}

#[test]
fn other_seeds_start_elsewhere() {
    let log = Interactions::new(vec![vec![0, 1], vec![1, 2], vec![0, 2, 3]], 4).unwrap();
    let fit = |seed| Mf::fit(&log, &MfConfig { factors: 3, sweeps: 1, seed, ..MfConfig::default() }).unwrap();
    assert_eq!(fit(4), fit(4));
    assert_ne!(fit(4), fit(5));
}
