//! Exact Pareto optimal search.

use serde::{Deserialize, Serialize};

use crate::adam::check_range;
use crate::rule::on_live;
use crate::solvers::linear_program::maximize;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Gramian, Preference, Result, Signals, Weighting, min_norm};

/// Parameters of [`Epo`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EpoConfig {
    /// Below this non-uniformity the losses count as balanced and all of them descend: 0 to 1.
    pub tolerance: f64,
}

impl Default for EpoConfig {
    fn default() -> Self {
        Self { tolerance: 1e-4 }
    }
}

/// EPO search (Mahapatra and Rajan, "Multi-task learning with user preferences: gradient descent with controlled ascent in Pareto optimization", ICML
/// 2020): towards the Pareto-optimal point whose `p_i L_i` are all equal, for preferences `p`.
///
/// While they are not, the weights solve a linear program for the convex combination of gradients that lessens the non-uniformity
/// `Σ l̂_i ln(m l̂_i)`, `l̂_i = p_i L_i / Σ p_j L_j`, most, letting no other loss rise faster than balance asks; afterwards one for the
/// combination that lessens all losses together. Losses must be positive to have a ratio: at or below 0 one counts as tiny.
/// Where the program has no solution (a Pareto-stationary point) the weights are those of the shortest combination.
#[derive(Debug, Clone)]
pub struct Epo {
    config: EpoConfig,
    objectives: Objectives,
    memory: Memory,
}

impl Epo {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, or a tolerance outside `[0, 1]`.
    pub fn new(objectives: &[Preference], config: EpoConfig) -> Result<Self> {
        check_range("tolerance", config.tolerance, 0.0, 1.0, "it is between 0 and 1, such as 1e-4")?;
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory: Memory::counter("epo") })
    }

    fn solve(&self, gramian: &Gramian, shares: &[f64], losses: &[f64]) -> Vec<f64> {
        let m = losses.len();
        let (_, products) = gramian.relative();
        let relative: Vec<f64> = losses.iter().zip(shares).map(|(l, p)| l.max(1e-300) * p).collect();
        let largest = relative.iter().copied().fold(0.0, f64::max);
        let total: f64 = relative.iter().map(|r| r / largest).sum();
        let logs: Vec<f64> = relative.iter().map(|r| (m as f64 * (r / largest / total)).max(1e-300).ln()).collect();
        let uneven: f64 = relative.iter().zip(&logs).map(|(r, l)| r / largest / total * l).sum();
        let apply =
            |x: &[f64]| -> Vec<f64> { (0..m).map(|i| (0..m).map(|j| products[i * m + j] * x[j]).sum()).collect() };
        let mut rows: Vec<(Vec<f64>, f64)> = vec![(vec![1.0; m], 1.0), (vec![-1.0; m], -1.0)];
        let at_least = |j: usize, bound: f64| ((0..m).map(|k| -products[j * m + k]).collect::<Vec<_>>(), -bound);
        let goal = if uneven > self.config.tolerance {
            let raw: Vec<f64> = logs.iter().zip(shares).map(|(l, p)| p * (l - uneven)).collect();
            let size = raw.iter().fold(0.0, |s: f64, a| s.max(a.abs()));
            let gain = apply(&raw.iter().map(|a| a / size).collect::<Vec<_>>());
            let gains = gain.iter().any(|g| *g > 0.0);
            for j in 0..m {
                let most = relative[j] >= largest * (1.0 - 1e-12);
                match (gains, gain[j] > 0.0) {
                    (false, _) => rows.push(at_least(j, 0.0)),
                    (true, _) if most => rows.push(at_least(j, 0.0)),
                    (true, true) => {}
                    (true, false) => rows.push(at_least(j, gain[j])),
                }
            }
            gain
        } else {
            (0..m).for_each(|j| rows.push(at_least(j, 0.0)));
            apply(&vec![1.0; m])
        };
        match maximize(&goal, &rows) {
            Some(w) if w.iter().sum::<f64>() > 0.5 => {
                let total: f64 = w.iter().sum();
                w.iter().map(|w| w / total).collect()
            }
            _ => min_norm(gramian),
        }
    }
}

impl Weighting for Epo {
    fn name(&self) -> &'static str {
        "epo"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "epo")?;
        let shares = self.objectives.shares();
        let live: Vec<f64> = (0..shares.len())
            .filter(|&i| shares[i] > 0.0 && gramian.norm(i) > 0.0)
            .map(|i| signals.losses[i])
            .collect();
        on_live(gramian, &shares, |gramian, shares| Ok(self.solve(gramian, shares, &live)))
    }

    remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two losses 1 - exp(-‖x ∓ a‖²) over the plane, the problem of the paper's section 4.
    fn descend(preferences: [f64; 2]) -> [f64; 2] {
        let objectives = [Preference::new("a", preferences[0]), Preference::new("b", preferences[1])];
        let mut epo = Epo::new(&objectives, EpoConfig { tolerance: 1e-6 }).unwrap();
        let mut x = [0.3, -0.5];
        let mut losses = [0.0; 2];
        for _ in 0..4000 {
            let mut rows = vec![];
            for (k, sign) in [1.0, -1.0].into_iter().enumerate() {
                let apart: Vec<f64> = x.iter().map(|x| x - sign / 2.0_f64.sqrt()).collect();
                let e = (-apart.iter().map(|a| a * a).sum::<f64>()).exp();
                losses[k] = 1.0 - e;
                rows.push(apart.iter().map(|a| 2.0 * a * e).collect::<Vec<f64>>());
            }
            let gramian = Gramian::from_rows(&rows).unwrap();
            let w = epo.weights(&Signals { losses: &losses, observed: &[1, 1], gramian: Some(&gramian) }).unwrap();
            (0..2).for_each(|k| x[k] -= 0.005 * (w[0] * rows[0][k] + w[1] * rows[1][k]));
        }
        losses
    }

    #[test]
    fn ends_where_the_preferences_say_on_the_front() {
        for preferences in [[1.0, 1.0], [1.0, 3.0], [4.0, 1.0]] {
            let [a, b] = descend(preferences);
            let ratio = preferences[0] * a / (preferences[1] * b);
            assert!((ratio - 1.0).abs() < 0.02, "{preferences:?}: {a} {b}");
            // On the front the point lies between the two minima: ‖x - a‖ + ‖x + a‖ = 2.
            let distance = |l: f64| (-(1.0 - l).ln()).sqrt();
            assert!((distance(a) + distance(b) - 2.0).abs() < 0.01, "{a} {b}");
        }
    }
}
