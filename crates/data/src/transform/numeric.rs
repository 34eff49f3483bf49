//! Numbers brought to a common scale, as measured on training rows.

use serde::{Deserialize, Serialize};

use super::quantile::{Sample, share_below};
use super::spec::Normalise;

/// Values are clipped here, in standard deviations.
const CLIP: f64 = 5.0;
/// Parts between the landmarks of the quantile scale.
const LANDMARKS: u32 = 100;

/// A fitted scale.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "normalise", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Scale {
    None,
    Standard { mean: f64, deviation: f64 },
    Log { mean: f64, deviation: f64 },
    Quantile { landmarks: Vec<f64> },
}

impl Scale {
    /// Measures values, each with the number of training rows it stands in.
    pub(super) fn fit(normalise: Normalise, values: &[(f64, u64)]) -> Self {
        match normalise {
            Normalise::None => Self::None,
            Normalise::Standard => {
                let (mean, deviation) = moments(values.iter().copied());
                Self::Standard { mean, deviation }
            }
            Normalise::Log => {
                let (mean, deviation) = moments(values.iter().map(|(value, count)| (signed_log(*value), *count)));
                Self::Log { mean, deviation }
            }
            Normalise::Quantile => {
                Self::Quantile { landmarks: Sample::new(values.iter().copied()).quantiles(LANDMARKS) }
            }
        }
    }

    /// The scaled value; 0 where it is missing, the mean of all but `none`.
    pub(super) fn apply(&self, value: Option<f64>) -> f32 {
        let Some(value) = value else {
            return 0.0;
        };
        let standard = |value: f64, mean: f64, deviation: f64| ((value - mean) / deviation).clamp(-CLIP, CLIP);
        let scaled = match self {
            Self::None => value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)),
            Self::Standard { mean, deviation } => standard(value, *mean, *deviation),
            Self::Log { mean, deviation } => standard(signed_log(value), *mean, *deviation),
            Self::Quantile { landmarks } if landmarks.is_empty() => 0.0,
            Self::Quantile { landmarks } => (2.0 * share_below(landmarks, value) - 1.0) * 3f64.sqrt(),
        };
        scaled as f32
    }

    /// What is wrong with a scale that was read from a file.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Standard { mean, deviation } | Self::Log { mean, deviation } => {
                let sound = mean.is_finite() && deviation.is_finite() && *deviation > 0.0;
                (!sound).then_some("its mean or deviation is no number to divide by")
            }
            Self::Quantile { landmarks } => {
                let sound = landmarks.iter().all(|value| value.is_finite()) && landmarks.is_sorted();
                (!sound).then_some("its landmarks do not ascend")
            }
        }
    }
}

fn signed_log(value: f64) -> f64 {
    value.abs().ln_1p().copysign(value)
}

/// Mean and deviation; (0, 1) of nothing, and a deviation of 1 where all values are the same.
fn moments(values: impl Iterator<Item = (f64, u64)> + Clone) -> (f64, f64) {
    let count: f64 = values.clone().map(|(_, count)| count as f64).sum();
    if count == 0.0 {
        return (0.0, 1.0);
    }
    let mean = values.clone().map(|(value, times)| value * (times as f64 / count)).sum::<f64>();
    let square: f64 = values.map(|(value, times)| (value - mean).powi(2) * (times as f64 / count)).sum();
    let deviation = square.sqrt();
    // A constant says nothing: it must not be blown up by rounding errors.
    if deviation > 1e-9 * mean.abs() && deviation > 0.0 { (mean, deviation) } else { (mean, 1.0) }
}
