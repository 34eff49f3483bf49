//! The two layers with weights that a BERT is made of, usable on their own.

use candle_core::{DType, Device, Module, Result, Tensor, Var, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

use crate::kernels::linear::linear;
use crate::kernels::norm::layer_norm;
use crate::network::composed;
use crate::parameter::{Parameter, Pass};

/// `y = x·Wᵀ + b` for `x: [n, in]`, `W: [out, in]`, `b: [out]`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use paretune_encoder::Linear;
///
/// let layer = Linear::new(8, 3, 7, &Device::Cpu)?;
/// let y = layer.forward(&Tensor::ones((5, 8), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(y.dims(), [5, 3]);
/// let gradients = y.sum_all()?.backward()?;
/// for (name, var) in layer.parameters("head") {
///     assert!(gradients.get(&var).is_some(), "{name}");
/// }
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Parameter,
    bias: Parameter,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// A trainable layer with weights and biases drawn uniformly from `±1/√in`, as PyTorch does; reproducible by `seed`.
    ///
    /// # Errors
    /// If a size is 0 or the tensors cannot be made.
    pub fn new(inputs: usize, outputs: usize, seed: u64, device: &Device) -> Result<Self> {
        if inputs == 0 || outputs == 0 {
            bail!("a linear layer needs inputs and outputs, got {inputs} and {outputs}")
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (inputs as f32).sqrt();
        let uniform = Uniform::new_inclusive(-bound, bound).map_err(candle_core::Error::wrap)?;
        let mut draw = |count: usize| (0..count).map(|_| uniform.sample(&mut random)).collect::<Vec<f32>>();
        let weight = Tensor::from_vec(draw(inputs * outputs), (outputs, inputs), device)?;
        let bias = Tensor::from_vec(draw(outputs), outputs, device)?;
        Self::from_weights(weight, bias, true)
    }

    /// A trainable layer with weights drawn from a normal distribution of mean 0 and biases 0; reproducible by `seed`.
    ///
    /// # Errors
    /// If a size is 0, `deviation` is negative or not finite, or the tensors cannot be made.
    pub fn normal(inputs: usize, outputs: usize, deviation: f64, seed: u64, device: &Device) -> Result<Self> {
        let weight = normal_tensor(&[outputs, inputs], deviation, &mut ChaCha8Rng::seed_from_u64(seed), device)?;
        Self::from_weights(weight, Tensor::zeros(outputs, DType::F32, device)?, true)
    }

    /// A layer with the given weights: `weight` `[out, in]`, `bias` `[out]`. If not `trainable`, they are constants.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn from_weights(weight: Tensor, bias: Tensor, trainable: bool) -> Result<Self> {
        let weight = Parameter::new(weight.contiguous()?, trainable)?;
        let bias = Parameter::new(bias.contiguous()?, trainable)?;
        Self::from_parameters(weight, bias)
    }

    pub(crate) fn from_parameters(weight: Parameter, bias: Parameter) -> Result<Self> {
        let (outputs, inputs) = weight.get(Pass::INFERENCE).dims2()?;
        let bias_shape = bias.get(Pass::INFERENCE);
        if bias_shape.dims() != [outputs] {
            bail!(
                "a linear layer with weight [{outputs}, {inputs}] needs a bias [{outputs}], got {:?}",
                bias_shape.dims()
            )
        }
        Ok(Self { weight, bias, inputs, outputs })
    }

    /// Width of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Width of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Weight `[out, in]` and bias `[out]`, tracked.
    pub(crate) fn tensors(&self) -> [Tensor; 2] {
        [self.weight.get(Pass::TRACKED), self.bias.get(Pass::TRACKED)]
    }

    /// `[n, in]` to `[n, out]`.
    ///
    /// # Errors
    /// If `x` is not a matrix of width `in` (of `f32`, on the CPU).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.get(Pass::TRACKED), self.bias.get(Pass::TRACKED));
        if x.device().is_cpu() { linear(x, &weight, &bias, None) } else { composed::linear(x, &weight, &bias) }
    }

    /// The trainable parameters, named `PREFIX.bias` and `PREFIX.weight`, in this order.
    pub fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        named(prefix, [("bias", &self.bias), ("weight", &self.weight)])
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Linear::forward(self, x)
    }
}

/// `(x - mean) / √(variance + ε) · scale + shift` for each row of `x: [n, width]`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    scale: Parameter,
    shift: Parameter,
    epsilon: f64,
}

impl LayerNorm {
    /// A trainable layer norm with scale 1 and shift 0.
    ///
    /// # Errors
    /// If the tensors cannot be made.
    pub fn new(width: usize, epsilon: f64, device: &Device) -> Result<Self> {
        let scale = Tensor::ones(width, DType::F32, device)?;
        Self::from_weights(scale, Tensor::zeros(width, DType::F32, device)?, epsilon, true)
    }

    /// A layer norm with the given `[width]` scale and shift. If not `trainable`, they are constants.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn from_weights(scale: Tensor, shift: Tensor, epsilon: f64, trainable: bool) -> Result<Self> {
        if scale.dims().len() != 1 || scale.dims() != shift.dims() {
            bail!("a layer norm needs scale and shift of one width, got {:?} and {:?}", scale.dims(), shift.dims())
        }
        let scale = Parameter::new(scale.contiguous()?, trainable)?;
        Ok(Self { scale, shift: Parameter::new(shift.contiguous()?, trainable)?, epsilon })
    }

    /// Scale and shift `[width]`, tracked, and `ε`.
    pub(crate) fn tensors(&self) -> ([Tensor; 2], f64) {
        ([self.scale.get(Pass::TRACKED), self.shift.get(Pass::TRACKED)], self.epsilon)
    }

    /// `[n, width]` to `[n, width]`.
    ///
    /// # Errors
    /// If `x` is not a matrix of this width (of `f32`, on the CPU).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (scale, shift) = (self.scale.get(Pass::TRACKED), self.shift.get(Pass::TRACKED));
        match x.device().is_cpu() {
            true => layer_norm(x, &scale, Some(&shift), self.epsilon),
            false => composed::norm(x, &scale, Some(&shift), self.epsilon),
        }
    }

    /// The trainable parameters, named `PREFIX.bias` and `PREFIX.weight`, in this order.
    pub fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        named(prefix, [("bias", &self.shift), ("weight", &self.scale)])
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        LayerNorm::forward(self, x)
    }
}

fn named<const N: usize>(prefix: &str, parameters: [(&str, &Parameter); N]) -> Vec<(String, Var)> {
    let named = parameters.into_iter().map(|(name, parameter)| (name, parameter.var()));
    named.filter_map(|(name, var)| Some((format!("{prefix}.{name}"), var?.clone()))).collect()
}

/// Normally distributed numbers of mean 0.
pub(crate) fn normal_tensor(
    shape: &[usize],
    deviation: f64,
    random: &mut ChaCha8Rng,
    device: &Device,
) -> Result<Tensor> {
    let normal = Normal::new(0.0, deviation as f32).map_err(candle_core::Error::wrap)?;
    let values: Vec<f32> = normal.sample_iter(random).take(shape.iter().product()).collect();
    Tensor::from_vec(values, shape, device)
}
