//! Regression targets in standard units.

use serde::{Deserialize, Serialize};

use crate::{Kind, Loss, Objective, ObjectiveError, Result};

/// Brings labels to mean 0 and deviation 1 as the training labels have them (after `ln(1 + y)` for log-regressions), and
/// predictions back. Does nothing for binary and custom objectives.
///
/// A log-regression's prediction is `exp(ẑ) - 1` of the mean logarithm: the middle of a skewed distribution rather than its mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaler {
    /// Mean of the (logarithms of the) training labels.
    pub mean: f32,
    /// Their standard deviation, above 0; 1 where all labels are equal.
    pub std: f32,
    /// Whether labels are `ln(1 + y)` first.
    #[serde(default)]
    pub log: bool,
}

impl Default for Scaler {
    fn default() -> Self {
        Self { mean: 0.0, std: 1.0, log: false }
    }
}

impl Scaler {
    /// From the training labels of an objective; `NaN` is not observed.
    ///
    /// # Errors
    /// A regression without any label, or a label that its objective cannot mean.
    pub fn fit(objective: &Objective, labels: &[f32]) -> Result<Self> {
        check_labels(objective, labels)?;
        if objective.kind == Kind::Custom && labels.iter().any(|label| !label.is_nan()) {
            return Ok(Self::default());
        }
        // Levels are compared with labels as they are.
        let unscaled = objective.kind.is_binary() || !objective.kind.has_labels();
        if unscaled || matches!(objective.loss, Some(Loss::Ordinal { .. })) {
            return Ok(Self::default());
        }
        let plain = Self { log: objective.kind == Kind::LogRegression, ..Self::default() };
        let values: Vec<f64> = labels.iter().filter(|v| !v.is_nan()).map(|v| f64::from(plain.transform(*v))).collect();
        if values.is_empty() {
            let (name, column) = (objective.name.clone(), objective.column.clone());
            return Err(ObjectiveError::NoLabels { name, column });
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let std = variance.sqrt() as f32;
        // Equal labels differ by rounding only: dividing by that would blow noise up.
        let flat = !std.is_normal() || f64::from(std) < 1e-6 * mean.abs();
        Ok(Self { mean: mean as f32, std: if flat { 1.0 } else { std }, ..plain })
    }

    /// From a label to standard units; `NaN` stays.
    pub fn transform(&self, label: f32) -> f32 {
        let value = if self.log { label.ln_1p() } else { label };
        (value - self.mean) / self.std
    }

    /// From standard units to the label's unit; finite for every finite input, and not below 0 for a log-regression.
    pub fn inverse(&self, standard: f32) -> f32 {
        let value = standard * self.std + self.mean;
        let value = if self.log { value.exp_m1().max(0.0) } else { value };
        value.clamp(f32::MIN, f32::MAX)
    }

    /// The mean `E[y]` where `ln(1 + y)` is normal, in standard units around `standard` with deviation `spread`:
    /// `exp(m + v/2) - 1` for its mean `m` and variance `v` in logarithms. Finite, and not below 0.
    pub(crate) fn mean_of_log_normal(&self, standard: f32, spread: f32) -> f32 {
        let value = standard * self.std + self.mean + 0.5 * (spread * self.std).powi(2);
        value.exp_m1().clamp(0.0, f32::MAX)
    }
}

/// Says whether an objective can mean these labels; `NaN` is not observed and always right.
pub(crate) fn check_labels(objective: &Objective, labels: &[f32]) -> Result<()> {
    for (row, &value) in labels.iter().enumerate() {
        let rule = match objective.kind {
            _ if value.is_nan() => continue,
            _ if value.is_infinite() => "is not finite: leave it empty if it was not observed",
            Kind::Binary | Kind::Conditional | Kind::Ranking if value != 0.0 && value != 1.0 => {
                "is neither 0 nor 1: turn it into a flag when importing, or use kind = \"regression\""
            }
            Kind::LogRegression if value < 0.0 => "is negative, which a log-regression cannot take",
            _ if matches!(&objective.loss, Some(Loss::Ordinal { levels }) if !levels.contains(&value)) => {
                "is none of the levels of its ordinal loss: name all of them"
            }
            _ => continue,
        };
        let (name, column) = (objective.name.clone(), objective.column.clone());
        return Err(ObjectiveError::Label { name, column, row, value, rule });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn objective(kind: Kind) -> Objective {
        Objective::new("it", kind, "its_column")
    }

    #[test]
    fn observed_labels_have_mean_0_and_deviation_1() {
        let labels = [1.0, f32::NAN, 3.0, 5.0, f32::NAN, 7.0];
        let scaler = Scaler::fit(&objective(Kind::Regression), &labels).unwrap();
        assert_eq!(scaler, Scaler { mean: 4.0, std: 5.0_f32.sqrt(), log: false });
        let scaler = Scaler::fit(&objective(Kind::LogRegression), &[0.0, 1.0_f32.exp_m1(), 2.0_f32.exp_m1()]).unwrap();
        assert!((scaler.mean - 1.0).abs() < 1e-6 && (scaler.std - (2.0_f32 / 3.0).sqrt()).abs() < 1e-6);
        assert_eq!(Scaler::fit(&objective(Kind::Binary), &[1.0, 0.0]).unwrap(), Scaler::default());
    }

    #[test]
    fn equal_labels_do_not_divide_by_zero() {
        let scaler = Scaler::fit(&objective(Kind::Regression), &[4.1; 7]).unwrap();
        assert_eq!(scaler.std, 1.0);
        assert!(scaler.transform(4.1).abs() < 1e-6);
    }

    #[test]
    fn labels_that_cannot_be_meant_are_named() {
        let refused = |kind, labels: &[f32]| Scaler::fit(&objective(kind), labels).unwrap_err().to_string();
        assert!(refused(Kind::Binary, &[0.0, f32::NAN, 0.5]).contains("label 0.5 in row 2 of column \"its_column\""));
        assert!(refused(Kind::LogRegression, &[-0.1]).contains("negative"));
        assert!(refused(Kind::Regression, &[f32::INFINITY]).contains("not finite"));
        assert!(refused(Kind::Regression, &[f32::NAN]).contains("no observed label"));
    }

    proptest! {
        #[test]
        fn inverse_undoes_transform(
            labels in prop::collection::vec(0.0..3000.0_f32, 1..30), value in 0.0..3000.0_f32, log in any::<bool>(),
        ) {
            let kind = if log { Kind::LogRegression } else { Kind::Regression };
            let scaler = Scaler::fit(&objective(kind), &labels).unwrap();
            prop_assert!((scaler.inverse(scaler.transform(value)) - value).abs() <= 1e-3 * (1.0 + value));
        }

        #[test]
        fn predictions_are_finite_whatever_the_network_says(standard in -1e30..1e30_f32, log in any::<bool>()) {
            let scaler = Scaler { mean: 3.0, std: 1.5, log };
            prop_assert!(scaler.inverse(standard).is_finite());
            prop_assert!(!log || scaler.inverse(standard) >= 0.0);
        }
    }
}
