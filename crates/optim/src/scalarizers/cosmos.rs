//! A weighted sum that keeps to a direction.

use serde::{Deserialize, Serialize};

use super::{seen, spread};
use crate::adam::check_range;
use crate::scalarizers::function_of_losses;
use crate::state::Memory;
use crate::weighting::Objectives;
use crate::{Preference, Result};

/// Norms below this count as this; the constant of `torch.nn.functional.cosine_similarity`.
const SMALL: f64 = 1e-8;

/// Parameters of [`Cosmos`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CosmosConfig {
    /// Reward of the cosine between losses and preferences, at least 0; the paper uses 0.01 to 8.
    pub lambda: f64,
}

impl Default for CosmosConfig {
    fn default() -> Self {
        Self { lambda: 1.0 }
    }
}

/// COSMOS (Ruchte and Grabocka, ICDM 2021): `Σ p_i L_i - λ cos(p, L)` with shares `p`.
///
/// The cosine spreads solutions over the front when preferences are drawn anew for each batch and the model sees them. Weights can be
/// negative.
#[derive(Debug, Clone)]
pub struct Cosmos {
    lambda: f64,
    objectives: Objectives,
    memory: Memory,
}

impl Cosmos {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// Wrong preferences, or a negative `lambda`.
    pub fn new(objectives: &[Preference], config: CosmosConfig) -> Result<Self> {
        check_range("lambda", config.lambda, 0.0, 1e12, "it is at least 0, such as 1")?;
        let (lambda, memory) = (config.lambda, Memory::counter("cosmos"));
        Ok(Self { lambda, objectives: Objectives::new(objectives)?, memory })
    }

    fn solve(&self, losses: &[f64], observed: &[usize]) -> Result<(f64, Vec<f64>)> {
        let at = seen(&self.objectives, observed);
        let shares = self.objectives.shares();
        let dot: f64 = at.iter().map(|&i| shares[i] * losses[i]).sum();
        let length = |v: &[f64]| at.iter().map(|&i| v[i] * v[i]).sum::<f64>().sqrt();
        let (p, l) = (length(&shares).max(SMALL), length(losses));
        let norm = l.max(SMALL);
        let cosine = dot / p / norm;
        // Where the norm is cut off, it does not move.
        let turn = |i: usize| if l > SMALL { cosine * (losses[i] / norm) / norm } else { 0.0 };
        let weights = at.iter().map(|&i| shares[i] - self.lambda * (shares[i] / p / norm - turn(i)));
        Ok((dot - self.lambda * cosine, spread(self.objectives.len(), &at, weights)))
    }
}

function_of_losses!(Cosmos);
