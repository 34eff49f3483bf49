//! Losses of numbers in standard units.

use candle_core::{Result, Tensor};

/// Squared error `[N]`.
pub(crate) fn squared(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    (z - y)?.sqr()
}

/// `e² / 2` for `|e| ≤ δ`, `δ (|e| - δ / 2)` beyond: `c e - c² / 2` of the clipped error `c`, which is taken as a constant, since its share
/// of the gradient is zero everywhere.
pub(super) fn huber(z: &Tensor, y: &Tensor, delta: f64) -> Result<Tensor> {
    let error = (z - y)?;
    let clipped = error.detach().clamp(-delta, delta)?;
    (&clipped * error)? - (clipped.sqr()? * 0.5)?
}

/// `max(q e, (q - 1) e)` of `e = y - z`.
pub(super) fn quantile(z: &Tensor, y: &Tensor, q: f64) -> Result<Tensor> {
    let error = (y - z)?;
    // relu(e) q + relu(-e) (1 - q).
    (error.relu()? * q)? + (error.neg()?.relu()? * (1.0 - q))?
}
