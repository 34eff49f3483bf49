//! Settings of the optimizer, and which parameter gets which.

use serde::{Deserialize, Serialize};

use crate::{OptimError, Result};

/// Settings of [`crate::AdamW`]. The learning rate is given with every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Memory of the mean gradient, in `[0, 1)`.
    pub beta1: f64,
    /// Memory of the mean squared gradient, in `[0, 1)`.
    pub beta2: f64,
    /// Keeps the division finite, above 0.
    pub eps: f64,
    /// Weight decay `λ`, not below 0.
    pub weight_decay: f64,
    /// Parameters whose name ends with one of these do not decay.
    pub no_decay: Vec<String>,
    /// Parts of the model with settings of their own; the first whose prefix fits counts.
    pub groups: Vec<ParameterGroup>,
}

/// Settings for the parameters whose names begin with `prefix`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// Beginning of the names, such as `encoder.`.
    pub prefix: String,
    /// Multiplies the learning rate; 0 freezes.
    #[serde(default = "one")]
    pub lr_scale: f64,
    /// Weight decay in place of [`AdamWConfig::weight_decay`]; [`AdamWConfig::no_decay`] still goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl Default for AdamWConfig {
    fn default() -> Self {
        // Biases and normalization weights: a pull to zero has no meaning for them (BERT's recipe).
        let no_decay = ["bias", "LayerNorm.weight", "norm.weight"].map(String::from).to_vec();
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, no_decay, groups: Vec::new() }
    }
}

impl AdamWConfig {
    /// Learning-rate scale and weight decay of a parameter.
    pub(super) fn settings(&self, name: &str) -> (f64, f64) {
        let group = self.groups.iter().find(|g| name.starts_with(&g.prefix));
        let decay = group.and_then(|g| g.weight_decay).unwrap_or(self.weight_decay);
        let excluded = self.no_decay.iter().any(|end| name.ends_with(end.as_str()));
        (group.map_or(1.0, |g| g.lr_scale), if excluded { 0.0 } else { decay })
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong =
            |setting: String, value: f64, rule| Err(OptimError::Setting { setting, value: value.to_string(), rule });
        for (setting, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return wrong(setting.into(), value, "it is at least 0 and below 1");
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return wrong("eps".into(), self.eps, "it is a small positive number, such as 1e-8");
        }
        let scales = self.groups.iter().map(|g| (format!("lr_scale of {}", g.prefix), g.lr_scale));
        let decays = self
            .groups
            .iter()
            .filter_map(|g| Some((format!("weight_decay of {}", g.prefix), g.weight_decay?)))
            .chain([("weight_decay".to_string(), self.weight_decay)]);
        for (setting, value) in scales.chain(decays) {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(setting, value, "it is finite and not negative");
            }
        }
        Ok(())
    }
}
