//! Preferences that change in training, as a configuration says it.

use std::collections::BTreeMap;

use paretune_optim::control::{Anneal, Controller, Curve, Ramp, Segment, TargetConfig, TargetTracking};
use paretune_optim::{OptimError, Preference};
use serde::{Deserialize, Serialize};

/// What moves the preferences. Moments are shares of the run: 0 is its first step, 1 its last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlConfig {
    /// Single objectives in straight lines ([`Ramp`]).
    Ramp {
        /// By objective.
        objectives: BTreeMap<String, RampConfig>,
    },
    /// From the configured weights to others ([`Anneal`]).
    Anneal {
        /// Weights at the end, by objective; those that are not named keep theirs.
        to: BTreeMap<String, f64>,
        /// When they are reached.
        #[serde(default = "whole")]
        until: f64,
        /// The way there.
        #[serde(default)]
        curve: Curve,
    },
    /// Keeps objectives above a floor, measured at every validation ([`TargetTracking`]).
    Target {
        /// By objective, in the unit of its skill on the validation part: AUC, or R² for regressions.
        floors: BTreeMap<String, f64>,
        /// How much the logarithm of a weight moves for a shortfall of 1.
        #[serde(default = "gain")]
        gain: f64,
        /// Share of a raise that is given back at each measurement above the floor.
        #[serde(default = "relax")]
        relax: f64,
        /// A weight is raised to this multiple of itself at most.
        #[serde(default = "most")]
        most: f64,
    },
}

/// One objective's ramp.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RampConfig {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub until: f64,
    /// Weight up to `from`.
    pub weight: f64,
    /// Weight from `until` on.
    pub to_weight: f64,
}

fn whole() -> f64 {
    1.0
}

fn gain() -> f64 {
    // A skill lacks hundredths, not ones.
    20.0
}

fn relax() -> f64 {
    TargetConfig::default().relax
}

fn most() -> f64 {
    TargetConfig::default().most
}

impl ControlConfig {
    /// The controller of a run of `steps` steps.
    pub(super) fn build(&self, objectives: &[Preference], steps: u64) -> Result<Box<dyn Controller>, OptimError> {
        self.check_names(objectives)?;
        Ok(match self {
            Self::Ramp { objectives: ramps } => {
                let segment = |ramp: &RampConfig| -> Result<Segment, OptimError> {
                    let (from, until) = (moment("from", ramp.from, steps)?, moment("until", ramp.until, steps)?);
                    if ramp.until <= ramp.from {
                        let (setting, value) = ("balance.control.until".into(), ramp.until.to_string());
                        return Err(OptimError::Setting { setting, value, rule: "a ramp ends after it begins" });
                    }
                    // In a run of few steps both may be the same one.
                    let until = until.max(from + 1);
                    Ok(Segment { from, until, weight: ramp.weight, to_weight: ramp.to_weight })
                };
                let own = |objective: &Preference| ramps.get(&objective.name).map(segment).transpose();
                Box::new(Ramp::new(objectives, objectives.iter().map(own).collect::<Result<_, _>>()?)?)
            }
            Self::Anneal { to, until, curve } => {
                let end = |objective: &Preference| to.get(&objective.name).copied().unwrap_or(objective.weight);
                let until = moment("until", *until, steps)?.max(1);
                Box::new(Anneal::new(objectives, &objectives.iter().map(end).collect::<Vec<_>>(), until, *curve)?)
            }
            Self::Target { floors, gain, relax, most } => {
                let floors: Vec<_> = objectives.iter().map(|objective| floors.get(&objective.name).copied()).collect();
                let config = TargetConfig { gain: *gain, relax: *relax, most: *most };
                Box::new(TargetTracking::new(objectives, &floors, config)?)
            }
        })
    }

    /// Whether an objective of weight 0 is wanted all the same, some time.
    pub(super) fn wants(&self, name: &str) -> bool {
        match self {
            Self::Ramp { objectives } => objectives.get(name).is_some_and(|ramp| ramp.weight.max(ramp.to_weight) > 0.0),
            Self::Anneal { to, .. } => to.get(name).is_some_and(|weight| *weight > 0.0),
            Self::Target { .. } => false,
        }
    }

    fn check_names(&self, objectives: &[Preference]) -> Result<(), OptimError> {
        let named: Vec<&String> = match self {
            Self::Ramp { objectives } => objectives.keys().collect(),
            Self::Anneal { to, .. } => to.keys().collect(),
            Self::Target { floors, .. } => floors.keys().collect(),
        };
        match named.into_iter().find(|name| objectives.iter().all(|objective| objective.name != **name)) {
            None => Ok(()),
            Some(name) => Err(OptimError::UnknownObjective {
                setting: "balance.control".into(),
                name: name.clone(),
                known: objectives.iter().map(|objective| objective.name.as_str()).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// A share of the run as a step.
fn moment(name: &str, share: f64, steps: u64) -> Result<u64, OptimError> {
    if !(0.0..=1.0).contains(&share) {
        let setting = format!("balance.control.{name}");
        return Err(OptimError::Setting {
            setting,
            value: share.to_string(),
            rule: "it is a share of the run, 0 to 1",
        });
    }
    Ok((share * steps.saturating_sub(1) as f64).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objectives() -> [Preference; 2] {
        [Preference::new("click", 1.0), Preference::new("rating", 0.0)]
    }

    fn build(text: &str) -> Result<Box<dyn Controller>, OptimError> {
        toml::from_str::<ControlConfig>(text).unwrap().build(&objectives(), 101)
    }

    #[test]
    fn moments_are_shares_of_the_run() {
        let ramp = "kind = \"ramp\"\nobjectives.rating = { from = 0.2, until = 0.6, weight = 0, to_weight = 2 }";
        let control = build(ramp).unwrap();
        assert_eq!((control.preferences(20), control.preferences(40)), (vec![1.0, 0.0], vec![1.0, 1.0]));
        assert_eq!(control.preferences(100), [1.0, 2.0]);
        assert!(toml::from_str::<ControlConfig>(ramp).unwrap().wants("rating"));
        let control = build("kind = \"anneal\"\nto = { rating = 4 }\nuntil = 0.5").unwrap();
        assert_eq!((control.preferences(25), control.preferences(50)), (vec![1.0, 2.0], vec![1.0, 4.0]));
    }

    #[test]
    fn wrong_settings_say_what_is_wrong() {
        let refused = |text: &str| build(text).err().unwrap().to_string();
        assert!(refused("kind = \"anneal\"\nto = { sales = 4 }").contains("sales"));
        assert!(refused("kind = \"anneal\"\nto = { rating = 4 }\nuntil = 50").contains("share of the run"));
        assert!(refused("kind = \"target\"\nfloors = { rating = 0.3 }").contains("rating"));
        let backwards = "kind = \"ramp\"\nobjectives.click = { from = 0.6, until = 0.2, weight = 1, to_weight = 2 }";
        assert!(refused(backwards).contains("ends after it begins"));
        assert!(toml::from_str::<ControlConfig>("kind = \"pid\"").is_err());
    }
}
