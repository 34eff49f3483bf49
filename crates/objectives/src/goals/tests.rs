//! Closed forms, brute force and finite differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::prelude::*;

use super::Policy;

fn scores(rows: usize, candidates: usize, seed: u64) -> Vec<f64> {
    let value = |at: usize| ((at as f64 * 78.233 + seed as f64).sin() * 43_758.545_3).fract() * 4.0 - 2.0;
    (0..rows * candidates).map(value).collect()
}

fn scalar(value: Result<Tensor>) -> f64 {
    value.unwrap().to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// The gradient of a goal against central differences, in double precision.
fn check(rows: usize, candidates: usize, goal: impl Fn(&Policy) -> Result<Tensor>) {
    let hidden: Vec<bool> = (0..rows * candidates).map(|at| at == 1).collect();
    check_of(rows, candidates, |scores| goal(&Policy::new(scores, 0.7).unwrap()));
    check_of(rows, candidates, |scores| goal(&Policy::standardized(scores, 0.7, None).unwrap()));
    check_of(rows, candidates, |scores| goal(&Policy::standardized(scores, 0.7, Some(&hidden)).unwrap()));
}

fn check_of(rows: usize, candidates: usize, goal: impl Fn(&Tensor) -> Result<Tensor>) {
    let values = scores(rows, candidates, 3);
    let at = |values: &[f64]| {
        let scores = Var::from_slice(values, (rows, candidates), &Device::Cpu).unwrap();
        let value = goal(&scores).unwrap();
        (scores, value)
    };
    let (var, value) = at(&values);
    let gradient: Vec<f64> = value.backward().unwrap().get(&var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert!(gradient.iter().any(|slope| slope.abs() > 1e-6), "it has a gradient");
    for place in 0..values.len() {
        let moved = |by: f64| {
            let mut values = values.clone();
            values[place] += by;
            scalar(Ok(at(&values).1))
        };
        let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((gradient[place] - numeric).abs() < 1e-7, "{place}: {} and {numeric}", gradient[place]);
    }
}

fn vectors(count: usize, width: usize) -> Tensor {
    let rows: Vec<Vec<f64>> = (0..count)
        .map(|row| {
            let values: Vec<f64> = (0..width).map(|column| ((row * 7 + column * 3) as f64 * 1.3).sin()).collect();
            let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
            values.into_iter().map(|value| value / norm).collect()
        })
        .collect();
    Tensor::new(rows, &Device::Cpu).unwrap()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let vectors = vectors(5, 3);
    check(4, 5, |policy| policy.similarity(&vectors));
    check(4, 5, Policy::concentration);
    check(4, 5, |policy| policy.disparity(&[0, 1, 1, 0, 9], &[0.25, 0.75]));
    check(4, 5, |policy| policy.mean_of(&[1.0, 2.0, -1.0, 0.5, 3.0]));
}

#[test]
fn what_is_shown_alike_and_what_is_not() {
    let policy = |rows: &[Vec<f64>]| Policy::new(&Tensor::new(rows.to_vec(), &Device::Cpu).unwrap(), 1.0).unwrap();
    let alike = policy(&[vec![0.0; 4], vec![3.0; 4]]);
    assert!(scalar(alike.concentration()).abs() < 1e-9);
    assert!(scalar(alike.disparity(&[0, 0, 1, 1], &[0.5, 0.5])).abs() < 1e-9);
    // Everybody gets one item, but each another one: no list is varied, the catalogue is.
    let own = policy(&[vec![40.0, 0.0], vec![0.0, 40.0]]);
    assert!(scalar(own.concentration()).abs() < 1e-9);
    assert!((scalar(own.similarity(&vectors(2, 3))) - 1.0).abs() < 1e-9);
    let one = policy(&[vec![40.0, 0.0], vec![40.0, 0.0]]);
    assert!((scalar(one.concentration()) - 1.0).abs() < 1e-9);
    // KL(t ‖ E) in closed form: all exposure to one of two groups is without bound but for the constant.
    let expected = 0.5 * (0.5f64 / 0.75).ln() + 0.5 * (0.5f64 / 0.25).ln();
    let three = policy(&[vec![0.0; 4]]);
    assert!((scalar(three.disparity(&[0, 0, 0, 1], &[0.5, 0.5])) - expected).abs() < 1e-9);
    assert!(scalar(one.disparity(&[0, 1], &[0.5, 0.5])) > 5.0);
    assert!((scalar(three.mean_of(&[1.0, 2.0, 3.0, 6.0])) - 3.0).abs() < 1e-9);
}

#[test]
fn what_is_scaled_as_a_whole_shows_the_same() {
    let values = scores(3, 6, 5);
    let shares = |scale: f64, shift: f64, hidden: Option<&[bool]>| {
        let values: Vec<f64> = values.iter().map(|value| value * scale + shift).collect();
        let scores = Tensor::from_vec(values, (3, 6), &Device::Cpu).unwrap();
        Policy::standardized(&scores, 0.5, hidden).unwrap().shares().to_vec2::<f64>().unwrap()
    };
    for (row, other) in shares(1.0, 0.0, None).iter().zip(shares(0.01, 7.0, None)) {
        for (own, other) in row.iter().zip(other) {
            assert!((own - other).abs() < 1e-3, "{own} and {other}");
        }
    }
    // In closed form: z = (s - mean) / deviation.
    let row = &values[..6];
    let mean = row.iter().sum::<f64>() / 6.0;
    let deviation = (row.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 6.0).sqrt();
    let raised: Vec<f64> = row.iter().map(|s| ((s - mean) / deviation / 0.5).exp()).collect();
    for (own, raised_one) in shares(1.0, 0.0, None)[0].iter().zip(&raised) {
        assert!((own - raised_one / raised.iter().sum::<f64>()).abs() < 1e-7);
    }
    let hidden: Vec<bool> = (0..18).map(|at| at % 6 == 2).collect();
    for row in shares(1.0, 0.0, Some(&hidden)) {
        assert_eq!(row[2], 0.0);
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
    // Scores that do not differ show everything alike, and have a gradient that is finite.
    let flat = Var::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
    let loss = Policy::standardized(&flat, 0.5, None).unwrap().mean_of(&[1.0, 0.0, 0.0, 0.0]).unwrap();
    let gradient = loss.backward().unwrap().get(&flat).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!((scalar(Ok(loss)) - 0.25).abs() < 1e-6 && gradient.iter().all(|slope| slope.is_finite()));
}

#[test]
fn what_is_no_policy_is_refused() {
    let scores = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    for temperature in [0.0, -1.0, f64::NAN] {
        assert!(Policy::new(&scores, temperature).unwrap_err().to_string().contains("temperature"));
    }
    assert!(Policy::standardized(&scores, 1.0, Some(&[true])).unwrap_err().to_string().contains("hidden"));
    let nobody = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(Policy::new(&nobody, 1.0).unwrap_err().to_string().contains("requests"));
    let policy = Policy::new(&scores, 1.0).unwrap();
    assert!(policy.mean_of(&[1.0]).is_err());
    assert!(policy.similarity(&scores).is_err());
    assert!(policy.disparity(&[0], &[1.0]).is_err());
}

proptest! {
    /// The square of the mean vector is the sum over pairs.
    #[test]
    fn similarity_is_that_of_all_pairs(rows in 1usize..5, count in 1usize..7, seed in 0u64..50) {
        let vectors = vectors(count, 3);
        let scores = Tensor::from_vec(scores(rows, count, seed), (rows, count), &Device::Cpu).unwrap();
        let policy = Policy::new(&scores, 0.5).unwrap();
        let shares = policy.shares().to_vec2::<f64>().unwrap();
        let v = vectors.to_vec2::<f64>().unwrap();
        let mut expected = 0.0;
        for row in &shares {
            prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            for i in 0..count {
                for j in 0..count {
                    expected += row[i] * row[j] * v[i].iter().zip(&v[j]).map(|(a, b)| a * b).sum::<f64>() / rows as f64;
                }
            }
        }
        prop_assert!((scalar(policy.similarity(&vectors)) - expected).abs() < 1e-10);
    }
}
