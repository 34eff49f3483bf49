//! The encoder: from packed tokens to vectors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use paretune_features::Packed;

use crate::adapter;
use crate::device::Kernels;
use crate::error::EncoderError;
use crate::family::{Dropout, ModelConfig};
use crate::kernels::gemm::Arithmetic;
use crate::kernels::pool::pool;
use crate::layer_cache::{CacheOptions, LayerCache};
use crate::network::{Between, Network, Parameters, composed};
use crate::parameter::Pass;
use crate::pooling::Pooling;
use crate::tokens;

/// A transformer that turns packed token sequences into vectors, and can be trained.
///
/// Weights are shared between clones of the [`Var`](candle_core::Var)s which [`parameters`](Self::parameters) gives: an optimizer that
/// sets them changes the encoder. For vectors alone, without training, see [`Embedder`](crate::Embedder);
/// from texts to vectors in one call, [`SentenceEncoder`](crate::SentenceEncoder).
#[derive(Debug)]
pub struct Encoder {
    pub(crate) config: ModelConfig,
    pub(crate) pooling: Pooling,
    pub(crate) parameters: Parameters,
    /// Tensors of the file which the encoder does not use but other tools do: written again when the model is saved.
    pub(crate) unused: BTreeMap<String, Tensor>,
    pub(crate) network: Network,
    /// How matrices are multiplied in training.
    pub(crate) arithmetic: Arithmetic,
    pub(crate) recompute: bool,
    pub(crate) kernels: Kernels,
    pub(crate) cache: Option<LayerCache>,
    pub(crate) cache_options: Option<CacheOptions>,
    pub(crate) dropout: Dropout,
    /// Adapters by name, the one that is active, and the one that is merged into `parameters`.
    pub(crate) adapters: BTreeMap<String, adapter::State>,
    pub(crate) active: Option<String>,
    pub(crate) merged: Option<adapter::Merged>,
    /// See [`Encoder::rest_below`].
    pub(crate) awake_from: AtomicUsize,
}

