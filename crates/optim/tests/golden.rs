//! Answers of TorchJD and of exact rational arithmetic, from `fixtures/make_torchjd.py`.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use paretune_optim::methods::Pcd;
use paretune_optim::{BalanceConfig, Gramian, Jacobian, Method, Parameters, Preference, Signals, Weighting, solve};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    matrices: BTreeMap<String, Vec<Vec<f64>>>,
    cases: Vec<Case>,
    sequences: Vec<Sequence>,
    scalarizers: Vec<Scalarized>,
    famo: Vec<FamoStep>,
    dwa: Vec<Vec<DwaStep>>,
    extreme: Vec<Extreme>,
}

#[derive(Deserialize)]
struct Case {
    matrix: String,
    method: Method,
    parameters: Parameters,
    direction: Vec<f64>,
}

#[derive(Deserialize)]
struct Sequence {
    method: Method,
    parameters: Parameters,
    jacobians: Vec<Vec<Vec<f64>>>,
    weights: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Scalarized {
    method: Method,
    parameters: Parameters,
    preferences: Vec<f64>,
    losses: Vec<f64>,
    value: f64,
    weights: Vec<f64>,
}

#[derive(Deserialize)]
struct FamoStep {
    before: Vec<f64>,
    after: Vec<f64>,
    weights: Vec<f64>,
}

#[derive(Deserialize)]
struct DwaStep {
    losses: Vec<f64>,
    weights: Vec<f64>,
}

#[derive(Deserialize)]
struct Extreme {
    name: String,
    jacobian: Vec<Vec<f64>>,
    upgrad: Vec<f64>,
    dualproj: Vec<f64>,
    mgda: Option<Vec<f64>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/torchjd.json")).unwrap()
}

fn objectives(weights: &[f64]) -> Vec<Preference> {
    weights.iter().enumerate().map(|(i, w)| Preference::new(i.to_string(), *w)).collect()
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// `‖found - expected‖` relative to `‖expected‖`.
fn apart(found: &[f64], expected: &[f64]) -> f64 {
    let difference: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    assert_eq!(found.len(), expected.len());
    norm(&difference) / norm(expected).max(f64::MIN_POSITIVE)
}

#[test]
fn directions_agree_with_torchjd() {
    let fixture = fixture();
    for Case { matrix, method, parameters, direction } in &fixture.cases {
        let jacobian = Jacobian::new(fixture.matrices[matrix].clone()).unwrap();
        let m = jacobian.size();
        let config = BalanceConfig { method: *method, parameters: parameters.clone() };
        let mut found = config
            .build_rows(&objectives(&vec![1.0; m]))
            .unwrap()
            .combine(&jacobian, &Signals { losses: &vec![1.0; m], observed: &vec![1; m], gramian: None })
            .unwrap()
            .direction;
        let mut direction = direction.clone();
        if *method == Method::NashMtl {
            // TorchJD stops on its way to the right length, which its cut to 1 usually hides.
            for v in [&mut found, &mut direction] {
                let length = norm(v);
                v.iter_mut().for_each(|x| *x /= length);
            }
        }
        // TorchJD iterates or regularizes where this crate solves: as close as its own stopping rules allow.
        let tolerance = match method {
            Method::Mgda => 2e-4,
            Method::NashMtl => 1e-6,
            Method::CaGrad => 5e-4,
            Method::FairGrad => 1e-7,
            Method::UpGrad | Method::DualProj => 1e-8,
            Method::GradVac => 1e-6,
            _ => 1e-8,
        };
        // A direction of zero is zero beside the gradients.
        let longest = jacobian.rows().iter().map(|row| norm(row)).fold(0.0, f64::max);
        let error = apart(&found, &direction).min(norm(&found).max(norm(&direction)) / longest / 1e-6 * tolerance);
        assert!(error <= tolerance, "{method} {parameters:?} on {matrix}: {error:e}\n{found:?}\n{direction:?}");
    }
}

#[test]
fn memories_evolve_as_in_torchjd() {
    for Sequence { method, parameters, jacobians, weights } in fixture().sequences {
        let m = jacobians[0].len();
        let config = BalanceConfig { method, parameters };
        let mut balancer = config.build_rows(&objectives(&vec![1.0; m])).unwrap();
        for (step, (rows, expected)) in jacobians.into_iter().zip(weights).enumerate() {
            let jacobian = Jacobian::new(rows).unwrap();
            let signals = Signals { losses: &vec![1.0; m], observed: &vec![1; m], gramian: None };
            let found = balancer.combine(&jacobian, &signals).unwrap().weights;
            let error = apart(&found, &expected);
            assert!(error < 1e-7, "{method} step {step}: {error:e} {found:?} {expected:?}");
        }
    }
}

#[test]
fn scalarizers_agree_with_torchjd() {
    for Scalarized { method, parameters, preferences, losses, value, weights } in fixture().scalarizers {
        let config = BalanceConfig { method, parameters };
        let mut scalarizer = config.build_scalarizer(&objectives(&preferences)).unwrap();
        let observed = vec![1; losses.len()];
        assert!(
            (scalarizer.value(&losses, &observed).unwrap() - value).abs() < 1e-12 * value.abs().max(1.0),
            "{method}"
        );
        let found = scalarizer.weights(&Signals { losses: &losses, observed: &observed, gramian: None }).unwrap();
        assert!(apart(&found, &weights) < 1e-11, "{method} {found:?} {weights:?}");
    }
}

#[test]
fn famo_and_dwa_learn_as_in_torchjd() {
    let fixture = fixture();
    let mut famo = BalanceConfig::new(Method::Famo).with("update", "same-batch").build(&objectives(&[1.0; 3])).unwrap();
    let observed = [1; 3];
    for FamoStep { before, after, weights } in &fixture.famo {
        let found = famo.weights(&Signals { losses: before, observed: &observed, gramian: None }).unwrap();
        assert!(apart(&found, weights) < 1e-7, "{found:?} {weights:?}");
        famo.after_step(after).unwrap();
    }
    let mut dwa = BalanceConfig::new(Method::Dwa).with("window", 0).build(&objectives(&[1.0; 3])).unwrap();
    let mut windowed = BalanceConfig::new(Method::Dwa).with("window", 3).build(&objectives(&[1.0; 3])).unwrap();
    for epoch in &fixture.dwa {
        for DwaStep { losses, weights } in epoch {
            let signals = Signals { losses, observed: &observed, gramian: None };
            let found = dwa.weights(&signals).unwrap();
            assert!(apart(&found, weights) < 1e-12, "{found:?} {weights:?}");
            assert_eq!(found, windowed.weights(&signals).unwrap());
        }
        dwa.end_epoch();
    }
}

#[test]
fn projections_from_rows_are_exact_where_f64_is_lost() {
    for Extreme { name, jacobian, upgrad, dualproj, mgda } in fixture().extreme {
        let jacobian = Jacobian::new(jacobian).unwrap();
        let shares = vec![1.0 / jacobian.size() as f64; jacobian.size()];
        let mut all = vec![
            ("upgrad", solve::upgrad(&jacobian, &shares).unwrap(), upgrad),
            ("dualproj", solve::project_dual_cone(&jacobian, &shares).unwrap(), dualproj),
        ];
        all.extend(mgda.map(|expected| ("mgda", solve::min_norm(&jacobian), expected)));
        for (method, found, expected) in all {
            let error = apart(&found.direction, &expected);
            let zero = norm(&expected) == 0.0 && norm(&found.direction) < 1e-150;
            assert!(error < 1e-14 || zero, "{method} on {name}: {error:e} {:?} {expected:?}", found.direction);
        }
    }
}

#[test]
fn pcd_follows_the_objective_that_is_named() {
    let rows = [[1.0, 0.0], [-0.5, 1.0]];
    let swapped = [rows[1], rows[0]];
    let weights = |rows: &[[f64; 2]], primary: Option<&str>| {
        let config = paretune_optim::methods::PcdConfig { primary: primary.map(str::to_string), ..Default::default() };
        let gramian = Gramian::from_rows(rows).unwrap();
        let mut pcd = Pcd::new(&objectives(&[1.0, 1.0]), config).unwrap();
        pcd.weights(&Signals { losses: &[1.0; 2], observed: &[1; 2], gramian: Some(&gramian) }).unwrap()
    };
    let (first, second) = (weights(&rows, None), weights(&swapped, Some("1")));
    assert!((first[0] - second[1]).abs() < 1e-15 && (first[1] - second[0]).abs() < 1e-15);
}
