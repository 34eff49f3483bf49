//! The networks through the kernels in `f32` against the same networks of Candle's operations in `f64`, and what holds of both.

mod definition;
mod laws;
mod refused;

use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{SequenceActivation, SequenceConfig, SequenceEncoder, SequenceKind};
use crate::device::Kernels;
use crate::parameter::Pass;

const KINDS: [SequenceKind; 4] =
    [SequenceKind::Causal, SequenceKind::Bidirectional, SequenceKind::Gru, SequenceKind::Lstm];
/// Several groups of the recurrence, empty sequences at the beginning, in between and at the end.
const LENGTHS: [u32; 20] = [0, 5, 1, 0, 19, 3, 2, 2, 7, 1, 1, 4, 9, 0, 6, 2, 8, 3, 12, 0];
const COMPOSED: Pass = Pass { kernels: Kernels::Composed, ..Pass::TRACKED };

fn uniform(shape: &[usize], seed: u64) -> Tensor {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| generator.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn offsets(lengths: &[u32]) -> Vec<u32> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// Odd sizes: nothing is a multiple of a register's width.
fn odd(kind: SequenceKind) -> SequenceConfig {
    let sizes =
        SequenceConfig { layers: 2, heads: 3, inner: 25, dropout: 0.3, longest: 20, ..SequenceConfig::new(kind, 18) };
    SequenceConfig { pre_norm: kind == SequenceKind::Causal, ..sizes }
}

/// Values that keep the size of what passes through them, with biases and scales that matter.
fn weighted(config: &SequenceConfig) -> SequenceEncoder {
    let blanks = config.blanks().into_iter().enumerate();
    let parameters = blanks.map(|(number, blank)| {
        let values = uniform(&blank.shape, number as u64 + 100);
        let values = match blank.shape[..] {
            [_] if blank.name.contains("norm") && blank.name.ends_with("weight") => values.affine(0.4, 1.0),
            [_] => values.affine(0.4, 0.0),
            _ if blank.name.starts_with("position") => Ok(values),
            [_, inputs] => values.affine((3.0 / inputs as f64).sqrt(), 0.0),
            _ => unreachable!("vectors and matrices"),
        };
        (blank.name, Var::from_tensor(&values.unwrap()).unwrap())
    });
    SequenceEncoder::assemble(*config, parameters.collect())
}

/// The same network with numbers in `f64`, and something added to one of its parameters.
fn twin(encoder: &SequenceEncoder, change: Option<(&str, &Tensor)>) -> SequenceEncoder {
    let parameters = encoder.parameters.iter().map(|(name, var)| {
        let values = var.as_detached_tensor().to_dtype(DType::F64).unwrap();
        let values = match change {
            Some((changed, by)) if changed == name => (values + by).unwrap(),
            _ => values,
        };
        (name.clone(), Var::from_tensor(&values).unwrap())
    });
    SequenceEncoder::assemble(encoder.config, parameters.collect())
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn largest(tensor: &Tensor) -> f64 {
    numbers(tensor).into_iter().fold(0.0, |size, value| size.max(value.abs()))
}

/// The largest difference; infinite if one is not a number.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let offs = numbers(found).into_iter().zip(numbers(expected)).map(|(found, expected)| (found - expected).abs());
    offs.fold(0.0, |size, off| if off.is_nan() { f64::INFINITY } else { size.max(off) })
}

/// What the loss multiplies the result with, element by element.
fn direction(out: &Tensor) -> Tensor {
    uniform(out.dims(), 7).to_dtype(out.dtype()).unwrap()
}

/// A forward and a backward pass from `Σ direction ⊙ out`.
struct Step {
    out: Tensor,
    /// Of `x` and of every parameter, by name.
    gradients: Vec<(String, Tensor)>,
}

impl Step {
    fn new(encoder: &SequenceEncoder, x: &Tensor, offsets: &[u32], pass: Pass) -> Self {
        let x = Var::from_tensor(x).unwrap();
        let out = encoder.run(&x, offsets, pass).unwrap();
        let loss = (&out * direction(&out)).unwrap().sum_all().unwrap();
        let store = loss.backward().unwrap();
        let parameters = encoder.parameters.iter().map(|(name, var)| (name.clone(), store.get(var).unwrap().clone()));
        let x = ("x".to_owned(), store.get(&x).unwrap().clone());
        Self { gradients: std::iter::once(x).chain(parameters).collect(), out: out.detach() }
    }

    /// Values and gradients are those of `expected`, but for what rounding does in `f32`.
    fn assert_near(&self, expected: &Self, what: &str) {
        let (off, size) = (difference(&self.out, &expected.out), largest(&expected.out));
        assert!(off <= 3e-6 * size, "{what}: values are off by {off:e} of {size}");
        let least = 1e-2 * expected.gradients.iter().map(|(_, gradient)| largest(gradient)).fold(0.0, f64::max);
        assert_eq!(self.gradients.len(), expected.gradients.len());
        for ((name, found), (_, expected)) in self.gradients.iter().zip(&expected.gradients) {
            let (off, size) = (difference(found, expected), largest(expected).max(least));
            assert!(off <= 3e-5 * size, "{what}: {name} is off by {off:e} of {size}");
        }
    }

    fn bits(&self) -> Vec<Vec<u32>> {
        std::iter::once(&self.out).chain(self.gradients.iter().map(|(_, gradient)| gradient)).map(bits).collect()
    }
}

/// Rows for sequences of these lengths.
fn rows(lengths: &[u32], width: usize, seed: u64) -> Tensor {
    uniform(&[lengths.iter().sum::<u32>() as usize, width], seed).affine(1.5, 0.0).unwrap()
}

/// Widths from 8 on: a layer norm of two or three numbers is close to a step, which turns rounding into anything.
fn any_config() -> impl Strategy<Value = SequenceConfig> {
    let sizes = (1usize..4, 8usize..17, 1usize..40, 1usize..3);
    (0usize..4, sizes, any::<bool>(), any::<bool>()).prop_map(|(kind, (heads, head, inner, layers), pre_norm, relu)| {
        SequenceConfig {
            kind: KINDS[kind],
            width: heads * head,
            layers,
            heads,
            inner,
            dropout: 0.25,
            longest: 17,
            pre_norm,
            activation: if relu { SequenceActivation::Relu } else { SequenceActivation::Gelu },
        }
    })
}
