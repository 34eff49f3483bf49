use std::cmp::Ordering;

use super::factors::{Factors, add_multiple, dot};

/// The normal equations of one user or one item: scratch space of one thread.
pub(super) struct Normal {
    /// Row-major `[width, width]`, of which the part on and above the diagonal is used.
    matrix: Vec<f64>,
}

impl Normal {
    pub(super) fn new(width: usize) -> Self {
        Self { matrix: vec![0.0; width * width] }
    }

    /// Puts `(base + α Σ y yᵀ)⁻¹ (1 + α) Σ y` into `solution`, the sums over the vectors `y` of `fixed` that `row` names.
    pub(super) fn solve(&mut self, base: &[f64], row: &[u32], fixed: &Factors, alpha: f64, solution: &mut [f64]) {
        solution.fill(0.0);
        if row.is_empty() {
            return;
        }
        let width = fixed.width();
        let matrix = self.matrix.as_mut_slice();
        matrix.copy_from_slice(base);
        for &index in row {
            let vector = fixed.row(index as usize);
            for (at, (line, value)) in matrix.chunks_exact_mut(width).zip(vector).enumerate() {
                add_multiple(&mut line[at..], alpha * value, &vector[at..]);
            }
            add_multiple(solution, 1.0 + alpha, vector);
        }
        solve_in_place(matrix, solution);
    }
}

/// Solves `A x = b` for symmetric positive definite `A`, given on and above the diagonal, by Cholesky's `A = UᵀU`; `U` takes the
/// place of `A`, and `x` that of `b`.
///
/// Where rounding has left nothing of a pivot, its unknown is 0: the others then solve the equations without it.
fn solve_in_place(matrix: &mut [f64], vector: &mut [f64]) {
    let width = vector.len();
    let rounding = width as f64 * f64::EPSILON;
    let diagonal: Vec<f64> = matrix.iter().step_by(width + 1).copied().collect();
    for k in 0..width {
        let (head, below) = matrix.split_at_mut((k + 1) * width);
        let pivot_row = &mut head[k * width..];
        let lost = pivot_row[k].partial_cmp(&(rounding * diagonal[k])) != Some(Ordering::Greater);
        let pivot = if lost { f64::INFINITY } else { pivot_row[k].sqrt() };
        pivot_row[k] = pivot;
        pivot_row[k + 1..].iter_mut().for_each(|value| *value /= pivot);
        for (i, line) in (k + 1..).zip(below.chunks_exact_mut(width)) {
            add_multiple(&mut line[i..], -pivot_row[i], &pivot_row[i..]);
        }
        // Uᵀ z = b, along the way.
        vector[k] /= pivot;
        let (solved, rest) = vector.split_at_mut(k + 1);
        add_multiple(rest, -solved[k], &pivot_row[k + 1..]);
    }
    for k in (0..width).rev() {
        let row = &matrix[k * width..][..width];
        vector[k] = (vector[k] - dot(&row[k + 1..], &vector[k + 1..])) / row[k];
    }
}
