//! How several objectives become one gradient: the configuration and its live state.

use paretune_objectives::Objectives;
use paretune_optim::{Method, Normalization, Preference, Signals, Weighting, WeightingState};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How several gradients become one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalanceConfig {
    /// `weighted-sum`, `uncertainty` or `mgda`.
    pub method: Method,
    /// Where gradients are compared; read by methods that look at gradients.
    pub gradients: GradientCut,
    /// How MGDA brings the gradients to one scale.
    pub normalize: Normalization,
    /// Learning rate of the log-variances of uncertainty weighting.
    pub uncertainty_lr: f64,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        let optim = paretune_optim::BalanceConfig::default();
        Self {
            method: optim.method,
            gradients: GradientCut::default(),
            normalize: optim.normalize,
            uncertainty_lr: optim.uncertainty_lr,
        }
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
        let optim = paretune_optim::BalanceConfig {
            method: config.method,
            normalize: config.normalize,
            uncertainty_lr: config.uncertainty_lr,
        };
        Ok(Self {
            weighting: optim.build(&preferences)?,
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
