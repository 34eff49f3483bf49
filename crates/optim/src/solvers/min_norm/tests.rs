use super::*;
use proptest::prelude::*;

fn solve(rows: &[Vec<f64>]) -> (Gramian, Vec<f64>) {
    let gramian = Gramian::from_rows(rows).unwrap();
    let weights = min_norm(&gramian);
    assert!(weights.iter().all(|w| w.is_finite() && *w >= 0.0), "{weights:?}");
    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{weights:?}");
    (gramian, weights)
}

/// An upper bound of how far `weights` is from the optimum, in units of the shortest gradient's squared norm.
///
/// For convex `f`, `f(w) - f(v) ≤ 2 (wᵀGw - vᵀGw)` for every `v` of the simplex, and the right side is largest at a corner. Reckoned
/// from the direction itself in the rows' space, where opposite rows cancel exactly.
fn gap(rows: &[Vec<f64>], weights: &[f64]) -> f64 {
    let norm = |r: &[f64]| r.iter().map(|x| x * x).sum::<f64>();
    let shortest = rows.iter().map(|r| norm(r)).fold(f64::INFINITY, f64::min);
    let direction: Vec<f64> =
        (0..rows[0].len()).map(|k| rows.iter().zip(weights).map(|(r, w)| r[k] * w).sum()).collect();
    let at_corner = |r: &Vec<f64>| r.iter().zip(&direction).map(|(a, b)| a * b).sum::<f64>();
    let least = rows.iter().map(at_corner).fold(f64::INFINITY, f64::min);
    2.0 * (norm(&direction) - least) / shortest
}

/// The optimum by trying every support and solving for stationarity with plain Gaussian elimination.
fn brute_force(gramian: &Gramian) -> f64 {
    let m = gramian.size();
    let mut best = f64::INFINITY;
    for mask in 1_usize..1 << m {
        let support: Vec<usize> = (0..m).filter(|i| mask >> i & 1 == 1).collect();
        let n = support.len();
        // [G 1; 1ᵀ 0] [w; -λ] = [0; 1]
        let mut a = vec![vec![0.0; n + 2]; n + 1];
        for r in 0..n {
            for c in 0..n {
                a[r][c] = gramian.get(support[r], support[c]);
            }
            (a[r][n], a[n][r]) = (1.0, 1.0);
        }
        a[n][n + 1] = 1.0;
        let Some(solution) = eliminate(a) else {
            continue;
        };
        // Elimination of nearly singular systems returns anything: what is not on the simplex does not count.
        let total: f64 = solution[..n].iter().sum();
        if (total - 1.0).abs() < 1e-12 && solution[..n].iter().all(|w| *w >= 0.0) {
            let mut weights = vec![0.0; m];
            support.iter().zip(&solution).for_each(|(&i, &w)| weights[i] = w);
            best = best.min(gramian.squared_norm(&weights));
        }
    }
    best
}

fn eliminate(mut a: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = a.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|&x, &y| a[x][k].abs().total_cmp(&a[y][k].abs()))?;
        a.swap(k, pivot);
        let leading = a[k].clone();
        if leading[k].abs() < 1e-12 {
            return None;
        }
        for (_, row) in a.iter_mut().enumerate().filter(|(r, _)| *r != k) {
            let factor = row[k] / leading[k];
            row.iter_mut().zip(&leading).for_each(|(x, above)| *x -= factor * above);
        }
    }
    Some((0..n).map(|k| a[k][n] / a[k][k]).collect())
}

#[test]
fn one_gradient_has_all_the_weight() {
    assert_eq!(solve(&[vec![3.0, -4.0]]).1, vec![1.0]);
    assert_eq!(solve(&[vec![0.0]]).1, vec![1.0]);
}

#[test]
fn equal_collinear_and_opposite_rows() {
    // Collinear: the shorter row alone.
    assert_eq!(solve(&[vec![2.0, 2.0], vec![1.0, 1.0]]).1, vec![0.0, 1.0]);
    // Opposite: the origin, wherever the lengths put it.
    let (gramian, weights) = solve(&[vec![1.0, 0.0], vec![-3.0, 0.0]]);
    assert!((weights[0] - 0.75).abs() < 1e-15 && gramian.squared_norm(&weights) < 1e-30);
    // Equal: any weights, but finite ones that leave the row as it is.
    let (gramian, weights) = solve(&vec![vec![1.0, 2.0]; 5]);
    assert!((gramian.squared_norm(&weights) - 5.0).abs() < 1e-12);
    // A huge opposite pair beside a small row across.
    let rows = [vec![0.0, 1.0], vec![1e15, 0.0], vec![-1e15, 0.0]];
    let (gramian, weights) = solve(&rows);
    assert!(gramian.squared_norm(&weights) <= 1e-10, "{weights:?}");
}

#[test]
fn zero_rows_take_all_the_weight() {
    assert_eq!(solve(&[vec![0.0], vec![1.0], vec![0.0]]).1, vec![0.5, 0.0, 0.5]);
}

#[test]
fn extreme_lengths_do_not_overflow() {
    for (short, long) in [(1e-160, 1e150), (1e-10, 1e15), (f64::MIN_POSITIVE.sqrt(), 1.0)] {
        let (_, weights) = solve(&[vec![short, 0.0], vec![0.3 * long, long], vec![-0.5 * long, long]]);
        // The short row leads; the third conflicts with it and takes the weight that cancels the conflict.
        assert!(weights[0] > 0.999, "{short} {long}: {weights:?}");
    }
}

