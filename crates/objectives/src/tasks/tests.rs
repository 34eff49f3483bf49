//! Architectures against PyTorch (`fixtures/make_tasks.py`), and the fused mixture against Candle's own operations.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;
use serde::Deserialize;

use super::mix::{Groups, composed, mix};
use super::{Architecture, CrossStitchConfig, ExpertsConfig, LevelsConfig, Sharing, TransferConfig};

#[derive(Deserialize)]
struct Fixture {
    tasks: Vec<String>,
    input: usize,
    rows: usize,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    config: Architecture,
    parameters: BTreeMap<String, Parameter>,
    x: Vec<f32>,
    gradient: Vec<f32>,
    inputs: Vec<Vec<f32>>,
    directions: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Parameter {
    shape: Vec<usize>,
    value: Vec<f32>,
    gradient: Vec<f32>,
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-3f32, |size, value| size.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 2e-6 * size, "{what}[{at}]: {found}, not {expected}");
    }
}

#[test]
fn architectures_are_those_of_pytorch() {
    let fixture: Fixture = serde_json::from_str(include_str!("../../fixtures/tasks.json")).unwrap();
    let tasks: Vec<&str> = fixture.tasks.iter().map(String::as_str).collect();
    assert_eq!(fixture.cases.len(), 6);
    for (name, case) in &fixture.cases {
        let sharing = Sharing::new(&case.config, &tasks, fixture.input, 1, &Device::Cpu).unwrap();
        let parameters = sharing.parameters();
        let names: Vec<&String> = parameters.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), case.parameters.len(), "{name}: {names:?}");
        for (own, var) in &parameters {
            let stored = case.parameters.get(own).unwrap_or_else(|| panic!("{name}: PyTorch has no {own}"));
            assert_eq!(var.dims(), stored.shape, "{name}: {own}");
            var.set(&Tensor::from_slice(&stored.value, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
        let x = Var::from_slice(&case.x, (fixture.rows, fixture.input), &Device::Cpu).unwrap();
        let inputs = sharing.forward(&x).unwrap();
        let width = case.config.width(fixture.input);
        let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        for ((input, expected), direction) in inputs.iter().zip(&case.inputs).zip(&case.directions) {
            near(name, &numbers(input), expected);
            let direction = Tensor::from_slice(direction, (fixture.rows, width), &Device::Cpu).unwrap();
            loss = (loss + (input * direction).unwrap().sum_all().unwrap()).unwrap();
        }
        assert_eq!(inputs.len(), tasks.len());
        let gradients = loss.backward().unwrap();
        near(&format!("{name}: x"), &numbers(gradients.get(&x).unwrap()), &case.gradient);
        for (own, var) in &parameters {
            let found = gradients.get(var).unwrap_or_else(|| panic!("{name}: {own} has no gradient"));
            near(&format!("{name}: {own}"), &numbers(found), &case.parameters[own].gradient);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_fused_mixture_is_the_composed_one(rows in 1usize..150, experts in 1usize..6, width in 1usize..9, gates in 1usize..5, seed in 0u64..99) {
        let places: Vec<Vec<u32>> = (0..gates)
            .map(|gate| (0..experts as u32).filter(|expert| gate == 0 || !(*expert as usize + gate).is_multiple_of(3)).collect())
            .map(|heard: Vec<u32>| if heard.is_empty() { vec![0] } else { heard })
            .collect();
        let groups = Groups { places: places.into(), experts };
        let random = |columns: usize, salt: f32| {
            let value = |at: usize| ((at as f32 * 12.9898 + salt + seed as f32).sin() * 43_758.547).fract() * 4.0 - 2.0;
            let values: Vec<f32> = (0..rows * columns).map(value).collect();
            Var::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
        };
        let (logits, values) = (random(groups.logits(), 1.0), random(experts * width, 2.0));
        let direction = random(gates * width, 3.0);
        let run = |mixed: Tensor| {
            let gradients = (&mixed * direction.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
            [&mixed, gradients.get(&logits).unwrap(), gradients.get(&values).unwrap()].map(numbers)
        };
        let fused = run(mix(&logits, &values, &groups).unwrap());
        let plain = run(composed(&logits, &values, &groups).unwrap());
        for (fused, plain) in fused.iter().zip(&plain) {
            for (a, b) in fused.iter().zip(plain) {
                prop_assert!((a - b).abs() < 5e-5 * (1.0 + b.abs()), "{a} and {b}");
            }
        }
    }
}

#[test]
fn gates_are_reported_as_shares() {
    let tasks = ["click", "buy"];
    let x = Tensor::from_iter((0..50 * 6).map(|at| (at as f32 * 1.7).sin()), &Device::Cpu).unwrap().reshape((50, 6));
    let config = Architecture::Ple(LevelsConfig { levels: 2, shared: 2, own: 1, width: 5 });
    let sharing = Sharing::new(&config, &tasks, 6, 3, &Device::Cpu).unwrap();
    let reports = sharing.gates(&x.unwrap()).unwrap();
    let gates: Vec<(usize, &str)> = reports.iter().map(|report| (report.level, report.gate.as_str())).collect();
    assert_eq!(gates, [(0, "click"), (0, "buy"), (0, "shared"), (1, "click"), (1, "buy")]);
    assert_eq!(reports[0].experts, ["click 1", "shared 1", "shared 2"]);
    assert_eq!(reports[2].experts, ["click 1", "buy 1", "shared 1", "shared 2"]);
    for report in &reports {
        for shares in [&report.weights, &report.chosen] {
            assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-5 && shares.iter().all(|share| *share >= 0.0));
        }
    }
}

#[test]
fn what_is_handed_on_and_what_is_stitched_is_reported() {
    let tasks = ["click", "buy", "keep"];
    let x = Tensor::from_iter((0..30 * 6).map(|at| (at as f32 * 1.7).sin() * 2.0), &Device::Cpu).unwrap();
    let x = x.reshape((30, 6)).unwrap();
    let sharing = Sharing::new(&Architecture::Aitm(TransferConfig { width: 5 }), &tasks, 6, 3, &Device::Cpu).unwrap();
    let reports = sharing.gates(&x).unwrap();
    assert_eq!(reports.iter().map(|report| report.gate.as_str()).collect::<Vec<_>>(), ["buy", "keep"]);
    assert_eq!(reports[1].experts, ["own", "from buy"]);
    // The formula, from the parameters.
    let parameters: BTreeMap<String, Var> = sharing.parameters().into_iter().collect();
    let layer = |part: &str, x: &Tensor| {
        let weight = parameters[&format!("tasks.{part}.weight")].t().unwrap();
        x.matmul(&weight).unwrap().broadcast_add(&parameters[&format!("tasks.{part}.bias")]).unwrap()
    };
    let (own, first) = (layer("buy.own", &x).silu().unwrap(), layer("click.own", &x).silu().unwrap());
    let handed = layer("buy.handed", &first).silu().unwrap();
    let score = |p: &Tensor| numbers(&(layer("buy.key", p) * layer("buy.query", p)).unwrap().sum(1).unwrap());
    let weights: Vec<f32> =
        score(&own).iter().zip(score(&handed)).map(|(a, b)| 1.0 / (1.0 + ((b - a) / 5f32.sqrt()).exp())).collect();
    let mean = weights.iter().sum::<f32>() / 30.0;
    let more = weights.iter().filter(|weight| **weight >= 0.5).count() as f32 / 30.0;
    near("weights", &reports[0].weights, &[mean, 1.0 - mean]);
    near("chosen", &reports[0].chosen, &[more, 1.0 - more]);
    assert!(sharing.mixtures().unwrap().is_empty());

    let config = Architecture::CrossStitch(CrossStitchConfig { layers: 2, width: 4 });
    let sharing = Sharing::new(&config, &tasks, 6, 3, &Device::Cpu).unwrap();
    assert!(sharing.gates(&x).unwrap().is_empty());
    let mixtures = sharing.mixtures().unwrap();
    assert_eq!(mixtures.len(), 6);
    assert_eq!((mixtures[4].level, mixtures[4].gate.as_str()), (1, "buy"));
    near("mixture", &mixtures[4].weights, &[0.05, 0.9, 0.05]);
}

#[test]
fn sizes_out_of_range_are_named() {
    for (config, setting) in [
        (Architecture::Mmoe(ExpertsConfig { experts: 0, width: 4 }), "experts"),
        (Architecture::Ple(LevelsConfig { levels: 0, ..LevelsConfig::default() }), "levels"),
        (Architecture::Omoe(ExpertsConfig { experts: 2, width: 1 << 20 }), "width"),
    ] {
        let refused = Sharing::new(&config, &["a"], 4, 1, &Device::Cpu).unwrap_err().to_string();
        assert!(refused.contains(setting), "{refused}");
    }
    let unknown = serde_json::from_str::<Architecture>("{\"name\": \"moe\"}").unwrap_err().to_string();
    assert!(unknown.contains("unknown variant `moe`") && unknown.contains("`mmoe`"), "{unknown}");
    let field = serde_json::from_str::<Architecture>("{\"name\": \"mmoe\", \"gates\": 2}").unwrap_err().to_string();
    assert!(field.contains("unknown field `gates`"), "{field}");
}
