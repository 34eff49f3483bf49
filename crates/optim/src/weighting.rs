//! The one trait that every balancing method implements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Gramian, OptimError, Result};

/// What a method may look at in one step. All slices are in the order in which the objectives were given to the method.
#[derive(Debug, Clone, Copy)]
pub struct Signals<'a> {
    /// Loss of every objective, before any weight.
    pub losses: &'a [f64],
    /// How many labels every loss is the mean of; a loss of no labels says nothing.
    pub observed: &'a [usize],
    /// The gradients' Gramian; only methods whose [`Weighting::needs_gramian`] is true read it.
    pub gramian: Option<&'a Gramian>,
}

/// An objective's name and how much it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// Name, for messages and saved state.
    pub name: String,
    /// Weight, finite and not negative. What it does is the method's to say.
    pub weight: f64,
}

impl Preference {
    /// A preference.
    pub fn new(name: impl Into<String>, weight: f64) -> Self {
        Self { name: name.into(), weight }
    }

    pub(crate) fn check(all: &[Self]) -> Result<()> {
        if all.is_empty() {
            return Err(OptimError::Empty);
        }
        if let Some(wrong) = all.iter().find(|p| !p.weight.is_finite() || p.weight < 0.0) {
            let (setting, value) = (format!("the weight of objective {}", wrong.name), wrong.weight.to_string());
            return Err(OptimError::Setting { setting, value, rule: "weights are finite and not negative" });
        }
        if all.iter().all(|p| p.weight == 0.0) {
            let setting = "the sum of the objectives' weights".to_string();
            return Err(OptimError::Setting { setting, value: "0".into(), rule: "at least one objective must count" });
        }
        Ok(())
    }
}

/// A balancing method: losses and gradients in, one weight for each objective out.
///
/// The training loop descends along `Σ w_i g_i`. A method may keep state between steps; [`Weighting::state`] and
/// [`Weighting::restore`] carry it across an interruption, bit for bit.
pub trait Weighting: Send {
    /// The name in configuration files and reports.
    fn name(&self) -> &'static str;

    /// Whether [`Signals::gramian`] must be there. When it is not needed, one backward pass of the weighted sum is enough.
    fn needs_gramian(&self) -> bool;

    /// The weights for this step, finite and not negative, in the objectives' order.
    ///
    /// # Errors
    /// A wrong number of losses, a loss that is not finite, or no Gramian for a method that needs one.
    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>>;

    /// Everything that [`Weighting::weights`] remembers.
    fn state(&self) -> WeightingState;

    /// Takes up where [`Weighting::state`] was called.
    ///
    /// # Errors
    /// The state is of another method or of other objectives; nothing is changed then.
    fn restore(&mut self, state: &WeightingState) -> Result<()>;
}

/// A method's memory, ready for `serde`.
///
/// Numbers are stored as their bits: text formats round what they read, and a resumed run must not differ by a last digit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightingState {
    /// [`Weighting::name`] of the method that wrote it.
    pub method: String,
    /// Steps taken.
    pub step: u64,
    /// Named vectors, one value for each objective.
    #[serde(with = "bits")]
    pub values: BTreeMap<String, Vec<f64>>,
}

impl WeightingState {
    pub(crate) fn of(method: &'static str) -> Self {
        Self { method: method.to_string(), ..Self::default() }
    }

    pub(crate) fn check(&self, method: &'static str) -> Result<()> {
        if self.method == method {
            return Ok(());
        }
        Err(OptimError::State { reason: format!("it was written by \"{}\", not by \"{method}\"", self.method) })
    }

    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f64>> {
        let values = self
            .values
            .get(name)
            .ok_or_else(|| OptimError::State { reason: format!("{name} is missing from the balancing method") })?;
        if values.len() != length || values.iter().any(|v| !v.is_finite()) {
            let reason = format!("{name} must hold {length} finite values, one for each objective");
            return Err(OptimError::State { reason });
        }
        Ok(values.clone())
    }
}

/// The checks that every method makes first.
pub(crate) fn check_signals(signals: &Signals<'_>, objectives: &[Preference]) -> Result<()> {
    let expected = objectives.len();
    let counts = [("losses", signals.losses.len()), ("label counts", signals.observed.len())];
    for (what, found) in counts {
        if found != expected {
            return Err(OptimError::Count { what, found, expected });
        }
    }
    for (objective, &value) in objectives.iter().zip(signals.losses) {
        if !value.is_finite() {
            return Err(OptimError::NotFinite { what: "the loss", objective: objective.name.clone(), value });
        }
    }
    Ok(())
}

mod bits {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &BTreeMap<String, Vec<f64>>, to: S) -> Result<S::Ok, S::Error> {
        let bits: BTreeMap<&String, Vec<u64>> =
            values.iter().map(|(k, v)| (k, v.iter().map(|x| x.to_bits()).collect())).collect();
        bits.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Vec<f64>>, D::Error> {
        let bits = BTreeMap::<String, Vec<u64>>::deserialize(from)?;
        Ok(bits.into_iter().map(|(k, v)| (k, v.into_iter().map(f64::from_bits).collect())).collect())
    }
}
