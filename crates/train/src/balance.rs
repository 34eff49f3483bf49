//! How several objectives become one gradient: the configuration and its live state.

use paretune_objectives::Objectives;
use paretune_optim::{Method, OptimError, Parameters, Preference, Signals, Weighting, WeightingState};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How several gradients become one: the method, where gradients are compared, and the method's parameters, in one flat table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct BalanceConfig {
    /// Any of [`Method::ALL`] that does not need the gradients themselves.
    pub method: Method,
    /// Where gradients are compared; read by methods that look at gradients.
    pub gradients: GradientCut,
    /// The method's parameters; those that are absent have their defaults.
    #[serde(flatten)]
    pub parameters: Parameters,
}

#[derive(Deserialize)]
struct Unchecked {
    #[serde(default)]
    method: Method,
    #[serde(default)]
    gradients: GradientCut,
    #[serde(flatten)]
    parameters: Parameters,
}

impl TryFrom<Unchecked> for BalanceConfig {
    type Error = OptimError;

    /// Refuses parameters that the method does not have.
    fn try_from(read: Unchecked) -> Result<Self, OptimError> {
        let config = Self { method: read.method, gradients: read.gradients, parameters: read.parameters };
        config.method().check()?;
        Ok(config)
    }
}

impl BalanceConfig {
    fn method(&self) -> paretune_optim::BalanceConfig {
        paretune_optim::BalanceConfig { method: self.method, parameters: self.parameters.clone() }
    }
}

/// Which gradients the Gramian is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientCut {
    /// Of the shared representation: `K` cheap passes and one through the backbone.
    #[default]
    Shared,
    /// Of every shared parameter: `K` passes through the backbone. The textbook's form.
    Full,
}

/// A balancing method at work.
pub struct Balancer {
    weighting: Box<dyn Weighting>,
    cut: GradientCut,
    wanted: Vec<bool>,
}

impl Balancer {
    /// `weights` are the objectives' preferences; one of weight 0 is not trained at all.
    ///
    /// # Errors
    /// No objective with a positive weight, or a setting out of range.
    pub fn new(config: &BalanceConfig, objectives: &Objectives, weights: &[f64]) -> Result<Self, TrainError> {
        let preferences: Vec<Preference> = objectives
            .iter()
            .zip(weights)
            .map(|(objective, weight)| Preference::new(&objective.name, *weight))
            .collect();
        Ok(Self {
            weighting: config.method().build(&preferences)?,
            cut: config.gradients,
            wanted: weights.iter().map(|weight| *weight > 0.0).collect(),
        })
    }

    /// Where gradients are compared; `None` if the method looks at losses alone.
    pub fn cut(&self) -> Option<GradientCut> {
        self.weighting.needs_gramian().then_some(self.cut)
    }

    /// Which objectives are trained.
    pub fn wanted(&self) -> &[bool] {
        &self.wanted
    }

    pub(crate) fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>, TrainError> {
        Ok(self.weighting.weights(signals)?)
    }

    pub(crate) fn state(&self) -> WeightingState {
        self.weighting.state()
    }

    pub(crate) fn restore(&mut self, state: &WeightingState) -> Result<(), TrainError> {
        Ok(self.weighting.restore(state)?)
    }
}