#[test]
fn a_triangle_around_the_origin_gives_the_origin() {
    let rows: Vec<Vec<f64>> = [0.0_f64, 2.0, 4.0].iter().map(|a| vec![a.cos() * 7.0, a.sin() * 0.01]).collect();
    let (gramian, weights) = solve(&rows);
    assert!(gramian.squared_norm(&weights) < 1e-18, "{weights:?}");
}

fn rows(m: std::ops::Range<usize>, n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<f64>>> {
    (m, n).prop_flat_map(|(m, n)| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, n), m))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn two_rows_match_the_closed_form(r in rows(2..3, 1..6)) {
        let (gramian, weights) = solve(&r);
        let (a, b, c) = (gramian.get(0, 0), gramian.get(1, 1), gramian.get(0, 1));
        prop_assume!(a > 1e-6 && b > 1e-6 && a + b - 2.0 * c > 1e-6);
        let gamma = ((b - c) / (a + b - 2.0 * c)).clamp(0.0, 1.0);
        prop_assert!((weights[0] - gamma).abs() < 1e-9, "{} instead of {gamma}", weights[0]);
    }

    #[test]
    fn matches_brute_force(r in rows(1..7, 1..9)) {
        let (gramian, weights) = solve(&r);
        let (found, best) = (gramian.squared_norm(&weights), brute_force(&gramian));
        prop_assert!(found <= best + 1e-10, "{found} against {best}");
    }

    #[test]
    fn optimality_holds_for_sixteen_rows_of_any_rank(r in rows(2..17, 1..20)) {
        let (_, weights) = solve(&r);
        let shortest = r.iter().map(|v| v.iter().map(|x| x * x).sum::<f64>()).fold(f64::INFINITY, f64::min);
        // The corner's product with the direction is exact to rounding of the longest row, not of the shortest.
        prop_assert!(gap(&r, &weights) <= 1e-10 + 1e-13 / shortest, "gap {}", gap(&r, &weights));
    }

    #[test]
    fn lengths_from_1e_minus_10_to_1e15_are_no_harder(
        r in rows(2..7, 2..9), exponents in prop::collection::vec(-10.0..15.0_f64, 7),
    ) {
        let unit = |v: &Vec<f64>| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        prop_assume!(r.iter().all(|v| unit(v) > 1e-3));
        let scaled: Vec<Vec<f64>> =
            r.iter().zip(&exponents).map(|(v, e)| v.iter().map(|x| x * 10_f64.powf(*e)).collect()).collect();
        let (gramian, weights) = solve(&scaled);
        // Karush-Kuhn-Tucker in units of each row: no row may point against the direction by more than rounding.
        let shortest = (0..gramian.size()).map(|i| gramian.norm(i)).fold(f64::INFINITY, f64::min);
        let u: Vec<f64> = weights.iter().enumerate().map(|(i, w)| w * (gramian.norm(i) / shortest)).collect();
        let products: Vec<f64> =
            (0..u.len()).map(|i| (0..u.len()).map(|j| gramian.cosine(i, j) * u[j]).sum()).collect();
        let norm: f64 = u.iter().zip(&products).map(|(a, b)| a * b).sum();
        let largest = u.iter().copied().fold(1.0, f64::max);
        for (i, product) in products.iter().enumerate() {
            let slack = product - norm * (shortest / gramian.norm(i));
            prop_assert!(slack >= -1e-10 * largest, "row {i}: {slack}");
        }
        prop_assert!(norm <= 1.0 + 1e-12, "never longer than the shortest row: {norm}");
    }

    /// Copies, opposites and near copies of a few rows: as ill-conditioned as gradients come.
    #[test]
    fn nearly_dependent_rows_are_solved_to_what_the_gramian_can_tell(
        base in rows(1..4, 2..6),
        copies in prop::collection::vec((0..3_usize, any::<bool>(), -16.0..0.0_f64, -1.0..1.0_f64), 1..8),
    ) {
        let mut all = base.clone();
        for (k, flip, exponent, noise) in copies {
            let mut copy = base[k % base.len()].clone();
            let sign = if flip { -1.0 } else { 1.0 };
            copy.iter_mut().enumerate().for_each(|(i, x)| {
                *x = sign * *x + if i % 2 == k % 2 { noise * 10_f64.powf(exponent) } else { 0.0 };
            });
            all.push(copy);
        }
        prop_assume!(all.iter().all(|v| v.iter().map(|x| x * x).sum::<f64>() > 1e-2));
        let (gramian, weights) = solve(&all);
        // Against every pair and the brute force, in absolute terms: lengths are around 1.
        let found = gramian.squared_norm(&weights);
        prop_assert!(found <= brute_force(&gramian) + 1e-10, "{found} against {}", brute_force(&gramian));
        prop_assert!(gap(&all, &weights) <= 1e-6, "gap {}", gap(&all, &weights));
    }

    #[test]
    fn the_order_of_the_rows_does_not_change_the_direction(r in rows(2..6, 3..6)) {
        let (gramian, weights) = solve(&r);
        let (_, back) = solve(&r.iter().rev().cloned().collect::<Vec<_>>());
        let back: Vec<f64> = back.into_iter().rev().collect();
        let difference: Vec<f64> = weights.iter().zip(&back).map(|(a, b)| a - b).collect();
        prop_assert!(gramian.squared_norm(&difference) < 1e-8);
    }
}
