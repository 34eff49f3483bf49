//! Gradients of a loss over a batch that is too large for memory.

use candle_core::{Tensor, Var};
use paretune_features::Packed;

use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::graph::{Gradients, backward};
use crate::parameter::Pass;
use crate::tokens::{self, parts};

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
        let encoded = parts.iter().map(|(first, part)| self.pooled(part, pass(*first, false)));
        let encoded = encoded.collect::<Result<Vec<_>, EncoderError>>()?;
        let vectors = match encoded.is_empty() {
            true => self.pooled(packed, pass(0, false))?,
            false => Tensor::cat(&encoded, 0)?,
        };
        let leaf = Var::from_tensor(&vectors)?;
        let value = loss(leaf.as_tensor())?;
        let mut gradients = backward(&value)?;
        let Some(grad) = gradients.take(&leaf) else { return Ok((value.to_scalar()?, gradients)) };
        let mut row = 0;
        for (first, part) in &parts {
            let vectors = self.pooled(part, pass(*first, true))?;
            let part_grad = grad.narrow(0, row, part.len())?.detach();
            gradients.add(backward(&(vectors * part_grad)?.sum_all()?)?)?;
            row += part.len();
        }
        Ok((value.to_scalar()?, gradients))
    }
}
