//! What holds for every method on every kind of Jacobian.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

use paretune_optim::{
    BalanceConfig, Gramian, Jacobian, Method, MethodKind, Preference, Setting, Signals, min_norm, project_dual_cone,
    solve,
};
use proptest::prelude::*;

/// Families of Jacobians, 1 × 1 to 50 × 100.
#[derive(Debug, Clone, Copy)]
enum Family {
    Normal,
    /// A positive combination of all rows is zero.
    Stationary,
    /// A non-negative combination of some rows is zero.
    WeaklyStationary,
    /// Lengths from 1e-10 to 1e15.
    Scales,
    /// Of rank 2 at most, with repeated and opposite rows.
    LowRank,
    ZeroRows,
}

fn family() -> impl Strategy<Value = Family> {
    use Family::{LowRank, Normal, Scales, Stationary, WeaklyStationary, ZeroRows};
    prop_oneof![Just(Normal), Just(Stationary), Just(WeaklyStationary), Just(Scales), Just(LowRank), Just(ZeroRows)]
}

fn matrix(m: std::ops::Range<usize>, n: std::ops::Range<usize>) -> impl Strategy<Value = (Family, Vec<Vec<f64>>)> {
    (family(), m, n).prop_flat_map(|(family, m, n)| {
        let rows = prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, n), m);
        let powers = prop::collection::vec(-10.0..15.0_f64, m);
        (rows, powers).prop_map(move |(rows, powers)| (family, shape(family, rows, &powers)))
    })
}

fn shape(family: Family, mut rows: Vec<Vec<f64>>, powers: &[f64]) -> Vec<Vec<f64>> {
    let (m, n) = (rows.len(), rows[0].len());
    match family {
        Family::Normal => {}
        Family::Stationary => {
            let sum: Vec<f64> = (0..n).map(|k| -rows[..m - 1].iter().map(|r| r[k]).sum::<f64>()).collect();
            rows[m - 1] = sum;
        }
        Family::WeaklyStationary if m > 1 => rows[m - 1] = rows[0].iter().map(|x| -2.5 * x).collect(),
        Family::WeaklyStationary => {}
        Family::Scales => {
            rows.iter_mut().zip(powers).for_each(|(r, p)| r.iter_mut().for_each(|x| *x *= 10_f64.powf(*p)));
        }
        Family::LowRank => {
            let base = [rows[0].clone(), rows[m - 1].clone()];
            for (row, power) in rows.iter_mut().zip(powers) {
                let (a, b) = (power.round(), (power * 7.0).sin().round());
                *row = (0..n).map(|k| a * base[0][k] + b * base[1][k]).collect();
            }
        }
        Family::ZeroRows => rows.iter_mut().zip(powers).filter(|(_, p)| **p < 0.0).for_each(|(r, _)| r.fill(0.0)),
    }
    rows
}

fn objectives(m: usize) -> Vec<Preference> {
    (0..m).map(|i| Preference::new(i.to_string(), 1.0)).collect()
}

fn configuration(method: Method, m: usize) -> BalanceConfig {
    let config = BalanceConfig::new(method);
    match method {
        Method::Constant => config.with("weights", vec![Setting::from(1.0); m]),
        // The textbook's; with unit gradients nothing is linear.
        Method::Mgda => config.with("normalize", "none"),
        Method::PcGrad => config.with("order", "index"),
        // The default of 10 amplifies rounding from one inner step to the next.
        Method::SdmGrad => config.with("lr", 0.1),
        _ => config,
    }
}

fn direction(method: Method, rows: &[Vec<f64>]) -> Vec<f64> {
    let m = rows.len();
    let losses: Vec<f64> = (0..m).map(|i| 0.5 + i as f64 * 0.25).collect();
    let jacobian = Jacobian::new(rows.to_vec()).unwrap();
    let mut built = configuration(method, m).build_rows(&objectives(m)).unwrap();
    let signals = Signals { losses: &losses, observed: &vec![4; m], gramian: None };
    let mut last = built.combine(&jacobian, &signals).unwrap();
    for _ in 0..2 {
        last = built.combine(&jacobian, &signals).unwrap();
    }
    assert!(last.weights.is_empty() || last.weights.len() == m);
    assert!(last.weights.iter().all(|w| w.is_finite()), "{method} {:?}", last.weights);
    last.direction
}

