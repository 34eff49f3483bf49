//! Gradients of a loss over a batch that is too large for memory.

use candle_core::{Tensor, Var};
use paretune_features::Packed;

use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::graph::{Gradients, backward, backward_from};
use crate::parameter::Pass;
use crate::tokens::{self, parts};

/// The gradients of `loss(Z₀, …, Zₙ₋₁)`, where `Zₖ = encode(k, _)` are representations of the `chunks` parts of a batch, with the graph of
/// one part in memory at a time (gradient caching, Gao et al. 2021): the same gradients as from all graphs at once, for one more
/// forward pass.
///
/// `encode` is called twice for each part: first with `false`, for its values alone, then with `true`, for its graph. Both calls must give
/// the same values, dropout included. Gives the value of the loss and the gradients, those of other parameters that `loss` depends on
/// included.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use paretune_encoder::{backward, backward_in_chunks, cross_entropy};
///
/// let weight = Var::from_vec(vec![0.5f32, -1.0, 2.0, 0.1], (2, 2), &Device::Cpu)?;
/// let texts = Tensor::new(&[[1f32, 0.0], [0.3, -0.2], [0.9, 1.1], [0.0, 2.0]], &Device::Cpu)?;
/// let encode = |chunk: usize, _tracked: bool| texts.narrow(0, 2 * chunk, 2)?.matmul(&weight);
/// // Each of the first two texts belongs to one of the last two, in their order.
/// let loss = |z: &[Tensor]| cross_entropy(&z[0].matmul(&z[1].t()?)?, &[0, 1]);
///
/// let (value, gradients) = backward_in_chunks(2, encode, loss)?;
/// let whole = loss(&[encode(0, true)?, encode(1, true)?])?;
/// assert_eq!(value, whole.to_scalar::<f32>()?);
/// let difference = (gradients.get(&weight).unwrap() - backward(&whole)?.get(&weight).unwrap())?;
/// assert!(difference.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Those of `encode`, of `loss`, whose value is a scalar of `f32`, and of Candle's backward pass.
pub fn backward_in_chunks<E: From<candle_core::Error>>(
    chunks: usize,
    mut encode: impl FnMut(usize, bool) -> Result<Tensor, E>,
    loss: impl FnOnce(&[Tensor]) -> candle_core::Result<Tensor>,
) -> Result<(f32, Gradients), E> {
    let mut leaves = Vec::with_capacity(chunks);
    for chunk in 0..chunks {
        leaves.push(Var::from_tensor(&encode(chunk, false)?.detach())?);
    }
    let (value, mut gradients) = {
        let representations: Vec<Tensor> = leaves.iter().map(|leaf| leaf.as_tensor().clone()).collect();
        let value = loss(&representations)?;
        let gradients = backward(&value)?;
        (value.to_scalar()?, gradients)
    };
    for (chunk, leaf) in leaves.into_iter().enumerate() {
        let Some(gradient) = gradients.take(&leaf) else { continue };
        if leaf.elem_count() == 0 {
            continue;
        }
        gradients.add(backward_from(&[(&encode(chunk, true)?, &gradient)])?)?;
    }
    Ok((value, gradients))
}

impl Encoder {
    /// The gradients of `loss(Z)` for the vectors `Z` `[sequences, hidden]` of a whole batch, in two passes over parts of it
    /// (gradient caching, Gao et al. 2021): the same gradients and the same dropout as in one pass, in the memory of one part.
    ///
    /// The first pass computes `Z` without a graph and `∂loss/∂Z`; the second one computes each part again with its graph and lets
    /// its rows of `∂loss/∂Z` flow back. Losses that compare every sequence with every other (in-batch negatives) get batches of any
    /// size that way, for one more forward pass. Gives the value of the loss and the gradients, those of other parameters that `loss`
    /// depends on included.
    ///
    /// ```
    /// use candle_core::Device;
    /// use paretune_encoder::{BertConfig, Encoder, Pooling};
    /// use paretune_features::Packed;
    ///
    /// let encoder = Encoder::random(BertConfig::tiny(), Pooling::Mean, 42, &Device::Cpu)?;
    /// let packed = Packed::from_sequences([&[1, 17, 4, 2][..], &[1, 9, 2], &[1, 8, 2], &[1, 30, 31, 2]]);
    /// let (value, gradients) = encoder.backward_in_parts(&packed, 8, Some(1), |z| z.matmul(&z.t()?)?.exp()?.mean_all())?;
    /// assert!(value.is_finite());
    /// assert!(gradients.get(&encoder.parameters()[3].1).is_some());
    /// # Ok::<(), paretune_encoder::EncoderError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`hidden_states`](Self::hidden_states) and of `loss`; a part is never smaller than one sequence, whatever
    /// `token_budget` says.
    pub fn backward_in_parts(
        &self,
        packed: &Packed,
        token_budget: usize,
        dropout: Option<u64>,
        loss: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<(f32, Gradients), EncoderError> {
        tokens::check(packed, self.config())?;
        let parts = parts(packed, token_budget);
        let pass = |first_token: usize, track: bool| Pass { track, first_token, ..self.training_pass(dropout) };
        let encode = |at: usize, track: bool| match parts.get(at) {
            Some((first, part)) => self.pooled(part, pass(*first, track)),
            None => self.pooled(packed, pass(0, track)),
        };
        // A batch of nothing is a part as well.
        backward_in_chunks(parts.len().max(1), encode, |vectors| match vectors {
            [whole] => loss(whole),
            parts => loss(&Tensor::cat(parts, 0)?),
        })
    }
}

/// A batch of texts that goes through the encoder chunk by chunk (gradient caching, Gao et al. 2021): [`Encoder::in_chunks`].
///
/// What [`backward_in_chunks`] does in one call, in two: for whoever makes more of the vectors in between than one loss.
#[derive(Debug)]
pub struct Chunks<'a> {
    encoder: &'a Encoder,
    /// The number of each chunk's first token, and its tokens.
    parts: Vec<(usize, Packed)>,
    pass: Pass,
}

