//! The projections from the rows themselves, in 640-bit arithmetic.
//!
//! A Gramian in `f64` no longer knows two rows apart that differ in the ninth digit, nor a small row beside the remains of two
//! large ones that cancel. Here dot products are exact and the answer is right to the last digit of `f64`, for rows of any lengths
//! and of any rank. It costs milliseconds rather than microseconds: for references and small problems, not for every training step.
//!
//! Rows are first divided by powers of two, which changes no digit; the supports that plain `f64` finds are the first guess.

use super::non_negative::{Bounded, non_negative};
use super::wide::Wide;
use crate::{Jacobian, OptimError, Result};

/// Weights and the direction `Σ w_i g_i` they stand for, of length `n`.
///
/// The direction is rounded once, from the exact weights: where long rows cancel, the rounded weights would not give it.
#[derive(Debug, Clone, PartialEq)]
pub struct Combination {
    /// One for each objective.
    pub weights: Vec<f64>,
    /// Their combination of the gradients.
    pub direction: Vec<f64>,
}

/// [`crate::min_norm`] to the last digit: the shortest convex combination of the rows.
///
/// ```
/// # use paretune_optim::{Jacobian, solve};
/// // Two long rows that cancel but for one part in 10¹⁵.
/// let jacobian = Jacobian::new(vec![vec![1e15, 1.0], vec![-1e15, 1.0]])?;
/// assert_eq!(solve::min_norm(&jacobian).direction, [0.0, 1.0]);
/// # Ok::<(), paretune_optim::OptimError>(())
/// ```
pub fn min_norm(jacobian: &Jacobian) -> Combination {
    let exact = Exact::new(jacobian);
    let m = jacobian.size();
    let zeros = exact.exponents.iter().filter(|e| e.is_none()).count();
    if zeros > 0 {
        let weights = exact.exponents.iter().map(|e| if e.is_none() { 1.0 / zeros as f64 } else { 0.0 }).collect();
        return Combination { weights, direction: vec![0.0; jacobian.width()] };
    }
    let shortest = exact.exponents.iter().flatten().copied().min().unwrap_or(0);
    let scale: Vec<Wide> = exact.exponents.iter().flatten().map(|e| Wide::from_f64(1.0).scaled(shortest - e)).collect();
    // H = G + a aᵀ and b = a: see `solvers::min_norm`.
    let h: Vec<Wide> = (0..m * m).map(|k| exact.products[k] + scale[k / m] * scale[k % m]).collect();
    let mut x = guessed(&h, &scale);
    let total = x.iter().zip(&scale).fold(Wide::ZERO, |sum, (x, a)| sum + *x * *a);
    if total > Wide::ZERO {
        x.iter_mut().for_each(|x| *x = *x / total);
    }
    // w_i = x_i a_i, in units of the scaled rows: x_i 2^shortest.
    let scaled: Vec<Wide> = x.iter().map(|x| x.scaled(shortest)).collect();
    exact.combination(&scaled)
}

/// [`crate::project_dual_cone`] to the last digit: the `w ≥ u` for which `Σ w_i g_i` is shortest, which is the projection of
/// `Σ u_i g_i` onto the directions that no row objects to.
///
/// # Errors
/// Another number of values in `u` than rows, or a value that is not finite.
pub fn project_dual_cone(jacobian: &Jacobian, u: &[f64]) -> Result<Combination> {
    check_point(u, jacobian.size())?;
    let exact = Exact::new(jacobian);
    let unscaled: Vec<Wide> = u.iter().map(|&u| Wide::from_f64(u)).collect();
    Ok(exact.combination_beside(&exact.projected(&exact.to_scaled(&unscaled)), u))
}

/// UPGrad to the last digit: the sum of the projections of the rows `u_i g_i` onto the dual cone, one by one.
///
/// # Errors
/// Another number of values in `u` than rows, a value that is negative or not finite.
pub fn upgrad(jacobian: &Jacobian, u: &[f64]) -> Result<Combination> {
    check_point(u, jacobian.size())?;
    let exact = Exact::new(jacobian);
    let m = jacobian.size();
    let mut total = vec![Wide::ZERO; m];
    for i in (0..m).filter(|&i| u[i] != 0.0) {
        let mut one = vec![Wide::ZERO; m];
        one[i] = Wide::from_f64(u[i]);
        for (sum, x) in total.iter_mut().zip(exact.projected(&exact.to_scaled(&one))) {
            *sum = *sum + x;
        }
    }
    Ok(exact.combination_beside(&total, u))
}

pub(crate) fn check_point(u: &[f64], m: usize) -> Result<()> {
    if u.len() != m {
        return Err(OptimError::Count { what: "preferences", found: u.len(), expected: m });
    }
    if let Some(i) = u.iter().position(|x| !x.is_finite()) {
        return Err(OptimError::NotFinite { what: "the preference", objective: i.to_string(), value: u[i] });
    }
    Ok(())
}

