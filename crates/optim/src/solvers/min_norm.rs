//! The shortest vector in the convex hull of some gradients, from their Gramian.
//!
//! `min ‖Σ w_i g_i‖²` over `w ≥ 0, Σ w_i = 1` is turned into a non-negative least-squares problem. For any point `p` of the hull and
//! any `t ≥ 0`, `t²‖p‖² + (t - 1)²` is least at `t = 1 / (1 + ‖p‖²)`, where its value grows with `‖p‖²`; so minimizing over the free,
//! non-negative `x = t w` finds the shortest point, and dividing by `t = Σ x` gives its weights. `t` is never far from 1, also when
//! the hull holds the origin. An active-set method (Lawson and Hanson 1974, chapter 23) then ends at the exact support after a few small
//! linear systems.
//!
//! Gradients are brought to unit length first (`u_i = w_i ‖g_i‖`), the shortest to norm 1, so that the systems hold cosines and
//! rows that differ by 25 orders of magnitude are no harder than others.

use crate::Gramian;

#[cfg(test)]
mod tests;

/// Weights of the shortest convex combination of the gradients: `w ≥ 0`, `Σ w_i = 1`, `‖Σ w_i g_i‖` least.
///
/// The squared norm is within `1e-10` of the optimum, in units of the shortest gradient's squared norm, as far as the `f64` products
/// can tell: also for gradients whose lengths differ by 25 orders of magnitude, that are repeated, opposite or more than their
/// dimensions. Always finite. Where several optima exist, one of them is returned, always the same for the same input.
///
/// A zero gradient is itself the shortest point: all the weight goes to the zero rows in equal parts, and the direction is zero.
/// Training loops rarely want that; see [`crate::Mgda`].
///
/// ```
/// # use paretune_optim::{Gramian, min_norm};
/// // Orthogonal gradients of lengths 1 and 2: weights in proportion 1 / length².
/// let weights = min_norm(&Gramian::from_rows(&[[1.0, 0.0], [0.0, 2.0]])?);
/// assert!((weights[0] - 0.8).abs() < 1e-15 && (weights[1] - 0.2).abs() < 1e-15);
/// # Ok::<(), paretune_optim::OptimError>(())
/// ```
pub fn min_norm(gramian: &Gramian) -> Vec<f64> {
    let m = gramian.size();
    let zeros = (0..m).filter(|&i| gramian.norm(i) == 0.0).count();
    if zeros > 0 {
        return (0..m).map(|i| if gramian.norm(i) == 0.0 { 1.0 / zeros as f64 } else { 0.0 }).collect();
    }
    let problem = Scaled::new(gramian);
    if m == 2 {
        return problem.weights(&problem.pair(0, 1));
    }
    // In order of preference: exact; exact but for a ridge of the size of the rounding in the cosines, for nearly
    // dependent gradients; the best of two rows, in closed form.
    let mut best = problem.non_negative_least_squares(0.0);
    let mut least = problem.squared_norm(&best);
    let ridge = problem.non_negative_least_squares(64.0 * f64::EPSILON);
    let pairs = (0..m).flat_map(|i| (i..m).map(move |j| (i, j))).map(|(i, j)| problem.pair(i, j));
    for candidate in std::iter::once(ridge).chain(pairs) {
        let norm = problem.squared_norm(&candidate);
        // NaN: no weight at all, when every system failed.
        if norm < least || (least.is_nan() && !norm.is_nan()) {
            (best, least) = (candidate, norm);
        }
    }
    problem.weights(&best)
}

/// The problem in `u_i = w_i ‖g_i‖`: minimize `uᵀ C u` with `aᵀ u = 1`, `u ≥ 0`.
struct Scaled {
    size: usize,
    /// Cosines `C`, row by row.
    cosines: Vec<f64>,
    /// `a_i`: the shortest norm over the norm of row `i`, in `(0, 1]`.
    shortness: Vec<f64>,
}

