//! Adapters: small trained parts that change a frozen model.
//!
//! - [`LoraConfig`]: LoRA (Hu et al. 2021), `W + (alpha / rank)·B·A`, and rsLoRA (Kalajdzievski 2023), `W + (alpha / √rank)·B·A`;
//! - [`Ia3Config`]: IA³ (Liu et al. 2022), which scales keys, values and the inner vectors of feed-forward blocks;
//! - [`Trainable::Biases`](crate::Trainable::Biases) trains biases alone and needs no adapter.
//!
//! A model holds any number of adapters by name, of which one or none is active
//! ([`Encoder::use_adapter`](crate::Encoder::use_adapter)). Files are those of the `peft` library.

mod attach;
mod config;
mod peft;
mod targets;

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::parameter::Parameter;
pub(crate) use attach::Merged;
pub use config::{AdapterConfig, Bias, Ia3Config, LoraConfig};
pub(crate) use peft::PREFIX;
pub use targets::Targets;

/// An adapter of a model.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) config: AdapterConfig,
    /// The adapter's tensors, by the stem of the linear layer that each part changes.
    pub(crate) parts: BTreeMap<String, Part>,
    /// Biases of its own, by Hub name.
    pub(crate) biases: BTreeMap<String, Parameter>,
    /// Tensors for parts of the model which this crate does not use, by their keys in the file.
    pub(crate) other: BTreeMap<String, Tensor>,
}

/// What changes one linear layer.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// `a` `[rank, in]`, `b` `[out, rank]`.
    Lora { a: Parameter, b: Parameter, scale: f32, dropout: f64 },
    /// `[out]`.
    ScaleOutput(Parameter),
    /// `[in]`.
    ScaleInput(Parameter),
}
