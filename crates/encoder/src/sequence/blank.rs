//! Parameters before they have values.

use candle_core::{Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};

use crate::layers::normal_tensor;

/// The values that a parameter starts with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Start {
    /// The same number everywhere.
    Constant(f32),
    /// Normally distributed with mean 0 and this deviation.
    Normal(f64),
    /// Evenly distributed between minus this bound and this bound.
    Uniform(f32),
}

/// A parameter to be made.
#[derive(Debug, Clone)]
pub(super) struct Blank {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) start: Start,
}

impl Blank {
    pub(super) fn new(name: impl Into<String>, shape: &[usize], start: Start) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), start }
    }

    /// Its first values.
    pub(super) fn draw(&self, random: &mut ChaCha8Rng, device: &Device) -> Result<Tensor> {
        match self.start {
            Start::Constant(value) => Tensor::full(value, &self.shape[..], device)?.contiguous(),
            Start::Normal(deviation) => normal_tensor(&self.shape, deviation, random, device),
            Start::Uniform(bound) => {
                let uniform = Uniform::new_inclusive(-bound, bound).map_err(candle_core::Error::wrap)?;
                let values: Vec<f32> = uniform.sample_iter(random).take(self.shape.iter().product()).collect();
                Tensor::from_vec(values, &self.shape[..], device)
            }
        }
    }
}
