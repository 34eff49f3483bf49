//! A common descent near a target direction, from stochastic gradients.

use serde::{Deserialize, Serialize};

use crate::adam::{check_range, check_rate};
use crate::solvers::simplex::project_simplex;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{OptimError, Preference, Result, Signals, Weighting};

const TASKS: usize = 0;

/// Parameters of [`SdmGrad`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SdmGradConfig {
    /// Learning rate of the inner iteration, above 0.
    pub lr: f64,
    /// Momentum of the inner iteration, at least 0 and below 1.
    pub momentum: f64,
    /// Inner iterations a step, at least 1.
    pub iterations: usize,
    /// How strongly the direction is pulled towards the mean gradient, at least 0.
    pub lambda: f64,
}

impl Default for SdmGradConfig {
    fn default() -> Self {
        Self { lr: 10.0, momentum: 0.5, iterations: 20, lambda: 0.3 }
    }
}

/// SDMGrad (Xiao, Ban and Ji, "Direction-oriented multi-objective learning", NeurIPS 2023): `(w + λ p) / (1 + λ)`, where `w` on the simplex follows
/// projected gradient descent on `½ ‖Σ (w_i + λ p_i) g_i‖²` from step to step.
///
/// In the paper the products are between gradients of two independent batches, which keeps the estimate unbiased: [`SdmGrad::weights_from_products`]
/// takes such a matrix. In the training loop the Gramian of one batch stands in for it. In the mean that is the true Gramian plus the covariance of
/// the gradients' noise: noise counts as length, weight moves away from objectives with noisy gradients, and the paper's convergence result does not
/// cover it. Remembers `w`. Objectives without a gradient keep their `w` and weigh nothing in that step.
#[derive(Debug, Clone)]
pub struct SdmGrad {
    config: SdmGradConfig,
    objectives: Objectives,
    memory: Memory,
}

impl SdmGrad {
    /// Starts with equal weights.
    ///
    /// # Errors
    /// Wrong preferences, or a parameter out of range.
    pub fn new(objectives: &[Preference], config: SdmGradConfig) -> Result<Self> {
        check_rate("lr", config.lr)?;
        check_range("momentum", config.momentum, 0.0, 0.999_999, "it is at least 0 and below 1")?;
        check_range("lambda", config.lambda, 0.0, 1e6, "it is between 0 and 1e6, such as 0.3")?;
        check_range("iterations", config.iterations as f64, 1.0, 10_000.0, "it is between 1 and 10000")?;
        let memory = Memory::new("sdmgrad", &["tasks"], vec![vec![1.0 / objectives.len() as f64; objectives.len()]]);
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory })
    }

    /// One step from `A = J₁ J₂ᵀ` (`m × m`), gradients of two independent batches. It need not be symmetric.
    ///
    /// # Errors
    /// Not `m × m`, or a value that is not finite.
    pub fn weights_from_products<R: AsRef<[f64]>>(&mut self, products: &[R]) -> Result<Vec<f64>> {
        let a = square(products, self.objectives.len())?;
        let m = self.objectives.len();
        let shares = self.objectives.shares();
        let live: Vec<usize> = (0..m).filter(|&i| shares[i] > 0.0 && (0..m).any(|j| a[i * m + j] != 0.0)).collect();
        self.memory.step += 1;
        if live.is_empty() {
            return Ok(shares);
        }
        let diagonal: f64 = live.iter().map(|&i| a[i * m + i].max(0.0).sqrt()).sum::<f64>() / live.len() as f64;
        // In f64 a square near 1e-8 needs no protection, an overflow does.
        let scale = if diagonal > 0.0 { diagonal } else { 1.0 };
        let target: Vec<f64> = live.iter().map(|&i| shares[i]).collect();
        let (mass, mut w) = take(&self.memory.values[TASKS], &live);
        let mut velocity = vec![0.0; live.len()];
        for round in 0..self.config.iterations {
            for (v, &i) in velocity.iter_mut().zip(&live) {
                let gradient: f64 = live
                    .iter()
                    .zip(w.iter().zip(&target))
                    .map(|(&j, (w, p))| a[i * m + j] / scale / scale * (w + self.config.lambda * p))
                    .sum();
                *v = if round == 0 { gradient } else { self.config.momentum * *v + gradient };
            }
            w = project_simplex(&w.iter().zip(&velocity).map(|(w, v)| w - self.config.lr * v).collect::<Vec<_>>());
        }
        let mut weights = vec![0.0; m];
        for (k, &i) in live.iter().enumerate() {
            self.memory.values[TASKS][i] = w[k] * mass;
            weights[i] = (w[k] + self.config.lambda * target[k]) / (1.0 + self.config.lambda);
        }
        Ok(weights)
    }
}

impl Weighting for SdmGrad {
    fn name(&self) -> &'static str {
        "sdmgrad"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let rows = self.objectives.gramian(signals, "sdmgrad")?.to_rows();
        self.weights_from_products(&rows)
    }

    remembers!();
}

/// The part of simplex weights that belongs to `live`, brought to a sum of 1, and its sum.
pub(super) fn take(weights: &[f64], live: &[usize]) -> (f64, Vec<f64>) {
    let mass: f64 = live.iter().map(|&i| weights[i]).sum();
    if mass > 0.0 {
        return (mass, live.iter().map(|&i| weights[i] / mass).collect());
    }
    // All the weight lies with objectives that are absent today: the others begin anew with an equal share.
    let share = 1.0 / live.len() as f64;
    (live.len() as f64 / weights.len() as f64, vec![share; live.len()])
}

/// A finite `m × m` matrix, row by row.
pub(super) fn square<R: AsRef<[f64]>>(products: &[R], m: usize) -> Result<Vec<f64>> {
    if products.len() != m {
        return Err(OptimError::Count { what: "rows of products", found: products.len(), expected: m });
    }
    let mut all = Vec::with_capacity(m * m);
    for (row, values) in products.iter().enumerate() {
        let values = values.as_ref();
        if values.len() != m {
            return Err(OptimError::Shape { what: "matrix of products", row, found: values.len(), expected: m });
        }
        if let Some(&value) = values.iter().find(|v| !v.is_finite()) {
            return Err(OptimError::NotFinite { what: "the gradient product", objective: row.to_string(), value });
        }
        all.extend_from_slice(values);
    }
    Ok(all)
}