impl Scaled {
    fn new(gramian: &Gramian) -> Self {
        let size = gramian.size();
        let shortest = (0..size).map(|i| gramian.norm(i)).fold(f64::INFINITY, f64::min);
        Self {
            size,
            cosines: (0..size * size).map(|k| gramian.cosine(k / size, k % size)).collect(),
            shortness: (0..size).map(|i| shortest / gramian.norm(i)).collect(),
        }
    }

    fn cosine(&self, i: usize, j: usize) -> f64 {
        self.cosines[i * self.size + j]
    }

    /// `Σ x_i` of the least-squares problem, 1 after normalization.
    fn mass(&self, u: &[f64]) -> f64 {
        u.iter().zip(&self.shortness).map(|(u, a)| u * a).sum()
    }

    /// `‖Σ w_i g_i‖²` in units of the shortest gradient's; NaN for a `u` without weight.
    fn squared_norm(&self, u: &[f64]) -> f64 {
        let mut total = 0.0;
        for i in 0..self.size {
            let row: f64 = (0..self.size).map(|j| self.cosine(i, j) * u[j]).sum();
            total += u[i] * row;
        }
        let mass = self.mass(u);
        let norm = total / mass / mass;
        // Rounding may fall below 0; `max` alone would also turn NaN into 0.
        if norm < 0.0 { 0.0 } else { norm }
    }

    fn weights(&self, u: &[f64]) -> Vec<f64> {
        let raw: Vec<f64> = u.iter().zip(&self.shortness).map(|(u, a)| u * a).collect();
        let total: f64 = raw.iter().sum();
        raw.iter().map(|w| w / total).collect()
    }

    /// The best of two rows: `w_j = (‖g_i‖² - g_i·g_j) / ‖g_i - g_j‖²`, kept in `[0, 1]`.
    fn pair(&self, i: usize, j: usize) -> Vec<f64> {
        let (i, j) = if self.shortness[i] >= self.shortness[j] { (i, j) } else { (j, i) };
        let mut u = vec![0.0; self.size];
        // In units of the shorter row i; t is its length over that of j, so nothing here is large.
        let (t, cosine) = (self.shortness[j] / self.shortness[i], self.cosine(i, j));
        // ‖g_j - g_i‖² over ‖g_j‖², so summed that nothing cancels for nearly equal rows.
        let apart = (1.0 - t) * (1.0 - t) + 2.0 * t * (1.0 - cosine);
        let longer = if apart > 0.0 { ((t - cosine) / apart).max(0.0) } else { 0.5 };
        u[i] += 1.0 - t * longer;
        u[j] += longer;
        u
    }

    /// Entry of `H = C + a aᵀ`, the normal matrix.
    fn normal(&self, i: usize, j: usize) -> f64 {
        self.cosine(i, j) + self.shortness[i] * self.shortness[j]
    }

    /// Minimizes `½ uᵀ (H + ridge) u - aᵀ u` over `u ≥ 0`.
    fn non_negative_least_squares(&self, ridge: f64) -> Vec<f64> {
        let m = self.size;
        let mut u = vec![0.0; m];
        let mut support: Vec<usize> = Vec::new();
        let mut blocked = vec![false; m];
        // Every pass lessens the objective or blocks a row; the bound is for matrices that are no Gramians.
        for _ in 0..20 * (m + 1) {
            let Some(entering) = self.steepest(&u, &support, &blocked) else {
                break;
            };
            support.push(entering);
            match self.solve(&support, ridge) {
                Some(solution) if solution[support.len() - 1] > 0.0 => {
                    self.descend(&mut u, &mut support, solution, ridge);
                    blocked.fill(false);
                }
                // Dependent on the support, or a descent in rounding errors only.
                _ => {
                    support.pop();
                    blocked[entering] = true;
                }
            }
        }
        u
    }

