//! Weights by excess risk.

use serde::{Deserialize, Serialize};

use crate::adam::check_rate;
use crate::random::softmax;
use crate::solve::Combination;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Jacobian, OptimError, Preference, Result, RowWeighting, Signals};

const WEIGHTS: usize = 0;
const SQUARES: usize = 1;
const INITIAL: usize = 2;
const WARMUP: usize = 3;
const SMALL: f64 = 1e-7;

/// Parameters of [`ExcessMtl`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExcessMtlConfig {
    /// Step of the exponentiated update, above 0.
    pub step_size: f64,
    /// Steps with equal weights over which the first risks are averaged.
    pub warmup: u64,
}

impl Default for ExcessMtlConfig {
    fn default() -> Self {
        Self { step_size: 1.0, warmup: 0 }
    }
}

/// ExcessMTL (He et al., "Robust multi-task learning with excess risks", ICML 2024): weights on the simplex that grow with
/// `exp(η E_i)`, where the excess risk `E_i = g_iᵀ H_i⁻¹ g_i` uses the diagonal `H_i = √(Σ g_i²)` of AdaGrad, relative to the first one.
///
/// Needs the rows: the curvature is kept for every coordinate (`m × n` numbers, in the saved state too). An objective without a gradient
/// has no excess. Of preference 0 it is left out; otherwise preferences are where the weights begin.
#[derive(Debug, Clone)]
pub struct ExcessMtl {
    config: ExcessMtlConfig,
    objectives: Objectives,
    memory: Memory,
}

impl ExcessMtl {
    /// Starts with the preferences' shares.
    ///
    /// # Errors
    /// Wrong preferences, or a step size that is not positive.
    pub fn new(objectives: &[Preference], config: ExcessMtlConfig) -> Result<Self> {
        check_rate("step_size", config.step_size)?;
        let objectives = Objectives::new(objectives)?;
        let zeros = vec![0.0; objectives.len()];
        let fresh = vec![objectives.shares(), Vec::new(), zeros.clone(), zeros];
        let memory = Memory::new("excess-mtl", &["weights", "squares", "initial", "warmup"], fresh);
        Ok(Self { config, objectives, memory })
    }
}

impl RowWeighting for ExcessMtl {
    fn name(&self) -> &'static str {
        "excess-mtl"
    }

    fn combine(&mut self, jacobian: &Jacobian, signals: &Signals<'_>) -> Result<Combination> {
        self.objectives.check_rows(signals, jacobian)?;
        let (m, n) = (jacobian.size(), jacobian.width());
        if self.memory.values[SQUARES].is_empty() {
            self.memory.values[SQUARES] = vec![0.0; m * n];
        }
        if self.memory.values[SQUARES].len() != m * n {
            let reason = format!("it is for gradients of {} values, not {n}", self.memory.values[SQUARES].len() / m);
            return Err(OptimError::State { reason });
        }
        let mut risks = vec![0.0; m];
        for (i, row) in jacobian.rows().iter().enumerate() {
            for (k, g) in row.iter().enumerate() {
                let square = (g * g).min(f64::MAX);
                let sum = &mut self.memory.values[SQUARES][i * n + k];
                *sum = (*sum + square).min(f64::MAX);
                risks[i] += square / (*sum + SMALL).sqrt();
            }
            risks[i] = risks[i].min(f64::MAX);
        }
        let step = self.memory.step;
        self.memory.step += 1;
        if step >= self.config.warmup {
            for (i, risk) in risks.iter_mut().enumerate() {
                // An initial risk of 0 means that there has been none: an objective without labels so far is measured by its first ones.
                if self.memory.values[INITIAL][i] == 0.0 {
                    let warm = self.memory.values[WARMUP][i] / self.config.warmup.max(1) as f64;
                    self.memory.values[INITIAL][i] = if warm > 0.0 { warm } else { *risk };
                    if step == 0 {
                        // As the authors' code: the first risk is its own measure only from the next step on.
                        continue;
                    }
                }
                *risk /= self.memory.values[INITIAL][i] + SMALL;
            }
            let logits: Vec<f64> = self.memory.values[WEIGHTS]
                .iter()
                .zip(&risks)
                .map(|(w, r)| (w.max(f64::MIN_POSITIVE).ln() + r * self.config.step_size).min(f64::MAX))
                .collect();
            let wanted: Vec<usize> = (0..m).filter(|&i| self.objectives.weight(i) > 0.0).collect();
            let moved = softmax(&wanted.iter().map(|&i| logits[i]).collect::<Vec<_>>());
            self.memory.values[WEIGHTS] = vec![0.0; m];
            wanted.iter().zip(moved).for_each(|(&i, w)| self.memory.values[WEIGHTS][i] = w);
        } else {
            self.memory.values[WARMUP].iter_mut().zip(&risks).for_each(|(s, r)| *s = (*s + r).min(f64::MAX));
        }
        let weights = self.memory.values[WEIGHTS].clone();
        Ok(Combination { direction: jacobian.combine(&weights), weights })
    }

    remembers!();
}
