//! Gradient vaccine.

use serde::{Deserialize, Serialize};

use crate::adam::check_range;
use crate::random::{permutation, stream};
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Preference, Result, Signals, Weighting};

const TARGETS: usize = 0;

/// Parameters of [`GradVac`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradVacConfig {
    /// How fast the targets follow the cosines: 0 to 1.
    pub beta: f64,
    /// Seed of the random orders.
    pub seed: u64,
}

impl Default for GradVacConfig {
    fn default() -> Self {
        Self { beta: 0.5, seed: 0 }
    }
}

/// GradVac (Wang et al., "Gradient vaccine", ICLR 2021): as PCGrad, but a gradient whose cosine with another is below a running mean
/// `φ_ij` of what it used to be is turned until it reaches that; the results are added: `Σ m p_i g_i'`.
///
/// Begins with `φ = 0`, so that the first step is PCGrad's. Remembers `φ`, which pairs without a gradient leave alone. Non-conflicting for
/// two objectives on the first step only. Where gradients are opposite, turning one to a positive cosine takes an endless weight: denominators
/// are kept above 1e-8, as in TorchJD.
#[derive(Debug, Clone)]
pub struct GradVac {
    config: GradVacConfig,
    objectives: Objectives,
    memory: Memory,
}

const SMALL: f64 = 1e-8;

impl GradVac {
    /// Starts with targets of 0.
    ///
    /// # Errors
    /// Wrong preferences, or `beta` outside `[0, 1]`.
    pub fn new(objectives: &[Preference], config: GradVacConfig) -> Result<Self> {
        check_range("beta", config.beta, 0.0, 1.0, "it is between 0 and 1")?;
        let m = objectives.len();
        let memory = Memory::new("gradvac", &["targets"], vec![vec![0.0; m * m]]);
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory })
    }
}

impl Weighting for GradVac {
    fn name(&self) -> &'static str {
        "gradvac"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "gradvac")?;
        let m = self.objectives.len();
        let mut random = stream(self.config.seed, self.memory.step);
        self.memory.step += 1;
        let shares = self.objectives.shares();
        let live = |i: usize| shares[i] > 0.0 && gramian.norm(i) > 0.0;
        if !(0..m).any(live) {
            return Ok(shares);
        }
        let mut weights = vec![0.0; m];
        for i in 0..m {
            let order = permutation(&mut random, m);
            if !live(i) {
                continue;
            }
            // Coefficients u_k = c_k ‖g_k‖ of the turned gradient on unit gradients, and its products with those, in units of ‖g_i‖.
            let mut own = vec![0.0; m];
            own[i] = 1.0;
            let mut along: Vec<f64> = (0..m).map(|k| gramian.cosine(i, k)).collect();
            for j in order.into_iter().filter(|&j| j != i && live(j)) {
                let norm = own.iter().zip(&along).map(|(u, a)| u * a).sum::<f64>().max(0.0).sqrt();
                let cosine = if norm > 0.0 { (along[j] / norm).clamp(-1.0, 1.0) } else { 0.0 };
                let target = &mut self.memory.values[TARGETS][i * m + j];
                if cosine < *target {
                    let (sine, wanted) = ((1.0 - cosine * cosine).sqrt(), (1.0 - *target * *target).max(0.0).sqrt());
                    let amount = norm * (*target * sine - cosine * wanted) / wanted.max(SMALL);
                    own[j] += amount;
                    (0..m).for_each(|k| along[k] += amount * gramian.cosine(j, k));
                }
                *target = (1.0 - self.config.beta) * *target + self.config.beta * cosine;
            }
            for (j, u) in own.into_iter().enumerate().filter(|(_, u)| *u != 0.0) {
                let length = (gramian.norm(i) / gramian.norm(j)).min(f64::MAX);
                weights[j] = (weights[j] + m as f64 * shares[i] * u * length).clamp(-f64::MAX, f64::MAX);
            }
        }
        Ok(weights)
    }

    remembers!();
}
