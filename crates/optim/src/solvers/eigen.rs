//! Eigenvalues and eigenvectors of a small symmetric matrix.

/// `A = V diag(λ) Vᵀ`, eigenvalues in descending order.
pub(crate) struct Eigen {
    size: usize,
    /// `λ_1 ≥ … ≥ λ_m`.
    pub(crate) values: Vec<f64>,
    /// Row `k` is the eigenvector of `values[k]`, of length 1.
    vectors: Vec<f64>,
}

impl Eigen {
    /// Jacobi's cyclic rotations (Golub and Van Loan, section 8.5) on a symmetric `m × m` matrix, row by row, of finite values.
    pub(crate) fn new(mut a: Vec<f64>, m: usize) -> Self {
        let mut v: Vec<f64> = (0..m * m).map(|k| f64::from(u8::from(k / m == k % m))).collect();
        for _ in 0..40 {
            let mut rotated = false;
            for p in 0..m {
                for q in p + 1..m {
                    let off = a[p * m + q];
                    let (app, aqq) = (a[p * m + p], a[q * m + q]);
                    if off.abs() <= f64::EPSILON * 0.25 * (app.abs().sqrt() * aqq.abs().sqrt()) || off == 0.0 {
                        continue;
                    }
                    rotated = true;
                    let theta = (aqq - app) / (2.0 * off);
                    let t = if theta.is_finite() { theta.signum() / (theta.abs() + theta.hypot(1.0)) } else { 0.0 };
                    if t == 0.0 {
                        (a[p * m + q], a[q * m + p]) = (0.0, 0.0);
                        continue;
                    }
                    let c = 1.0 / t.hypot(1.0);
                    rotate(&mut a, &mut v, m, (p, q), (c, t * c));
                    (a[p * m + q], a[q * m + p]) = (0.0, 0.0);
                    (a[p * m + p], a[q * m + q]) = (app - t * off, aqq + t * off);
                }
            }
            if !rotated {
                break;
            }
        }
        let mut order: Vec<usize> = (0..m).collect();
        order.sort_by(|&i, &j| a[j * m + j].total_cmp(&a[i * m + i]));
        Self {
            size: m,
            values: order.iter().map(|&k| a[k * m + k]).collect(),
            vectors: order.iter().flat_map(|&k| v[k * m..(k + 1) * m].to_vec()).collect(),
        }
    }

    /// How many eigenvalues stand above `λ_1 · m · ε`.
    pub(crate) fn rank(&self) -> usize {
        let tolerance = self.values.first().map_or(0.0, |l| l * self.size as f64 * f64::EPSILON);
        self.values.iter().filter(|&&l| l > tolerance).count()
    }

    /// `Σ_k f(λ_k) v_k (v_k · x)` over the eigenvalues that make up the rank.
    pub(crate) fn apply(&self, x: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut out = vec![0.0; self.size];
        for k in 0..self.rank() {
            let vector = &self.vectors[k * self.size..(k + 1) * self.size];
            let along: f64 = vector.iter().zip(x).map(|(v, x)| v * x).sum();
            let factor = f(self.values[k]) * along;
            out.iter_mut().zip(vector).for_each(|(o, v)| *o += factor * v);
        }
        out
    }
}

/// Rows and columns `p`, `q` of `a` and rows of the (transposed) eigenvectors.
fn rotate(a: &mut [f64], v: &mut [f64], m: usize, (p, q): (usize, usize), (c, s): (f64, f64)) {
    for k in 0..m {
        let (x, y) = (a[k * m + p], a[k * m + q]);
        (a[k * m + p], a[k * m + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..m {
        let (x, y) = (a[p * m + k], a[q * m + k]);
        (a[p * m + k], a[q * m + k]) = (c * x - s * y, s * x + c * y);
        let (x, y) = (v[p * m + k], v[q * m + k]);
        (v[p * m + k], v[q * m + k]) = (c * x - s * y, s * x + c * y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_by_two_has_its_closed_form() {
        let eigen = Eigen::new(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((eigen.values[0] - 3.0).abs() < 1e-15 && (eigen.values[1] - 1.0).abs() < 1e-15);
        assert_eq!(Eigen::new(vec![4.0, 2.0, 2.0, 1.0], 2).rank(), 1);
        assert_eq!(Eigen::new(vec![0.0; 9], 3).rank(), 0);
    }

    proptest! {
        #[test]
        fn the_parts_give_the_matrix_back(m in 1_usize..10, values in prop::collection::vec(-1.0..1.0_f64, 100)) {
            let a: Vec<f64> = (0..m * m).map(|k| (0..m).map(|l| values[(k / m) * 10 + l] * values[(k % m) * 10 + l]).sum()).collect();
            let eigen = Eigen::new(a.clone(), m);
            prop_assert!(eigen.values.windows(2).all(|w| w[0] >= w[1]));
            for j in 0..m {
                let unit: Vec<f64> = (0..m).map(|i| f64::from(u8::from(i == j))).collect();
                let column = eigen.apply(&unit, |l| l);
                for i in 0..m {
                    prop_assert!((column[i] - a[i * m + j]).abs() < 1e-13 * eigen.values[0].max(1.0));
                }
            }
        }
    }
}
