//! Levels in their order.

use candle_core::{Result, Tensor};

use super::cross_entropy::binary;

/// The values a label can have, ascending.
pub(crate) struct Levels<'a>(pub(crate) &'a [f32]);

impl Levels<'_> {
    /// The mean over thresholds `j` of the cross-entropy of `P(y > level_j) = σ(z + b_j)`: `[N]` for logits `z` `[N]`, labels `y` `[N]`
    /// and offsets `b` `[levels - 1]`.
    pub(super) fn loss(&self, z: &Tensor, y: &Tensor, offsets: &Tensor) -> Result<Tensor> {
        let thresholds = self.0.len().saturating_sub(1);
        let (rows, device) = (z.dim(0)?, z.device());
        let logits = z.unsqueeze(1)?.broadcast_add(&offsets.unsqueeze(0)?)?;
        let levels =
            Tensor::from_slice(&self.0[..thresholds], (1, thresholds), device)?.broadcast_as((rows, thresholds))?;
        let above = y.unsqueeze(1)?.broadcast_as((rows, thresholds))?.gt(&levels)?.to_dtype(z.dtype())?;
        binary(&logits, &above)?.mean(1)
    }

    /// The expected label, `level_0 + Σ_j (level_{j+1} - level_j) P(y > level_j)`.
    pub(crate) fn expected(&self, logit: f32, offsets: &[f32]) -> f32 {
        let steps = self.0.windows(2).zip(offsets);
        let sum = steps.map(|(pair, offset)| {
            let above = 1.0 / (1.0 + (-f64::from(logit + offset)).exp());
            f64::from(pair[1] - pair[0]) * above
        });
        (f64::from(self.0.first().copied().unwrap_or(0.0)) + sum.sum::<f64>()) as f32
    }

    /// Offsets that give every threshold the share of the labels above it.
    pub(crate) fn offsets(&self, labels: &[f32]) -> Vec<f32> {
        let count = labels.len().max(1) as f64;
        let offset = |level: &f32| {
            let above = labels.iter().filter(|label| *label > level).count() as f64 / count;
            let above = above.clamp(1e-4, 1.0 - 1e-4);
            (above / (1.0 - above)).ln() as f32
        };
        self.0[..self.0.len().saturating_sub(1)].iter().map(offset).collect()
    }
}
