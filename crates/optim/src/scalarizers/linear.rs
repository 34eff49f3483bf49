//! Weights that no loss moves.

use serde::{Deserialize, Serialize};

use crate::scalarizers::Scalarizer;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{OptimError, Preference, Result, Signals, Weighting};

/// `Σ p_i L_i`: with preferences of 1 the plain sum. The literature's name for [`super::WeightedSum`].
#[derive(Debug, Clone)]
pub struct Sum {
    objectives: Objectives,
    memory: Memory,
}

impl Sum {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences.
    pub fn new(objectives: &[Preference]) -> Result<Self> {
        Ok(Self { objectives: Objectives::new(objectives)?, memory: Memory::counter("sum") })
    }
}

impl Weighting for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.objectives.check(signals)?;
        Ok(self.objectives.weights())
    }

    remembers!();
}

impl Scalarizer for Sum {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        Ok(self.objectives.weights().iter().zip(losses).map(|(w, l)| w * l).sum())
    }
}

/// `Σ p_i L_i / Σ p_i`: with equal preferences the mean, of which each objective has the share `1/m`.
#[derive(Debug, Clone)]
pub struct Mean {
    objectives: Objectives,
    memory: Memory,
}

impl Mean {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences.
    pub fn new(objectives: &[Preference]) -> Result<Self> {
        Ok(Self { objectives: Objectives::new(objectives)?, memory: Memory::counter("mean") })
    }
}

impl Weighting for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.objectives.check(signals)?;
        Ok(self.objectives.shares())
    }

    remembers!();
}

impl Scalarizer for Mean {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        Ok(self.objectives.shares().iter().zip(losses).map(|(w, l)| w * l).sum())
    }
}

/// Parameters of [`Constant`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantConfig {
    /// One weight for each objective, in their order; finite, and negative ones are allowed.
    pub weights: Vec<f64>,
}

/// `Σ c_i L_i` with weights `c` of its own, whatever the preferences say.
#[derive(Debug, Clone)]
pub struct Constant {
    weights: Vec<f64>,
    objectives: Objectives,
    memory: Memory,
}

impl Constant {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, or not one finite weight for each objective.
    pub fn new(objectives: &[Preference], config: &ConstantConfig) -> Result<Self> {
        let (found, expected) = (config.weights.len(), objectives.len());
        if found != expected {
            return Err(OptimError::Count { what: "constant weights", found, expected });
        }
        if let Some(value) = config.weights.iter().find(|w| !w.is_finite()) {
            let (setting, value) = ("weights".into(), value.to_string());
            return Err(OptimError::Setting { setting, value, rule: "constant weights are finite" });
        }
        let weights = config.weights.clone();
        Ok(Self { weights, objectives: Objectives::new(objectives)?, memory: Memory::counter("constant") })
    }
}

impl Weighting for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.objectives.check(signals)?;
        Ok(self.weights.clone())
    }

    remembers!();
}

impl Scalarizer for Constant {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        Ok(self.weights.clone().iter().zip(losses).map(|(w, l)| w * l).sum())
    }
}