impl Encoder {
    /// The architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Width of the vectors.
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size()
    }

    /// How token vectors become one.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// How matrices are multiplied in training: what [`LoadOptions`](crate::LoadOptions) asked for, if the processor has it.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// What the network is made of, as it was loaded.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Where the weights lie.
    pub fn device(&self) -> Device {
        self.network.device()
    }

    /// Where a trained parameter stands in the network: 0 in the embeddings, 1 in the first layer, [`ModelConfig::layers`] in the last
    /// one, and one more after it. Names are those of [`parameters`](Self::parameters).
    pub fn depth_of(&self, parameter: &str) -> usize {
        let architecture = &self.config.architecture;
        let name = parameter.strip_prefix(adapter::PREFIX).unwrap_or(parameter);
        match architecture.layer_of(name) {
            Some(layer) => layer + 1,
            None => {
                let is_final = architecture.names.final_norm.is_some_and(|(stem, _)| name.starts_with(stem));
                if is_final { architecture.layers + 1 } else { 0 }
            }
        }
    }

    /// Lets everything below a [depth](Self::depth_of) rest: until told otherwise it gets no gradients and drops nothing, and costs no
    /// backward pass. Gradual unfreezing (Howard and Ruder 2018) begins at the top and goes down to 0.
    pub fn rest_below(&self, depth: usize) {
        self.awake_from.store(depth, Ordering::Relaxed);
    }

    /// The vectors of all tokens, `[tokens, hidden]`, differentiable with respect to the trained parameters.
    ///
    /// With a `dropout` seed, as in training: give every step a new one, and the same one to repeat a step. Layers
    /// below the first trained one drop nothing.
    ///
    /// # Errors
    /// If the tokens are not well formed, do not belong to this vocabulary, or are too many for the positions.
    pub fn hidden_states(&self, packed: &Packed, dropout: Option<u64>) -> Result<Tensor, EncoderError> {
        Ok(self.run(packed, self.training_pass(dropout), &mut Ok)?.0)
    }

    /// One vector per sequence, `[sequences, hidden]`, differentiable with respect to the trained parameters.
    ///
    /// With a `dropout` seed, as in training: give every step a new one, and the same one to repeat a step. Layers
    /// below the first trained one drop nothing.
    ///
    /// # Errors
    /// Those of [`hidden_states`](Self::hidden_states).
    pub fn encode(&self, packed: &Packed, dropout: Option<u64>) -> Result<Tensor, EncoderError> {
        self.pooled(packed, self.training_pass(dropout))
    }

    /// As [`encode`](Self::encode), with a hand on what passes from layer to layer: `between` is given the vectors of all tokens
    /// `[tokens, hidden]` before each layer, and before pooling, and answers with those to go on with. A copy that begins a new graph
    /// cuts the network there, so that a backward pass can go layer by layer.
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use paretune_encoder::{BertConfig, Encoder, Pooling, backward, backward_from};
    /// use paretune_features::Packed;
    ///
    /// let encoder = Encoder::random(BertConfig::tiny(), Pooling::Mean, 42, &Device::Cpu)?;
    /// let packed = Packed::from_sequences([&[1, 17, 4, 2][..], &[1, 9, 2]]);
    /// let mut cuts = Vec::new();
    /// let vectors = encoder.encode_with(&packed, None, &mut |x| {
    ///     let leaf = Var::from_tensor(&x.detach())?;
    ///     cuts.push((x, leaf.clone()));
    ///     Ok(leaf.into_inner())
    /// })?;
    /// // From the loss to the last cut, and from there to the one before it.
    /// let (value, leaf) = cuts.pop().unwrap();
    /// let above = backward(&vectors.sqr()?.sum_all()?)?;
    /// let layer = backward_from(&[(&value, above.get(&leaf).unwrap())])?;
    /// assert!(layer.get(&cuts.pop().unwrap().1).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`hidden_states`](Self::hidden_states) and of `between`.
    pub fn encode_with(
        &self,
        packed: &Packed,
        dropout: Option<u64>,
        between: &mut dyn FnMut(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor, EncoderError> {
        let (hidden, offsets) = self.run(packed, self.training_pass(dropout), between)?;
        if packed.ids.is_empty() {
            return Ok(hidden);
        }
        self.pool(&between(hidden)?, &offsets)
    }

    pub(crate) fn training_pass(&self, dropout: Option<u64>) -> Pass {
        let awake_from = self.awake_from.load(Ordering::Relaxed);
        Pass {
            dropout,
            arithmetic: self.arithmetic,
            recompute: self.recompute,
            kernels: self.kernels,
            awake_from,
            ..Pass::TRACKED
        }
    }

    fn run(&self, packed: &Packed, pass: Pass, between: Between<'_>) -> Result<(Tensor, Arc<[u32]>), EncoderError> {
        tokens::check(packed, &self.config)?;
        let offsets: Arc<[u32]> = packed.offsets.as_slice().into();
        if packed.ids.is_empty() {
            return Ok((Tensor::zeros((0, self.hidden_size()), DType::F32, &self.device())?, offsets));
        }
        let hidden = match &self.cache {
            Some(cache) => {
                let x = cache.get(&self.network, packed)?;
                let above = cache.layers()..self.network.layers.len();
                self.network.finish(self.network.layers_with(x, above, &offsets, pass, between)?, pass)?
            }
            None => self.network.forward(packed, &offsets, pass, between)?,
        };
        Ok((hidden, offsets))
    }

    pub(crate) fn pooled(&self, packed: &Packed, pass: Pass) -> Result<Tensor, EncoderError> {
        let (hidden, offsets) = self.run(packed, pass, &mut Ok)?;
        if packed.ids.is_empty() {
            return Ok(hidden);
        }
        self.pool(&hidden, &offsets)
    }

    fn pool(&self, hidden: &Tensor, offsets: &Arc<[u32]>) -> Result<Tensor, EncoderError> {
        Ok(match self.kernels.fused_on(hidden.device()) {
            true => pool(hidden, offsets, self.pooling)?,
            false => composed::pool(hidden, offsets, self.pooling)?,
        })
    }
}
