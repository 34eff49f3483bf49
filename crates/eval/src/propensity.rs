//! Whether propensities can be trusted, and whether weights by them make the observed look like all.

use serde::{Deserialize, Serialize};

use crate::{EvalError, auc, expected_calibration_error};

#[cfg(test)]
mod tests;

/// Bins of the calibration error.
const BINS: usize = 10;

/// Diagnostics of propensities `p_i = P(o_i = 1)` of rows of which some were observed.
///
/// ```
/// use paretune_eval::PropensityReport;
///
/// // Of old and young people alike there are four; three of the old answered and one of the young.
/// let old = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
/// let answered = [true, true, true, false, true, false, false, false];
/// let p: Vec<f64> = old.iter().map(|old| 0.25 + 0.5 * old).collect();
/// let report = PropensityReport::new(&p, &answered, f64::INFINITY, [("old", &old[..])])?;
/// assert!((report.balance[0].before - 0.5).abs() < 1e-12); // three of four who answered are old
/// assert!(report.balance[0].after.abs() < 1e-12); // by weights, as many as among all
/// assert_eq!(report.effective, 3.0); // four answers say as much as three that weigh the same
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PropensityReport {
    /// Number of rows.
    pub rows: usize,
    /// How many of them were observed.
    pub observed: usize,
    /// How well propensities tell the observed from the others: 0.5 is chance. Near 1 there is hardly a row of which both could have come, and
    /// weights say little.
    pub auc: Option<f64>,
    /// Expected calibration error, over ten bins.
    pub calibration_error: Option<f64>,
    /// The lowest propensity.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// Share of the observed rows whose weight was cut.
    pub clipped: f64,
    /// `(Σ w)² / Σ w²` over the observed rows (Kish 1965): as many rows of equal weight say about as much.
    pub effective: f64,
    /// How far the observed rows are from all rows, by what is known of them.
    pub balance: Vec<Balance>,
}

/// Standardised mean difference of a covariate: its mean over observed rows less that over all, in deviations over all. Beyond 0.1 is usually
/// called imbalance (Austin 2009).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// The covariate.
    pub name: String,
    /// Observed rows as they are.
    pub before: f64,
    /// Observed rows by their weights.
    pub after: f64,
}

impl PropensityReport {
    /// From one propensity (above 0, at most 1) and one flag for each row, the largest weight, and covariates by name, with a value for each row.
    ///
    /// # Errors
    /// Different lengths, no observed row, a propensity that is none.
    pub fn new<'a>(
        propensities: &[f64],
        observed: &[bool],
        largest: f64,
        covariates: impl IntoIterator<Item = (&'a str, &'a [f64])>,
    ) -> Result<Self, EvalError> {
        let expected = propensities.len();
        let check = |what, found| match found == expected {
            true => Ok(()),
            false => Err(EvalError::Length { what, found, expected, per: "row" }),
        };
        check("what was observed", observed.len())?;
        if let Some(row) = propensities.iter().position(|p| !(*p > 0.0 && *p <= 1.0)) {
            let (value, rule) = (propensities[row], "must be above 0 and at most 1");
            return Err(EvalError::Decision { what: "the propensity", row, value, rule });
        }
        let seen: Vec<usize> = (0..expected).filter(|row| observed[*row]).collect();
        if seen.is_empty() {
            return Err(EvalError::Empty { what: "the set of observed rows" });
        }
        let weights: Vec<f64> = seen.iter().map(|row| (1.0 / propensities[*row]).min(largest)).collect();
        let (sum, squares) = weights.iter().fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
        let balance = covariates.into_iter().map(|(name, values)| {
            check("a covariate", values.len())?;
            let mean = values.iter().sum::<f64>() / expected as f64;
            let spread = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / expected as f64).sqrt();
            let of = |value: f64| if spread > 0.0 { (value - mean) / spread } else { 0.0 };
            let plain = seen.iter().map(|row| values[*row]).sum::<f64>() / seen.len() as f64;
            let weighted = seen.iter().zip(&weights).map(|(row, weight)| weight * values[*row]).sum::<f64>() / sum;
            Ok(Balance { name: name.to_owned(), before: of(plain), after: of(weighted) })
        });
        let narrow: Vec<f32> = propensities.iter().map(|p| *p as f32).collect();
        let labels: Vec<f32> = observed.iter().map(|seen| f32::from(u8::from(*seen))).collect();
        Ok(Self {
            rows: expected,
            observed: seen.len(),
            auc: auc(&narrow, &labels),
            calibration_error: expected_calibration_error(&narrow, &labels, BINS),
            lowest: propensities.iter().copied().fold(f64::INFINITY, f64::min),
            highest: propensities.iter().copied().fold(0.0, f64::max),
            clipped: seen.iter().filter(|row| 1.0 / propensities[**row] > largest).count() as f64 / seen.len() as f64,
            effective: sum * sum / squares,
            balance: balance.collect::<Result<_, EvalError>>()?,
        })
    }
}
