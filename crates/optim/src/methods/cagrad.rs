//! The best worst case near the mean gradient.

use serde::{Deserialize, Serialize};

use crate::adam::check_range;
use crate::solvers::exact::check_point;
use crate::solvers::non_negative::solve;
use crate::solvers::root::falling_root;
use crate::{Gramian, Result, Rule, min_norm};

/// CAGrad (Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS 2021): the direction within `c ‖g_0‖` of the mean
/// gradient `g_0 = Σ p_i g_i` whose least product with a gradient is largest.
///
/// Dual: `min g_w · g_0 + c ‖g_0‖ ‖g_w‖` over convex combinations `g_w`; the direction is `g_0 + c ‖g_0‖ g_w / ‖g_w‖`. `c = 0` is the mean, and `c → ∞` tends to
/// the direction of MGDA. Where the best `g_w` is zero (a Pareto-stationary point) the weights are 0, as in TorchJD; a zero row is such a
/// point. Linear under a common scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaGrad {
    /// Radius in units of the mean gradient, at least 0; the authors' scripts use 0.4 to 0.9.
    pub c: f64,
}

impl Default for CaGrad {
    fn default() -> Self {
        Self { c: 0.5 }
    }
}

/// Shorter than this beside the longest gradient is zero.
const SHORT: f64 = 1e-9;

/// The `r` at which `‖g_w‖ = radius · r` if the support of `w` were that of the solution, where `w` is linear in `r`.
fn on_support(products: &[f64], toward: &[f64], w: &[f64], radius: f64) -> Option<f64> {
    let m = toward.len();
    let support: Vec<usize> = (0..m).filter(|&i| w[i] > 0.0).collect();
    // (G w)_i + r b_i = λ on the support and Σ w = 1.
    let ones = solve(products, m, &support, |_| 1.0)?;
    let along = solve(products, m, &support, |i| toward[i])?;
    let (total, sum): (f64, f64) = (ones.iter().sum(), along.iter().sum());
    let start: Vec<f64> = ones.iter().map(|x| x / total).collect();
    let slope: Vec<f64> = ones.iter().zip(&along).map(|(x, b)| x * (sum / total) - b).collect();
    let dot = |a: &[f64], b: &[f64]| -> f64 {
        support
            .iter()
            .zip(a)
            .map(|(&i, a)| a * support.iter().zip(b).map(|(&j, b)| products[i * m + j] * b).sum::<f64>())
            .sum()
    };
    // ‖start + r slope‖² = radius² r², as a quadratic equation.
    let (a, b, c) = (dot(&slope, &slope) - radius * radius, dot(&start, &slope), dot(&start, &start));
    let root = (b * b - a * c).max(0.0).sqrt();
    // Both roots without cancellation; the wanted one is positive.
    let q = -(b + b.signum() * root);
    [q / a, c / q].into_iter().filter(|r| r.is_finite() && *r > 0.0).reduce(f64::min)
}

impl Rule for CaGrad {
    const NAME: &'static str = "cagrad";

    fn weights(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Vec<f64>> {
        let m = gramian.size();
        check_point(preferences, m)?;
        let (unit, products) = gramian.relative();
        let g = |i: usize, j: usize| products[i * m + j];
        let toward: Vec<f64> = (0..m).map(|i| (0..m).map(|j| g(i, j) * preferences[j]).sum()).collect();
        let squared: f64 = toward.iter().zip(preferences).map(|(b, p)| b * p).sum::<f64>().max(0.0);
        let radius = self.c * squared.sqrt();
        if unit == 0.0 || self.c == 0.0 {
            return Ok(preferences.to_vec());
        }
        if squared.sqrt() <= SHORT {
            return Ok(vec![0.0; m]);
        }
        // With s = c ‖g_0‖ / t the dual is, for a fixed t, the shortest point of the hull of g_i + g_0 / s; it is convex in t
        // as well, and t is right where ‖g_w‖ = t. In r = 1 / s: where ‖g_w‖ = radius · r.
        let at = |r: f64| {
            let moved = Gramian::from_products(
                m,
                (0..m * m).map(|k| g(k / m, k % m) + r * (toward[k / m] + toward[k % m]) + r * r * squared).collect(),
            );
            min_norm(&moved)
        };
        let length =
            |w: &[f64]| (0..m).map(|i| w[i] * (0..m).map(|j| g(i, j) * w[j]).sum::<f64>()).sum::<f64>().max(0.0).sqrt();
        let low = SHORT / radius;
        if length(&at(low)) <= SHORT {
            return Ok(vec![0.0; m]);
        }
        let gap = |r: f64, w: &[f64]| length(w) - radius * r;
        let mut found = None;
        let mut r = (length(&at(low)) / radius).max(low);
        for _ in 0..12 {
            let w = at(r);
            if gap(r, &w).abs() <= 1e-12 * radius * r {
                found = Some(w);
                break;
            }
            match on_support(&products, &toward, &w, radius) {
                Some(next) if next > low && next < 1.0 / radius => r = next,
                _ => break,
            }
        }
        let w = found.unwrap_or_else(|| at(falling_root(low, 1.0 / radius, 1e-13, |r| gap(r, &at(r)))));
        let factor = radius / length(&w).max(SHORT);
        Ok(preferences.iter().zip(&w).map(|(p, w)| p + factor * w).collect())
    }

    fn check(&self) -> Result<()> {
        check_range("c", self.c, 0.0, 1e6, "it is a radius from 0 to 1e6, such as 0.5")
    }
}
