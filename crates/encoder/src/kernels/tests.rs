//! Every kernel against the same function composed of Candle's own operations in `f64`, values and gradients, and the
//! approximations against closed forms.

mod dropout;
mod sequences;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::activation::{Activation, gelu};
use super::add_norm::add_norm;
use super::dropout::{Mask, apply};
use super::linear::{column_sums, linear};
use super::simd;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| generator.random_range(-1.5..1.5)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let expected = numbers(expected);
    let size = expected.iter().fold(1.0f64, |size, value| size.max(value.abs()));
    for (place, (found, expected)) in numbers(found).iter().zip(&expected).enumerate() {
        let off = (found - expected).abs();
        assert!(off <= tolerance * size, "{what}[{place}]: {found}, expected {expected} (of {size})");
    }
}

/// Compares `kernel` in `f32` with `reference` in `f64` on the same arguments: the result, and the gradients of a sum
/// with random weights; then again with each argument frozen in turn, which must get no gradient.
fn check(
    arguments: &[Tensor],
    kernel: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let run = |dtype: DType, f: &dyn Fn(&[Tensor]) -> Result<Tensor>, frozen: Option<usize>| {
        let vars: Vec<Var> =
            arguments.iter().map(|tensor| Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap()).collect();
        let inputs: Vec<Tensor> = vars
            .iter()
            .enumerate()
            .map(|(i, var)| if frozen == Some(i) { var.as_detached_tensor() } else { var.as_tensor().clone() })
            .collect();
        let out = f(&inputs).unwrap();
        let direction = random(out.dims(), 99).to_dtype(dtype).unwrap();
        let gradients = (&out * direction).unwrap().sum_all().unwrap().backward().unwrap();
        (out, vars.iter().map(|var| gradients.get(var).cloned()).collect::<Vec<_>>())
    };
    let (expected, expected_gradients) = run(DType::F64, &reference, None);
    for frozen in std::iter::once(None).chain((0..arguments.len()).map(Some)) {
        if arguments.len() == 1 && frozen.is_some() {
            continue;
        }
        let (out, gradients) = run(DType::F32, &kernel, frozen);
        assert_close("result", &out, &expected, 2e-6);
        for (i, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
            match found {
                None => assert_eq!(frozen, Some(i), "argument {i} got no gradient"),
                Some(found) => {
                    assert_ne!(frozen, Some(i), "argument {i} is frozen but got a gradient");
                    assert_close(&format!("gradient {i}"), found, expected.as_ref().unwrap(), 1e-5);
                }
            }
        }
    }
}

/// The mask as a tensor of factors.
fn factors(mask: Option<Mask>, rows: usize, columns: usize, like: &Tensor) -> Tensor {
    let ones = Tensor::ones((rows, columns), DType::F32, &Device::Cpu).unwrap();
    apply(&ones, mask).unwrap().to_dtype(like.dtype()).unwrap()
}

fn composed_activation(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => {
            let inner = ((x + (x.powf(3.0)? * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * 0.5)? * (inner.tanh()? + 1.0)?
        }
        Activation::Relu => x.relu(),
    }
}

#[test]
fn linear_with_every_activation() {
    let arguments = [random(&[71, 9], 1), random(&[13, 9], 2), random(&[13], 3)];
    for activation in [None, Some(Activation::Gelu), Some(Activation::GeluTanh), Some(Activation::Relu)] {
        check(
            &arguments,
            |a| linear(&a[0], &a[1], &a[2], activation),
            |a| {
                let z = a[0].matmul(&a[1].t()?)?.broadcast_add(&a[2])?;
                activation.map_or(Ok(z.clone()), |activation| composed_activation(&z, activation))
            },
        );
    }
}

#[test]
fn linear_refuses_shapes_that_do_not_fit() {
    let (x, w, b) = (random(&[4, 3], 1), random(&[5, 3], 2), random(&[5], 3));
    assert!(linear(&x, &random(&[5, 4], 2), &b, None).is_err());
    assert!(linear(&x, &w, &random(&[4], 3), None).is_err());
    assert!(linear(&random(&[3], 1), &w, &b, None).is_err());
    assert_eq!(linear(&random(&[0, 3], 1), &w, &b, None).unwrap().dims(), [0, 5]);
}

#[test]
fn activations_alone() {
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
        check(&[random(&[7, 33], 4)], |a| a[0].apply_op1(activation), |a| composed_activation(&a[0], activation));
    }
}

