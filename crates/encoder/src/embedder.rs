//! Texts to vectors without a graph, on weights that were packed once.

use paretune_features::{Packed, Tokenized};

use crate::device::Kernels;
use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::family::ModelConfig;
use crate::kernels::buffers::Buffer;
use crate::kernels::gemm::Arithmetic;
use crate::kernels::norm::{Norm, Summands};
use crate::kernels::pool::pooled;
use crate::network::{Network, composed, embeddings, layer};
use crate::parameter::{Parameter, Pass};
use crate::pooling::Pooling;
use crate::tokens;

/// Turns texts into vectors, as fast as the processor can: an encoder's weights, laid out for one [`Arithmetic`].
///
/// It keeps the transformer layers as they were when it was made: make a new one after training steps. (On other devices than the CPU
/// the network is made of Candle's operations, on the encoder's own weights.)
///
/// ```
/// use candle_core::Device;
/// use paretune_encoder::{Arithmetic, BertConfig, Encoder, Pooling};
/// use paretune_features::Tokenized;
///
/// let encoder = Encoder::random(BertConfig::tiny(), Pooling::Mean, 42, &Device::Cpu)?;
/// let texts = Tokenized::from_sequences(&[vec![1, 17, 4, 2], vec![1, 9, 2]]);
/// // 8-bit integers where the processor has the instructions for them, else `f32`.
/// let embedder = encoder.embedder(Arithmetic::Int8)?;
/// let vectors = embedder.embed(&texts, 8192, None)?;
/// assert_eq!(vectors.len(), 2 * encoder.hidden_size());
/// # Ok::<(), paretune_encoder::EncoderError>(())
/// ```
pub struct Embedder {
    config: ModelConfig,
    pooling: Pooling,
    embeddings: embeddings::Parameters,
    layers: Vec<(layer::Sizes, layer::Packed)>,
    /// Scale and shift of the norm after the last layer.
    final_norm: Option<(Vec<f32>, Option<Vec<f32>>)>,
    /// What runs instead where there are no kernels.
    composed: Option<Network>,
    arithmetic: Arithmetic,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder")
            .field("arithmetic", &self.arithmetic)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// An [`Embedder`] of the weights as they are now. Where the processor lacks the instructions of `arithmetic`, it works in `f32`; other
    /// devices have `f32` and `bf16`.
    ///
    /// # Errors
    /// If the weights cannot be read.
    pub fn embedder(&self, arithmetic: Arithmetic) -> Result<Embedder, EncoderError> {
        let fused = self.kernels.fused_on(&self.device());
        let arithmetic = match arithmetic {
            arithmetic if fused => arithmetic.available(),
            Arithmetic::Int8 => Arithmetic::F32,
            arithmetic => arithmetic,
        };
        let pack = |(parameters, sizes): (&layer::Parameters, &layer::Sizes)| {
            let packed = parameters.read(sizes, false, |weights| layer::Packed::new(weights, arithmetic))?;
            Ok((sizes.clone(), packed))
        };
        let less_one = self.config.architecture.scales_less_one;
        let final_norm = match &self.network.final_norm {
            Some((scale, shift)) => {
                let numbers = |parameter: &Parameter| parameter.get(Pass::INFERENCE).to_vec1::<f32>();
                let mut scale = numbers(scale)?;
                if less_one {
                    scale.iter_mut().for_each(|scale| *scale += 1.0);
                }
                Some((scale, shift.as_ref().map(numbers).transpose()?))
            }
            None => None,
        };
        let layers = self.network.layers.iter().zip(&self.network.sizes).filter(|_| fused).map(pack);
        Ok(Embedder {
            config: self.config.clone(),
            pooling: self.pooling,
            embeddings: self.network.embeddings.clone(),
            layers: layers.collect::<candle_core::Result<_>>()?,
            final_norm,
            composed: (!fused).then(|| self.network.clone()),
            arithmetic,
        })
    }

    /// One vector per text, `texts · hidden` numbers in the order of the texts, without dropout or graph, in the arithmetic the
    /// encoder was loaded with.
    ///
    /// Texts of similar length share batches of at most `token_budget` tokens (8,192 is a good choice); `progress`
    /// hears after each batch how many texts are done. Tokenizing is not part of it, nor is scaling to length 1.
    ///
    /// # Errors
    /// Those of [`hidden_states`](Self::hidden_states).
    pub fn embed(
        &self,
        texts: &Tokenized,
        token_budget: usize,
        progress: Option<&dyn Fn(usize)>,
    ) -> Result<Vec<f32>, EncoderError> {
        if self.cache.is_none() && self.kernels.fused_on(&self.device()) {
            return self.embedder(self.arithmetic)?.embed(texts, token_budget, progress);
        }
        in_batches(texts, token_budget, self.hidden_size(), progress, |packed| {
            let pass = Pass { arithmetic: self.arithmetic, kernels: self.kernels, ..Pass::INFERENCE };
            Ok(self.pooled(packed, pass)?.flatten_all()?.to_vec1::<f32>()?)
        })
    }
}

