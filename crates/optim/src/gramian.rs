//! The matrix of dot products between the objectives' gradients.

use crate::jacobian::check_rows;
use crate::{OptimError, Result};

/// How far an entry may stand beyond what Cauchy-Schwarz allows before it is called wrong rather than rounded.
const SLACK: f64 = 1e-5;

/// The symmetric `m × m` matrix `G_ij = g_i · g_j` of the gradients of `m` objectives, in `f64`.
///
/// Every value is finite, the diagonal is not negative, and `|G_ij| ≤ √(G_ii G_jj)` but for rounding. Two gradients in 22 million
/// dimensions and two in two are the same to a balancing method once they stand here.
#[derive(Debug, Clone, PartialEq)]
pub struct Gramian {
    size: usize,
    values: Vec<f64>,
}

impl Gramian {
    /// From the Jacobian: one row for each objective, all of the same length (`m × n`).
    ///
    /// # Errors
    /// No rows, rows of different lengths, or a value that is not finite (the message names the objective's index).
    pub fn from_rows<R: AsRef<[f64]>>(rows: &[R]) -> Result<Self> {
        let width = rows.first().ok_or(OptimError::Empty)?.as_ref().len();
        check_rows(rows, width)?;
        Self::from_dots(rows.len(), |i, j| rows[i].as_ref().iter().zip(rows[j].as_ref()).map(|(a, b)| a * b).sum())
    }

    /// From a function that gives `g_i · g_j`; it is asked for `i ≤ j` only.
    ///
    /// # Errors
    /// `size` is 0, a product is not finite, or the matrix cannot be one of dot products.
    pub fn from_dots(size: usize, mut dot: impl FnMut(usize, usize) -> f64) -> Result<Self> {
        let mut values = vec![0.0; size * size];
        for i in 0..size {
            for j in i..size {
                let value = dot(i, j);
                values[i * size + j] = value;
                values[j * size + i] = value;
            }
        }
        Self::checked(size, values)
    }

    /// From the matrix itself, row by row.
    ///
    /// # Errors
    /// Not square, not symmetric, not finite, or not possible as a matrix of dot products.
    pub fn from_matrix<R: AsRef<[f64]>>(matrix: &[R]) -> Result<Self> {
        let size = matrix.len();
        let mut values = Vec::with_capacity(size * size);
        for (row, entries) in matrix.iter().enumerate() {
            let entries = entries.as_ref();
            if entries.len() != size {
                return Err(OptimError::Shape { what: "Gramian", row, found: entries.len(), expected: size });
            }
            values.extend_from_slice(entries);
        }
        Self::checked(size, values)
    }

    fn checked(size: usize, values: Vec<f64>) -> Result<Self> {
        if size == 0 {
            return Err(OptimError::Empty);
        }
        let gramian = Self { size, values };
        for i in 0..size {
            let value = gramian.get(i, i);
            if !value.is_finite() {
                let objective = i.to_string();
                return Err(OptimError::NotFinite { what: "the squared gradient norm", objective, value });
            }
            if value < 0.0 {
                let reason = "a squared norm is not negative";
                return Err(OptimError::NotAGramian { row: i, column: i, value, reason });
            }
        }
        for i in 0..size {
            for j in 0..size {
                gramian.check_entry(i, j)?;
            }
        }
        Ok(gramian)
    }

    fn check_entry(&self, row: usize, column: usize) -> Result<()> {
        let value = self.get(row, column);
        if !value.is_finite() {
            let objective = format!("{row} with {column}");
            return Err(OptimError::NotFinite { what: "the gradient product", objective, value });
        }
        let bound = self.norm(row) * self.norm(column);
        let wrong = |reason| Err(OptimError::NotAGramian { row, column, value, reason });
        if (value - self.get(column, row)).abs() > SLACK * bound {
            return wrong("it differs from its mirror image");
        }
        // Products of very short gradients underflow: leave room for the smallest normal number.
        if value.abs() > bound * (1.0 + SLACK) + f64::MIN_POSITIVE {
            return wrong("it is larger than the product of the two norms");
        }
        Ok(())
    }

    /// Number of objectives `m`.
    pub fn size(&self) -> usize {
        self.size
    }

