//! Objectives in order of importance.

use serde::{Deserialize, Serialize};

use super::pcgrad::places;
use crate::solvers::non_negative::{Bounded, non_negative};
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Gramian, Preference, Result, Signals, Weighting};

/// Parameters of [`Lexicographic`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LexicographicConfig {
    /// The objectives' names, the most important first; by default the order in which they are given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
}

/// Lexicographic descent: each objective contributes the part of its gradient that hurts no more important one,
/// `Σ_k m p_k π_{<k}(g_k)` with `π_{<k}` the projection onto `{ d : g_j · d ≥ 0 for all j before k }`.
///
/// No objective is ever traded for a less important one: the progress of objective `j` is at least what it would be if those
/// after it did not exist, whatever their number, length or preference. A more important gradient of zero (the objective is at its
/// optimum, or has no labels in the batch) leaves the others free. At points where nothing is left to gain the direction is zero.
#[derive(Debug, Clone)]
pub struct Lexicographic {
    order: Vec<usize>,
    objectives: Objectives,
    memory: Memory,
}

impl Lexicographic {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, or an order that is not one of all objectives.
    pub fn new(objectives: &[Preference], config: &LexicographicConfig) -> Result<Self> {
        let objectives = Objectives::new(objectives)?;
        let order = match config.order.is_empty() {
            true => (0..objectives.len()).collect(),
            false => places("order", &config.order, &objectives)?,
        };
        Ok(Self { order, objectives, memory: Memory::counter("lexicographic") })
    }
}

impl Weighting for Lexicographic {
    fn name(&self) -> &'static str {
        "lexicographic"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "lexicographic")?;
        let m = self.objectives.len();
        let shares = self.objectives.shares();
        let live: Vec<usize> =
            self.order.iter().copied().filter(|&i| shares[i] > 0.0 && gramian.norm(i) > 0.0).collect();
        if live.is_empty() {
            return Ok(shares);
        }
        let mut weights = vec![0.0; m];
        for (k, &i) in live.iter().enumerate() {
            let factor = m as f64 * shares[i];
            weights[i] += factor;
            for (&j, x) in live[..k].iter().zip(projected(gramian, i, &live[..k])) {
                let length = (factor * gramian.norm(i) / gramian.norm(j)).min(f64::MAX);
                weights[j] = (weights[j] + x * length).min(f64::MAX);
            }
        }
        Ok(weights)
    }

    remembers!();
}

/// Multipliers on unit gradients that project the unit gradient `i` onto what hurts none of `above`.
pub(super) fn projected(gramian: &Gramian, i: usize, above: &[usize]) -> Vec<f64> {
    let b: Vec<f64> = above.iter().map(|&j| -gramian.cosine(i, j)).collect();
    if b.iter().all(|b| *b <= 0.0) {
        return vec![0.0; above.len()];
    }
    let h: Vec<f64> = above.iter().flat_map(|&j| above.iter().map(move |&k| gramian.cosine(j, k))).collect();
    non_negative(&h, &b, &[], Bounded::Yes).unwrap_or_else(|| vec![0.0; above.len()])
}
