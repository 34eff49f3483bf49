//! What a method remembers between steps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{OptimError, Result};

/// A method's memory, ready for `serde`.
///
/// Numbers are stored as their bits: text formats round what they read, and a resumed run must not differ by a last digit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightingState {
    /// [`crate::Weighting::name`] of the method that wrote it.
    pub method: String,
    /// Steps taken.
    pub step: u64,
    /// Named vectors: one value for each objective, or for each pair of them.
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
        let values = self.any_vector(name)?;
        if values.len() != length {
            let reason = format!("{name} must hold {length} finite values, one for each objective");
            return Err(OptimError::State { reason });
        }
        Ok(values)
    }

    pub(crate) fn any_vector(&self, name: &str) -> Result<Vec<f64>> {
        let values = self
            .values
            .get(name)
            .ok_or_else(|| OptimError::State { reason: format!("{name} is missing from the balancing method") })?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(OptimError::State { reason: format!("{name} must hold finite values") });
        }
        Ok(values.clone())
    }
}

/// Named vectors and a step counter: the whole state of most methods.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    method: &'static str,
    /// Steps taken.
    pub(crate) step: u64,
    names: &'static [&'static str],
    fresh: Vec<Vec<f64>>,
    /// One vector for each name, in that order.
    pub(crate) values: Vec<Vec<f64>>,
}

impl Memory {
    /// `fresh` holds what a method knows before its first step. A vector that begins empty may have any length later.
    pub(crate) fn new(method: &'static str, names: &'static [&'static str], fresh: Vec<Vec<f64>>) -> Self {
        Self { method, step: 0, names, values: fresh.clone(), fresh }
    }

    /// Of a method that remembers nothing but how often it was asked.
    pub(crate) fn counter(method: &'static str) -> Self {
        Self::new(method, &[], Vec::new())
    }

    /// The name of the method it belongs to.
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    pub(crate) fn state(&self) -> WeightingState {
        let values = self.names.iter().zip(&self.values).map(|(name, v)| ((*name).to_string(), v.clone())).collect();
        WeightingState { method: self.method.to_string(), step: self.step, values }
    }

    pub(crate) fn restore(&mut self, state: &WeightingState) -> Result<()> {
        state.check(self.method)?;
        let read = |(name, fresh): (&&str, &Vec<f64>)| match fresh.len() {
            0 => state.any_vector(name),
            length => state.vector(name, length),
        };
        self.values = self.names.iter().zip(&self.fresh).map(read).collect::<Result<_>>()?;
        self.step = state.step;
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        (self.step, self.values) = (0, self.fresh.clone());
    }
}

/// The part of [`crate::Weighting`] that is the same for every method with fields `objectives` and `memory`.
macro_rules! remembers {
    () => {
        fn prefer(&mut self, weights: &[f64]) -> $crate::Result<()> {
            self.objectives.prefer(weights)
        }

        fn state(&self) -> $crate::WeightingState {
            self.memory.state()
        }

        fn restore(&mut self, state: &$crate::WeightingState) -> $crate::Result<()> {
            self.memory.restore(state)
        }

        fn reset(&mut self) {
            self.memory.reset();
        }
    };
}
pub(crate) use remembers;

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
