//! Projection onto the directions that hurt no objective, from the Gramian.
//!
//! The dual cone of the gradients is `{ d : g_i · d ≥ 0 for every i }`. The point of it nearest to `Σ u_i g_i` is `Σ w_i g_i` with the
//! `w ≥ u` that makes this combination shortest (Quinton and Rey 2024, proposition 1). With `x_i = (w_i - u_i) ‖g_i‖` the program holds
//! cosines only, so that lengths of the gradients play no part in how well it is solved.

use super::exact::check_point;
use super::non_negative::{Bounded, non_negative};
use crate::{Gramian, Result};

/// The `w ≥ u` for which `‖Σ w_i g_i‖` is least: weights of the projection of `Σ u_i g_i` onto the dual cone of the gradients.
///
/// Zero rows keep `w_i = u_i`. At a Pareto-stationary point the projection is (nearly) zero. From rows rather than their
/// products, [`crate::solve::project_dual_cone`] is right to the last digit.
///
/// ```
/// # use paretune_optim::{Gramian, project_dual_cone};
/// // The second gradient has a component against the first, which the projection takes out.
/// let weights = project_dual_cone(&Gramian::from_rows(&[[1.0, 0.0], [-1.0, 1.0]])?, &[0.0, 1.0])?;
/// assert_eq!(weights, [1.0, 1.0]);
/// # Ok::<(), paretune_optim::OptimError>(())
/// ```
///
/// # Errors
/// Another number of values in `u` than objectives, or a value that is not finite.
pub fn project_dual_cone(gramian: &Gramian, u: &[f64]) -> Result<Vec<f64>> {
    check_point(u, gramian.size())?;
    let cone = Cone::new(gramian);
    let largest = (0..u.len()).map(|i| u[i].abs() * cone.norms[i]).fold(0.0, f64::max);
    if largest == 0.0 || !largest.is_finite() {
        return Ok(u.to_vec());
    }
    let m = u.len();
    let b: Vec<f64> =
        (0..m).map(|i| (0..m).map(|j| -cone.cosines[i * m + j] * (u[j] * cone.norms[j] / largest)).sum()).collect();
    let mut weights = u.to_vec();
    cone.add(&mut weights, &b, largest);
    Ok(weights)
}

/// The gradients' directions.
pub(crate) struct Cone {
    norms: Vec<f64>,
    cosines: Vec<f64>,
}

impl Cone {
    pub(crate) fn new(gramian: &Gramian) -> Self {
        let m = gramian.size();
        Self {
            norms: (0..m).map(|i| gramian.norm(i)).collect(),
            cosines: (0..m * m).map(|k| gramian.cosine(k / m, k % m)).collect(),
        }
    }

    /// Adds to `weights` the multipliers that project `factor · g_i` alone.
    pub(crate) fn project_one(&self, i: usize, factor: f64, weights: &mut [f64]) {
        let m = self.norms.len();
        if self.norms[i] == 0.0 || (0..m).all(|j| self.cosines[i * m + j] >= 0.0) {
            return;
        }
        let b: Vec<f64> = (0..m).map(|j| -self.cosines[i * m + j]).collect();
        self.add(weights, &b, factor * self.norms[i]);
    }

    /// Solves for `b` and adds `x_i · scale / ‖g_i‖`.
    fn add(&self, weights: &mut [f64], b: &[f64], scale: f64) {
        let m = self.norms.len();
        let kept: Vec<usize> = (0..m).filter(|&i| self.norms[i] > 0.0).collect();
        let x = if kept.len() == m {
            non_negative(&self.cosines, b, &[], Bounded::Yes)
        } else {
            let h: Vec<f64> = kept.iter().flat_map(|&i| kept.iter().map(move |&j| self.cosines[i * m + j])).collect();
            non_negative(&h, &kept.iter().map(|&i| b[i]).collect::<Vec<_>>(), &[], Bounded::Yes)
        };
        for (&i, x) in kept.iter().zip(x.unwrap_or_default()) {
            // A weight beyond f64 stands for a gradient too short to matter.
            weights[i] = (weights[i] + x * (scale / self.norms[i]).min(f64::MAX)).clamp(-f64::MAX, f64::MAX);
        }
    }
}
