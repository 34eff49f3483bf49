//! Quadratic programs over the non-negative orthant, by an active-set method.
//!
//! Every projection of this crate has the dual `min ½ xᵀHx - bᵀx, x ≥ 0` with a small positive semi-definite `H`. The method is that of
//! Goldfarb and Idnani (1983) read in the dual: one variable at a time becomes positive, and on the way to the optimum of the larger
//! support those that would turn negative leave. Each round lessens the objective, so no support comes twice and the method ends.

use super::number::Number;

/// What is known about the program beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounded {
    /// `b` lies in the range of `H`: an optimum exists, and a step that seems to have no end is rounding.
    Yes,
    /// The primal may have no feasible point, which shows as an objective without lower bound.
    Unknown,
}

/// `x ≥ 0` of least `½ xᵀHx - bᵀx`, for `H` (`m × m`, row by row) symmetric and positive semi-definite.
///
/// `start` is a guess of the support, used if its optimum is positive. `None`: there is no lower bound.
pub(crate) fn non_negative<T: Number>(h: &[T], b: &[T], start: &[usize], bounded: Bounded) -> Option<Vec<T>> {
    let m = b.len();
    let mut x = vec![T::ZERO; m];
    let mut support: Vec<usize> = Vec::with_capacity(m);
    if !start.is_empty()
        && let Some(guess) = solve(h, m, start, |i| b[i])
        && guess.iter().all(|&z| z > T::ZERO)
    {
        start.iter().zip(guess).for_each(|(&i, z)| x[i] = z);
        support.extend_from_slice(start);
    }
    let mut blocked = vec![false; m];
    for _ in 0..20 * (m + 2) {
        let Some(entering) = steepest(h, b, &x, &support, &blocked) else {
            break;
        };
        let (mut next, mut among) = (x.clone(), support.clone());
        match enter(h, b, &mut next, &mut among, entering, bounded) {
            // A support whose rows depend on each other after all could not be left again, and a value that did not fall is no
            // move: both come of rounding.
            Entered::Moved if solve(h, m, &among, |i| b[i]).is_some() && value(h, b, &next) < value(h, b, &x) => {
                (x, support) = (next, among);
                blocked.fill(false);
            }
            Entered::Moved | Entered::Rounding => blocked[entering] = true,
            Entered::Unbounded => return None,
        }
    }
    Some(x)
}

/// `½ xᵀHx - bᵀx`, times 2.
fn value<T: Number>(h: &[T], b: &[T], x: &[T]) -> T {
    let m = b.len();
    let mut total = T::ZERO;
    for i in (0..m).filter(|&i| x[i] > T::ZERO) {
        let mut row = -(b[i] + b[i]);
        for j in (0..m).filter(|&j| x[j] > T::ZERO) {
            row = row + h[i * m + j] * x[j];
        }
        total = total + row * x[i];
    }
    total
}

/// The variable outside of the support along which the objective falls fastest, if by more than rounding.
fn steepest<T: Number>(h: &[T], b: &[T], x: &[T], support: &[usize], blocked: &[bool]) -> Option<usize> {
    let m = b.len();
    let mut best = None;
    let mut fastest = T::ZERO;
    for i in (0..m).filter(|&i| !blocked[i] && !support.contains(&i)) {
        let (slope, size) = slope(h, b, x, support, i);
        if slope > fastest && !slope.negligible(size) {
            (best, fastest) = (Some(i), slope);
        }
    }
    best
}

/// `b_i - (Hx)_i`, and the size of what was summed.
fn slope<T: Number>(h: &[T], b: &[T], x: &[T], support: &[usize], i: usize) -> (T, T) {
    let mut slope = b[i];
    let mut size = b[i].abs();
    for &j in support {
        let term = h[i * b.len() + j] * x[j];
        slope = slope - term;
        size = size + term.abs();
    }
    (slope, size)
}

