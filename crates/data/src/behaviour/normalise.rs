//! Features brought to mean 0 and deviation 1, as measured on train rows.

use serde::{Deserialize, Serialize};

/// Values are clipped here, in standard deviations.
const CLIP: f64 = 5.0;

/// A feature before it is normalised.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Feature {
    pub(super) name: String,
    /// Flags and one-hot levels stay as they are.
    pub(super) scaled: bool,
}

impl Feature {
    pub(super) fn scaled(name: impl Into<String>) -> Self {
        Self { name: name.into(), scaled: true }
    }

    pub(super) fn flag(name: impl Into<String>) -> Self {
        Self { name: name.into(), scaled: false }
    }
}

/// Mean and deviation of each feature. Missing values (`NaN`) take no part in them and become 0, the mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Normaliser {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Normaliser {
    /// Measures `samples`, each of which writes the raw features of one train row into an empty buffer.
    pub(super) fn fit(features: &[Feature], samples: impl Iterator<Item = impl FnOnce(&mut Vec<f64>)>) -> Self {
        // Welford's update: one pass, no cancellation.
        let width = features.len();
        let (mut count, mut mean, mut square) = (vec![0.0; width], vec![0.0; width], vec![0.0; width]);
        let mut row = Vec::with_capacity(width);
        for sample in samples {
            row.clear();
            sample(&mut row);
            for (f, &value) in row.iter().enumerate() {
                if value.is_finite() && features[f].scaled {
                    count[f] += 1.0;
                    let off = value - mean[f];
                    mean[f] += off / count[f];
                    square[f] += off * (value - mean[f]);
                }
            }
        }
        let deviation = (0..width).map(|f| {
            let deviation: f64 = (square[f] / f64::max(count[f], 1.0)).sqrt();
            // A constant feature says nothing: it must not be blown up by rounding errors.
            if deviation.is_finite() && deviation > 1e-6 { deviation } else { 1.0 }
        });
        Self { deviation: deviation.collect(), mean }
    }

    /// Appends `raw`, normalised, finite and clipped. `raw` starts at feature `first`.
    pub(super) fn apply(&self, first: usize, raw: &[f64], out: &mut Vec<f32>) {
        out.extend(raw.iter().enumerate().map(|(offset, &value)| {
            let f = first + offset;
            let mean = self.mean.get(f).copied().unwrap_or(0.0);
            let deviation = self.deviation.get(f).copied().unwrap_or(1.0);
            let normal = (value - mean) / deviation;
            if normal.is_nan() { 0.0 } else { normal.clamp(-CLIP, CLIP) as f32 }
        }));
    }
}
