//! Weights that no loss moves.

use serde::{Deserialize, Serialize};

use crate::scalarizers::function_of_losses;
use crate::state::Memory;
use crate::weighting::Objectives;
use crate::{OptimError, Preference, Result};

/// A sum of the losses with fixed weights, under the names that the literature has for it: `weighted-sum` and `sum` take the
/// preferences as they are, `mean` divides them by their sum, `constant` has weights of its own.
#[derive(Debug, Clone)]
pub struct WeightedSum {
    weights: Weights,
    objectives: Objectives,
    memory: Memory,
}

#[derive(Debug, Clone)]
enum Weights {
    /// The preferences `p`.
    Preferences,
    /// `p / Σ p`.
    Shares,
    /// Numbers that the preferences do not touch.
    Own(Vec<f64>),
}

/// Parameters of [`WeightedSum::constant`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantConfig {
    /// One weight for each objective, in their order; finite, and negative ones are allowed.
    pub weights: Vec<f64>,
}

impl WeightedSum {
    /// `weighted-sum`, `Σ p_i L_i`: the weights are the preferences, not rescaled.
    ///
    /// # Errors
    /// No objectives, a weight that is negative or not finite, or none above 0.
    pub fn new(objectives: &[Preference]) -> Result<Self> {
        Self::of("weighted-sum", objectives, Weights::Preferences)
    }

    /// `sum`, the literature's name for the same: with preferences of 1 the plain sum.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn sum(objectives: &[Preference]) -> Result<Self> {
        Self::of("sum", objectives, Weights::Preferences)
    }

    /// `mean`, `Σ p_i L_i / Σ p_i`: with equal preferences each objective has the share `1/m`.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn mean(objectives: &[Preference]) -> Result<Self> {
        Self::of("mean", objectives, Weights::Shares)
    }

    /// `constant`, `Σ c_i L_i` whatever the preferences say.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), or not one finite weight for each objective.
    pub fn constant(objectives: &[Preference], config: &ConstantConfig) -> Result<Self> {
        let (found, expected) = (config.weights.len(), objectives.len());
        if found != expected {
            return Err(OptimError::Count { what: "constant weights", found, expected });
        }
        if let Some(value) = config.weights.iter().find(|w| !w.is_finite()) {
            let (setting, value) = ("weights".into(), value.to_string());
            return Err(OptimError::Setting { setting, value, rule: "constant weights are finite" });
        }
        Self::of("constant", objectives, Weights::Own(config.weights.clone()))
    }

    fn of(name: &'static str, objectives: &[Preference], weights: Weights) -> Result<Self> {
        Ok(Self { weights, objectives: Objectives::new(objectives)?, memory: Memory::counter(name) })
    }

    fn solve(&self, losses: &[f64], _observed: &[usize]) -> Result<(f64, Vec<f64>)> {
        let weights = match &self.weights {
            Weights::Preferences => self.objectives.weights(),
            Weights::Shares => self.objectives.shares(),
            Weights::Own(weights) => weights.clone(),
        };
        Ok((weights.iter().zip(losses).map(|(w, l)| w * l).sum(), weights))
    }
}

function_of_losses!(WeightedSum);