/// The rows times powers of two, and their exact products.
struct Exact<'a> {
    jacobian: &'a Jacobian,
    /// `e_i`: the largest value of row `i` lies in `[2^(e_i - 1), 2^e_i)`; `None` for a zero row.
    exponents: Vec<Option<i64>>,
    products: Vec<Wide>,
}

impl<'a> Exact<'a> {
    fn new(jacobian: &'a Jacobian) -> Self {
        let rows: Vec<Vec<Wide>> =
            jacobian.rows().iter().map(|row| row.iter().map(|&x| Wide::from_f64(x)).collect()).collect();
        let exponents: Vec<Option<i64>> =
            rows.iter().map(|row| row.iter().filter(|x| !x.is_zero()).map(|x| x.magnitude()).max()).collect();
        let m = rows.len();
        let mut products = vec![Wide::ZERO; m * m];
        for i in 0..m {
            for j in i..m {
                let shift = exponents[i].unwrap_or(0) + exponents[j].unwrap_or(0);
                let dot = rows[i].iter().zip(&rows[j]).fold(Wide::ZERO, |sum, (a, b)| sum + *a * *b).scaled(-shift);
                (products[i * m + j], products[j * m + i]) = (dot, dot);
            }
        }
        Self { jacobian, exponents, products }
    }

    fn to_scaled(&self, u: &[Wide]) -> Vec<Wide> {
        u.iter().zip(&self.exponents).map(|(u, e)| e.map_or(Wide::ZERO, |e| u.scaled(e))).collect()
    }

    /// The projection of `u` (on scaled rows) as weights on scaled rows, 0 for zero rows.
    fn projected(&self, u: &[Wide]) -> Vec<Wide> {
        let kept: Vec<usize> = (0..u.len()).filter(|&i| self.exponents[i].is_some()).collect();
        let m = self.exponents.len();
        let h: Vec<Wide> = kept.iter().flat_map(|&i| kept.iter().map(move |&j| self.products[i * m + j])).collect();
        let b: Vec<Wide> = kept
            .iter()
            .map(|&i| kept.iter().fold(Wide::ZERO, |sum, &j| sum - self.products[i * m + j] * u[j]))
            .collect();
        let mut weights = u.to_vec();
        // A scale common to all of `b` would leave the range of f64 in the guess.
        let size = b.iter().map(|b| b.magnitude()).max().unwrap_or(0);
        if b.iter().any(|b| *b > Wide::ZERO) {
            let scaled: Vec<Wide> = b.iter().map(|b| b.scaled(-size)).collect();
            for (&i, x) in kept.iter().zip(guessed(&h, &scaled)) {
                weights[i] = weights[i] + x.scaled(size);
            }
        }
        weights
    }

    fn combination(&self, scaled: &[Wide]) -> Combination {
        self.combination_beside(scaled, &vec![0.0; scaled.len()])
    }

    /// Takes weights on scaled rows back to the rows; zero rows, which weigh nothing, get `otherwise`.
    fn combination_beside(&self, scaled: &[Wide], otherwise: &[f64]) -> Combination {
        let unscaled: Vec<Wide> = scaled.iter().zip(&self.exponents).map(|(x, e)| x.scaled(-e.unwrap_or(0))).collect();
        let finite = |x: f64| x.clamp(-f64::MAX, f64::MAX);
        let weights = (0..scaled.len())
            .map(|i| if self.exponents[i].is_some() { finite(unscaled[i].to_f64()) } else { otherwise[i] })
            .collect();
        let direction = (0..self.jacobian.width())
            .map(|k| {
                let rows = self.jacobian.rows();
                let (mut value, mut size) = (Wide::ZERO, i64::MIN);
                for (w, row) in unscaled.iter().zip(rows) {
                    let term = *w * Wide::from_f64(row[k]);
                    value = value + term;
                    size = size.max(term.magnitude());
                }
                // What is left of terms that cancel is the rounding of a zero.
                if value.magnitude() < size.saturating_sub(480) {
                    return 0.0;
                }
                finite(value.to_f64())
            })
            .collect();
        Combination { weights, direction }
    }
}

/// The program's solution, begun at the support that plain `f64` finds.
fn guessed(h: &[Wide], b: &[Wide]) -> Vec<Wide> {
    let narrow = |v: &[Wide]| v.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
    let rough = non_negative(&narrow(h), &narrow(b), &[], Bounded::Yes).unwrap_or_default();
    let support: Vec<usize> = (0..rough.len()).filter(|&i| rough[i] > 0.0).collect();
    non_negative(h, b, &support, Bounded::Yes).expect("dot products span what they are projected on: invariant")
}
