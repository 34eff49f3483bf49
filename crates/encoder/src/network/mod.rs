//! The network: embeddings, then layers of attention and feed-forward blocks, on `[tokens, hidden]` matrices.

pub(crate) mod composed;
pub(crate) mod distance;
pub(crate) mod embeddings;
pub(crate) mod layer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};
use paretune_features::Packed;

use crate::family::{Architecture, Dropout, Rotation};
use crate::kernels::dropout::Mask;
use crate::kernels::norm::{NormKind, layer_norm, rms_norm};
use crate::kernels::rotary::Rotary;
use crate::parameter::{Parameter, Pass};
use distance::Distances;
use layer::{LINEARS, Masks, PLACES, Sizes};

/// Is given the vectors between two layers and answers with those to go on with.
pub(crate) type Between<'a> = &'a mut dyn FnMut(Tensor) -> Result<Tensor>;

/// All weights by their Hub names.
pub(crate) type Parameters = BTreeMap<String, Parameter>;

#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) architecture: Arc<Architecture>,
    pub(crate) embeddings: embeddings::Parameters,
    pub(crate) layers: Vec<layer::Parameters>,
    /// What each layer computes.
    pub(crate) sizes: Vec<Sizes>,
    /// Scale and shift of the norm after the last layer.
    pub(crate) final_norm: Option<(Parameter, Option<Parameter>)>,
    /// Layers below this one are frozen, and the embeddings too if it is not 0.
    pub(crate) first_trained: usize,
    dropout: Dropout,
}

fn take(parameters: &Parameters, name: &str) -> Result<Parameter> {
    match parameters.get(name) {
        Some(parameter) => Ok(parameter.clone()),
        None => bail!("no tensor `{name}`"),
    }
}

impl Network {
    /// Builds the network from the tensors that [`Architecture::tensors`] lists.
    pub(crate) fn new(architecture: &Arc<Architecture>, parameters: &Parameters, dropout: Dropout) -> Result<Self> {
        let mut rotations: Vec<(Rotation, Arc<Rotary>)> = Vec::new();
        let distances = architecture.relative.map(|relative| Arc::new(Distances::new(relative, architecture.longest)));
        let mut sizes = Vec::with_capacity(architecture.layers);
        for layer in 0..architecture.layers {
            let rotation = architecture.rotations.get(layer).cloned().flatten();
            let rotary = rotation.map(|rotation| match rotations.iter().find(|(known, _)| *known == rotation) {
                Some((_, rotary)) => Arc::clone(rotary),
                None => {
                    let rotary = Arc::new(Rotary::new(architecture.head_width, rotation.theta, &rotation.scaling));
                    rotations.push((rotation, Arc::clone(&rotary)));
                    rotary
                }
            });
            sizes.push(Sizes::new(architecture, layer, rotary, distances.clone()));
        }
        let layers = (0..architecture.layers).map(|layer| layer::Parameters::new(architecture, layer, parameters));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let embeddings = embeddings::Parameters::new(architecture, parameters)?;
        let final_norm = match architecture.names.final_norm {
            Some((stem, shift)) => {
                let scale = take(parameters, &format!("{stem}.weight"))?;
                let shift = if shift { Some(take(parameters, &format!("{stem}.bias"))?) } else { None };
                Some((scale, shift))
            }
            None => None,
        };
        let architecture = Arc::clone(architecture);
        let mut network = Self { architecture, embeddings, layers, sizes, final_norm, first_trained: 0, dropout };
        network.find_first_trained();
        Ok(network)
    }

    /// Looks for the lowest trained layer again, after adapters came or went.
    pub(crate) fn find_first_trained(&mut self) {
        let trained = |layer: &layer::Parameters| !layer.trained(Pass::TRACKED).is_empty();
        self.first_trained = match self.embeddings.is_trained() {
            true => 0,
            false => self.layers.iter().position(trained).unwrap_or(self.layers.len()),
        };
    }

    /// Where the weights lie.
    pub(crate) fn device(&self) -> Device {
        self.embeddings.words.get(Pass::INFERENCE).device().clone()
    }

    /// Whether everything below layer `layer` is a fixed function.
    fn is_frozen_below(&self, layer: usize) -> bool {
        layer < self.first_trained
    }

    /// The masks of a layer. Frozen layers below the first trained one drop nothing: their output is a fixed function of the text.
    fn masks(&self, layer: usize, pass: Pass) -> Result<Masks> {
        if self.is_frozen_below(layer) {
            return Ok(Masks::default());
        }
        let place = 1 + PLACES * layer as u64;
        let blocks = [
            pass.mask(self.dropout.attention, place)?,
            pass.mask(self.dropout.hidden, place + 1)?,
            pass.mask(self.dropout.hidden, place + 2)?,
        ];
        let mut adapters = [None; LINEARS];
        for (number, adapter) in self.layers[layer].adapters.iter().enumerate() {
            if let Some(layer::Adapter::Lora { dropout, .. }) = adapter {
                // Far above the places of the layers themselves.
                let place = (1 << 32) + (LINEARS * layer + number) as u64;
                adapters[number] = pass.mask(*dropout, place)?;
            }
        }
        Ok(Masks { blocks, adapters })
    }

    fn embedding_mask(&self, pass: Pass) -> Result<Option<Mask>> {
        if self.embeddings.is_trained() { pass.mask(self.dropout.embeddings, 0) } else { Ok(None) }
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
        let x = self.layers_with(x, 0..self.layers.len(), offsets, pass, between)?;
        self.finish(x, pass)
    }

    /// The vectors before the first layer.
    pub(crate) fn embed(&self, packed: &Packed, pass: Pass) -> Result<Tensor> {
        let pass = pass.at(0);
        let mask = self.embedding_mask(pass)?;
        match pass.kernels.fused_on(&self.device()) {
            true => embeddings::embeddings(&self.embeddings, &packed.ids, &packed.positions, mask, pass),
            false => composed::embeddings(self, packed, mask, pass),
        }
    }

    /// What follows the last layer.
    pub(crate) fn finish(&self, x: Tensor, pass: Pass) -> Result<Tensor> {
        let Some((scale, shift)) = &self.final_norm else { return Ok(x) };
        let mut scale = scale.get(pass);
        if self.architecture.scales_less_one {
            scale = (scale + 1.0)?;
        }
        let (shift, epsilon) = (shift.as_ref().map(|shift| shift.get(pass)), self.architecture.epsilon);
        if !pass.kernels.fused_on(x.device()) || x.dtype() != candle_core::DType::F32 {
            return composed::norm_of(&x, &scale, shift.as_ref(), self.architecture.norm, epsilon);
        }
        match self.architecture.norm {
            NormKind::Layer => layer_norm(&x, &scale, shift.as_ref(), epsilon),
            NormKind::Rms => rms_norm(&x, &scale, epsilon),
        }
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
            let pass = pass.at(index + 1);
            let (parameters, sizes, masks) = (&self.layers[index], &self.sizes[index], self.masks(index, pass)?);
            x = match pass.kernels.fused_on(x.device()) {
                true => layer::layer(&x, parameters, sizes, offsets, masks, pass)?,
                false => composed::layer(&x, parameters, sizes, offsets, masks, pass)?,
            };
        }
        Ok(x)
    }
}
