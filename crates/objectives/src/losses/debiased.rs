//! Sums over observed labels that stand for sums over all samples.

use candle_core::{Result, Tensor};

use crate::DebiasMethod;

/// `Σ w e / base`, or, self-normalised, `Σ w e / Σ w`, of losses `[N]` with weights `[N]`.
pub(crate) fn weighted_mean(method: DebiasMethod, losses: &Tensor, weights: &Tensor, base: f64) -> Result<Tensor> {
    let sum = (losses * weights)?.sum_all()?;
    match method {
        DebiasMethod::Snips => sum / weights.sum_all()?,
        DebiasMethod::Ips | DebiasMethod::Clipped | DebiasMethod::DoublyRobust => sum / base,
    }
}

/// A doubly robust loss with what trains its imputation. `e` `[N]` is what observed samples pay, `hat` `[N]` what they would pay for the imputed labels;
/// `wrong` `[N]` is how far those are from the observed ones, with gradients to the imputation alone; `everywhere` `[P]` is what the population would
/// pay for its imputed labels.
///
/// ```text
/// mean(ê over the population) + Σ w (e - ê) / base,    and for the imputation    Σ w (y - ŷ)² / base
/// ```
///
/// The second adds its gradient and not its value: the loss stays an estimate of what all samples would pay. It compares the gradients of both
/// losses, which for squared error and cross-entropy differ by `y - ŷ` up to a factor. Comparing losses, `(e - ê)²`, as Wang et al. (2019) do, has two
/// answers for a number, `y` and its mirror image beyond the prediction, which then follows it away.
pub(crate) fn doubly_robust(
    (e, hat, wrong): (&Tensor, &Tensor, &Tensor),
    everywhere: Option<&Tensor>,
    weights: &Tensor,
    base: f64,
) -> Result<Tensor> {
    let correction = ((e - hat)? * weights)?.sum_all()?;
    let imputation = (wrong.sqr()? * weights)?.sum_all()?;
    let imputation = (&imputation - imputation.detach())?;
    let observed = ((correction + imputation)? / base)?;
    match everywhere {
        Some(everywhere) => observed + everywhere.mean_all()?,
        None => Ok(observed),
    }
}
