//! The encoder: from packed tokens to vectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use paretune_features::{Packed, Tokenized};

use crate::bert::{Bert, Parameters};
use crate::config::BertConfig;
use crate::error::EncoderError;
use crate::kernels::pool::pool;
use crate::parameter::Pass;
use crate::pooling::Pooling;

/// A BERT that turns packed token sequences into vectors, and can be trained.
///
/// Weights are shared between clones of the [`Var`](candle_core::Var)s which [`parameters`](Self::parameters) gives: an optimizer that
/// sets them changes the encoder.
#[derive(Debug)]
pub struct Encoder {
    pub(crate) config: BertConfig,
    pub(crate) pooling: Pooling,
    pub(crate) parameters: Parameters,
    /// Tensors of the file which the encoder does not use but other tools do: written again when the model is saved.
    pub(crate) unused: BTreeMap<String, Tensor>,
    pub(crate) bert: Bert,
}

impl Encoder {
    /// The architecture.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Width of the vectors.
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    /// How token vectors become one.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The vectors of all tokens, `[tokens, hidden]`, differentiable with respect to the trained parameters.
    ///
    /// With a `dropout` seed, as in training: give every step a new one, and the same one to repeat a step.
    ///
    /// # Errors
    /// If the tokens are not well formed, do not belong to this vocabulary, or are too many for the positions.
    pub fn hidden_states(&self, packed: &Packed, dropout: Option<u64>) -> Result<Tensor, EncoderError> {
        Ok(self.run(packed, Pass { track: true, dropout })?.0)
    }

    /// One vector per sequence, `[sequences, hidden]`, differentiable with respect to the trained parameters.
    ///
    /// With a `dropout` seed, as in training: give every step a new one, and the same one to repeat a step.
    ///
    /// # Errors
    /// Those of [`hidden_states`](Self::hidden_states).
    pub fn encode(&self, packed: &Packed, dropout: Option<u64>) -> Result<Tensor, EncoderError> {
        self.pooled(packed, Pass { track: true, dropout })
    }

    /// One vector per text, `texts · hidden` numbers in the order of the texts, without dropout or graph.
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
        let hidden = self.hidden_size();
        let mut vectors = vec![0f32; texts.len() * hidden];
        let mut done = 0;
        for batch in texts.batches(token_budget) {
            let pooled = self.pooled(&texts.pack(&batch), Pass::INFERENCE)?.flatten_all()?.to_vec1::<f32>()?;
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

    fn run(&self, packed: &Packed, pass: Pass) -> Result<(Tensor, Arc<[u32]>), EncoderError> {
        self.check(packed)?;
        let offsets: Arc<[u32]> = packed.offsets.as_slice().into();
        let hidden = if packed.ids.is_empty() {
            Tensor::zeros((0, self.hidden_size()), DType::F32, &Device::Cpu)?
        } else {
            self.bert.forward(packed, &offsets, pass)?
        };
        Ok((hidden, offsets))
    }

    fn pooled(&self, packed: &Packed, pass: Pass) -> Result<Tensor, EncoderError> {
        let (hidden, offsets) = self.run(packed, pass)?;
        if packed.ids.is_empty() {
            return Ok(hidden);
        }
        Ok(pool(&hidden, &offsets, self.pooling)?)
    }

    fn check(&self, packed: &Packed) -> Result<(), EncoderError> {
        let invalid = |reason: String| Err(EncoderError::InvalidTokens { reason });
        let tokens = packed.ids.len();
        if packed.positions.len() != tokens {
            return invalid(format!("{tokens} ids but {} positions", packed.positions.len()));
        }
        if packed.offsets.first() != Some(&0) || packed.offsets.last().is_none_or(|&end| end as usize != tokens) {
            return invalid(format!("offsets must go from 0 to the number of tokens, {tokens}"));
        }
        if let Some(sequence) = packed.offsets.windows(2).position(|pair| pair[0] >= pair[1]) {
            return invalid(format!("sequence {sequence} has no tokens; give each at least its special tokens"));
        }
        let (vocabulary, limit) = (self.config.vocab_size, self.config.max_position_embeddings);
        if let Some(&id) = packed.ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(EncoderError::UnknownToken { id, vocabulary });
        }
        match packed.positions.iter().find(|&&position| position as usize >= limit) {
            Some(&position) => Err(EncoderError::TooLong { position: position as usize, limit }),
            None => Ok(()),
        }
    }
}
