//! Whether a difference between two models is more than chance.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::EvalError;

/// How far apart two models are, with a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    /// Mean of `a − b` over the pairs.
    pub mean: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Number of pairs compared.
    pub pairs: usize,
}

impl Difference {
    /// Whether the interval leaves out zero.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Paired percentile bootstrap of the mean of `a − b`: pairs (users, as a rule) are drawn with replacement `resamples` times.
///
/// Pairs with a `NaN` are left out. The same seed gives the same interval on any number of threads: each resample draws from
/// its own stream. 1,000 to 10,000 resamples are customary (Efron & Tibshirani, 1993).
///
/// # Errors
/// [`EvalError::Length`] if the slices differ in length, [`EvalError::Empty`] if no pair or no resample is left.
pub fn paired_bootstrap(a: &[f64], b: &[f64], resamples: usize, seed: u64) -> Result<Difference, EvalError> {
    if a.len() != b.len() {
        return Err(EvalError::Length {
            what: "the second model",
            found: b.len(),
            expected: a.len(),
            per: "value of the first, for the same user",
        });
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).filter(|difference| !difference.is_nan()).collect();
    if differences.is_empty() {
        return Err(EvalError::Empty { what: "the list of pairs" });
    }
    if resamples == 0 {
        return Err(EvalError::Empty { what: "the set of resamples" });
    }
    let count = differences.len();
    let mut means: Vec<f64> = (0..resamples as u64)
        .into_par_iter()
        .map(|stream| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream);
            let sum: f64 = (0..count).map(|_| differences[random.random_range(0..count)]).sum();
            sum / count as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    Ok(Difference {
        mean: differences.iter().sum::<f64>() / count as f64,
        low: quantile(&means, 0.025),
        high: quantile(&means, 0.975),
        pairs: count,
    })
}

/// Linear interpolation between the closest ranks of `sorted`, which is not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests;
