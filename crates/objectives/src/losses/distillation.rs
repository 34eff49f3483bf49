//! What a student pays for disagreeing with its teacher.

use candle_core::{Result, Tensor};

use super::cross_entropy::binary;

/// `T² KL(q ‖ σ(z / T))` `[N]` of logits `z`, for softened probabilities `q` of the teacher and their entropies.
pub(crate) fn softened(z: &Tensor, q: &Tensor, entropies: &Tensor, temperature: f64) -> Result<Tensor> {
    (binary(&(z / temperature)?, q)? - entropies)? * (temperature * temperature)
}
