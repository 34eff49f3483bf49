//! Unconflicting projection of gradients.

use serde::{Deserialize, Serialize};

use crate::solvers::dual_cone::Cone;
use crate::solvers::exact::check_point;
use crate::{Gramian, Result, Rule};

/// UPGrad (Quinton and Rey, "Jacobian descent for multi-objective optimization", 2024): every gradient is projected onto the directions that
/// hurt no objective, and the projections are added: `Σ p_i π(g_i)`.
///
/// The direction never conflicts with an objective, and it is linear under scaling of any one gradient: halving a loss halves its
/// part and moves nothing else. At a Pareto-stationary point it is zero. A zero row has weight `p_i`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpGrad {}

impl Rule for UpGrad {
    const NAME: &'static str = "upgrad";

    fn weights(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Vec<f64>> {
        check_point(preferences, gramian.size())?;
        let cone = Cone::new(gramian);
        let mut weights = preferences.to_vec();
        for (i, &p) in preferences.iter().enumerate().filter(|(_, p)| **p != 0.0) {
            cone.project_one(i, p, &mut weights);
        }
        Ok(weights)
    }
}
