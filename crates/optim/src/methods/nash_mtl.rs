//! A bargaining solution.

use serde::{Deserialize, Serialize};

use crate::adam::check_range;
use crate::rule::on_live;
use crate::solvers::equilibrium::power_equilibrium;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Gramian, OptimError, Preference, Result, Signals, Weighting};

const ALPHA: usize = 0;

/// Parameters of [`NashMtl`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NashMtlConfig {
    /// The direction is cut to this length, above 0; 0 leaves it as it is.
    pub max_norm: f64,
    /// Bargain anew every so many steps, at least 1; the weights stay in between.
    pub update_every: u64,
}

impl Default for NashMtlConfig {
    fn default() -> Self {
        Self { max_norm: 1.0, update_every: 1 }
    }
}

/// Nash-MTL (Navon et al., "Multi-task learning as a bargaining game", ICML 2022): the direction that maximizes `Σ p_i ln(g_i · d)` in a ball:
/// `(G α)_i = m p_i / α_i`, `α > 0`.
///
/// The product is invariant to the scale of each gradient and every objective gains. Solved by Newton's method, exactly, where the
/// authors' code linearizes; the scale follows it: `G` is divided by its Frobenius norm and the direction cut to `max_norm`. At a
/// Pareto-stationary point there is no bargain: a ridge of 1e-10 on the cosines lets `α` grow towards the stationary combination and stay
/// finite. Remembers the weights for `update_every`.
#[derive(Debug, Clone)]
pub struct NashMtl {
    config: NashMtlConfig,
    objectives: Objectives,
    memory: Memory,
}

impl NashMtl {
    /// Starts without a bargain.
    ///
    /// # Errors
    /// Wrong preferences, or a parameter out of range.
    pub fn new(objectives: &[Preference], config: NashMtlConfig) -> Result<Self> {
        check_range("max_norm", config.max_norm, 0.0, f64::MAX, "it is a length, or 0 for none")?;
        if config.update_every == 0 {
            let rule = "it is at least 1";
            return Err(OptimError::Setting { setting: "update_every".into(), value: "0".into(), rule });
        }
        let memory = Memory::new("nash-mtl", &["alpha"], vec![Vec::new()]);
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory })
    }
}

impl Weighting for NashMtl {
    fn name(&self) -> &'static str {
        "nash-mtl"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "nash-mtl")?;
        let m = self.objectives.len();
        let due = self.memory.step.is_multiple_of(self.config.update_every);
        if due || self.memory.values[ALPHA].len() != m {
            self.memory.values[ALPHA] = on_live(gramian, &self.objectives.shares(), |g, p| Ok(bargain(g, p)))?;
        }
        self.memory.step += 1;
        let alpha = &self.memory.values[ALPHA];
        let (unit, products) = gramian.relative();
        let largest = alpha.iter().copied().fold(0.0, f64::max);
        let length = largest
            * unit
            * Gramian::from_products(m, products)
                .squared_norm(&alpha.iter().map(|a| a / largest).collect::<Vec<_>>())
                .sqrt();
        let cut = if self.config.max_norm > 0.0 && length > self.config.max_norm {
            self.config.max_norm / length
        } else {
            1.0
        };
        Ok(alpha.iter().map(|a| a * cut).collect())
    }

    remembers!();
}

/// `α` for the Gramian over its Frobenius norm.
fn bargain(gramian: &Gramian, shares: &[f64]) -> Vec<f64> {
    let m = gramian.size();
    let cosines: Vec<f64> = (0..m * m).map(|k| gramian.cosine(k / m, k % m)).collect();
    let log_k: Vec<f64> = shares.iter().map(|p| (m as f64 * p).ln()).collect();
    let (unit, products) = gramian.relative();
    let frobenius = unit * products.iter().map(|x| x * x).sum::<f64>().sqrt().sqrt();
    let z = power_equilibrium(&cosines, &log_k, 1.0);
    z.iter().enumerate().map(|(i, z)| (z * (frobenius / gramian.norm(i))).min(f64::MAX)).collect()
}
