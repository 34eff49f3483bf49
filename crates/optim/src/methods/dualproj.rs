//! The mean gradient, projected.

use serde::{Deserialize, Serialize};

use crate::{Gramian, Result, Rule, project_dual_cone};

/// DualProj (the projection of GEM, Lopez-Paz and Ranzato, NeurIPS 2017): `π(Σ p_i g_i)`, the nearest direction to the mean gradient that hurts
/// no objective.
///
/// Unlike [`super::UpGrad`] a long gradient may dominate the mean before it is projected. At a Pareto-stationary point the direction
/// is zero. A zero row has weight `p_i`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DualProj {}

impl Rule for DualProj {
    const NAME: &'static str = "dualproj";

    fn weights(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Vec<f64>> {
        project_dual_cone(gramian, preferences)
    }
}