/// Scales vectors of `width` numbers, end to end, to length 1, as the `Normalize` part of sentence-transformers does:
/// `x / max(‖x‖, 10⁻¹²)`, so that zeros stay zeros. Numbers that do not fill a vector at the end are left as they are.
///
/// ```
/// let mut vectors = [3.0, 4.0, 0.0, 0.0];
/// paretune_encoder::scale_to_unit_length(&mut vectors, 2);
/// assert_eq!(vectors, [0.6, 0.8, 0.0, 0.0]);
/// ```
pub fn scale_to_unit_length(vectors: &mut [f32], width: usize) {
    for vector in vectors.chunks_exact_mut(width.max(1)) {
        let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length.max(1e-12)) as f32);
    }
}

/// Embeds batches of texts of similar length.
fn in_batches(
    texts: &Tokenized,
    token_budget: usize,
    hidden: usize,
    progress: Option<&dyn Fn(usize)>,
    embed: impl Fn(&Packed) -> Result<Vec<f32>, EncoderError>,
) -> Result<Vec<f32>, EncoderError> {
    let mut vectors = vec![0f32; texts.len() * hidden];
    let mut done = 0;
    for batch in texts.batches(token_budget) {
        let pooled = embed(&texts.pack(&batch))?;
        for (&text, vector) in batch.iter().zip(pooled.chunks_exact(hidden)) {
            vectors[text as usize * hidden..][..hidden].copy_from_slice(vector);
        }
        done += batch.len();
        if let Some(progress) = progress {
            progress(done);
        }
    }
    Ok(vectors)
}

impl Embedder {
    /// How matrices are multiplied.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// Width of the vectors.
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size()
    }

    /// One vector per text; see [`Encoder::embed`].
    ///
    /// # Errors
    /// If tokens are not well formed, do not belong to this vocabulary, or are too many for the positions.
    pub fn embed(
        &self,
        texts: &Tokenized,
        token_budget: usize,
        progress: Option<&dyn Fn(usize)>,
    ) -> Result<Vec<f32>, EncoderError> {
        in_batches(texts, token_budget, self.hidden_size(), progress, |packed| self.embed_packed(packed))
    }

    /// One vector per packed sequence, `sequences · hidden` numbers.
    ///
    /// # Errors
    /// Those of [`embed`](Self::embed).
    pub fn embed_packed(&self, packed: &Packed) -> Result<Vec<f32>, EncoderError> {
        tokens::check(packed, &self.config)?;
        let hidden = self.hidden_size();
        if let Some(network) = self.composed.as_ref().filter(|_| !packed.is_empty()) {
            let pass = Pass { arithmetic: self.arithmetic, kernels: Kernels::Composed, ..Pass::INFERENCE };
            let states = network.forward(packed, &packed.offsets.as_slice().into(), pass, &mut Ok)?;
            return Ok(composed::pool(&states, &packed.offsets, self.pooling)?.flatten_all()?.to_vec1()?);
        }
        let mut out = vec![0f32; packed.len() * hidden];
        if !packed.is_empty() {
            pooled(&self.states(packed)?, &packed.offsets, hidden, self.pooling, &mut out);
        }
        Ok(out)
    }

    /// The vectors of all tokens.
    fn states(&self, packed: &Packed) -> Result<Buffer<f32>, EncoderError> {
        let hidden = self.hidden_size();
        let (mut x, mut next) = (Buffer::take(packed.tokens() * hidden), Buffer::take(packed.tokens() * hidden));
        self.embeddings.read(|tables| {
            self.embeddings.forward(tables, &packed.ids, &packed.positions, &mut x, false);
        })?;
        let masks = layer::Masks::default();
        let run = layer::Run { offsets: &packed.offsets, masks, first_token: 0 };
        for (sizes, packed) in &self.layers {
            layer::forward(&x, &mut next, packed, sizes, &run);
            std::mem::swap(&mut x, &mut next);
        }
        if let Some((scale, shift)) = &self.final_norm {
            let architecture = &self.config.architecture;
            let (kind, epsilon) = (architecture.norm, architecture.epsilon as f32);
            let norm = Norm { scale, shift: shift.as_deref(), kind, epsilon };
            norm.forward(Summands { x: &x, residual: None, mask: None, first_row: 0 }, &mut next);
            std::mem::swap(&mut x, &mut next);
        }
        Ok(x)
    }
}
