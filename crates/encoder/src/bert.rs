//! The network: embeddings, then layers of attention and feed-forward blocks, on `[tokens, hidden]` matrices.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use paretune_features::Packed;

use crate::config::BertConfig;
use crate::kernels::activation::Activation;
use crate::kernels::attention::attention;
use crate::kernels::dropout;
use crate::kernels::embedding::embedding;
use crate::kernels::linear::linear;
use crate::layers::{LayerNorm, Linear};
use crate::parameter::{Parameter, Pass};

/// All weights by their Hub names.
pub(crate) type Parameters = BTreeMap<String, Parameter>;

#[derive(Debug)]
pub(crate) struct Bert {
    words: Parameter,
    positions: Parameter,
    segments: Parameter,
    norm: LayerNorm,
    layers: Vec<Layer>,
    hidden_dropout: f64,
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    wide: Linear,
    output: Linear,
    norm: LayerNorm,
    heads: usize,
    activation: Activation,
    hidden_dropout: f64,
    attention_dropout: f64,
}

/// Places in a layer where dropout draws; the place `0` is that after the embeddings.
const PLACES: u64 = 3;

fn take(parameters: &Parameters, name: &str) -> Result<Parameter> {
    match parameters.get(name) {
        Some(parameter) => Ok(parameter.clone()),
        None => bail!("no tensor `{name}`"),
    }
}

fn take_linear(parameters: &Parameters, name: &str) -> Result<Linear> {
    Linear::from_parameters(take(parameters, &format!("{name}.weight"))?, take(parameters, &format!("{name}.bias"))?)
}

fn take_norm(parameters: &Parameters, name: &str, epsilon: f64) -> Result<LayerNorm> {
    let scale = take(parameters, &format!("{name}.LayerNorm.weight"))?;
    Ok(LayerNorm::from_parameters(scale, take(parameters, &format!("{name}.LayerNorm.bias"))?, epsilon))
}

impl Bert {
    /// Builds the network from the tensors that [`BertConfig::tensors`] lists; `rates` are those of hidden and
    /// attention dropout.
    pub(crate) fn new(config: &BertConfig, parameters: &Parameters, rates: (f64, f64)) -> Result<Self> {
        let activation = config.activation().map_err(candle_core::Error::msg)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let name = |part: &str| format!("encoder.layer.{index}.{part}");
                Ok(Layer {
                    query: take_linear(parameters, &name("attention.self.query"))?,
                    key: take_linear(parameters, &name("attention.self.key"))?,
                    value: take_linear(parameters, &name("attention.self.value"))?,
                    attention_output: take_linear(parameters, &name("attention.output.dense"))?,
                    attention_norm: take_norm(parameters, &name("attention.output"), config.layer_norm_eps)?,
                    wide: take_linear(parameters, &name("intermediate.dense"))?,
                    output: take_linear(parameters, &name("output.dense"))?,
                    norm: take_norm(parameters, &name("output"), config.layer_norm_eps)?,
                    heads: config.num_attention_heads,
                    activation,
                    hidden_dropout: rates.0,
                    attention_dropout: rates.1,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            words: take(parameters, "embeddings.word_embeddings.weight")?,
            positions: take(parameters, "embeddings.position_embeddings.weight")?,
            segments: take(parameters, "embeddings.token_type_embeddings.weight")?,
            norm: take_norm(parameters, "embeddings", config.layer_norm_eps)?,
            layers,
            hidden_dropout: rates.0,
        })
    }

    /// `[T, hidden]` vectors of all tokens. The tokens have been checked.
    pub(crate) fn forward(&self, packed: &Packed, offsets: &Arc<[u32]>, pass: Pass) -> Result<Tensor> {
        let (words, positions, segments) = (self.words.get(pass), self.positions.get(pass), self.segments.get(pass));
        let sum = embedding(&words, &positions, &segments, &packed.ids, &packed.positions)?;
        let mut x = dropout::apply(&self.norm.run(&sum, None, None, pass)?, pass.mask(self.hidden_dropout, 0)?)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, offsets, 1 + PLACES * index as u64, pass)?;
        }
        Ok(x)
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, offsets: &Arc<[u32]>, place: u64, pass: Pass) -> Result<Tensor> {
        // One product instead of three: the small copies cost less than three passes over `x`.
        let parts = [&self.query, &self.key, &self.value].map(|part| part.weights(pass));
        let weight = Tensor::cat(&parts.each_ref().map(|(weight, _)| weight), 0)?;
        let bias = Tensor::cat(&parts.each_ref().map(|(_, bias)| bias), 0)?;
        let qkv = linear(x, &weight, &bias, None)?;

        let attended = attention(&qkv, offsets, self.heads, pass.mask(self.attention_dropout, place)?)?;
        let attended = self.attention_output.run(&attended, None, pass)?;
        let mask = pass.mask(self.hidden_dropout, place + 1)?;
        let x = self.attention_norm.run(&attended, Some(x), mask, pass)?;

        let wide = self.wide.run(&x, Some(self.activation), pass)?;
        let narrow = self.output.run(&wide, None, pass)?;
        let mask = pass.mask(self.hidden_dropout, place + 2)?;
        self.norm.run(&narrow, Some(&x), mask, pass)
    }
}