impl Encoder {
    /// Cuts a batch into chunks of `texts` texts (at least 1), of which one at a time has its graph in memory. Vectors, dropout and gradients
    /// are those of [`encode`](Self::encode).
    ///
    /// ```
    /// use candle_core::Device;
    /// use paretune_encoder::{BertConfig, Encoder, Pooling};
    /// use paretune_features::Packed;
    ///
    /// let encoder = Encoder::random(BertConfig::tiny(), Pooling::Mean, 42, &Device::Cpu)?;
    /// let packed = Packed::from_sequences([&[1, 17, 4, 2][..], &[1, 9, 2], &[1, 8, 2], &[1, 30, 31, 2]]);
    /// let chunks = encoder.in_chunks(&packed, 3, Some(7))?;
    /// let vectors = chunks.vectors()?; // without a graph
    /// let gradient = (&vectors * 2.0)?; // of the sum of their squares
    /// let found = chunks.backward(&gradient)?;
    /// assert!(found.get(&encoder.parameters()[3].1).is_some());
    /// # Ok::<(), paretune_encoder::EncoderError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`hidden_states`](Self::hidden_states).
    pub fn in_chunks(&self, packed: &Packed, texts: usize, dropout: Option<u64>) -> Result<Chunks<'_>, EncoderError> {
        tokens::check(packed, self.config())?;
        let texts = texts.max(1);
        let mut parts = Vec::with_capacity(packed.len().div_ceil(texts));
        for first in (0..packed.len()).step_by(texts) {
            let own = first..packed.len().min(first + texts);
            let part = Packed::from_sequences(own.map(|at| tokens::sequence(packed, at)));
            parts.push((packed.offsets[first] as usize, part));
        }
        Ok(Chunks { encoder: self, parts, pass: self.training_pass(dropout) })
    }
}

impl Chunks<'_> {
    /// The vectors of all texts `[texts, hidden]`, without a graph.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn vectors(&self) -> Result<Tensor, EncoderError> {
        let vectors = self.parts.iter().map(|part| Ok(self.encode(part, false)?.detach()));
        let vectors = vectors.collect::<Result<Vec<_>, EncoderError>>()?;
        match vectors.is_empty() {
            true => self.encoder.pooled(&Packed::default(), self.pass),
            false => Ok(Tensor::cat(&vectors, 0)?),
        }
    }

    /// From `gradient` `[texts, hidden]`, that of some loss at the vectors, to the gradients of the encoder's parameters: each chunk is
    /// computed again, with its graph.
    ///
    /// # Errors
    /// A gradient of another shape, and those of Candle's backward pass.
    pub fn backward(&self, gradient: &Tensor) -> Result<Gradients, EncoderError> {
        let texts: usize = self.parts.iter().map(|(_, part)| part.len()).sum();
        if gradient.dims() != [texts, self.encoder.hidden_size()] {
            let (lhs, rhs) = (gradient.shape().clone(), (texts, self.encoder.hidden_size()).into());
            return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "backward in chunks" }.into());
        }
        let mut sum = backward_from(&[])?;
        let mut first = 0;
        for part in &self.parts {
            let own = gradient.narrow(0, first, part.1.len())?.contiguous()?;
            sum.add(backward_from(&[(&self.encode(part, true)?, &own)])?)?;
            first += part.1.len();
        }
        Ok(sum)
    }

    fn encode(&self, (first_token, part): &(usize, Packed), track: bool) -> Result<Tensor, EncoderError> {
        self.encoder.pooled(part, Pass { track: track && self.pass.track, first_token: *first_token, ..self.pass })
    }
}
