//! Which parameter gets which learning rate and decay.

use serde::{Deserialize, Serialize};

use crate::{OptimError, Result};

/// Weight decay and learning-rate scales by the parameters' names, the same for every optimizer. The learning rate itself is given with
/// every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Groups {
    /// Weight decay `λ`, not below 0.
    pub weight_decay: f64,
    /// Parameters whose name ends with one of these do not decay, and [`Lamb`](crate::Lamb) does not rescale their steps.
    pub no_decay: Vec<String>,
    /// Parts of the model with settings of their own; the first whose prefix fits counts.
    pub own: Vec<ParameterGroup>,
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
    /// Weight decay in place of [`Groups::weight_decay`]; [`Groups::no_decay`] still goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl Default for Groups {
    fn default() -> Self {
        // Biases and normalization weights: a pull to zero has no meaning for them (BERT's recipe).
        let no_decay = ["bias", "LayerNorm.weight", "norm.weight"].map(String::from).to_vec();
        Self { weight_decay: 0.01, no_decay, own: Vec::new() }
    }
}

/// What a name decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    pub(super) lr_scale: f64,
    pub(super) weight_decay: f64,
    /// Whether the name is on the list of those that do not decay.
    pub(super) plain: bool,
}

impl Groups {
    pub(super) fn share(&self, name: &str) -> Share {
        let group = self.own.iter().find(|g| name.starts_with(&g.prefix));
        let decay = group.and_then(|g| g.weight_decay).unwrap_or(self.weight_decay);
        let plain = self.no_decay.iter().any(|end| name.ends_with(end.as_str()));
        Share { lr_scale: group.map_or(1.0, |g| g.lr_scale), weight_decay: if plain { 0.0 } else { decay }, plain }
    }

    pub(super) fn check(&self) -> Result<()> {
        let scales = self.own.iter().map(|g| (format!("lr_scale of {}", g.prefix), g.lr_scale));
        let decays = self
            .own
            .iter()
            .filter_map(|g| Some((format!("weight_decay of {}", g.prefix), g.weight_decay?)))
            .chain([("weight_decay".to_string(), self.weight_decay)]);
        for (setting, value) in scales.chain(decays) {
            if !(value.is_finite() && value >= 0.0) {
                let rule = "it is finite and not negative";
                return Err(OptimError::Setting { setting, value: value.to_string(), rule });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_decay_and_learning_rate() {
        let group =
            |prefix: &str, lr_scale, weight_decay| ParameterGroup { prefix: prefix.into(), lr_scale, weight_decay };
        let groups = Groups {
            weight_decay: 0.1,
            own: vec![group("encoder.layer.0.", 0.5, None), group("encoder.", 0.7, Some(0.2))],
            ..Groups::default()
        };
        for (name, expected) in [
            ("encoder.layer.0.attention.weight", (0.5, 0.1)),
            ("encoder.layer.1.attention.weight", (0.7, 0.2)),
            ("encoder.layer.1.attention.bias", (0.7, 0.0)),
            ("encoder.layer.1.LayerNorm.weight", (0.7, 0.0)),
            ("towers.click.0.weight", (1.0, 0.1)),
        ] {
            let share = groups.share(name);
            assert_eq!((share.lr_scale, share.weight_decay), expected, "{name}");
            assert_eq!(share.plain, expected.1 == 0.0, "{name}");
        }
        assert!(Groups { own: vec![group("a", -1.0, None)], ..Groups::default() }.check().is_err());
        let error = Groups { own: vec![group("a.", 1.0, Some(f64::NAN))], ..Groups::default() }.check().unwrap_err();
        assert!(error.to_string().contains("weight_decay of a."), "{error}");
    }
}
