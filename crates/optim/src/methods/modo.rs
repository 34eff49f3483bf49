//! Multi-objective gradient with double sampling.

use serde::{Deserialize, Serialize};

use super::sdmgrad::{square, take};
use crate::adam::{check_range, check_rate};
use crate::solvers::simplex::project_simplex;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Preference, Result, Signals, Weighting};

const TASKS: usize = 0;

/// Parameters of [`MoDo`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoDoConfig {
    /// Learning rate of the weights, above 0. It has the unit of an inverse squared gradient.
    pub gamma: f64,
    /// Pull towards equal weights, at least 0.
    pub rho: f64,
}

impl Default for MoDoConfig {
    fn default() -> Self {
        Self { gamma: 0.1, rho: 0.1 }
    }
}

/// MoDo (Chen et al., "Three-way trade-off in multi-objective learning", JMLR 2024): weights `w` on the simplex that take one projected gradient
/// step on `½ ‖Σ w_i g_i‖² + ½ ρ ‖w‖²` at each training step.
///
/// In the paper the products are between gradients of two independent batches: [`MoDo::weights_from_products`] takes such a matrix. In the training
/// loop the Gramian of one batch stands in for it. In the mean that is the true Gramian plus the covariance of the gradients' noise: weight moves
/// away from objectives with noisy gradients, as under MGDA, and the paper's results do not cover it. Remembers `w`. Preferences are not read, but an
/// objective of preference 0 is left out; one without a gradient keeps its `w` and weighs nothing in that step.
#[derive(Debug, Clone)]
pub struct MoDo {
    config: MoDoConfig,
    objectives: Objectives,
    memory: Memory,
}

impl MoDo {
    /// Starts with equal weights.
    ///
    /// # Errors
    /// Wrong preferences, or a parameter out of range.
    pub fn new(objectives: &[Preference], config: MoDoConfig) -> Result<Self> {
        check_rate("gamma", config.gamma)?;
        check_range("rho", config.rho, 0.0, 1e6, "it is between 0 and 1e6, such as 0.1")?;
        let memory = Memory::new("modo", &["tasks"], vec![vec![1.0 / objectives.len() as f64; objectives.len()]]);
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory })
    }

    /// One step from `J₁ J₂ᵀ` (`m × m`), gradients of two independent batches. It need not be symmetric.
    ///
    /// # Errors
    /// Not `m × m`, or a value that is not finite.
    pub fn weights_from_products<R: AsRef<[f64]>>(&mut self, products: &[R]) -> Result<Vec<f64>> {
        let m = self.objectives.len();
        let a = square(products, m)?;
        let live: Vec<usize> =
            (0..m).filter(|&i| self.objectives.weight(i) > 0.0 && (0..m).any(|j| a[i * m + j] != 0.0)).collect();
        self.memory.step += 1;
        if live.is_empty() {
            return Ok(self.objectives.shares());
        }
        let (mass, w) = take(&self.memory.values[TASKS], &live);
        let moved: Vec<f64> = live
            .iter()
            .zip(&w)
            .map(|(&i, own)| {
                let gradient: f64 = live.iter().zip(&w).map(|(&j, w)| a[i * m + j] * w).sum();
                (own - self.config.gamma * (gradient + self.config.rho * own)).clamp(-f64::MAX, f64::MAX)
            })
            .collect();
        let mut weights = vec![0.0; m];
        for (&i, w) in live.iter().zip(project_simplex(&moved)) {
            (self.memory.values[TASKS][i], weights[i]) = (w * mass, w);
        }
        Ok(weights)
    }
}

impl Weighting for MoDo {
    fn name(&self) -> &'static str {
        "modo"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let rows = self.objectives.gramian(signals, "modo")?.to_rows();
        self.weights_from_products(&rows)
    }

    remembers!();
}
