//! Penalty-based boundary intersection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ideal_point, seen, spread};
use crate::adam::check_range;
use crate::scalarizers::function_of_losses;
use crate::state::Memory;
use crate::weighting::Objectives;
use crate::{Preference, Result};

/// Below this the distance to the preference ray counts as smooth; TorchJD's constant.
const SMALL: f64 = 1e-12;

/// Parameters of [`Pbi`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PbiConfig {
    /// Penalty on the distance from the preference ray, at least 0; the paper uses 5.
    pub theta: f64,
    /// The best loss there could be, by objective; 0 for those that are not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ideal: BTreeMap<String, f64>,
}

impl Default for PbiConfig {
    fn default() -> Self {
        Self { theta: 5.0, ideal: BTreeMap::new() }
    }
}

/// PBI (Zhang and Li, "MOEA/D", 2007): `d_1 + θ d_2`, where `d_1 = (L - z) · p̂` goes along the preferences, of length 1, and `d_2` is the
/// distance from that ray.
///
/// Unlike in a weighted sum, `p` is the proportion of the losses that is aimed at: a larger preference allows a larger loss. Weights
/// are negative for objectives that are too good for the ray.
#[derive(Debug, Clone)]
pub struct Pbi {
    theta: f64,
    ideal: Vec<f64>,
    objectives: Objectives,
    memory: Memory,
}

impl Pbi {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, an ideal loss of an unknown objective, or a negative `theta`.
    pub fn new(objectives: &[Preference], config: &PbiConfig) -> Result<Self> {
        check_range("theta", config.theta, 0.0, 1e12, "it is at least 0, such as 5")?;
        let objectives = Objectives::new(objectives)?;
        let ideal = ideal_point(&config.ideal, &objectives)?;
        Ok(Self { theta: config.theta, ideal, objectives, memory: Memory::counter("pbi") })
    }

    fn solve(&self, losses: &[f64], observed: &[usize]) -> Result<(f64, Vec<f64>)> {
        let at = seen(&self.objectives, observed);
        let shares = self.objectives.shares();
        let norm = at.iter().map(|&i| shares[i] * shares[i]).sum::<f64>().sqrt();
        let ray: Vec<f64> = at.iter().map(|&i| shares[i] / norm).collect();
        let shifted: Vec<f64> = at.iter().map(|&i| losses[i] - self.ideal[i]).collect();
        let along: f64 = shifted.iter().zip(&ray).map(|(f, r)| f * r).sum();
        let across: Vec<f64> = shifted.iter().zip(&ray).map(|(f, r)| f - along * r).collect();
        let distance = (across.iter().map(|a| a * a).sum::<f64>() + SMALL).sqrt();
        // `across` is orthogonal to the ray, so that the derivative of its length is itself over its length.
        let weights = ray.iter().zip(&across).map(|(r, a)| r + self.theta * (a / distance));
        Ok((along + self.theta * distance, spread(self.objectives.len(), &at, weights)))
    }
}

function_of_losses!(Pbi);
