//! The network through the kernels in `f32` against the same network of Candle's operations in `f64`.

mod layer;
mod network;
mod precision;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use paretune_features::Packed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Bert, Parameters, composed};
use crate::config::BertConfig;
use crate::kernels::pool::pool;
use crate::parameter::{Parameter, Pass};
use crate::pooling::Pooling;

/// Rates of hidden and attention dropout, which differ so that one cannot stand in for the other.
const RATES: (f64, f64) = (0.2, 0.35);

fn uniform(shape: &[usize], seed: u64) -> Tensor {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| generator.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A network of odd sizes: nothing is a multiple of a register's width.
fn odd(activation: &str) -> BertConfig {
    BertConfig {
        vocab_size: 31,
        hidden_size: 20,
        num_attention_heads: 5,
        intermediate_size: 33,
        num_hidden_layers: 2,
        max_position_embeddings: 512,
        hidden_act: activation.to_owned(),
        layer_norm_eps: 1e-5,
        ..BertConfig::default()
    }
}

/// Weights that keep the size of what passes through them, with biases and scales that matter.
fn weights(config: &BertConfig) -> BTreeMap<String, Tensor> {
    let weight = |(at, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = uniform(&shape, at as u64 + 100);
        let values = match name.as_str() {
            name if name.ends_with("LayerNorm.weight") => values.affine(0.4, 1.0),
            name if name.ends_with(".bias") => values.affine(0.4, 0.0),
            name if name.starts_with("embeddings.") => Ok(values),
            _ => values.affine((3.0 / shape[1] as f64).sqrt(), 0.0),
        };
        (name, values.unwrap())
    };
    config.tensors().into_iter().enumerate().map(weight).collect()
}

/// The weights in a float type; all are trained but those that are `frozen`.
fn parameters(config: &BertConfig, dtype: DType, frozen: impl Fn(&str) -> bool) -> Parameters {
    let parameter = |(name, tensor): (String, Tensor)| {
        let parameter = Parameter::new(tensor.to_dtype(dtype).unwrap(), !frozen(&name)).unwrap();
        (name, parameter)
    };
    weights(config).into_iter().map(parameter).collect()
}

fn bert(config: &BertConfig, parameters: &Parameters) -> Bert {
    Bert::new(config, parameters, RATES).unwrap()
}

fn offsets(lengths: &[usize]) -> Arc<[u32]> {
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// Tokens of a vocabulary of 31, most of which occur several times.
fn packed(lengths: &[usize]) -> Packed {
    Packed::from_sequences(lengths.iter().enumerate().map(|(sequence, &length)| {
        (0..length).map(|at| ((sequence * 11 + at * at + at * 7) % 29) as u32).collect::<Vec<_>>()
    }))
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest(tensor: &Tensor) -> f64 {
    numbers(tensor).into_iter().fold(0.0, |size, value| size.max(value.abs()))
}

/// The largest difference; infinite if one is not a number.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let pairs = numbers(found).into_iter().zip(numbers(expected));
    let offs = pairs.map(|(found, expected)| (found - expected).abs());
    offs.fold(0.0, |size, off| if off.is_nan() { f64::INFINITY } else { size.max(off) })
}

/// The network of Candle's operations, in whatever type the weights have.
fn by_candle(bert: &Bert, packed: &Packed, kind: Pooling, pass: Pass) -> Tensor {
    let offsets = packed.offsets.as_slice().into();
    let mask = bert.embedding_mask(pass).unwrap();
    let mut x = composed::embeddings(bert, packed, mask, pass).unwrap();
    for (index, parameters) in bert.layers.iter().enumerate() {
        let masks = bert.masks(index, pass).unwrap();
        x = composed::layer(&x, parameters, &bert.sizes, &offsets, masks, pass).unwrap();
    }
    let pooled: Vec<Tensor> = offsets
        .windows(2)
        .map(|pair| {
            let rows = x.narrow(0, pair[0] as usize, (pair[1] - pair[0]) as usize).unwrap();
            match kind {
                Pooling::Mean => rows.mean(0).unwrap(),
                Pooling::Cls => rows.get(0).unwrap(),
                Pooling::Max => rows.max(0).unwrap(),
                kind => composed::pool(&rows, &[0, pair[1] - pair[0]], kind).unwrap().get(0).unwrap(),
            }
        })
        .collect();
    Tensor::stack(&pooled, 0).unwrap()
}

fn by_kernels(bert: &Bert, packed: &Packed, kind: Pooling, pass: Pass) -> Tensor {
    let offsets = packed.offsets.as_slice().into();
    pool(&bert.forward(packed, &offsets, pass, &mut Ok).unwrap(), &offsets, kind).unwrap()
}

/// Gradients of `Σ direction ⊙ out` with a fixed random direction.
fn gradients(out: &Tensor) -> GradStore {
    let direction = uniform(out.dims(), 7).to_dtype(out.dtype()).unwrap();
    (out * direction).unwrap().sum_all().unwrap().backward().unwrap()
}

/// A forward and a backward pass.
struct Step {
    out: Tensor,
    /// Gradients of the trained parameters, by name; `x` is that of a layer's input.
    gradients: BTreeMap<String, Tensor>,
}

impl Step {
    fn new<'a>(
        out: Tensor,
        parameters: impl IntoIterator<Item = (&'a String, &'a Parameter)>,
        x: Option<&Var>,
    ) -> Self {
        let store = gradients(&out);
        let trained = parameters.into_iter().filter_map(|(name, parameter)| Some((name.clone(), parameter.var()?)));
        let all = trained.chain(x.map(|x| ("x".to_owned(), x)));
        let gradients = all.filter_map(|(name, var)| Some((name, store.get(var)?.clone()))).collect();
        Self { out, gradients }
    }

    fn names(&self) -> Vec<&str> {
        self.gradients.keys().map(String::as_str).collect()
    }

    /// Values and gradients are those of `expected`, but for what rounding does in `f32`.
    fn assert_near(&self, expected: &Step, what: &str) {
        let (off, size) = (difference(&self.out, &expected.out), largest(&expected.out));
        assert!(off <= 2e-6 * size, "{what}: values are off by {off:e} of {size}");
        assert_eq!(self.names(), expected.names(), "{what}");
        // Gradients that are zero by definition, as all of attention's for one token, are rounding of what cancels out.
        let least = 1e-2 * expected.gradients.values().map(largest).fold(0.0, f64::max);
        let mut offenders = Vec::new();
        for (name, found) in &self.gradients {
            let expected_gradient = &expected.gradients[name];
            // Softmax does not change with a key's bias: its gradient is zero, but for rounding in what is added up.
            let like = expected.gradients.get(&name.replace("key.bias", "query.bias")).unwrap_or(expected_gradient);
            let (off, size) = (difference(found, expected_gradient), largest(like).max(least));
            if off > 2e-5 * size {
                offenders.push(format!("{name}: off by {off:e} of {size}"));
            }
        }
        assert!(offenders.is_empty(), "{what}: {offenders:#?}");
    }

    /// Values are the same bits, and so are the gradients that both have.
    fn assert_same(&self, other: &Step, what: &str) {
        assert_eq!(numbers(&self.out), numbers(&other.out), "{what}: values");
        for (name, gradient) in &self.gradients {
            if let Some(other) = other.gradients.get(name) {
                assert_eq!(numbers(gradient), numbers(other), "{what}: {name}");
            }
        }
    }
}