    /// The row outside of the support along which the objective falls fastest, if it falls by more than rounding.
    fn steepest(&self, u: &[f64], support: &[usize], blocked: &[bool]) -> Option<usize> {
        let mut best = None;
        let mut fastest = 0.0;
        for i in (0..self.size).filter(|&i| !blocked[i] && !support.contains(&i)) {
            let mut slope = self.shortness[i];
            let mut size = slope;
            for (j, x) in u.iter().enumerate() {
                slope -= self.normal(i, j) * x;
                size += self.normal(i, j).abs() * x;
            }
            if slope > 4.0 * f64::EPSILON * size && slope > fastest {
                (best, fastest) = (Some(i), slope);
            }
        }
        best
    }

    /// Moves `u` to the solution on the support, dropping rows whose weight would turn negative on the way.
    fn descend(&self, u: &mut [f64], support: &mut Vec<usize>, mut solution: Vec<f64>, ridge: f64) {
        loop {
            let step = support
                .iter()
                .zip(&solution)
                .filter(|&(_, &z)| z <= 0.0)
                .map(|(&i, &z)| if u[i] > 0.0 { u[i] / (u[i] - z) } else { 0.0 })
                .fold(1.0, f64::min);
            for (&i, &z) in support.iter().zip(&solution) {
                u[i] += step * (z - u[i]);
            }
            if solution.iter().all(|&z| z > 0.0) {
                for (&i, &z) in support.iter().zip(&solution) {
                    u[i] = z;
                }
                return;
            }
            // The row that stopped the step leaves, and any that rounding put at or below zero.
            let stopped =
                |i: usize, z: f64, u: &[f64]| z <= 0.0 && u[i] <= f64::EPSILON * (u[i] - z).abs().max(z.abs());
            let pairs: Vec<(usize, f64)> = support.iter().copied().zip(solution.iter().copied()).collect();
            let mut left = false;
            for &(i, z) in &pairs {
                if stopped(i, z, u) || u[i] <= 0.0 {
                    u[i] = 0.0;
                    left = true;
                }
            }
            if !left {
                // Rounding left no row at zero exactly: drop the smallest of those that were to leave.
                if let Some(&(i, _)) = pairs.iter().filter(|p| p.1 <= 0.0).min_by(|a, b| u[a.0].total_cmp(&u[b.0])) {
                    u[i] = 0.0;
                }
            }
            support.retain(|&i| u[i] > 0.0);
            match self.solve(support, ridge) {
                Some(next) if !support.is_empty() => solution = next,
                _ => return,
            }
        }
    }

    /// Solves `H_SS z = a_S` by Cholesky; `None` when the rows of the support depend on each other.
    fn solve(&self, support: &[usize], ridge: f64) -> Option<Vec<f64>> {
        let n = support.len();
        let mut lower = vec![0.0; n * n];
        for r in 0..n {
            for c in 0..=r {
                let known: f64 = (0..c).map(|k| lower[r * n + k] * lower[c * n + k]).sum();
                let entry = self.normal(support[r], support[c]) - known;
                if r == c {
                    let pivot = entry + ridge;
                    if pivot <= 8.0 * f64::EPSILON {
                        return None;
                    }
                    lower[r * n + r] = pivot.sqrt();
                } else {
                    lower[r * n + c] = entry / lower[c * n + c];
                }
            }
        }
        let mut z: Vec<f64> = support.iter().map(|&i| self.shortness[i]).collect();
        for r in 0..n {
            let known: f64 = (0..r).map(|k| lower[r * n + k] * z[k]).sum();
            z[r] = (z[r] - known) / lower[r * n + r];
        }
        for r in (0..n).rev() {
            let known: f64 = (r + 1..n).map(|k| lower[k * n + r] * z[k]).sum();
            z[r] = (z[r] - known) / lower[r * n + r];
        }
        z.iter().all(|v| v.is_finite()).then_some(z)
    }
}
