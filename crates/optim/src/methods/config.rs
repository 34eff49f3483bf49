//! Equal cosines.

use serde::{Deserialize, Serialize};

use crate::solvers::eigen::Eigen;
use crate::solvers::exact::check_point;
use crate::solvers::non_negative::solve;
use crate::{Gramian, Result, Rule};

/// ConFIG (Liu, Chu and Thuerey, "ConFIG: towards conflict-free training of physics informed neural networks", ICLR 2025): along
/// `x = Û⁺ p`, the direction whose products with the gradients' directions `û_i` are in proportion to the preferences `p_i`, as long as the sum of the
/// gradients' projections onto it.
///
/// From the Gramian: `x = Σ y_i û_i` with `y = C⁺ p` and the cosines `C`. Independent gradients never conflict with it. Weights can be
/// negative. Where `x = 0` (some Pareto-stationary points) the weights are 0; a zero row has weight 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConFig {}

impl Rule for ConFig {
    const NAME: &'static str = "config";

    fn weights(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Vec<f64>> {
        let m = gramian.size();
        check_point(preferences, m)?;
        let cosines: Vec<f64> = (0..m * m).map(|k| gramian.cosine(k / m, k % m)).collect();
        let live: Vec<usize> = (0..m).filter(|&i| gramian.norm(i) > 0.0).collect();
        let y = match solve(&cosines, m, &live, |i| preferences[i]) {
            Some(z) => {
                let mut y = vec![0.0; m];
                live.iter().zip(z).for_each(|(&i, z)| y[i] = z);
                y
            }
            None => Eigen::new(cosines.clone(), m).apply(preferences, |l| 1.0 / l),
        };
        let products: Vec<f64> = (0..m).map(|i| (0..m).map(|j| cosines[i * m + j] * y[j]).sum()).collect();
        let length = y.iter().zip(&products).map(|(y, c)| y * c).sum::<f64>().max(0.0).sqrt();
        let largest = y.iter().fold(0.0, |l: f64, y| l.max(y.abs()));
        if length <= 1e-12 * largest || length == 0.0 {
            return Ok(vec![0.0; m]);
        }
        let reach: f64 = products.iter().enumerate().map(|(i, c)| gramian.norm(i) * (c / length)).sum();
        let weight = |i: usize| {
            if y[i] == 0.0 { 0.0 } else { (y[i] / length * (reach / gramian.norm(i))).clamp(-f64::MAX, f64::MAX) }
        };
        Ok((0..m).map(weight).collect())
    }
}
