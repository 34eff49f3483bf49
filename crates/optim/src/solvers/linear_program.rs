//! Small linear programs.

const TOLERANCE: f64 = 1e-11;

/// A maximizer of `c · x` over `x ≥ 0`, `A x ≤ b`, or `None` if no point is feasible or the optimum is unbounded.
///
/// The two-phase simplex method on a dense tableau with Bland's rule, which cannot cycle. `rows` holds `(A_k, b_k)`; numbers are
/// expected to be around 1.
pub(crate) fn maximize(c: &[f64], rows: &[(Vec<f64>, f64)]) -> Option<Vec<f64>> {
    let (n, k) = (c.len(), rows.len());
    // Columns: x, slacks, one artificial variable, right-hand side.
    let width = n + k + 2;
    let mut tableau: Vec<Vec<f64>> = Vec::with_capacity(k + 1);
    for (r, (a, b)) in rows.iter().enumerate() {
        let mut line = vec![0.0; width];
        line[..n].copy_from_slice(a);
        line[n + r] = 1.0;
        line[n + k] = -1.0;
        line[width - 1] = *b;
        tableau.push(line);
    }
    let mut basis: Vec<usize> = (n..n + k).collect();
    let worst = (0..k).min_by(|&i, &j| rows[i].1.total_cmp(&rows[j].1));
    if let Some(worst) = worst.filter(|&w| rows[w].1 < 0.0) {
        // Phase one: the least artificial variable that makes every row feasible.
        let mut line = vec![0.0; width];
        line[n + k] = 1.0;
        tableau.push(line);
        pivot(&mut tableau, &mut basis, worst, n + k);
        improve(&mut tableau, &mut basis, n + k + 1)?;
        let cost = tableau.pop()?;
        if cost[width - 1].abs() > 1e-9 {
            return None;
        }
        if let Some(row) = basis.iter().position(|&b| b == n + k)
            && let Some(column) = (0..n + k).find(|&j| tableau[row][j].abs() > TOLERANCE)
        {
            pivot(&mut tableau, &mut basis, row, column);
        }
    }
    let mut line = vec![0.0; width];
    line[..n].iter_mut().zip(c).for_each(|(l, c)| *l = -c);
    for (row, &b) in basis.iter().enumerate() {
        let factor = line[b];
        line.iter_mut().zip(&tableau[row]).for_each(|(l, x)| *l -= factor * x);
    }
    tableau.push(line);
    improve(&mut tableau, &mut basis, n + k)?;
    let mut x = vec![0.0; n];
    for (row, &b) in basis.iter().enumerate().filter(|(_, b)| **b < n) {
        x[b] = tableau[row][width - 1].max(0.0);
    }
    Some(x)
}

/// Pivots until no reduced cost among the first `columns` is negative; `None` for an unbounded program.
fn improve(tableau: &mut [Vec<f64>], basis: &mut [usize], columns: usize) -> Option<()> {
    let (last, k) = (tableau[0].len() - 1, basis.len());
    for _ in 0..1000 {
        let Some(column) = (0..columns).find(|&j| tableau[k][j] < -TOLERANCE) else {
            return Some(());
        };
        let row = (0..k).filter(|&r| tableau[r][column] > TOLERANCE).min_by(|&r, &s| {
            let ratio = |r: usize| tableau[r][last] / tableau[r][column];
            ratio(r).total_cmp(&ratio(s)).then(basis[r].cmp(&basis[s]))
        })?;
        pivot(tableau, basis, row, column);
    }
    Some(())
}

fn pivot(tableau: &mut [Vec<f64>], basis: &mut [usize], row: usize, column: usize) {
    let factor = tableau[row][column];
    tableau[row].iter_mut().for_each(|x| *x /= factor);
    let leading = tableau[row].clone();
    for (_, line) in tableau.iter_mut().enumerate().filter(|(r, _)| *r != row) {
        let factor = line[column];
        if factor != 0.0 {
            line.iter_mut().zip(&leading).for_each(|(x, l)| *x -= factor * l);
        }
    }
    basis[row] = column;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_textbook_program_an_empty_one_and_an_endless_one() {
        let x =
            maximize(&[3.0, 5.0], &[(vec![1.0, 0.0], 4.0), (vec![0.0, 2.0], 12.0), (vec![3.0, 2.0], 18.0)]).unwrap();
        assert!((x[0] - 2.0).abs() < 1e-12 && (x[1] - 6.0).abs() < 1e-12);
        assert!(maximize(&[1.0], &[(vec![1.0], 1.0), (vec![-1.0], -2.0)]).is_none());
        assert!(maximize(&[1.0], &[(vec![-1.0], 1.0)]).is_none());
        // x ≥ 1 and x + y = 2 as two inequalities, least y.
        let rows = [(vec![-1.0, 0.0], -1.0), (vec![1.0, 1.0], 2.0), (vec![-1.0, -1.0], -2.0)];
        assert_eq!(maximize(&[0.0, -1.0], &rows).unwrap(), [2.0, 0.0]);
    }

    proptest! {
        /// With two variables an optimum is a crossing of two constraints: try them all.
        #[test]
        fn two_variables_match_the_best_crossing(
            c in prop::collection::vec(-1.0..1.0_f64, 2),
            lines in prop::collection::vec((-1.0..1.0_f64, -1.0..1.0_f64, -0.5..1.0_f64), 1..6),
        ) {
            let mut rows: Vec<(Vec<f64>, f64)> = lines.iter().map(|(a, b, r)| (vec![*a, *b], *r)).collect();
            rows.push((vec![1.0, 1.0], 10.0));
            let mut all = rows.clone();
            all.push((vec![-1.0, 0.0], 0.0));
            all.push((vec![0.0, -1.0], 0.0));
            let feasible = |x: &[f64], slack: f64| all.iter().all(|(a, b)| a[0] * x[0] + a[1] * x[1] <= b + slack);
            let mut best: Option<f64> = None;
            for (i, (p, r)) in all.iter().enumerate() {
                for (q, s) in &all[i + 1..] {
                    let det = p[0] * q[1] - p[1] * q[0];
                    prop_assume!(det.abs() > 1e-3 || det == 0.0);
                    let x = [(r * q[1] - p[1] * s) / det, (p[0] * s - r * q[0]) / det];
                    if det != 0.0 && feasible(&x, 1e-9) {
                        let value = c[0] * x[0] + c[1] * x[1];
                        best = Some(best.map_or(value, |b: f64| b.max(value)));
                    }
                }
            }
            match (maximize(&c, &rows), best) {
                (Some(x), Some(best)) => {
                    prop_assert!(feasible(&x, 1e-7));
                    prop_assert!((c[0] * x[0] + c[1] * x[1] - best).abs() < 1e-6);
                }
                (None, None) => {}
                (found, best) => prop_assert!(false, "{found:?} instead of {best:?}"),
            }
        }
    }
}
