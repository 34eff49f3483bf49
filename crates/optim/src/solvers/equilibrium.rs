//! The positive solution of `(C z)_i = k_i z_i^(-β)`.
//!
//! It is the minimum of the convex function `½ zᵀCz - Σ k_i φ(z_i)` with `φ(z) = z^(1-β) / (1-β)`, or `ln z` for `β = 1`: the bargaining
//! solution of Nash-MTL and the fair allocation of FairGrad. Minimizing along one coordinate after the other converges from anywhere, however
//! far apart the `k_i` lie; Newton's method, in `ln z`, ends it. A Newton step is taken only if it halves the relative residual.

use super::non_negative::solve;

/// Keeps the function bounded at Pareto-stationary points, where `C z = 0` has a non-negative solution.
const RIDGE: f64 = 1e-10;

/// Solves for `z > 0` with `C` (`m × m`) a matrix of cosines and `ln k` given, `β > 0`.
pub(crate) fn power_equilibrium(cosines: &[f64], log_k: &[f64], beta: f64) -> Vec<f64> {
    let m = log_k.len();
    let mut c = cosines.to_vec();
    (0..m).for_each(|i| c[i * m + i] += RIDGE);
    // The solution if no gradient had to do with another, in units that keep the exponentials in range.
    let unit = log_k.iter().sum::<f64>() / (m as f64 * (1.0 + beta));
    let mut log_z: Vec<f64> = log_k.iter().map(|k| k / (1.0 + beta) - unit).collect();
    let shifted: Vec<f64> = log_k.iter().map(|k| k - unit * (1.0 + beta)).collect();
    for _ in 0..4 {
        sweep(&c, &mut log_z, &shifted, beta);
    }
    let mut merit = residual(&c, &log_z, &shifted, beta);
    for _ in 0..200 {
        if merit < 1e-14 {
            break;
        }
        let step = newton(&c, &log_z, &shifted, beta).unwrap_or_else(|| vec![0.0; m]);
        let better = [1.0, 0.5, 0.1].into_iter().find_map(|t| {
            let next: Vec<f64> = log_z.iter().zip(&step).map(|(y, s)| (y + t * s).clamp(-700.0, 700.0)).collect();
            let reached = residual(&c, &next, &shifted, beta);
            (reached < 0.5 * merit).then_some((next, reached))
        });
        match better {
            Some((next, reached)) => (log_z, merit) = (next, reached),
            // Nothing but rounding is left.
            None if merit < 1e-12 => break,
            None => {
                sweep(&c, &mut log_z, &shifted, beta);
                merit = residual(&c, &log_z, &shifted, beta);
            }
        }
    }
    log_z.iter().map(|y| (y + unit).exp().clamp(f64::MIN_POSITIVE, f64::MAX)).collect()
}

/// Minimizes along each coordinate in turn.
fn sweep(c: &[f64], log_z: &mut [f64], log_k: &[f64], beta: f64) {
    let m = log_z.len();
    let mut z: Vec<f64> = log_z.iter().map(|y| y.exp()).collect();
    for i in 0..m {
        let others: f64 = (0..m).filter(|&j| j != i).map(|j| c[i * m + j] * z[j]).sum();
        log_z[i] = coordinate(c[i * m + i], others, log_k[i], beta, log_z[i]);
        z[i] = log_z[i].exp();
    }
}

