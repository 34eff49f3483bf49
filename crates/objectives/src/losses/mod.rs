//! What a prediction pays.

mod chance;
mod config;
mod cross_entropy;
mod debiased;
mod distillation;
mod normal;
mod ordinal;
mod regression;
#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor, Var};

pub(crate) use chance::Chance;
pub use config::Loss;
pub(crate) use cross_entropy::{binary, sigmoid};
pub(crate) use debiased::{doubly_robust, weighted_mean};
pub(crate) use distillation::softened;
pub(crate) use ordinal::Levels;
pub(crate) use regression::squared;

use crate::{Objective, Result, Scaler};

/// What the loss of one objective is computed from, besides logits: the numbers that training finds beside its tower.
///
/// | loss | numbers | at first |
/// | --- | --- | --- |
/// | `ordinal` | an offset for each level but the lowest | 0 |
/// | `log-normal`, `censored` | the logarithm of the deviation, in standard units | 0 |
/// | of flags with an examination model | a log-odds for each position but the first | 0 |
pub(crate) fn extra(objective: &Objective, device: &Device) -> Result<Option<(String, Var)>> {
    let zeros = |name: &str, count: usize| -> Result<Option<(String, Var)>> {
        let var = Var::zeros(count, candle_core::DType::F32, device)?;
        Ok(Some((format!("towers.{}.{name}", objective.name), var)))
    };
    match &objective.loss {
        Some(Loss::Ordinal { levels }) => zeros("offsets", levels.len().saturating_sub(1)),
        Some(Loss::LogNormal | Loss::Censored { .. }) => zeros("spread", 1),
        None if objective.examination > 0 => zeros("examination", objective.examination - 1),
        _ => Ok(None),
    }
}

/// The loss `[N]` of logits `[N]` against targets `[N]` (regressions in standard units), of which `extra` are the numbers of [`extra`].
pub(crate) fn each(
    objective: &Objective,
    scaler: &Scaler,
    logits: &Tensor,
    targets: &Tensor,
    extra: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    match (&objective.loss, extra) {
        (Some(Loss::Focal { gamma, alpha }), _) => {
            let smooth = objective.smoothed(targets)?;
            objective.weighted(targets, cross_entropy::focal(logits, &smooth, *gamma, *alpha)?)
        }
        (Some(Loss::Ordinal { levels }), Some(offsets)) => Levels(levels).loss(logits, targets, offsets),
        (Some(Loss::LogNormal), Some(spread)) => normal::density(logits, targets, spread),
        (Some(Loss::Censored { at }), Some(spread)) => normal::censored(logits, targets, spread, scaler.transform(*at)),
        (Some(Loss::Huber { delta }), _) => regression::huber(logits, targets, *delta),
        (Some(Loss::Absolute), _) => regression::quantile(logits, targets, 0.5)? * 2.0,
        (Some(Loss::Quantile { q }), _) => regression::quantile(logits, targets, *q),
        _ if objective.kind.is_binary() => objective.weighted(targets, binary(logits, &objective.smoothed(targets)?)?),
        _ => squared(logits, targets),
    }
}

impl Objective {
    /// `y (1 - ε) + ε / 2` (Szegedy et al. 2016).
    pub(crate) fn smoothed(&self, targets: &Tensor) -> candle_core::Result<Tensor> {
        match self.smoothing {
            0.0 => Ok(targets.clone()),
            epsilon => targets.affine(1.0 - epsilon, epsilon / 2.0),
        }
    }

    /// The losses of positives times their weight.
    pub(crate) fn weighted(&self, targets: &Tensor, losses: Tensor) -> candle_core::Result<Tensor> {
        match self.positive_weight {
            1.0 => Ok(losses),
            weight => losses * targets.affine(weight - 1.0, 1.0)?,
        }
    }
}
