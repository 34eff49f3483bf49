//! The worst loss, sharp and smooth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ideal_point, seen, spread};
use crate::adam::check_range;
use crate::random::softmax;
use crate::scalarizers::function_of_losses;
use crate::state::Memory;
use crate::weighting::Objectives;
use crate::{Preference, Result};

/// Parameters of [`Chebyshev`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChebyshevConfig {
    /// The best loss there could be, by objective; 0 for those that are not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ideal: BTreeMap<String, f64>,
}

/// Chebyshev scalarization (Bowman 1976; Miettinen 1999): `max_i p_i (L_i - z_i)`, with shares `p` and ideal losses `z`.
///
/// Reaches every Pareto-optimal point for some preferences, also on concave parts of the front where a weighted sum cannot stay. The
/// subgradient is that of the objective at the maximum; objectives that share it share the weight.
#[derive(Debug, Clone)]
pub struct Chebyshev {
    ideal: Vec<f64>,
    objectives: Objectives,
    memory: Memory,
}

impl Chebyshev {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, or an ideal loss of an unknown objective.
    pub fn new(objectives: &[Preference], config: &ChebyshevConfig) -> Result<Self> {
        let objectives = Objectives::new(objectives)?;
        Ok(Self { ideal: ideal_point(&config.ideal, &objectives)?, objectives, memory: Memory::counter("chebyshev") })
    }
}

/// `p_i (L_i - z_i)` for the objectives at `at`.
fn weighted(objectives: &Objectives, ideal: &[f64], losses: &[f64], at: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let shares = objectives.shares();
    at.iter().map(|&i| (shares[i], shares[i] * (losses[i] - ideal[i]))).unzip()
}

impl Chebyshev {
    fn solve(&self, losses: &[f64], observed: &[usize]) -> Result<(f64, Vec<f64>)> {
        let at = seen(&self.objectives, observed);
        let (shares, values) = weighted(&self.objectives, &self.ideal, losses, &at);
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let ties = values.iter().filter(|v| **v == largest).count() as f64;
        let share = |(p, v): (&f64, &f64)| if *v == largest { p / ties } else { 0.0 };
        let weights = spread(self.objectives.len(), &at, shares.iter().zip(&values).map(share));
        Ok((if at.is_empty() { 0.0 } else { largest }, weights))
    }
}

function_of_losses!(Chebyshev);

/// Parameters of [`SmoothChebyshev`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmoothChebyshevConfig {
    /// How smooth, above 0, in the unit of a loss times a share; the paper uses 0.01 to 1.
    pub mu: f64,
    /// The best loss there could be, by objective; 0 for those that are not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ideal: BTreeMap<String, f64>,
}

impl Default for SmoothChebyshevConfig {
    fn default() -> Self {
        Self { mu: 0.1, ideal: BTreeMap::new() }
    }
}

/// Smooth Chebyshev scalarization (Lin et al., ICML 2024): `μ ln Σ exp(p_i (L_i - z_i) / μ)`, which tends to [`Chebyshev`] for `μ → 0`.
#[derive(Debug, Clone)]
pub struct SmoothChebyshev {
    mu: f64,
    ideal: Vec<f64>,
    objectives: Objectives,
    memory: Memory,
}

impl SmoothChebyshev {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, an ideal loss of an unknown objective, or a `mu` that is not positive.
    pub fn new(objectives: &[Preference], config: &SmoothChebyshevConfig) -> Result<Self> {
        check_range("mu", config.mu, 1e-12, 1e12, "it is above 0, such as 0.1")?;
        let objectives = Objectives::new(objectives)?;
        let ideal = ideal_point(&config.ideal, &objectives)?;
        Ok(Self { mu: config.mu, ideal, objectives, memory: Memory::counter("smooth-chebyshev") })
    }
}

impl SmoothChebyshev {
    fn solve(&self, losses: &[f64], observed: &[usize]) -> Result<(f64, Vec<f64>)> {
        let at = seen(&self.objectives, observed);
        let (shares, values) = weighted(&self.objectives, &self.ideal, losses, &at);
        let Some(largest) = values.iter().copied().reduce(f64::max) else {
            return Ok((0.0, vec![0.0; self.objectives.len()]));
        };
        let logits: Vec<f64> = values.iter().map(|v| (v - largest) / self.mu).collect();
        let weights = softmax(&logits).into_iter().zip(&shares).map(|(s, p)| s * p).collect::<Vec<_>>();
        let value = largest + self.mu * logits.iter().map(|v| v.exp()).sum::<f64>().ln();
        Ok((value, spread(self.objectives.len(), &at, weights)))
    }
}

function_of_losses!(SmoothChebyshev);
