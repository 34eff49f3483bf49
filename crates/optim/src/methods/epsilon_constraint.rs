//! One objective, the others kept below bounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pcd::constrained;
use crate::adam::check_range;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{OptimError, Preference, Result, Signals, Weighting, min_norm};

/// Parameters of [`EpsilonConstraint`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EpsilonConstraintConfig {
    /// Name of the objective to minimize; the first by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// How fast a loss above its bound must fall, as a share of the progress along its own gradient: 0 to 1.
    pub rate: f64,
    /// A loss closer to its bound than this must not rise, at least 0.
    pub margin: f64,
    /// Upper bounds of losses, by objective.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bounds: BTreeMap<String, f64>,
}

impl Default for EpsilonConstraintConfig {
    fn default() -> Self {
        Self { primary: None, rate: 0.5, margin: 0.0, bounds: BTreeMap::new() }
    }
}

/// The ε-constraint method (Haimes, Lasdon and Wismer 1971) as a gradient method: minimize one loss subject to `L_j ≤ ε_j`.
///
/// The direction is the nearest to the primary gradient with `g_j · d ≥ rate ‖g_j‖²` for every loss above its bound and `g_j · d ≥ 0` for every
/// one within `margin` below it; losses that keep their distance, and objectives without a bound, do not count. A violated bound comes
/// before the primary objective. If no direction meets all demands, the direction is the shortest combination of the violated ones.
/// Preferences are not read, but an objective of preference 0 is left out. A bound on an objective without labels in the batch waits.
#[derive(Debug, Clone)]
pub struct EpsilonConstraint {
    config: EpsilonConstraintConfig,
    primary: usize,
    bounds: Vec<Option<f64>>,
    objectives: Objectives,
    memory: Memory,
}

impl EpsilonConstraint {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, an unknown objective, a bound that is not finite or on the primary objective, or a parameter out of range.
    pub fn new(objectives: &[Preference], config: EpsilonConstraintConfig) -> Result<Self> {
        check_range("rate", config.rate, 0.0, 1.0, "it is a share between 0 and 1")?;
        check_range("margin", config.margin, 0.0, f64::MAX, "it is at least 0")?;
        let objectives = Objectives::new(objectives)?;
        let primary = config.primary.as_ref().map_or(Ok(0), |name| objectives.find("primary", name))?;
        let mut bounds = vec![None; objectives.len()];
        for (name, &bound) in &config.bounds {
            let i = objectives.find("bounds", name)?;
            if i == primary || !bound.is_finite() {
                let rule = "bounds are finite, and the primary objective has none";
                return Err(OptimError::Setting { setting: format!("bounds.{name}"), value: bound.to_string(), rule });
            }
            bounds[i] = Some(bound);
        }
        Ok(Self { config, primary, bounds, objectives, memory: Memory::counter("epsilon-constraint") })
    }
}

impl Weighting for EpsilonConstraint {
    fn name(&self) -> &'static str {
        "epsilon-constraint"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "epsilon-constraint")?;
        let m = self.objectives.len();
        let live = |i: usize| self.objectives.weight(i) > 0.0 && gramian.norm(i) > 0.0 && signals.observed[i] > 0;
        let (mut near, mut demands, mut violated) = (Vec::new(), Vec::new(), Vec::new());
        for i in (0..m).filter(|&i| i != self.primary && live(i)) {
            let Some(bound) = self.bounds[i] else { continue };
            if signals.losses[i] > bound {
                violated.push(i);
                near.push(i);
                demands.push(self.config.rate);
            } else if signals.losses[i] > bound - self.config.margin {
                near.push(i);
                demands.push(0.0);
            }
        }
        let mut weights = vec![0.0; m];
        let mut lengths: Vec<f64> = (0..m).map(|i| gramian.norm(i)).collect();
        if !live(self.primary) {
            lengths[self.primary] = 0.0;
        }
        match constrained(gramian, self.primary, &near, &lengths, &demands) {
            Some(multipliers) => {
                if lengths[self.primary] > 0.0 {
                    weights[self.primary] = 1.0;
                }
                near.iter().zip(multipliers).for_each(|(&i, x)| weights[i] = (x / lengths[i]).min(f64::MAX));
            }
            None => {
                for (&i, w) in violated.iter().zip(min_norm(&gramian.select(&violated))) {
                    weights[i] = w;
                }
            }
        }
        Ok(weights)
    }

    remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gramian;

    /// min (x - 1)² + y² subject to x² + y² ≤ 1/4: the optimum is (1/2, 0).
    #[test]
    fn descends_to_the_constrained_optimum_from_both_sides() {
        let objectives = [Preference::new("far", 1.0), Preference::new("near", 1.0)];
        let config: EpsilonConstraintConfig =
            serde_json::from_str(r#"{"bounds": {"near": 0.25}, "margin": 0.01}"#).unwrap();
        for start in [[0.1, 0.3], [2.0, -1.0]] {
            let mut method = EpsilonConstraint::new(&objectives, config.clone()).unwrap();
            let mut x: [f64; 2] = start;
            for _ in 0..5000 {
                let losses = [(x[0] - 1.0).powi(2) + x[1] * x[1], x[0] * x[0] + x[1] * x[1]];
                let rows = [[2.0 * (x[0] - 1.0), 2.0 * x[1]], [2.0 * x[0], 2.0 * x[1]]];
                let gramian = Gramian::from_rows(&rows).unwrap();
                let w =
                    method.weights(&Signals { losses: &losses, observed: &[1, 1], gramian: Some(&gramian) }).unwrap();
                (0..2).for_each(|k| x[k] -= 0.005 * (w[0] * rows[0][k] + w[1] * rows[1][k]));
            }
            assert!((x[0] - 0.5).abs() < 0.02 && x[1].abs() < 0.02, "{x:?}");
        }
    }

    #[test]
    fn contradictory_bounds_are_repaired_together() {
        let all: Vec<_> = ["a", "b", "c"].iter().map(|n| Preference::new(*n, 1.0)).collect();
        let config = serde_json::from_str(r#"{"bounds": {"b": 0.0, "c": 0.0}}"#).unwrap();
        let gramian = Gramian::from_rows(&[[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]).unwrap();
        let signals = Signals { losses: &[1.0; 3], observed: &[1; 3], gramian: Some(&gramian) };
        let w = EpsilonConstraint::new(&all, config).unwrap().weights(&signals).unwrap();
        assert_eq!(w, [0.0, 0.5, 0.5]);
        let config = serde_json::from_str(r#"{"bounds": {"a": 0.0}}"#).unwrap();
        assert!(EpsilonConstraint::new(&all, config).unwrap_err().to_string().contains("bounds.a"));
    }
}
