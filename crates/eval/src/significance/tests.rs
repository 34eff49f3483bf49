use super::*;

/// A sequence in [0, 1) without a generator.
fn noise(n: usize, salt: f64) -> Vec<f64> {
    (0..n).map(|i| ((i as f64 + salt) * 0.618_033_988_749).fract()).collect()
}

#[test]
fn the_interval_is_that_of_the_normal_distribution() {
    let a = noise(400, 0.3);
    let b = vec![0.4; 400];
    let difference = paired_bootstrap(&a, &b, 4000, 11).unwrap();
    // Uniform noise: the mean of 400 has a standard error of sqrt(1/12/400).
    let half = 1.96 * (1.0_f64 / 12.0 / 400.0).sqrt();
    assert!((difference.mean - 0.1).abs() < 0.005, "{difference:?}");
    assert!((difference.high - difference.mean - half).abs() < 0.1 * half, "{difference:?}");
    assert!((difference.mean - difference.low - half).abs() < 0.1 * half, "{difference:?}");
    assert!(difference.is_significant());
}

#[test]
fn noise_alone_is_not_significant() {
    let difference = paired_bootstrap(&noise(300, 0.1), &noise(300, 77.7), 2000, 5).unwrap();
    assert!(!difference.is_significant(), "{difference:?}");
}

#[test]
fn pairing_removes_what_users_share() {
    let users = noise(50, 0.0);
    let better: Vec<f64> = users.iter().enumerate().map(|(i, x)| 10.0 * x + 0.1 + 0.01 * (i % 3) as f64).collect();
    let base: Vec<f64> = users.iter().map(|x| 10.0 * x).collect();
    assert!(paired_bootstrap(&better, &base, 500, 1).unwrap().is_significant());
}

#[test]
fn the_seed_decides_and_the_threads_do_not() {
    let (a, b) = (noise(100, 0.2), noise(100, 3.9));
    let on = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| paired_bootstrap(&a, &b, 300, seed).unwrap())
    };
    assert_eq!(on(1, 4), on(3, 4));
    assert_ne!(on(1, 4), on(1, 5));
}

#[test]
fn missing_values_are_skipped_pair_by_pair() {
    let difference = paired_bootstrap(&[1.0, f64::NAN, 3.0], &[0.0, 0.0, f64::NAN], 10, 1).unwrap();
    assert_eq!((difference.pairs, difference.mean, difference.low), (1, 1.0, 1.0));
    assert!(matches!(paired_bootstrap(&[f64::NAN], &[1.0], 10, 1), Err(EvalError::Empty { .. })));
    assert!(matches!(paired_bootstrap(&[1.0], &[1.0], 0, 1), Err(EvalError::Empty { .. })));
    assert!(matches!(paired_bootstrap(&[1.0], &[], 10, 1), Err(EvalError::Length { .. })));
}
