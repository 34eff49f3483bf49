//! The balancing section of a run's configuration.

use paretune_optim::{Method, MethodKind, OptimError, Parameters};
use serde::{Deserialize, Serialize};

use super::ControlConfig;

/// How several gradients become one: the method, where gradients are compared and how often, what moves the preferences, and the method's
/// parameters, in one flat table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct BalanceConfig {
    /// Any of [`Method::ALL`].
    pub method: Method,
    /// Where gradients are compared; read by methods that look at gradients. Absent: at the shared representation, but for `excess-mtl`, whose
    /// running sums need coordinates that mean the same in every batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradients: Option<GradientCut>,
    /// Steps that the weights of a method that looks at gradients are kept for. 1 = weighed at every step. More makes most steps of
    /// [`GradientCut::Full`] as cheap as those of [`GradientCut::Shared`]. An objective that had no labels when the weights were made, and has some now,
    /// is reason to make them again.
    pub refresh: usize,
    /// Preferences that change in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlConfig>,
    /// The method's parameters; those that are absent have their defaults.
    #[serde(flatten)]
    pub parameters: Parameters,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self {
            method: Method::default(),
            gradients: None,
            refresh: 1,
            control: None,
            parameters: Parameters::default(),
        }
    }
}

#[derive(Deserialize)]
struct Unchecked {
    #[serde(default)]
    method: Method,
    #[serde(default)]
    gradients: Option<GradientCut>,
    #[serde(default = "one")]
    refresh: usize,
    #[serde(default)]
    control: Option<ControlConfig>,
    #[serde(flatten)]
    parameters: Parameters,
}

fn one() -> usize {
    1
}

impl TryFrom<Unchecked> for BalanceConfig {
    type Error = OptimError;

    /// Refuses parameters that the method does not have.
    fn try_from(read: Unchecked) -> Result<Self, OptimError> {
        let Unchecked { method, gradients, refresh, control, parameters } = read;
        let config = Self { method, gradients, refresh, control, parameters };
        config.check()?;
        Ok(config)
    }
}

impl BalanceConfig {
    /// Only the method and its parameters.
    pub(super) fn method(&self) -> paretune_optim::BalanceConfig {
        paretune_optim::BalanceConfig { method: self.method, parameters: self.parameters.clone() }
    }

    /// Where gradients are compared, if they are.
    pub(super) fn cut(&self) -> GradientCut {
        self.gradients.unwrap_or(match self.method {
            Method::ExcessMtl => GradientCut::Full,
            _ => GradientCut::Shared,
        })
    }

    /// Whether the settings fit each other.
    ///
    /// # Errors
    /// A parameter that the method does not have, or a setting that it cannot be combined with.
    pub fn check(&self) -> Result<(), OptimError> {
        self.method().check()?;
        let refuse = |setting: &str, value: String, rule| {
            Err(OptimError::Setting { setting: format!("balance.{setting} with {}", self.method), value, rule })
        };
        if self.refresh == 0 {
            return refuse("refresh", "0".into(), "it is the number of steps that weights are kept for, at least 1");
        }
        if self.method == Method::GradDrop && self.refresh > 1 {
            return refuse("refresh", self.refresh.to_string(), "its direction has no weights to keep: leave it at 1");
        }
        if self.method == Method::ExcessMtl && self.cut() == GradientCut::Shared {
            let rule = "it sums up each coordinate over the steps, and those of the shared representation are other items in every batch: \
                        use \"full\", or leave it out";
            return refuse("gradients", "shared".into(), rule);
        }
        if self.method.kind() == MethodKind::Rows && self.control.is_some() {
            let rule = "preferences can only be moved for methods that answer with weights";
            return refuse("control", "set".into(), rule);
        }
        Ok(())
    }
}

/// Which gradients are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientCut {
    /// Of the shared representation: `K` cheap passes and one through the backbone.
    #[default]
    Shared,
    /// Of every shared parameter: `K + 1` passes through the backbone. The textbook's form.
    Full,
}
