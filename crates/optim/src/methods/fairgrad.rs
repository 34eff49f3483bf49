//! Fair allocation of progress.

use serde::{Deserialize, Serialize};

use crate::adam::check_range;
use crate::solvers::equilibrium::power_equilibrium;
use crate::solvers::exact::check_point;
use crate::{Gramian, Result, Rule};

/// FairGrad (Ban and Ji, "Fair resource allocation in multi-task learning", ICML 2024): the direction `Σ w_i g_i` that shares the progress
/// `(G w)_i` by `α`-fairness: `(G w)_i = (w_i / (m p_i))^(-1/α)`, `w > 0`.
///
/// `α = 0` gives the mean, `α = 1` proportional fairness (that of Nash-MTL), `α → ∞` max-min fairness (the direction of MGDA). The progress of every
/// objective is positive. Not linear under scaling for `α ≠ 1`. At a Pareto-stationary point the equation has no solution: a ridge of 1e-10 on the
/// cosines lets the weights grow towards the stationary combination and stay finite. A zero row has weight 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FairGrad {
    /// How fair: 0 to 100.
    pub alpha: f64,
}

impl Default for FairGrad {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

impl Rule for FairGrad {
    const NAME: &'static str = "fairgrad";

    fn weights(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Vec<f64>> {
        check_point(preferences, gramian.size())?;
        let m = gramian.size();
        if self.alpha == 0.0 {
            return Ok(preferences.to_vec());
        }
        let live: Vec<usize> = (0..m).filter(|&i| gramian.norm(i) > 0.0 && preferences[i] > 0.0).collect();
        let cosines: Vec<f64> = live.iter().flat_map(|&i| live.iter().map(move |&j| gramian.cosine(i, j))).collect();
        let beta = 1.0 / self.alpha;
        // With z_i = w_i ‖g_i‖: (C z)_i = (m p_i)^β ‖g_i‖^(β - 1) z_i^(-β).
        let log_k: Vec<f64> = live
            .iter()
            .map(|&i| beta * (m as f64 * preferences[i]).ln() + (beta - 1.0) * gramian.norm(i).ln())
            .collect();
        let mut weights = vec![0.0; m];
        for (&i, z) in live.iter().zip(power_equilibrium(&cosines, &log_k, beta)) {
            weights[i] = (z / gramian.norm(i)).min(f64::MAX);
        }
        Ok(weights)
    }

    fn check(&self) -> Result<()> {
        check_range("alpha", self.alpha, 0.0, 100.0, "it is between 0 (the mean) and 100 (nearly max-min fair)")
    }
}
