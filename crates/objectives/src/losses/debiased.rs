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

/// A doubly robust loss with what trains its imputation. `e` `[N]` is what observed samples pay, `imputed` `[N]` what they would pay for the imputed
/// labels, `held` the same with gradients to the imputation alone; `everywhere` `[P]` is what the population would pay for its imputed labels.
///
/// ```text
/// mean(ê over the population) + Σ w (e - ê) / base,    and for the imputation    Σ w (e - ê)² / base
/// ```
///
/// The second adds its gradient and not its value: the loss stays an estimate of what all samples would pay.
pub(crate) fn doubly_robust(
    (e, imputed, held): (&Tensor, &Tensor, &Tensor),
    everywhere: Option<&Tensor>,
    weights: &Tensor,
    base: f64,
) -> Result<Tensor> {
    let correction = ((e - imputed)? * weights)?.sum_all()?;
    let imputation = ((e.detach() - held)?.sqr()? * weights)?.sum_all()?;
    let imputation = (&imputation - imputation.detach())?;
    let observed = ((correction + imputation)? / base)?;
    match everywhere {
        Some(everywhere) => observed + everywhere.mean_all()?,
        None => Ok(observed),
    }
}
