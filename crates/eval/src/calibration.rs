//! Whether predicted probabilities are frequencies, and how to make them so.

mod isotonic;
mod platt;
mod slices;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use slices::SlicedCalibrator;

use crate::EvalError;

/// Expected calibration error: `Σ_b n_b / N · |mean label − mean probability|` over `bins` bins of equal width (Guo et al., ICML 2017;
/// Naeini et al., AAAI 2015).
///
/// A label above 0.5 is positive; pairs with a `NaN` are left out. `None` without pairs or bins, or with different lengths.
///
/// ```
/// use paretune_eval::expected_calibration_error;
///
/// // Ten predictions of 0.3, three of which came true.
/// let labels: Vec<f32> = (0..10).map(|i| f32::from(i < 3)).collect();
/// assert!(expected_calibration_error(&[0.3; 10], &labels, 15).unwrap() < 1e-7);
/// assert!((expected_calibration_error(&[0.8; 10], &labels, 15).unwrap() - 0.5).abs() < 1e-7);
/// ```
#[must_use]
pub fn expected_calibration_error(probabilities: &[f32], labels: &[f32], bins: usize) -> Option<f64> {
    let filled = reliability(probabilities, labels, bins)?;
    let total: usize = filled.iter().map(|bin| bin.count).sum();
    let gap = |bin: &ReliabilityBin| bin.count as f64 * (bin.observed - bin.predicted).abs();
    (total > 0).then(|| filled.iter().map(gap).sum::<f64>() / total as f64)
}

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share of positives.
    pub observed: f64,
    /// Number of pairs.
    pub count: usize,
}

/// The bins of equal width that hold something, from low probabilities to high. A probability on the border of two belongs to the upper one,
/// 1 to the last.
#[must_use]
pub fn reliability(probabilities: &[f32], labels: &[f32], bins: usize) -> Option<Vec<ReliabilityBin>> {
    if probabilities.len() != labels.len() || bins == 0 {
        return None;
    }
    let mut sums = vec![(0.0f64, 0.0f64, 0usize); bins];
    for (p, y) in probabilities.iter().zip(labels).filter(|(p, y)| !p.is_nan() && !y.is_nan()) {
        let p = f64::from(*p).clamp(0.0, 1.0);
        let bin = &mut sums[((p * bins as f64) as usize).min(bins - 1)];
        bin.0 += p;
        bin.1 += f64::from(u8::from(*y > 0.5));
        bin.2 += 1;
    }
    let mean = |&(predicted, observed, count): &(f64, f64, usize)| {
        let n = count as f64;
        ReliabilityBin { predicted: predicted / n, observed: observed / n, count }
    };
    Some(sums.iter().filter(|bin| bin.2 > 0).map(mean).collect())
}

/// A map from predicted probabilities to frequencies, fitted on rows that the model was not trained on.
///
/// ```
/// use paretune_eval::Calibrator;
///
/// // A model that is too sure of itself.
/// let predicted: Vec<f32> = (0..1000).map(|i| if i % 2 == 0 { 0.95 } else { 0.05 }).collect();
/// let labels: Vec<f32> = (0..1000).map(|i| f32::from(if i % 2 == 0 { i % 10 < 6 } else { i % 10 < 3 })).collect();
/// for calibrator in [Calibrator::platt(&predicted, &labels)?, Calibrator::isotonic(&predicted, &labels)?] {
///     assert!((calibrator.apply(0.95) - 0.6).abs() < 0.01);
///     assert!((calibrator.apply(0.05) - 0.2).abs() < 0.01);
/// }
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Calibrator {
    /// `σ(slope · logit(p) + offset)` (Platt 1999).
    Platt {
        /// Factor of the log-odds.
        slope: f64,
        /// Added to them.
        offset: f64,
    },
    /// A step-wise linear map that never falls (Zadrozny and Elkan 2002).
    Isotonic {
        /// Predicted probabilities, ascending.
        from: Vec<f32>,
        /// What they become, not falling.
        to: Vec<f32>,
    },
}

impl Calibrator {
    /// Platt scaling of log-odds, with the targets `(n₊ + 1) / (n₊ + 2)` and `1 / (n₋ + 2)` in place of 1 and 0 that keep it from being too sure of a
    /// few rows. Newton's method with backtracking (Lin, Lin and Weng 2007), to the exact optimum.
    ///
    /// # Errors
    /// Different lengths, or no pair without `NaN`.
    pub fn platt(probabilities: &[f32], labels: &[f32]) -> Result<Self, EvalError> {
        let (slope, offset) = platt::fit(&pairs(probabilities, labels)?);
        Ok(Self::Platt { slope, offset })
    }

    /// Isotonic regression by pool-adjacent-violators.
    ///
    /// # Errors
    /// Different lengths, or no pair without `NaN`.
    pub fn isotonic(probabilities: &[f32], labels: &[f32]) -> Result<Self, EvalError> {
        let (from, to) = isotonic::fit(pairs(probabilities, labels)?);
        Ok(Self::Isotonic { from, to })
    }

    /// The calibrated probability; `NaN` stays.
    #[must_use]
    pub fn apply(&self, probability: f32) -> f32 {
        match self {
            _ if probability.is_nan() => probability,
            Self::Platt { slope, offset } => platt::apply(*slope, *offset, probability),
            Self::Isotonic { from, to } => isotonic::apply(from, to, probability),
        }
    }

    /// As it is called in files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Platt { .. } => "platt",
            Self::Isotonic { .. } => "isotonic",
        }
    }
}

/// Probabilities and whether they came true, without `NaN`.
fn pairs(probabilities: &[f32], labels: &[f32]) -> Result<Vec<(f32, bool)>, EvalError> {
    if probabilities.len() != labels.len() {
        let (found, expected) = (labels.len(), probabilities.len());
        return Err(EvalError::Length { what: "labels", found, expected, per: "predicted probability" });
    }
    let all = probabilities.iter().zip(labels).filter(|(p, y)| !p.is_nan() && !y.is_nan());
    let pairs: Vec<(f32, bool)> = all.map(|(p, y)| (p.clamp(0.0, 1.0), *y > 0.5)).collect();
    if pairs.is_empty() {
        return Err(EvalError::Empty { what: "what a calibrator is fitted on" });
    }
    Ok(pairs)
}
