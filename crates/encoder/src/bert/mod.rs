//! The network: embeddings, then layers of attention and feed-forward blocks, on `[tokens, hidden]` matrices.

pub(crate) mod composed;
pub(crate) mod embeddings;
pub(crate) mod layer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use paretune_features::Packed;

use crate::config::BertConfig;
use crate::kernels::dropout::Mask;
use crate::parameter::{Parameter, Pass};
use layer::{PLACES, Sizes};

/// Is given the vectors between two layers and answers with those to go on with.
pub(crate) type Between<'a> = &'a mut dyn FnMut(Tensor) -> Result<Tensor>;

/// All weights by their Hub names.
pub(crate) type Parameters = BTreeMap<String, Parameter>;

#[derive(Debug)]
pub(crate) struct Bert {
    pub(crate) embeddings: embeddings::Parameters,
    pub(crate) layers: Vec<layer::Parameters>,
    pub(crate) sizes: Sizes,
    /// Layers below this one are frozen, and the embeddings too if it is not 0.
    pub(crate) first_trained: usize,
    hidden_dropout: f64,
    attention_dropout: f64,
}

fn take(parameters: &Parameters, name: &str) -> Result<Parameter> {
    match parameters.get(name) {
        Some(parameter) => Ok(parameter.clone()),
        None => bail!("no tensor `{name}`"),
    }
}

fn take_all<const N: usize>(
    parameters: &Parameters,
    name: impl Fn(&str) -> String,
    all: [&str; N],
) -> Result<[Parameter; N]> {
    let taken = all.iter().map(|part| take(parameters, &name(part))).collect::<Result<Vec<_>>>()?;
    match taken.try_into() {
        Ok(taken) => Ok(taken),
        Err(_) => bail!("{N} tensors were asked for"),
    }
}

impl Bert {
    /// Builds the network from the tensors that [`BertConfig::tensors`] lists; `rates` are those of hidden and
    /// attention dropout.
    pub(crate) fn new(config: &BertConfig, parameters: &Parameters, rates: (f64, f64)) -> Result<Self> {
        let sizes = Sizes {
            hidden: config.hidden_size,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            activation: config.activation().map_err(candle_core::Error::msg)?,
            epsilon: config.layer_norm_eps as f32,
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let name = |part: &str| format!("encoder.layer.{index}.{part}");
                Ok(layer::Parameters(take_all(parameters, name, layer::Parameters::NAMES)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let embeddings = embeddings::Parameters(take_all(parameters, str::to_owned, embeddings::Parameters::NAMES)?);
        let trained = |layer: &layer::Parameters| !layer.trained(Pass::TRACKED).is_empty();
        let first_trained = match embeddings.is_trained() {
            true => 0,
            false => layers.iter().position(trained).unwrap_or(layers.len()),
        };
        let (hidden_dropout, attention_dropout) = rates;
        Ok(Self { embeddings, layers, sizes, first_trained, hidden_dropout, attention_dropout })
    }

    /// Whether everything below layer `layer` is a fixed function.
    fn is_frozen_below(&self, layer: usize) -> bool {
        layer < self.first_trained
    }

    /// The masks of a layer. Frozen layers below the first trained one drop nothing: their output is a fixed function of the text.
    fn masks(&self, layer: usize, pass: Pass) -> Result<[Option<Mask>; 3]> {
        if self.is_frozen_below(layer) {
            return Ok([None; 3]);
        }
        let place = 1 + PLACES * layer as u64;
        Ok([
            pass.mask(self.attention_dropout, place)?,
            pass.mask(self.hidden_dropout, place + 1)?,
            pass.mask(self.hidden_dropout, place + 2)?,
        ])
    }

    fn embedding_mask(&self, pass: Pass) -> Result<Option<Mask>> {
        if self.embeddings.is_trained() { pass.mask(self.hidden_dropout, 0) } else { Ok(None) }
    }

    /// `[T, hidden]` vectors of all tokens. The tokens have been checked.
    pub(crate) fn forward(
        &self,
        packed: &Packed,
        offsets: &Arc<[u32]>,
        pass: Pass,
        between: Between<'_>,
    ) -> Result<Tensor> {
        let x = self.embed(packed, pass)?;
        self.layers_with(x, 0..self.layers.len(), offsets, pass, between)
    }

    /// The vectors before the first layer.
    pub(crate) fn embed(&self, packed: &Packed, pass: Pass) -> Result<Tensor> {
        let mask = self.embedding_mask(pass)?;
        if !self.embeddings.0[0].get(pass).device().is_cpu() {
            return composed::embeddings(self, packed, mask, pass);
        }
        let sizes = (self.sizes.hidden, self.sizes.epsilon);
        embeddings::embeddings(&self.embeddings, sizes, &packed.ids, &packed.positions, mask, pass)
    }

    /// Some of the layers, one after the other.
    pub(crate) fn layers(
        &self,
        x: &Tensor,
        layers: std::ops::Range<usize>,
        offsets: &Arc<[u32]>,
        pass: Pass,
    ) -> Result<Tensor> {
        self.layers_with(x.clone(), layers, offsets, pass, &mut Ok)
    }

    /// Some of the layers, one after the other, each on what `between` makes of the vectors before it.
    pub(crate) fn layers_with(
        &self,
        mut x: Tensor,
        layers: std::ops::Range<usize>,
        offsets: &Arc<[u32]>,
        pass: Pass,
        between: Between<'_>,
    ) -> Result<Tensor> {
        for index in layers {
            x = between(x)?;
            let (parameters, masks) = (&self.layers[index], self.masks(index, pass)?);
            x = match x.device().is_cpu() {
                true => layer::layer(&x, parameters, &self.sizes, offsets, masks, pass)?,
                false => composed::layer(&x, parameters, &self.sizes, offsets, masks, pass)?,
            };
        }
        Ok(x)
    }
}
