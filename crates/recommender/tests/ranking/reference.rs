//! Values and gradients of PyTorch.

use candle_core::{DType, Device, Tensor, Var};
use paretune_recommender::{Negatives, RankingBatch, RankingLoss, align, info_nce};
use serde::Deserialize;

use super::{assert_near, differentiated, numbers, scalar};

#[derive(Deserialize)]
struct Fixture {
    users: Vec<Vec<f32>>,
    candidates: Vec<Vec<f32>>,
    ids: Vec<u32>,
    positives: Vec<u32>,
    shared: Vec<u32>,
    own: Vec<Vec<u32>>,
    log_q: Vec<f32>,
    weights: Vec<f32>,
    catalogue: usize,
    cases: Vec<Case>,
    offsets: Vec<usize>,
    logits: Vec<f64>,
    labels: Vec<Option<f32>>,
    list_cases: Vec<ListCase>,
    a: Vec<Vec<f32>>,
    b: Vec<Vec<f32>>,
    view_cases: Vec<ViewCase>,
}

#[derive(Deserialize)]
struct Case {
    loss: RankingLoss,
    negatives: String,
    log_q: bool,
    weights: bool,
    value: f64,
    users: Vec<Vec<f64>>,
    candidates: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct ListCase {
    loss: RankingLoss,
    value: f64,
    gradient: Vec<f64>,
}

#[derive(Deserialize)]
struct ViewCase {
    temperature: f64,
    value: f64,
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../fixtures/ranking.json")).unwrap()
}

fn matrix(rows: &[Vec<f32>]) -> Tensor {
    Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
}

/// What an accuracy of `dtype` can ask for.
fn tolerance(dtype: DType) -> f64 {
    // Biases and weights are `f32` everywhere.
    if dtype == DType::F64 { 1e-7 } else { 3e-6 }
}

#[test]
fn losses_over_vectors_are_those_of_pytorch() {
    let fixture = fixture();
    let (users, candidates, own) = (matrix(&fixture.users), matrix(&fixture.candidates), fixture.own.concat());
    let catalogue: Vec<u32> = (0..fixture.ids.len() as u32).collect();
    assert_eq!(fixture.cases.len(), 30);
    for case in &fixture.cases {
        let batch = RankingBatch {
            users: &users,
            candidates: &candidates,
            ids: &fixture.ids,
            positives: &fixture.positives,
            negatives: match case.negatives.as_str() {
                "shared" => Negatives::Shared(&fixture.shared),
                "own" => Negatives::Own { per_row: fixture.own[0].len(), places: &own },
                "catalogue" => Negatives::Shared(&catalogue),
                _ => Negatives::Others,
            },
            exempt: None,
            log_q: case.log_q.then_some(&fixture.log_q),
            weights: case.weights.then_some(&fixture.weights),
            catalogue: Some(fixture.catalogue),
        };
        for dtype in [DType::F32, DType::F64] {
            let what = format!("{:?}, {}, {dtype:?}", case.loss, case.negatives);
            let (value, gradients) = differentiated(&case.loss, &batch, dtype);
            assert_near(&what, &[value], &[case.value], tolerance(dtype));
            for (found, expected) in gradients.iter().zip([&case.users, &case.candidates]) {
                assert_near(&what, found, &expected.concat(), tolerance(dtype));
            }
        }
    }
}

#[test]
fn losses_over_lists_are_those_of_pytorch() {
    let fixture = fixture();
    let labels: Vec<f32> = fixture.labels.iter().map(|label| label.unwrap_or(f32::NAN)).collect();
    assert_eq!(fixture.list_cases.len(), 4);
    for case in &fixture.list_cases {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-12)] {
            let logits = Tensor::new(&fixture.logits[..], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let logits = Var::from_tensor(&logits).unwrap();
            let value = case.loss.listwise(&logits, &labels, &fixture.offsets).unwrap();
            assert_eq!(value.dtype(), dtype);
            assert_near("value", &[scalar(&value)], &[case.value], tolerance);
            let gradients = (value * 2.0).unwrap().backward().unwrap();
            let expected: Vec<f64> = case.gradient.iter().map(|slope| 2.0 * slope).collect();
            assert_near("gradient", &numbers(gradients.get(&logits).unwrap()), &expected, tolerance);
        }
    }
}

#[test]
fn views_are_compared_as_by_pytorch() {
    let fixture = fixture();
    assert_eq!(fixture.view_cases.len(), 2);
    for case in &fixture.view_cases {
        for dtype in [DType::F32, DType::F64] {
            let [a, b] =
                [&fixture.a, &fixture.b].map(|view| Var::from_tensor(&matrix(view).to_dtype(dtype).unwrap()).unwrap());
            for value in [info_nce(&a, &b, case.temperature).unwrap(), align(&a, &b, case.temperature).unwrap()] {
                assert_near("value", &[scalar(&value)], &[case.value], tolerance(dtype));
                let gradients = value.backward().unwrap();
                for (view, expected) in [(&a, &case.a), (&b, &case.b)] {
                    assert_near(
                        "gradient",
                        &numbers(gradients.get(view).unwrap()),
                        &expected.concat(),
                        tolerance(dtype),
                    );
                }
            }
        }
    }
}