    /// `g_i · g_j`.
    ///
    /// # Panics
    /// Never for `i` and `j` below [`Gramian::size`]; others are out of bounds.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.size + j]
    }

    /// `‖g_i‖`.
    pub fn norm(&self, i: usize) -> f64 {
        self.get(i, i).sqrt()
    }

    /// Cosine between `g_i` and `g_j` in `[-1, 1]`; 0 where either is zero. Negative means conflict.
    pub fn cosine(&self, i: usize, j: usize) -> f64 {
        let (a, b) = (self.norm(i), self.norm(j));
        if a == 0.0 || b == 0.0 {
            return 0.0;
        }
        if i == j {
            return 1.0;
        }
        // Divided one after the other: the product of the norms may overflow.
        (self.get(i, j) / a / b).clamp(-1.0, 1.0)
    }

    /// `‖Σ w_i g_i‖² = wᵀ G w`, never below 0.
    pub fn squared_norm(&self, weights: &[f64]) -> f64 {
        let mut total = 0.0;
        for (i, a) in weights.iter().enumerate().take(self.size) {
            for (j, b) in weights.iter().enumerate().take(self.size) {
                total += a * b * self.get(i, j);
            }
        }
        total.max(0.0)
    }

    /// From products reckoned here, row by row: symmetric but for rounding, which may put a squared norm below 0.
    pub(crate) fn from_products(size: usize, mut values: Vec<f64>) -> Self {
        (0..size).for_each(|i| values[i * size + i] = values[i * size + i].max(0.0));
        Self { size, values }
    }

    /// The longest gradient's norm, and the products in units of its square, row by row (zeros where there is no gradient).
    pub(crate) fn relative(&self) -> (f64, Vec<f64>) {
        let unit = (0..self.size).map(|i| self.norm(i)).fold(0.0, f64::max);
        let scaled = self.values.iter().map(|v| if unit == 0.0 { 0.0 } else { v / unit / unit }).collect();
        (unit, scaled)
    }

    /// The matrix, row by row.
    pub fn to_rows(&self) -> Vec<Vec<f64>> {
        self.values.chunks(self.size).map(<[f64]>::to_vec).collect()
    }

    /// The rows and columns of the objectives in `kept`, in that order; indices beyond the size are left out.
    pub(crate) fn select(&self, kept: &[usize]) -> Self {
        let values = kept.iter().flat_map(|&i| kept.iter().map(move |&j| self.get(i, j))).collect();
        Self { size: kept.len(), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_dot_products_of_the_rows() {
        let g = Gramian::from_rows(&[vec![1.0, 2.0, 2.0], vec![0.0, -3.0, 4.0]]).unwrap();
        assert_eq!((g.get(0, 0), g.get(0, 1), g.get(1, 0), g.get(1, 1)), (9.0, 2.0, 2.0, 25.0));
        assert_eq!((g.norm(0), g.norm(1)), (3.0, 5.0));
        assert!((g.cosine(0, 1) - 2.0 / 15.0).abs() < 1e-15);
        assert!((g.squared_norm(&[1.0, 1.0]) - 38.0).abs() < 1e-12);
    }

    #[test]
    fn names_the_objective_whose_gradient_is_not_finite() {
        let error = Gramian::from_rows(&[vec![1.0], vec![f64::NAN]]).unwrap_err().to_string();
        assert!(error.contains("objective 1") && error.contains("NaN"), "{error}");
        // Finite rows whose products overflow are found too.
        let error = Gramian::from_rows(&[vec![1.0], vec![1e200]]).unwrap_err().to_string();
        assert!(error.contains("objective 1") && error.contains("inf"), "{error}");
    }

    #[test]
    fn refuses_what_no_gradients_could_give() {
        let refused = |m: &[Vec<f64>]| Gramian::from_matrix(m).unwrap_err().to_string();
        assert!(refused(&[vec![-1.0]]).contains("not negative"));
        assert!(refused(&[vec![1.0, 0.5], vec![0.1, 1.0]]).contains("mirror"));
        assert!(refused(&[vec![1.0, 2.0], vec![2.0, 1.0]]).contains("product of the two norms"));
        assert!(refused(&[vec![1.0, 2.0]]).contains("expected 1"));
        assert!(matches!(Gramian::from_rows::<Vec<f64>>(&[]), Err(OptimError::Empty)));
    }
}