fn norm(v: &[f64]) -> f64 {
    let largest = v.iter().fold(0.0, |l: f64, x| l.max(x.abs()));
    if largest == 0.0 { 0.0 } else { largest * v.iter().map(|x| (x / largest).powi(2)).sum::<f64>().sqrt() }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    norm(&a.iter().zip(b).map(|(x, y)| x - y).collect::<Vec<_>>())
}

/// How far the conditions of the projection `w ≥ u` are from holding, on unit gradients.
fn projection_residual(gramian: &Gramian, u: &[f64], w: &[f64]) -> f64 {
    let m = u.len();
    let lengths: Vec<f64> = (0..m).map(|i| gramian.norm(i)).collect();
    let unit = (0..m).map(|i| (w[i] * lengths[i]).abs()).fold(0.0, f64::max);
    if unit == 0.0 {
        return 0.0;
    }
    let mut worst = 0.0_f64;
    for i in (0..m).filter(|&i| lengths[i] > 0.0) {
        let product: f64 = (0..m).map(|j| gramian.cosine(i, j) * (w[j] * lengths[j] / unit)).sum();
        let multiplier = (w[i] - u[i]) * lengths[i] / unit;
        worst = worst.max(-product).max(-multiplier).max((product * multiplier).abs());
    }
    worst
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_method_answers_with_finite_numbers((_, rows) in matrix(1..12, 1..20)) {
        for &method in Method::ALL {
            let found = direction(method, &rows);
            prop_assert_eq!(found.len(), rows[0].len());
            prop_assert!(found.iter().all(|x| x.is_finite()), "{method}: {found:?}");
        }
    }

    #[test]
    fn projections_satisfy_their_optimality_conditions((_, rows) in matrix(1..17, 1..30)) {
        let gramian = Gramian::from_rows(&rows).unwrap();
        let m = rows.len();
        let mean = vec![1.0 / m as f64; m];
        let residual = projection_residual(&gramian, &mean, &project_dual_cone(&gramian, &mean).unwrap());
        prop_assert!(residual <= 1e-9, "dualproj {residual:e}");
        for i in 0..m {
            let one: Vec<f64> = (0..m).map(|k| f64::from(u8::from(k == i))).collect();
            let residual = projection_residual(&gramian, &one, &project_dual_cone(&gramian, &one).unwrap());
            prop_assert!(residual <= 1e-9, "row {i} {residual:e}");
        }
    }

    #[test]
    fn the_shortest_combination_satisfies_its_optimality_conditions((_, rows) in matrix(1..17, 1..30)) {
        let gramian = Gramian::from_rows(&rows).unwrap();
        let m = rows.len();
        let w = min_norm(&gramian);
        let shortest = (0..m).map(|i| gramian.norm(i)).fold(f64::INFINITY, f64::min);
        if shortest > 0.0 {
            let u: Vec<f64> = (0..m).map(|i| w[i] * (gramian.norm(i) / shortest)).collect();
            let products: Vec<f64> = (0..m).map(|i| (0..m).map(|j| gramian.cosine(i, j) * u[j]).sum()).collect();
            let squared = dot(&u, &products);
            let size = u.iter().copied().fold(1.0, f64::max);
            for (i, product) in products.iter().enumerate() {
                let slack = product - squared * (shortest / gramian.norm(i));
                prop_assert!(slack >= -1e-9 * size, "row {i}: {slack:e}");
            }
        }
    }

    /// From the rows the promise holds to rounding of the answer, whatever their lengths.
    #[test]
    fn exact_projections_conflict_with_nothing((_, rows) in matrix(1..9, 1..12)) {
        let jacobian = Jacobian::new(rows.clone()).unwrap();
        let mean = vec![1.0 / rows.len() as f64; rows.len()];
        for found in [
            solve::upgrad(&jacobian, &mean).unwrap(), solve::project_dual_cone(&jacobian, &mean).unwrap(), solve::min_norm(&jacobian),
        ] {
            prop_assert!(found.weights.iter().all(|w| *w >= 0.0));
            for row in &rows {
                let bound = 1e-14 * norm(row) * norm(&found.direction);
                prop_assert!(dot(row, &found.direction) >= -bound, "{:e}", dot(row, &found.direction));
            }
        }
    }

    #[test]
    fn f64_and_exact_projections_agree_on_ordinary_rows(
        rows in (1_usize..9).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, m + 4), m)),
    ) {
        let (jacobian, gramian) = (Jacobian::new(rows.clone()).unwrap(), Gramian::from_rows(&rows).unwrap());
        let mean = vec![1.0 / rows.len() as f64; rows.len()];
        let upgrad = BalanceConfig::new(Method::UpGrad).published(&gramian, &mean).unwrap().unwrap();
        for (weights, exact) in [
            (upgrad, solve::upgrad(&jacobian, &mean).unwrap()),
            (project_dual_cone(&gramian, &mean).unwrap(), solve::project_dual_cone(&jacobian, &mean).unwrap()),
            (min_norm(&gramian), solve::min_norm(&jacobian)),
        ] {
            prop_assert!(apart(&jacobian.combine(&weights), &exact.direction) < 1e-9);
        }
    }

    #[test]
    fn the_order_of_the_objectives_does_not_matter(
        rows in (2_usize..9).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, m + 6), m)),
        shift in 1_usize..8,
    ) {
        let m = rows.len();
        let mut turned = rows.clone();
        turned.rotate_left(shift % m);
        for method in [
            Method::Mgda, Method::UpGrad, Method::DualProj, Method::CaGrad, Method::NashMtl, Method::FairGrad, Method::ImtlG,
            Method::AlignedMtl, Method::ConFig, Method::SdmGrad, Method::MoDo, Method::ExcessMtl, Method::Mean, Method::Sum,
        ] {
            let (one, other) = (direction(method, &rows), direction(method, &turned));
            // Weights are learned in f64 from products whose order of summation differs.
            prop_assert!(apart(&one, &other) <= 1e-6 * (norm(&one) + 1e-3), "{method}: {one:?} {other:?}");
        }
    }

    #[test]
    fn a_common_scale_passes_through(
        rows in (1_usize..8).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, m + 3), m)),
        power in -20.0..20.0_f64,
    ) {
        let factor = 10_f64.powf(power);
        let scaled: Vec<Vec<f64>> = rows.iter().map(|r| r.iter().map(|x| x * factor).collect()).collect();
        for method in [
            Method::Mgda, Method::UpGrad, Method::DualProj, Method::CaGrad, Method::ImtlG, Method::AlignedMtl, Method::ConFig,
            Method::PcGrad, Method::GradVac, Method::Lexicographic, Method::Epo, Method::Pmtl, Method::GradNorm, Method::SdmGrad,
        ] {
            let one: Vec<f64> = direction(method, &rows).iter().map(|x| x * factor).collect();
            let other = direction(method, &scaled);
            let longest = scaled.iter().map(|r| norm(r)).fold(0.0, f64::max);
            prop_assert!(apart(&one, &other) <= 1e-5 * (norm(&one) + 1e-2 * longest), "{method}: {one:?} {other:?}");
        }
    }

    /// UPGrad is linear in the lengths of the gradients.
    #[test]
    fn upgrad_is_linear_in_each_length(
        rows in (1_usize..8).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, m + 3), m)),
        a in prop::collection::vec(0.01..10.0_f64, 8), b in prop::collection::vec(0.01..10.0_f64, 8),
    ) {
        let times = |c: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let scaled: Vec<Vec<f64>> =
                rows.iter().enumerate().map(|(i, r)| r.iter().map(|x| x * c(i)).collect()).collect();
            direction(Method::UpGrad, &scaled)
        };
        let sum: Vec<f64> = times(&|i| a[i]).iter().zip(times(&|i| b[i])).map(|(x, y)| x + y).collect();
        prop_assert!(apart(&sum, &times(&|i| a[i] + b[i])) <= 1e-8 * (norm(&sum) + 1.0));
    }

    #[test]
    fn lexicographic_never_trades_a_higher_objective_for_a_lower((_, rows) in matrix(2..9, 2..12)) {
        never_trades(&rows);
    }

    #[test]
    fn bargains_let_every_objective_gain(
        rows in (1_usize..8).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, m + 6), m)),
    ) {
        for method in [Method::NashMtl, Method::FairGrad] {
            let found = direction(method, &rows);
            prop_assert!(rows.iter().all(|r| dot(r, &found) > 0.0), "{method}");
        }
        // Of ConFIG's products with unit gradients all are equal.
        let found = direction(Method::ConFig, &rows);
        let products: Vec<f64> = rows.iter().map(|r| dot(r, &found) / norm(r)).collect();
        prop_assert!(products.iter().all(|p| *p > 0.0 && (p - products[0]).abs() < 1e-6 * products[0]), "{products:?}");
        // And of IMTL-G's.
        let found = direction(Method::ImtlG, &rows);
        let products: Vec<f64> = rows.iter().map(|r| dot(r, &found) / norm(r)).collect();
        prop_assert!(products.iter().all(|p| (p - products[0]).abs() < 1e-6 * norm(&found).max(1e-3)), "{products:?}");
    }

    /// The primal objective of CAGrad at its direction equals the dual bound.
    #[test]
    fn cagrad_closes_the_duality_gap(
        rows in (1_usize..9).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, m + 2), m)),
        c in 0.05..1.5_f64,
    ) {
        let m = rows.len();
        let gramian = Gramian::from_rows(&rows).unwrap();
        let share = 1.0 / m as f64;
        let config = BalanceConfig::new(Method::CaGrad).with("c", c);
        let weights = config.published(&gramian, &vec![share; m]).unwrap().unwrap();
        let jacobian = Jacobian::new(rows.clone()).unwrap();
        let (found, mean) = (jacobian.combine(&weights), jacobian.combine(&vec![share; m]));
        let worst = rows.iter().map(|r| dot(r, &found)).fold(f64::INFINITY, f64::min);
        let simplex: Vec<f64> = weights.iter().map(|w| w - share).collect();
        let total: f64 = simplex.iter().sum();
        if total > 0.0 {
            let hull = jacobian.combine(&simplex.iter().map(|w| w / total).collect::<Vec<_>>());
            let bound = dot(&hull, &mean) + c * norm(&mean) * norm(&hull);
            prop_assert!(apart(&found, &mean) <= c * norm(&mean) * (1.0 + 1e-9));
            prop_assert!(bound - worst <= 1e-7, "{bound} {worst}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fifty_objectives_are_no_different((_, rows) in matrix(30..51, 1..101)) {
        for &method in Method::ALL {
            let found = direction(method, &rows);
            prop_assert!(found.len() == rows[0].len() && found.iter().all(|x| x.is_finite()), "{method}");
        }
    }
}

/// Weights of a scalarizer are the gradient of its value.
#[test]
fn scalarizers_differentiate_themselves() {
    let losses = [0.7, 0.45, 1.9, 0.2];
    let observed = [3, 1, 0, 9];
    let preferences: Vec<_> =
        [0.5, 1.0, 2.0, 0.7].iter().enumerate().map(|(i, w)| Preference::new(i.to_string(), *w)).collect();
    for &method in Method::ALL.iter().filter(|m| m.kind() == MethodKind::Losses) {
        let mut built = configuration(method, 4).build_scalarizer(&preferences).unwrap();
        for _ in 0..3 {
            let weights = {
                let mut numeric = vec![0.0; 4];
                for (k, slot) in numeric.iter_mut().enumerate() {
                    let at = |step: f64| {
                        let mut moved = losses;
                        moved[k] += step;
                        built.value(&moved, &observed).unwrap()
                    };
                    *slot = (at(1e-6) - at(-1e-6)) / 2e-6;
                }
                numeric
            };
            // FAMO holds its normalizer fixed, and learns from the losses it is shown: checked against TorchJD instead.
            let found = built.weights(&Signals { losses: &losses, observed: &observed, gramian: None }).unwrap();
            if method != Method::Famo {
                for (k, (a, b)) in found.iter().zip(&weights).enumerate().filter(|(k, _)| observed[*k] > 0) {
                    assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{method} {k}: {a} {b}");
                }
            }
        }
    }
}

/// Saved after some steps and restored into a fresh one, every method goes on with the same bits; reset, it begins anew.
#[test]
fn every_memory_is_saved_restored_and_reset() {
    let m = 3;
    let jacobian = |step: usize| {
        let value = |i: usize, k: usize| ((step * 31 + i * 7 + k * 3) as f64 * 0.61).sin();
        Jacobian::new((0..m).map(|i| (0..5).map(|k| value(i, k)).collect()).collect()).unwrap()
    };
    for &method in Method::ALL {
        let build = || configuration(method, m).build_rows(&objectives(m)).unwrap();
        let step = |built: &mut Box<dyn paretune_optim::RowWeighting>, step: usize| {
            let losses = [1.0 / (step + 1) as f64, 0.4, 0.9 + 0.01 * step as f64];
            let observed = [1, usize::from(step % 3 != 1), 1];
            built.combine(&jacobian(step), &Signals { losses: &losses, observed: &observed, gramian: None }).unwrap()
        };
        let mut straight = build();
        let first = step(&mut straight, 0);
        (1..5).for_each(|k| drop(step(&mut straight, k)));
        let text = serde_json::to_string(&straight.state()).unwrap();
        let mut resumed = build();
        resumed.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        for k in 5..8 {
            assert_eq!(step(&mut straight, k), step(&mut resumed, k), "{method}");
        }
        straight.reset();
        assert_eq!(first, step(&mut straight, 0), "{method}");
        let mut other = BalanceConfig::new(Method::Uncertainty).build(&objectives(m)).unwrap();
        assert_eq!(other.restore(&resumed.state()).is_ok(), method == Method::Uncertainty);
    }
}

/// Up to what rounding makes of gradients that are nearly opposite, whose combinations are as ill-conditioned as they are near.
fn never_trades(rows: &[Vec<f64>]) {
    for count in 1..rows.len() {
        let above = direction(Method::Lexicographic, &rows[..count]);
        let all = direction(Method::Lexicographic, rows);
        for row in &rows[..count] {
            // Preferences of 1 are shares of 1/m, which the method multiplies by m.
            let size = norm(row) * (norm(&all) + norm(&above) + rows.iter().map(|r| norm(r)).sum::<f64>());
            let (lost, allowed) = (dot(row, &above) - dot(row, &all), 1e-7 * size);
            assert!(lost <= allowed, "{lost:e} of {allowed:e} in {rows:?}");
        }
    }
}

#[test]
fn lexicographic_keeps_its_order_among_nearly_opposite_gradients() {
    never_trades(&[
        vec![0.758146381766407, -0.8258064218102535],
        vec![-0.6599880219022065, 0.7187760007371273],
        vec![0.0, 0.0],
        vec![0.8698172266066598, 0.0],
        vec![0.0, 0.0],
        vec![0.0, 0.0],
        vec![0.0, 0.49594907415669404],
    ]);
}
