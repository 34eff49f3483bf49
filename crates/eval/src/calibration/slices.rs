//! Calibration of parts of the rows, each by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Calibrator;
use crate::EvalError;

/// A calibrator for each slice (a market, a device, new and old users) that has enough rows, and one for all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlicedCalibrator {
    /// Of rows of any other slice.
    pub all: Calibrator,
    /// Of slices, by name.
    pub slices: BTreeMap<String, Calibrator>,
}

impl SlicedCalibrator {
    /// Fits one calibrator on all rows and one on each slice of at least `least` rows. `fit` is [`Calibrator::platt`] or
    /// [`Calibrator::isotonic`]; `slices` names the slice of each row.
    ///
    /// # Errors
    /// Different lengths, or nothing to fit on.
    pub fn fit<S: AsRef<str>>(
        probabilities: &[f32],
        labels: &[f32],
        slices: &[S],
        least: usize,
        fit: impl Fn(&[f32], &[f32]) -> Result<Calibrator, EvalError>,
    ) -> Result<Self, EvalError> {
        if slices.len() != probabilities.len() {
            let (found, expected) = (slices.len(), probabilities.len());
            return Err(EvalError::Length { what: "slices", found, expected, per: "predicted probability" });
        }
        let all = fit(probabilities, labels)?;
        let mut rows: BTreeMap<&str, (Vec<f32>, Vec<f32>)> = BTreeMap::new();
        for ((p, y), slice) in
            probabilities.iter().zip(labels).zip(slices).filter(|((p, y), _)| !p.is_nan() && !y.is_nan())
        {
            let own = rows.entry(slice.as_ref()).or_default();
            own.0.push(*p);
            own.1.push(*y);
        }
        let enough = rows.into_iter().filter(|(_, (p, _))| p.len() >= least.max(1));
        let slices = enough.map(|(name, (p, y))| Ok((name.to_owned(), fit(&p, &y)?)));
        Ok(Self { all, slices: slices.collect::<Result<_, EvalError>>()? })
    }

    /// The calibrated probability of a row of this slice.
    #[must_use]
    pub fn apply(&self, probability: f32, slice: &str) -> f32 {
        self.slices.get(slice).unwrap_or(&self.all).apply(probability)
    }
}
