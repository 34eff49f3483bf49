//! Nonlinearities and their derivatives.

use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::{assert_gradient, assert_near, check, random, values, wide};
use crate::bert::composed;
use crate::kernels::activation::{Activation, gelu};
use crate::kernels::simd::vectorized;

const ALL: [Activation; 4] = [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu];

/// `erf` by its power series, exact to `f64` rounding for the arguments used here.
fn erf(x: f64) -> f64 {
    let (mut sum, mut term) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

pub(super) fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

#[test]
fn activations_in_the_graph() {
    for activation in ALL {
        check(&[random(&[7, 33], 4)], |a| a[0].apply_op1(activation), |a| composed::activate(&a[0], activation));
    }
}

#[test]
fn gelu_is_within_a_millionth() {
    let values: Vec<f32> = (-4500..=4500).map(|i| i as f32 / 1000.0).collect();
    let out = gelu(&Tensor::new(values.as_slice(), &Device::Cpu).unwrap()).unwrap().to_vec1::<f32>().unwrap();
    for (&x, &found) in values.iter().zip(&out) {
        let expected = exact(Activation::Gelu, f64::from(x));
        assert!((f64::from(found) - expected).abs() < 1e-6, "{x}: {found}, expected {expected}");
    }
    let extreme = Tensor::new(&[-1e30f32, -20.0, 20.0, 1e30, f32::NAN], &Device::Cpu).unwrap();
    let out = gelu(&extreme).unwrap().to_vec1::<f32>().unwrap();
    assert!(out[0] == 0.0 && out[1].abs() < 1e-30 && out[2] == 20.0 && out[3] == 1e30 && out[4].is_nan(), "{out:?}");
}

#[test]
fn what_is_not_a_number_stays_visible() {
    for activation in ALL {
        let mut x = [f32::NAN, 1.0];
        activation.apply(&mut x);
        assert!(x[0].is_nan() && x[1].is_finite(), "{activation:?}");
    }
}

/// `chain_again`: the gradient of the argument, and the result.
fn chain_again(activation: Activation, before: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut grad, mut after) = (grad.to_vec(), vec![f32::NAN; before.len()]);
    vectorized(
        #[inline(always)]
        || activation.chain_again(before, &mut grad, &mut after),
    );
    (grad, after)
}

proptest! {
    #[test]
    fn all_forms_of_an_activation_agree(before in prop::collection::vec(-4.5f32..4.5, 0..150), which in 0usize..4) {
        let activation = ALL[which];
        let grad = values(before.len(), 1);
        let (chained, after) = chain_again(activation, &before, &grad);
        let expected: Vec<f64> = wide(&before).into_iter().map(|x| exact(activation, x)).collect();
        assert_near("value", &after, &expected, 1e-6);

        let mut applied = before.clone();
        activation.apply(&mut applied);
        prop_assert_eq!(&applied, &after);
        let (mut in_place, mut copied) = (before.clone(), vec![f32::NAN; before.len()]);
        vectorized(
            #[inline(always)]
            || {
                activation.in_place(&mut in_place);
                activation.values(&before, &mut copied);
            },
        );
        prop_assert_eq!(&in_place, &after);
        prop_assert_eq!(&copied, &after);
        prop_assert_eq!(&activation.backward(&before, &grad), &chained);

        // The slope of `relu` jumps at 0.
        let smooth = activation != Activation::Relu || before.iter().all(|x| x.abs() > 1e-4);
        if smooth {
            let f = |x: &[f64]| x.iter().map(|&x| exact(activation, x)).collect();
            assert_gradient("chain", &chained, &before, &grad, 2e-6, f);
        }
    }
}

#[test]
fn slopes_of_large_arguments_are_those_of_the_limits() {
    for activation in ALL {
        let (slopes, after) = chain_again(activation, &[-40.0, -20.0, 20.0, 40.0], &[1.0; 4]);
        assert!(slopes[0].abs() < 1e-6 && slopes[1].abs() < 1e-6, "{activation:?}: {slopes:?}");
        assert!((slopes[2] - 1.0).abs() < 1e-6 && (slopes[3] - 1.0).abs() < 1e-6, "{activation:?}: {slopes:?}");
        assert!(after[0].abs() < 1e-6 && after[3] == 40.0, "{activation:?}: {after:?}");
    }
}

#[test]
fn silu_of_extremes() {
    let (slopes, after) = chain_again(Activation::Silu, &[-1e38, -88.0, -86.0, 88.0, 1e38], &[1.0; 5]);
    assert!(slopes[..3].iter().chain(&after[..3]).all(|value| value.abs() < 1e-30), "{slopes:?}, {after:?}");
    assert_eq!((slopes[3], slopes[4], after[3], after[4]), (1.0, 1.0, 88.0, 1e38));
}