/// The `y` of `c eʸ + s = k e^(-βy)`, `c > 0`: the left side minus the right rises from `-∞` to `∞`.
fn coordinate(c: f64, s: f64, log_k: f64, beta: f64, start: f64) -> f64 {
    let alone = |k: f64| (k - c.ln()) / (1.0 + beta);
    let half = std::f64::consts::LN_2;
    // At the root one of two terms on a side is at least half of the other side.
    let (mut low, mut high) = match s {
        s if s > 0.0 => (alone(log_k - half).min((log_k - half - s.ln()) / beta), alone(log_k)),
        s if s < 0.0 => (alone(log_k).max((-s / c).ln()), alone(log_k + half).max((-2.0 * s / c).ln())),
        _ => return alone(log_k),
    };
    let mut y = if start > low && start < high { start } else { 0.5 * (low + high) };
    for _ in 0..80 {
        let (own, pull) = (c * y.exp(), (log_k - beta * y).exp());
        let value = own + s - pull;
        if value > 0.0 {
            high = y
        } else {
            low = y
        }
        let next = y - value / (own + beta * pull);
        let next = if next > low && next < high { next } else { 0.5 * (low + high) };
        if (next - y).abs() < 1e-12 || value == 0.0 {
            return next;
        }
        y = next;
    }
    y
}

/// The largest `|(C z)_i - k_i z_i^(-β)|`, relative to what it is summed of.
fn residual(c: &[f64], log_z: &[f64], log_k: &[f64], beta: f64) -> f64 {
    let m = log_z.len();
    let z: Vec<f64> = log_z.iter().map(|y| y.exp()).collect();
    let mut worst = 0.0_f64;
    for i in 0..m {
        let pull = (log_k[i] - beta * log_z[i]).exp();
        let (mut sum, mut size) = (-pull, pull);
        for j in 0..m {
            let term = c[i * m + j] * z[j];
            sum += term;
            size += term.abs();
        }
        let relative = sum.abs() / size;
        worst = worst.max(if relative.is_nan() { f64::INFINITY } else { relative });
    }
    worst
}

/// Newton's step for `ln z`.
fn newton(c: &[f64], log_z: &[f64], log_k: &[f64], beta: f64) -> Option<Vec<f64>> {
    let m = log_z.len();
    let z: Vec<f64> = log_z.iter().map(|y| y.exp()).collect();
    let pull: Vec<f64> = (0..m).map(|i| (log_k[i] + (1.0 - beta) * log_z[i]).exp()).collect();
    let mut gradient = vec![0.0; m];
    let mut hessian = vec![0.0; m * m];
    for i in 0..m {
        for j in 0..m {
            let entry = z[i] * c[i * m + j] * z[j];
            gradient[i] += entry;
            hessian[i * m + j] = entry;
        }
        gradient[i] -= pull[i];
        hessian[i * m + i] += beta * pull[i];
    }
    let all: Vec<usize> = (0..m).collect();
    // A relative change d of z is ln(1 + d) of its logarithm where that exists.
    let step = solve(&hessian, m, &all, |i| -gradient[i])?;
    Some(step.into_iter().map(|d| if d > -0.5 { d.ln_1p() } else { d.max(-5.0) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_row_has_its_closed_form() {
        // z = 2 z^(-3): z = 2^(1/4)
        let z = power_equilibrium(&[1.0], &[2.0_f64.ln()], 3.0);
        assert!((z[0] - 2.0_f64.powf(0.25)).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_equation_holds(
            rows in (1_usize..9).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, m + 3), m)),
            log_k in prop::collection::vec(-30.0..30.0_f64, 9),
            beta in prop_oneof![Just(1.0), 0.2..3.0_f64],
        ) {
            let gramian = crate::Gramian::from_rows(&rows).unwrap();
            let m = rows.len();
            let cosines: Vec<f64> = (0..m * m).map(|k| gramian.cosine(k / m, k % m)).collect();
            prop_assume!(crate::solvers::eigen::Eigen::new(cosines.clone(), m).values[m - 1] > 1e-3);
            let log_k = &log_k[..m];
            let z = power_equilibrium(&cosines, log_k, beta);
            for i in 0..m {
                let pushed: f64 = (0..m).map(|j| cosines[i * m + j] * z[j]).sum::<f64>() + RIDGE * z[i];
                let size: f64 = (0..m).map(|j| (cosines[i * m + j] * z[j]).abs()).sum();
                let pull = (log_k[i] - beta * z[i].ln()).exp();
                prop_assert!((pushed - pull).abs() <= 1e-9 * (size + pull), "{pushed} {pull}");
            }
        }
    }
}