enum Entered {
    Moved,
    Rounding,
    Unbounded,
}

fn enter<T: Number>(h: &[T], b: &[T], x: &mut [T], support: &mut Vec<usize>, p: usize, bounded: Bounded) -> Entered {
    let m = b.len();
    let diagonal = h[p * m + p];
    let mut moved = false;
    // Every pass but the last shortens the support.
    loop {
        let Some(back) = solve(h, m, support, |i| h[i * m + p]) else {
            return if moved { Entered::Moved } else { Entered::Rounding };
        };
        let mut apart = diagonal;
        for (&j, &r) in support.iter().zip(&back) {
            apart = apart - h[p * m + j] * r;
        }
        let mut with = support.clone();
        with.push(p);
        let (slope, _) = slope(h, b, x, &with, p);
        let full = (!apart.dependent(diagonal) && apart > T::ZERO).then(|| slope / apart);
        if let Some(step) = full
            && step <= T::ZERO
        {
            // The slope was spent on the way; what is left of the variable stays in the support.
            if x[p] > T::ZERO {
                support.push(p);
            }
            return if moved { Entered::Moved } else { Entered::Rounding };
        }
        let mut partial: Option<(usize, T)> = None;
        for (k, (&j, &r)) in support.iter().zip(&back).enumerate().filter(|(_, (_, r))| **r > T::ZERO) {
            let ratio = x[j] / r;
            if partial.is_none_or(|(_, least)| ratio < least) {
                partial = Some((k, ratio));
            }
        }
        let (step, leaving) = match (full, partial) {
            (Some(full), Some((k, ratio))) if ratio < full => (ratio, Some(k)),
            (Some(full), _) => (full, None),
            (None, Some((k, ratio))) => (ratio, Some(k)),
            (None, None) if bounded == Bounded::Unknown => return Entered::Unbounded,
            (None, None) => {
                if x[p] > T::ZERO {
                    x[p] = T::ZERO;
                    settle(h, b, x, support);
                }
                return if moved { Entered::Moved } else { Entered::Rounding };
            }
        };
        for (&j, &r) in support.iter().zip(&back) {
            let next = x[j] - step * r;
            x[j] = if next > T::ZERO { next } else { T::ZERO };
        }
        x[p] = x[p] + step;
        moved = true;
        match leaving {
            Some(k) => {
                x[support[k]] = T::ZERO;
                support.remove(k);
                support.retain(|&j| x[j] > T::ZERO);
            }
            None => {
                support.push(p);
                settle(h, b, x, support);
                return Entered::Moved;
            }
        }
    }
}

/// Replaces what steps added up to by the solution on the support, where it is positive.
fn settle<T: Number>(h: &[T], b: &[T], x: &mut [T], support: &mut Vec<usize>) {
    if let Some(z) = solve(h, b.len(), support, |i| b[i])
        && z.iter().all(|&z| z > T::ZERO)
    {
        support.iter().zip(z).for_each(|(&i, z)| x[i] = z);
    }
    support.retain(|&i| x[i] > T::ZERO);
}

