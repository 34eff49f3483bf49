//! Layers with weights of their own, initialized from a seed and a name.

use candle_core::{Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Result, affine::affine};

/// `y = x Wᵀ + b`, with `W: [out, in]` and `b: [out]` as variables.
#[derive(Debug, Clone)]
pub struct Linear {
    name: String,
    weight: Var,
    bias: Var,
}

impl Linear {
    /// Weights uniform in `±√(6 / (in + out))` (Glorot and Bengio 2010), bias zero.
    ///
    /// The random numbers come from `seed` and `name` alone: a layer starts the same whatever other layers exist.
    ///
    /// # Errors
    /// Candle could not make the tensors.
    pub fn new(name: &str, input: usize, output: usize, seed: u64, device: &Device) -> Result<Self> {
        Self::with_gain(name, input, output, 1.0, seed, device)
    }

    /// As [`new`](Self::new), with weights that are `gain` times as large.
    pub(crate) fn with_gain(
        name: &str,
        input: usize,
        output: usize,
        gain: f32,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let bound = gain * glorot(input, output);
        let mut random = named_rng(seed, name);
        let values: Vec<f32> = (0..input * output).map(|_| random.random_range(-bound..=bound)).collect();
        Ok(Self {
            name: name.to_string(),
            weight: Var::from_vec(values, (output, input), device)?,
            bias: Var::zeros(output, candle_core::DType::F32, device)?,
        })
    }

    /// `[…, in]` to `[…, out]`.
    ///
    /// # Errors
    /// The last dimension is not `in`, or there is none.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.affine(x, false)
    }

    /// `SiLU` of [`forward`](Self::forward), in one step.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.affine(x, true)
    }

    fn affine(&self, x: &Tensor, activated: bool) -> Result<Tensor> {
        let (output, input) = self.weight.dims2()?;
        // One matrix product: Candle would run a three-dimensional one as a batch of small ones.
        let flat = if x.rank() == 2 { x.clone() } else { x.reshape(((), input))? };
        let y = affine(&flat, &self.weight, &self.bias, activated)?;
        if x.rank() == 2 {
            return Ok(y);
        }
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = output;
        }
        Ok(y.reshape(dims)?)
    }

    /// `NAME.weight` and `NAME.bias`.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        vec![(format!("{}.weight", self.name), self.weight.clone()), (format!("{}.bias", self.name), self.bias.clone())]
    }

    /// The weights `[out, in]`.
    pub fn weight(&self) -> &Var {
        &self.weight
    }

    /// The bias `[out]`.
    pub fn bias(&self) -> &Var {
        &self.bias
    }
}

/// `√(6 / (in + out))` (Glorot and Bengio 2010): the largest initial weight of a layer.
pub(crate) fn glorot(input: usize, output: usize) -> f32 {
    (6.0 / (input + output).max(1) as f32).sqrt()
}

/// Random numbers of their own for every name (FNV-1a of it, mixed with the seed).
pub(crate) fn named_rng(seed: u64, name: &str) -> ChaCha8Rng {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(hash);
    random
}

/// Inverted dropout: each value is zero with probability `rate`, the others are scaled by `1 / (1 - rate)`.
pub(crate) fn dropout(x: &Tensor, rate: f32, mut random: ChaCha8Rng) -> Result<Tensor> {
    if rate == 0.0 {
        return Ok(x.clone());
    }
    let kept = 1.0 / (1.0 - rate);
    let mask: Vec<f32> = (0..x.elem_count()).map(|_| if random.random::<f32>() < rate { 0.0 } else { kept }).collect();
    Ok((x * Tensor::from_vec(mask, x.shape(), x.device())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_the_affine_map_over_leading_dimensions() {
        let layer = Linear::new("l", 2, 3, 1, &Device::Cpu).unwrap();
        layer.weight().set(&Tensor::new(&[[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu).unwrap()).unwrap();
        layer.bias().set(&Tensor::new(&[10.0_f32, 20.0, 30.0], &Device::Cpu).unwrap()).unwrap();
        let x = Tensor::new(&[[[1.0_f32, 0.0], [0.0, 1.0]]], &Device::Cpu).unwrap();
        let y = layer.forward(&x).unwrap();
        assert_eq!(y.to_vec3::<f32>().unwrap(), [[[11.0, 23.0, 35.0], [12.0, 24.0, 36.0]]]);
        assert!(layer.forward(&Tensor::new(&[[1.0_f32; 3]], &Device::Cpu).unwrap()).is_err());
    }

    #[test]
    fn weights_depend_on_seed_and_name_and_keep_to_their_bound() {
        let weights = |name: &str, seed| {
            let layer = Linear::new(name, 30, 20, seed, &Device::Cpu).unwrap();
            layer.weight().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(weights("a", 1), weights("a", 1));
        assert_ne!(weights("a", 1), weights("b", 1));
        assert_ne!(weights("a", 1), weights("a", 2));
        let (bound, values) = ((6.0_f32 / 50.0).sqrt(), weights("a", 1));
        assert!(values.iter().all(|w| w.abs() <= bound));
        let variance = values.iter().map(|w| w * w).sum::<f32>() / 600.0;
        assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 0.15, "{variance}");
    }

    #[test]
    fn dropout_keeps_the_mean_and_repeats() {
        let x = Tensor::ones(20_000, candle_core::DType::F32, &Device::Cpu).unwrap();
        let values = |seed| dropout(&x, 0.25, named_rng(seed, "d")).unwrap().to_vec1::<f32>().unwrap();
        let first = values(1);
        assert_eq!(first, values(1));
        assert_ne!(first, values(2));
        let zeros = first.iter().filter(|v| **v == 0.0).count() as f64 / 20_000.0;
        assert!((zeros - 0.25).abs() < 0.02, "{zeros}");
        assert!(first.iter().all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6));
    }
}
