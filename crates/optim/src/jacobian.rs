//! The objectives' gradients themselves.

use crate::{Gramian, OptimError, Result};

/// The Jacobian of `m` losses: one gradient a row, all of the same length `n`, every value finite.
///
/// Most methods need only its [`Gramian`]. The rows are for methods that look at single coordinates ([`crate::RowWeighting`]) and for
/// solutions to the last digit ([`crate::solve`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Jacobian {
    width: usize,
    rows: Vec<Vec<f64>>,
}

impl Jacobian {
    /// Takes `m` rows of the same length.
    ///
    /// # Errors
    /// No rows, rows of different lengths, or a value that is not finite (the message names the objective's index).
    pub fn new(rows: Vec<Vec<f64>>) -> Result<Self> {
        let width = rows.first().ok_or(OptimError::Empty)?.len();
        check_rows(&rows, width)?;
        Ok(Self { width, rows })
    }

    /// Number of objectives `m`.
    pub fn size(&self) -> usize {
        self.rows.len()
    }

    /// Length `n` of a gradient.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The gradients, in the objectives' order.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// The dot products of the rows.
    ///
    /// # Errors
    /// A product overflows.
    pub fn gramian(&self) -> Result<Gramian> {
        Gramian::from_rows(&self.rows)
    }

    /// `Σ w_i g_i`, of length `n`; rows without a weight count as 0.
    pub fn combine(&self, weights: &[f64]) -> Vec<f64> {
        let mut direction = vec![0.0; self.width];
        for (row, &weight) in self.rows.iter().zip(weights).filter(|(_, w)| **w != 0.0) {
            direction.iter_mut().zip(row).for_each(|(d, x)| *d += weight * x);
        }
        direction
    }
}

/// Rows of one length, finite throughout.
pub(crate) fn check_rows<R: AsRef<[f64]>>(rows: &[R], width: usize) -> Result<()> {
    for (row, values) in rows.iter().enumerate() {
        let values = values.as_ref();
        if values.len() != width {
            return Err(OptimError::Shape { what: "Jacobian", row, found: values.len(), expected: width });
        }
        if let Some(&value) = values.iter().find(|v| !v.is_finite()) {
            return Err(OptimError::NotFinite { what: "the gradient", objective: row.to_string(), value });
        }
    }
    Ok(())
}
