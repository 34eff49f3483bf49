//! The nonlinearities of recurrent gates.

use proptest::prelude::*;

use crate::kernels::simd::{sigmoid, tanh, vectorized};

/// `f` of all values, in a loop that becomes vector instructions.
fn map(values: &[f32], f: impl Fn(f32) -> f32) -> Vec<f32> {
    let mut out = values.to_vec();
    vectorized(
        #[inline(always)]
        || out.iter_mut().for_each(|value| *value = f(*value)),
    );
    out
}

/// Off by at most this share of the expected value, or by what `f32` cannot tell from 0.
fn assert_relative(x: &[f32], found: &[f32], exact: impl Fn(f64) -> f64, share: f64) {
    for (x, found) in x.iter().zip(found) {
        let expected = exact(f64::from(*x));
        let off = (f64::from(*found) - expected).abs();
        assert!(off <= share * expected.abs() + 1e-37, "{x}: {found}, expected {expected}");
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn gates_are_exact_to_rounding() {
    let x: Vec<f32> = (-87_000..=87_000).map(|i| i as f32 / 1000.0).collect();
    assert_relative(&x, &map(&x, sigmoid), logistic, 4e-7);
    assert_relative(&x, &map(&x, tanh), f64::tanh, 4e-7);
    // Where the polynomial ends, and where there is nothing but the argument.
    let x: Vec<f32> = (-2000..=2000).map(|i| 0.625 + i as f32 * 6e-8).chain((1..37).map(|i| 0.1f32.powi(i))).collect();
    assert_relative(&x, &map(&x, tanh), f64::tanh, 4e-7);
}

#[test]
fn extremes_end_at_the_limits() {
    let x = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, 100.0, 1e30, f32::INFINITY];
    let (gates, values) = (map(&x, sigmoid), map(&x, tanh));
    assert!(gates[..3].iter().all(|gate| (0.0..1e-37).contains(gate)), "{gates:?}");
    assert_eq!((gates[3], &gates[4..]), (0.5, &[1.0; 3][..]));
    assert_eq!(values, [-1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0]);
    assert!(map(&[f32::NAN], sigmoid)[0].is_nan() && map(&[f32::NAN], tanh)[0].is_nan());
    assert!(map(&[-0.0], tanh)[0].is_sign_negative());
}

proptest! {
    #[test]
    fn tanh_is_odd_and_vectors_are_numbers_one_by_one(x in prop::collection::vec(-90f32..90.0, 1..70)) {
        let opposite: Vec<f32> = x.iter().map(|x| -x).collect();
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let negated = map(&opposite, tanh).into_iter().map(|value| -value).collect();
        prop_assert_eq!(bits(map(&x, tanh)), bits(negated));
        let alone: Vec<f32> = x.iter().map(|x| map(&[*x], sigmoid)[0]).collect();
        prop_assert_eq!(bits(map(&x, sigmoid)), bits(alone));
    }
}
