//! Equal projections.

use serde::{Deserialize, Serialize};

use crate::solvers::eigen::Eigen;
use crate::solvers::exact::check_point;
use crate::solvers::non_negative::solve;
use crate::{Gramian, Result, Rule};

/// IMTL-G (Liu et al., "Towards impartial multi-task learning", ICLR 2021): the combination whose projections onto all gradients' directions are
/// equal, with weights that sum to 1: `v = G⁺ (‖g_1‖, …, ‖g_m‖)`, `w = v / Σ v_i`.
///
/// Weights can be negative, and the equal projections too: the method asks for equality only, and can ascend. Where no direction has
/// equal projections that sum up (`|Σ v_i|` is nothing but rounding, as at many Pareto-stationary points) the weights are 0. Preferences are
/// not read. Independent gradients of any lengths are solved by their cosines; dependent ones by the pseudo-inverse of `G`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImtlG {}

impl Rule for ImtlG {
    const NAME: &'static str = "imtl-g";

    fn weights(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Vec<f64>> {
        let m = gramian.size();
        check_point(preferences, m)?;
        let (unit, products) = gramian.relative();
        let norms: Vec<f64> = (0..m).map(|i| gramian.norm(i) / unit).collect();
        if unit == 0.0 {
            return Ok(vec![0.0; m]);
        }
        let all: Vec<usize> = (0..m).collect();
        let independent = norms
            .iter()
            .all(|n| *n > 0.0)
            .then(|| solve(&(0..m * m).map(|k| gramian.cosine(k / m, k % m)).collect::<Vec<_>>(), m, &all, |_| 1.0));
        let v: Vec<f64> = match independent.flatten() {
            // D C D v = D 1: in units of the shortest, so that nothing overflows.
            Some(z) => {
                let shortest = norms.iter().copied().fold(f64::INFINITY, f64::min);
                z.iter().zip(&norms).map(|(z, n)| z * (shortest / n)).collect()
            }
            None => Eigen::new(products, m).apply(&norms, |l| 1.0 / l),
        };
        let total: f64 = v.iter().sum();
        let size: f64 = v.iter().map(|v| v.abs()).sum();
        if total.abs() <= 1e-12 * size {
            return Ok(vec![0.0; m]);
        }
        Ok(v.iter().map(|v| v / total).collect())
    }
}
