//! Balancing methods by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Mgda, Normalization, OptimError, Preference, Result, UncertaintyWeighting, WeightedSum, Weighting};

/// Every balancing method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// [`WeightedSum`].
    #[default]
    WeightedSum,
    /// [`UncertaintyWeighting`].
    Uncertainty,
    /// [`Mgda`].
    Mgda,
}

impl Method {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 3] = [Self::WeightedSum, Self::Uncertainty, Self::Mgda];

    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::WeightedSum => "weighted-sum",
            Self::Uncertainty => "uncertainty",
            Self::Mgda => "mgda",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = OptimError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| OptimError::UnknownMethod {
            name: name.to_string(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// The balancing section of a configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalanceConfig {
    /// Which method.
    pub method: Method,
    /// How MGDA brings the gradients to one scale; the other methods do not read it.
    pub normalize: Normalization,
    /// Learning rate of the log-variances of uncertainty weighting; the other methods do not read it.
    pub uncertainty_lr: f64,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self { method: Method::default(), normalize: Normalization::default(), uncertainty_lr: 0.01 }
    }
}

impl BalanceConfig {
    /// The method, ready for its first step.
    ///
    /// # Errors
    /// No objectives, wrong preferences, or a setting out of range.
    pub fn build(&self, objectives: &[Preference]) -> Result<Box<dyn Weighting>> {
        Ok(match self.method {
            Method::WeightedSum => Box::new(WeightedSum::new(objectives)?),
            Method::Uncertainty => Box::new(UncertaintyWeighting::new(objectives, self.uncertainty_lr)?),
            Method::Mgda => Box::new(Mgda::new(objectives, self.normalize)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signals;

    #[test]
    fn every_method_has_one_name_everywhere() {
        let objectives = [Preference::new("click", 0.3), Preference::new("rating", 0.7)];
        for method in Method::ALL {
            assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
            assert_eq!(serde_json::to_string(&method).unwrap(), format!("\"{method}\""));
            let built = BalanceConfig { method, ..BalanceConfig::default() }.build(&objectives).unwrap();
            assert_eq!(built.name(), method.name());
            assert_eq!(built.state().method, method.name());
        }
        let error = "pcgrad-ish".parse::<Method>().unwrap_err().to_string();
        assert!(error.contains("pcgrad-ish") && error.contains("weighted-sum, uncertainty, mgda"), "{error}");
    }

    #[test]
    fn weighted_sum_gives_the_preferences_back() {
        let objectives = [Preference::new("click", 0.3), Preference::new("rating", 2.0)];
        let mut sum = BalanceConfig::default().build(&objectives).unwrap();
        assert!(!sum.needs_gramian());
        let signals = Signals { losses: &[1.0, 1.0], observed: &[1, 0], gramian: None };
        assert_eq!(sum.weights(&signals).unwrap(), vec![0.3, 2.0]);
        let error = sum.weights(&Signals { losses: &[1.0], ..signals }).unwrap_err().to_string();
        assert!(error.contains("got 1 losses for 2 objectives"), "{error}");
    }

    #[test]
    fn wrong_preferences_and_settings_are_refused() {
        let build = |weights: &[f64]| {
            let all: Vec<_> = weights.iter().map(|&w| Preference::new("click", w)).collect();
            BalanceConfig::default().build(&all).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert!(build(&[]).contains("at least one"));
        assert!(build(&[-1.0]).contains("objective click = -1"));
        assert!(build(&[f64::NAN]).contains("NaN"));
        assert!(build(&[0.0, 0.0]).contains("at least one objective must count"));
        let wrong = BalanceConfig { method: Method::Uncertainty, uncertainty_lr: 0.0, ..BalanceConfig::default() };
        assert!(wrong.build(&[Preference::new("click", 1.0)]).is_err());
    }

    #[test]
    fn a_state_of_another_method_is_refused() {
        let objectives = [Preference::new("click", 1.0)];
        let mut sum = WeightedSum::new(&objectives).unwrap();
        let other = UncertaintyWeighting::new(&objectives, 0.01).unwrap().state();
        assert!(sum.restore(&other).unwrap_err().to_string().contains("uncertainty"));
    }
}