/// `erf` by its power series, exact to `f64` rounding for the arguments used here.
fn erf(x: f64) -> f64 {
    let (mut sum, mut term) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn gelu_is_within_a_millionth() {
    let values: Vec<f32> = (-4500..=4500).map(|i| i as f32 / 1000.0).collect();
    let out = gelu(&Tensor::new(values.as_slice(), &Device::Cpu).unwrap()).unwrap().to_vec1::<f32>().unwrap();
    for (&x, &found) in values.iter().zip(&out) {
        let x = f64::from(x);
        let expected = 0.5 * x * (1.0 + erf(x / 2f64.sqrt()));
        assert!((f64::from(found) - expected).abs() < 1e-6, "{x}: {found}, expected {expected}");
    }
    let extreme = Tensor::new(&[-1e30f32, -20.0, 20.0, 1e30, f32::NAN], &Device::Cpu).unwrap();
    let out = gelu(&extreme).unwrap().to_vec1::<f32>().unwrap();
    assert!(out[0] == 0.0 && out[1].abs() < 1e-30 && out[2] == 20.0 && out[3] == 1e30 && out[4].is_nan(), "{out:?}");
}

#[test]
fn exp_is_precise_and_lets_nan_through() {
    for i in -8700..=8800 {
        let x = i as f32 / 100.0;
        let (found, expected) = (f64::from(simd::exp(x)), f64::from(x).exp());
        assert!((found / expected - 1.0).abs() < 3e-7, "{x}: {found}, expected {expected}");
    }
    assert!(simd::exp(f32::NAN).is_nan());
    assert!(simd::exp(-1e9) < 2e-38);
    assert!(simd::exp(1e9).is_finite());
}

#[test]
fn add_norm_with_and_without_residual_and_dropout() {
    let (x, residual) = (random(&[70, 19], 5), random(&[70, 19], 6));
    let affine = random(&[2, 19], 7);
    let norm = |sum: &Tensor, affine: &Tensor| {
        let centred = sum.broadcast_sub(&sum.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&affine.get(0)?)?.broadcast_add(&affine.get(1)?)
    };
    for p in [0.0, 0.3] {
        let mask = Mask::new(p, 11).unwrap();
        check(
            &[x.clone(), residual.clone(), affine.clone()],
            |a| add_norm(&a[0], Some(&a[1]), &a[2], 1e-5, mask),
            |a| norm(&((&a[0] * factors(mask, 70, 19, &a[0]))? + &a[1])?, &a[2]),
        );
    }
    check(&[x, affine], |a| add_norm(&a[0], None, &a[1], 1e-5, None), |a| norm(&a[0], &a[1]));
}

#[test]
fn without_a_graph_add_norm_computes_the_same() {
    let (x, residual, affine) = (random(&[40, 8], 1), random(&[40, 8], 2), random(&[2, 8], 3));
    let mask = Mask::new(0.2, 4).unwrap();
    let plain = add_norm(&x, Some(&residual), &affine, 1e-5, mask).unwrap();
    let x = Var::from_tensor(&x).unwrap();
    let tracked = add_norm(&x, Some(&residual), &affine, 1e-5, mask).unwrap();
    assert_eq!(numbers(&plain), numbers(&tracked));
}

proptest! {
    #[test]
    fn sums_equal_their_definition(values in prop::collection::vec(-10f32..10.0, 0..200)) {
        let exact = |f: &dyn Fn(f64) -> f64| values.iter().map(|&value| f(f64::from(value))).sum::<f64>();
        prop_assert!((f64::from(simd::sum(&values)) - exact(&|x| x)).abs() < 1e-3);
        prop_assert!((f64::from(simd::dot(&values, &values)) - exact(&|x| x * x)).abs() < 1e-1);
        prop_assert_eq!(simd::max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    }

    #[test]
    fn column_sums_equal_their_definition(rows in 0usize..100, width in 1usize..20) {
        let values: Vec<f32> = (0..rows * width).map(|i| (i % 17) as f32).collect();
        let sums = column_sums(&values, width);
        for (column, sum) in sums.iter().enumerate() {
            prop_assert_eq!(*sum, values.iter().skip(column).step_by(width).sum::<f32>());
        }
    }
}
