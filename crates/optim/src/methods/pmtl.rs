//! Pareto multi-task learning.

use serde::{Deserialize, Serialize};

use crate::rule::on_live;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Gramian, OptimError, Preference, Result, Signals, Weighting, min_norm};

/// Parameters of [`Pmtl`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PmtlConfig {
    /// The other preference vectors that divide the space of losses, each of `m` values; by default the axes and the diagonal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vectors: Vec<Vec<f64>>,
}

/// PMTL (Lin et al., "Pareto multi-task learning", NeurIPS 2019): MGDA kept to the part of the space of losses that lies nearest to the
/// preference vector `u` (the preferences, of length 1).
///
/// The other vectors `u_j` bound that part: where `(u_j - u) · L ≥ 0` the point is outside of it, and `Σ_i (u_j - u)_i g_i` joins the gradients of
/// which the shortest convex combination is taken. Weights can be negative. At a restricted Pareto-stationary point the direction
/// is zero. Objectives without a gradient are left out, and with them their coordinate.
#[derive(Debug, Clone)]
pub struct Pmtl {
    vectors: Vec<Vec<f64>>,
    objectives: Objectives,
    memory: Memory,
}

impl Pmtl {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, or a vector that has not one finite value, none negative and one positive, for each objective.
    pub fn new(objectives: &[Preference], config: &PmtlConfig) -> Result<Self> {
        let objectives = Objectives::new(objectives)?;
        let m = objectives.len();
        for vector in &config.vectors {
            if vector.len() != m
                || vector.iter().any(|x| !(x.is_finite() && *x >= 0.0))
                || vector.iter().all(|x| *x == 0.0)
            {
                let rule = "each vector has one value for each objective, none negative and one above 0";
                return Err(OptimError::Setting { setting: "vectors".into(), value: format!("{vector:?}"), rule });
            }
        }
        let vectors = if config.vectors.is_empty() {
            let axis = |k: usize| (0..m).map(|i| f64::from(u8::from(i == k))).collect();
            (0..m).map(axis).chain([vec![1.0; m]]).collect()
        } else {
            config.vectors.clone()
        };
        Ok(Self { vectors, objectives, memory: Memory::counter("pmtl") })
    }
}

fn unit(v: Vec<f64>) -> Vec<f64> {
    let largest = v.iter().copied().fold(0.0, f64::max);
    let norm = v.iter().map(|x| (x / largest).powi(2)).sum::<f64>().sqrt();
    v.iter().map(|x| x / largest / norm).collect()
}

impl Weighting for Pmtl {
    fn name(&self) -> &'static str {
        "pmtl"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "pmtl")?;
        let shares = self.objectives.shares();
        let live: Vec<usize> = (0..shares.len()).filter(|&i| shares[i] > 0.0 && gramian.norm(i) > 0.0).collect();
        on_live(gramian, &shares, |gramian, shares| {
            let own = unit(shares.to_vec());
            let m = own.len();
            // Rows of combinations of gradients: the gradients themselves, then the active constraints.
            let mut rows: Vec<Vec<f64>> =
                (0..m).map(|k| (0..m).map(|i| f64::from(u8::from(i == k))).collect()).collect();
            for other in &self.vectors {
                let other: Vec<f64> = live.iter().map(|&i| other[i]).collect();
                if other.iter().all(|x| *x == 0.0) {
                    continue;
                }
                let apart: Vec<f64> = unit(other).iter().zip(&own).map(|(x, u)| x - u).collect();
                let outside: f64 = apart.iter().zip(&live).map(|(a, &i)| a * signals.losses[i]).sum();
                if outside >= 0.0 && apart.iter().any(|a| a.abs() > 1e-12) {
                    rows.push(apart);
                }
            }
            let k = rows.len();
            let (_, products) = gramian.relative();
            let dot = |a: &[f64], b: &[f64]| -> f64 {
                (0..m).map(|i| a[i] * (0..m).map(|j| products[i * m + j] * b[j]).sum::<f64>()).sum()
            };
            let extended = Gramian::from_products(k, (0..k * k).map(|n| dot(&rows[n / k], &rows[n % k])).collect());
            let mut weights = vec![0.0; m];
            for (row, w) in rows.iter().zip(min_norm(&extended)) {
                weights.iter_mut().zip(row).for_each(|(x, r)| *x += w * r);
            }
            Ok(weights)
        })
    }

    remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(preferences: [f64; 2], losses: [f64; 2]) -> Vec<f64> {
        let objectives = [Preference::new("a", preferences[0]), Preference::new("b", preferences[1])];
        let gramian = Gramian::from_rows(&[[1.0, 0.0], [0.0, 1.0]]).unwrap();
        let mut pmtl = Pmtl::new(&objectives, &PmtlConfig::default()).unwrap();
        pmtl.weights(&Signals { losses: &losses, observed: &[1, 1], gramian: Some(&gramian) }).unwrap()
    }

    #[test]
    fn inside_its_part_it_is_mgda_and_outside_it_turns_back() {
        // The diagonal is nearest to equal losses.
        assert_eq!(weights([1.0, 1.0], [1.0, 1.0]), [0.5, 0.5]);
        // Nearest to the first axis: its constraint u_1 - u = (1 - r, -r), r = 1/√2, joins. The shortest point of the segment from
        // (0, 1) to (1 - r, -r) and (1, 0) lessens the first loss more.
        let w = weights([1.0, 1.0], [1.0, 0.1]);
        assert!(w[0] > w[1], "{w:?}");
        let w = weights([1.0, 1.0], [0.1, 1.0]);
        assert!(w[1] > w[0], "{w:?}");
    }

    #[test]
    fn a_vector_of_another_length_is_refused() {
        let objectives = [Preference::new("a", 1.0), Preference::new("b", 1.0)];
        let error = Pmtl::new(&objectives, &PmtlConfig { vectors: vec![vec![1.0]] }).unwrap_err().to_string();
        assert!(error.contains("vectors = [1.0]"), "{error}");
    }
}
