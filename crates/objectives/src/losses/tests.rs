//! Losses against PyTorch (`fixtures/make_losses.py`).

use candle_core::{Device, Tensor, Var};
use serde::Deserialize;

use super::{Levels, Loss, each};
use crate::{Kind, Labels, Objective, Objectives, Scaler, TaskTowers, TowerConfig};

#[derive(Deserialize)]
struct Fixture {
    logits: Vec<f32>,
    cases: Vec<Case>,
    smoothed: Case,
}

#[derive(Deserialize)]
struct Case {
    loss: Option<Loss>,
    targets: Vec<f32>,
    each: Vec<f32>,
    gradient: Vec<f32>,
    extra: Option<Vec<f32>>,
    extra_gradient: Option<Vec<f32>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../fixtures/losses.json")).unwrap()
}

fn kind(loss: Option<&Loss>) -> Kind {
    match loss {
        None | Some(Loss::Focal { .. }) => Kind::Binary,
        Some(Loss::LogNormal | Loss::Censored { .. }) => Kind::LogRegression,
        Some(_) => Kind::Regression,
    }
}

#[track_caller]
fn near(what: &str, found: &Tensor, expected: &[f32]) {
    let found = found.to_vec1::<f32>().unwrap();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 3e-6 * expected.abs().max(1.0), "{what}[{at}]: {found}, not {expected}");
    }
}

fn check(objective: &Objective, logits: &[f32], case: &Case) {
    let what = format!("{:?}", objective.loss);
    let z = Var::from_slice(logits, logits.len(), &Device::Cpu).unwrap();
    let targets = Tensor::from_slice(&case.targets, case.targets.len(), &Device::Cpu).unwrap();
    let extra = case.extra.as_ref().map(|extra| Var::from_slice(extra, extra.len(), &Device::Cpu).unwrap());
    let found = each(objective, &Scaler::default(), &z, &targets, extra.as_ref().map(Var::as_tensor)).unwrap();
    near(&what, &found, &case.each);
    let gradients = found.sum_all().unwrap().backward().unwrap();
    near(&format!("{what}, logits"), gradients.get(&z).unwrap(), &case.gradient);
    if let (Some(extra), Some(expected)) = (&extra, &case.extra_gradient) {
        near(&format!("{what}, extra"), gradients.get(extra).unwrap(), expected);
    }
}

#[test]
fn losses_are_those_of_pytorch() {
    let fixture = fixture();
    assert_eq!(fixture.cases.len(), 9);
    for case in &fixture.cases {
        let objective = Objective { loss: case.loss.clone(), ..Objective::new("it", kind(case.loss.as_ref()), "it") };
        check(&objective, &fixture.logits, case);
    }
    let weighted = Objective { smoothing: 0.1, positive_weight: 3.0, ..Objective::new("it", Kind::Binary, "it") };
    check(&weighted, &fixture.logits, &fixture.smoothed);
}

#[test]
fn losses_fit_their_kinds_and_ranges() {
    let refused = |objective: Objective, part: &str| {
        let found = Objectives::new(vec![objective]).unwrap_err().to_string();
        assert!(found.contains(part) && found.contains("\"it\""), "{found}");
    };
    let of = |kind, loss| Objective { loss: Some(loss), ..Objective::new("it", kind, "it") };
    refused(of(Kind::Regression, Loss::Focal { gamma: 2.0, alpha: None }), "kind = \"binary\"");
    refused(of(Kind::Regression, Loss::LogNormal), "kind = \"log-regression\"");
    refused(of(Kind::LogRegression, Loss::Ordinal { levels: vec![1.0, 2.0] }), "kind = \"regression\"");
    refused(of(Kind::Regression, Loss::Ordinal { levels: vec![2.0, 1.0] }), "that rise");
    refused(of(Kind::Regression, Loss::Quantile { q: 1.0 }), "q = 1");
    refused(of(Kind::Binary, Loss::Focal { gamma: -1.0, alpha: None }), "gamma = -1");
    refused(of(Kind::LogRegression, Loss::Censored { at: 0.0 }), "at = 0");
    refused(Objective { smoothing: 1.0, ..Objective::new("it", Kind::Binary, "it") }, "smoothing = 1");
    refused(Objective { positive_weight: 2.0, ..Objective::new("it", Kind::Regression, "it") }, "for flags");
    let labels = |value: f32| {
        let set = Objectives::new(vec![of(Kind::Regression, Loss::Ordinal { levels: vec![1.0, 2.0] })]).unwrap();
        Labels::new(&set, &[Scaler::default()], &[vec![1.0, value]], &Device::Cpu).map(|_| ())
    };
    assert!(labels(2.0).is_ok());
    assert!(labels(1.5).unwrap_err().to_string().contains("none of the levels"));
}

/// Towers that have seen nothing but the labels predict what is average.
#[test]
fn a_fresh_model_predicts_the_labels_mean() {
    let stars = [1.0f32, 2.0, 2.0, 5.0, 4.0, 5.0, 5.0, 3.0];
    let levels = vec![1.0, 2.0, 3.0, 4.0, 5.0];
    let set = Objectives::new(vec![
        Objective::new("stars", Kind::Regression, "stars").loss(Loss::Ordinal { levels: levels.clone() }),
    ])
    .unwrap();
    let config = TowerConfig { input: 3, ..TowerConfig::default() };
    let mut towers = TaskTowers::new(&set, &config, &Device::Cpu).unwrap();
    towers.fit(&[stars.to_vec()]).unwrap();
    let nothing = Tensor::zeros((1, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let predicted = towers.forward(&nothing, None).unwrap().predictions().unwrap()[0][0];
    let mean = stars.iter().sum::<f32>() / 8.0;
    assert!((predicted - mean).abs() < 1e-3, "{predicted}, not {mean}");
    // Between the lowest level and the highest, whatever the logit.
    assert_eq!(Levels(&levels).expected(1e4, &[0.0; 4]), 5.0);
    assert_eq!(Levels(&levels).expected(-1e4, &[0.0; 4]), 1.0);
}

/// The mean of a log-normal distribution, against its closed form.
#[test]
fn a_log_normal_predicts_its_mean() {
    let scaler = Scaler { mean: 3.0, std: 0.5, log: true };
    let expected = (3.0f64 + 0.5 * 1.2 + 0.5 * (0.8f64 * 0.5).powi(2)).exp() - 1.0;
    assert!((f64::from(scaler.mean_of_log_normal(1.2, 0.8)) - expected).abs() < 1e-4 * expected);
}
