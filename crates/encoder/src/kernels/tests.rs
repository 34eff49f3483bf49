//! Every kernel against the same function in `f64`, values and gradients, and the approximations against closed forms.
//!
//! References are short loops, differentiated by central differences, or Candle's own operations with its backward pass.

mod activation;
mod attention;
mod bags;
mod buffers;
mod contrast;
mod dropout;
mod gated;
mod gates;
mod head_norm;
mod linear;
mod norm;
mod pool;
mod rotary;
mod sums;
mod unit;

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::dropout::Mask;

/// Numbers between -1.5 and 1.5.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| generator.random_range(-1.5..1.5)).collect()
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    matrix(&values(shape.iter().product(), seed), shape)
}

fn matrix(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Differences are measured against the largest of the expected numbers, or 1.
fn assert_near(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1.0f64, |size, value| size.max(value.abs()));
    for (place, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs();
        assert!(off <= tolerance * size, "{what}[{place}]: {found}, expected {expected} (of {size})");
    }
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    assert_near(what, &found.flatten_all().unwrap().to_vec1::<f32>().unwrap(), &numbers(expected), tolerance);
}

/// The result of `f` in `f64` and the gradients of its arguments, by Candle's backward pass from the gradient `direction`; empty
/// for arguments that `f` does not use.
fn by_candle(
    arguments: &[Tensor],
    direction: &[f32],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let vars: Vec<Var> =
        arguments.iter().map(|tensor| Var::from_tensor(&tensor.to_dtype(DType::F64).unwrap()).unwrap()).collect();
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let out = f(&inputs).unwrap();
    let direction = matrix(direction, out.dims()).to_dtype(DType::F64).unwrap();
    let gradients = (&out * direction).unwrap().sum_all().unwrap().backward().unwrap();
    (numbers(&out), vars.iter().map(|var| gradients.get(var).map(numbers).unwrap_or_default()).collect())
}

/// Compares the gradient of `Σ direction ⊙ f(x)`, which a kernel computed, with central differences of `f` in `f64`.
fn assert_gradient(
    what: &str,
    gradient: &[f32],
    x: &[f32],
    direction: &[f32],
    tolerance: f64,
    f: impl Fn(&[f64]) -> Vec<f64>,
) {
    const STEP: f64 = 1e-5;
    let mut x = wide(x);
    let loss = |x: &[f64]| f(x).iter().zip(direction).map(|(out, &weight)| out * f64::from(weight)).sum::<f64>();
    let mut slope = |place: usize| {
        let before = x[place];
        x[place] = before + STEP;
        let above = loss(&x);
        x[place] = before - STEP;
        let below = loss(&x);
        x[place] = before;
        (above - below) / (2.0 * STEP)
    };
    let expected: Vec<f64> = (0..gradient.len()).map(&mut slope).collect();
    assert_near(what, gradient, &expected, tolerance);
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

/// The factors of a mask, row by row from number `first_row` on; ones without a mask.
fn factors(mask: Option<Mask>, first_row: usize, rows: usize, width: usize) -> Vec<f32> {
    let places = (0..rows).flat_map(|row| (0..width).map(move |column| (row, column)));
    let factor = |(row, column)| mask.map_or(1.0, |mask: Mask| mask.row((first_row + row) as u64).factor(column));
    places.map(factor).collect()
}

/// Runs `work` on one, two and five threads, which must all give the same bits.
fn by_threads<const N: usize>(work: impl Fn() -> [Vec<f32>; N] + Sync) {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| work().map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>()))
    };
    let one = run(1);
    assert_eq!(one, run(2), "two threads");
    assert_eq!(one, run(5), "five threads");
}