/// Solves `H_SS z = right_S` by `L D Lᵀ`; `None` when the rows of the support depend on each other.
pub(crate) fn solve<T: Number>(h: &[T], m: usize, support: &[usize], right: impl Fn(usize) -> T) -> Option<Vec<T>> {
    let n = support.len();
    let mut lower = vec![T::ZERO; n * n];
    let mut pivots = vec![T::ZERO; n];
    for r in 0..n {
        for c in 0..r {
            // L_rc D_c
            let mut entry = h[support[r] * m + support[c]];
            for k in 0..c {
                entry = entry - lower[r * n + k] * lower[c * n + k] * pivots[k];
            }
            lower[r * n + c] = entry / pivots[c];
        }
        let diagonal = h[support[r] * m + support[r]];
        let mut pivot = diagonal;
        for k in 0..r {
            pivot = pivot - lower[r * n + k] * lower[r * n + k] * pivots[k];
        }
        if pivot <= T::ZERO || pivot.dependent(diagonal) {
            return None;
        }
        pivots[r] = pivot;
    }
    let mut z: Vec<T> = support.iter().map(|&i| right(i)).collect();
    for r in 0..n {
        for k in 0..r {
            z[r] = z[r] - lower[r * n + k] * z[k];
        }
    }
    for r in (0..n).rev() {
        z[r] = z[r] / pivots[r];
        for k in r + 1..n {
            z[r] = z[r] - lower[k * n + r] * z[k];
        }
    }
    Some(z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solvers::wide::Wide;
    use proptest::prelude::*;

    fn products(rows: &[Vec<f64>]) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum();
        rows.iter().flat_map(|a| rows.iter().map(move |b| dot(a, b))).collect()
    }

    #[test]
    fn a_diagonal_program_is_solved_one_by_one() {
        let x = non_negative(&[2.0, 0.0, 0.0, 4.0], &[1.0, -3.0], &[], Bounded::Unknown).unwrap();
        assert_eq!(x, [0.5, 0.0]);
    }

    #[test]
    fn contradictory_constraints_have_no_bound() {
        // d ≥ 1 and -d ≥ 1.
        assert!(non_negative(&[1.0, -1.0, -1.0, 1.0], &[1.0, 1.0], &[], Bounded::Unknown).is_none());
        // d ≥ 1 and -d ≥ -2 are fine together.
        let x = non_negative(&[1.0, -1.0, -1.0, 1.0], &[1.0, -2.0], &[], Bounded::Unknown).unwrap();
        assert_eq!(x, [1.0, 0.0]);
    }

    proptest! {
        #[test]
        fn optimality_conditions_hold_in_both_precisions(
            rows in (1_usize..9, 1_usize..9).prop_flat_map(|(m, n)| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, n), m)),
            toward in prop::collection::vec(-1.0..1.0_f64, 9),
        ) {
            let m = rows.len();
            let h = products(&rows);
            // In the range of H, so that an optimum exists.
            let b: Vec<f64> = rows.iter().map(|r| r.iter().zip(&toward).map(|(x, y)| x * y).sum()).collect();
            let wide = |v: &[f64]| v.iter().map(|&x| Wide::from_f64(x)).collect::<Vec<_>>();
            let rough = non_negative(&h, &b, &[], Bounded::Yes).unwrap();
            let exact: Vec<Vec<Wide>> = rows.iter().map(|r| wide(r)).collect();
            let dot = |a: &[Wide], c: &[Wide]| a.iter().zip(c).fold(Wide::ZERO, |s, (x, y)| s + *x * *y);
            let h_wide: Vec<Wide> = exact.iter().flat_map(|a| exact.iter().map(move |c| dot(a, c))).collect();
            let b_wide: Vec<Wide> = exact.iter().map(|r| dot(r, &wide(&toward))).collect();
            let fine = non_negative(&h_wide, &b_wide, &[], Bounded::Yes).unwrap();
            for i in 0..m {
                let (mut gradient, mut gradient_wide) = (-b[i], -b_wide[i]);
                for j in 0..m {
                    gradient += h[i * m + j] * rough[j];
                    gradient_wide = gradient_wide + h_wide[i * m + j] * fine[j];
                }
                let size = rough.iter().copied().fold(1.0, f64::max);
                prop_assert!(rough[i] >= 0.0 && gradient >= -1e-9 * size && gradient * rough[i] <= 1e-9 * size * size, "{gradient} {rough:?}");
                let size = fine.iter().map(|x| x.to_f64()).fold(1.0, f64::max);
                prop_assert!(fine[i] >= Wide::ZERO && gradient_wide.to_f64() >= -1e-60 * size);
                prop_assert!((gradient_wide * fine[i]).to_f64() <= 1e-60 * size * size);
            }
        }
    }
}
