use super::*;
use crate::{Gradient, Gradients, Groups, ParameterGroup};
use candle_core::{DType, Device, Var};
use serde_json::Value;

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn gradients(entries: &[(&str, &[f32])]) -> Gradients {
    entries.iter().map(|(name, v)| ((*name).to_string(), tensor(v).into())).collect()
}

fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn check_against_pytorch(prepare: impl Fn(AdamW) -> AdamW) {
    let fixture: Value = serde_json::from_str(include_str!("../../../fixtures/adamw.json")).unwrap();
    let weight = Var::from_tensor(&tensor(&flat(&fixture["weight"])).reshape((2, 3)).unwrap()).unwrap();
    let bias = Var::from_tensor(&tensor(&flat(&fixture["bias"]))).unwrap();
    let config = AdamWConfig {
        beta1: fixture["betas"][0].as_f64().unwrap(),
        beta2: fixture["betas"][1].as_f64().unwrap(),
        eps: fixture["eps"].as_f64().unwrap(),
    };
    let groups = Groups {
        weight_decay: fixture["weight_decay"].as_f64().unwrap(),
        own: vec![ParameterGroup {
            prefix: "head.".into(),
            lr_scale: fixture["bias_lr_scale"].as_f64().unwrap(),
            weight_decay: Some(0.5),
        }],
        ..Groups::default()
    };
    let parameters = vec![("body.weight".to_string(), weight.clone()), ("head.bias".to_string(), bias.clone())];
    let mut optimizer = prepare(AdamW::new(config, &groups, parameters).unwrap());
    for step in fixture["steps"].as_array().unwrap() {
        let grads = &step["grads"];
        let mut given = Gradients::new();
        given.insert("body.weight".into(), tensor(&flat(&grads["weight"])).reshape((2, 3)).unwrap().into());
        if !grads["bias"].is_null() {
            given.insert("head.bias".into(), tensor(&flat(&grads["bias"])).into());
        }
        optimizer.step(&given, step["lr"].as_f64().unwrap()).unwrap();
        let found = [&weight, &bias].map(|v| v.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        for (found, expected) in found.iter().zip([flat(&step["weight"]), flat(&step["bias"])]) {
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{found:?} instead of {expected:?}");
            }
        }
    }
}

#[test]
fn step_in_place_matches_pytorch() {
    check_against_pytorch(|optimizer| optimizer);
}

#[test]
fn composed_step_matches_pytorch() {
    check_against_pytorch(AdamW::made_of_tensors);
}

#[test]
fn half_precision_and_double_parameters_take_the_composed_step() {
    for dtype in [DType::BF16, DType::F64] {
        let var = Var::from_tensor(&tensor(&[1.0, -1.0]).to_dtype(dtype).unwrap()).unwrap();
        let mut optimizer =
            AdamW::new(AdamWConfig::default(), &Groups::default(), vec![("w.bias".into(), var.clone())]).unwrap();
        let gradient = tensor(&[0.3, -4.0]).to_dtype(dtype).unwrap();
        optimizer.step(&Gradients::from([("w.bias".into(), gradient.into())]), 0.25).unwrap();
        // The first step moves by the learning rate against the gradient's sign.
        let moved = var.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        assert!((moved[0] - 0.75).abs() < 1e-5 && (moved[1] + 0.75).abs() < 1e-5, "{dtype:?}: {moved:?}");
    }
}

#[test]
fn a_transposed_gradient_reaches_the_right_places() {
    let var = Var::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let mut optimizer =
        AdamW::new(AdamWConfig::default(), &Groups::default(), vec![("w".into(), var.clone())]).unwrap();
    let gradient = tensor(&[1.0, -1.0, 1.0, 1.0, -1.0, -1.0]).reshape((3, 2)).unwrap().t().unwrap();
    optimizer.step(&Gradients::from([("w".into(), gradient.into())]), 1.0).unwrap();
    let signs: Vec<f32> = var.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|x| x.signum()).collect();
    assert_eq!(signs, [-1.0, -1.0, 1.0, 1.0, -1.0, 1.0]);
}

#[test]
fn a_restored_state_goes_on_bit_for_bit() {
    let start = tensor(&(0..40_000).map(|i| (i as f32).sin()).collect::<Vec<_>>());
    let gradient = |step: usize| tensor(&(0..40_000).map(|i| ((i + step) as f32).cos()).collect::<Vec<_>>());
    let fresh = || {
        let var = Var::from_tensor(&start).unwrap();
        (AdamW::new(AdamWConfig::default(), &Groups::default(), vec![("w".into(), var.clone())]).unwrap(), var)
    };
    let (mut whole, a) = fresh();
    for step in 0..4 {
        whole.step(&Gradients::from([("w".into(), gradient(step).into())]), 1e-2).unwrap();
    }
    let (mut before, b) = fresh();
    for step in 0..2 {
        before.step(&Gradients::from([("w".into(), gradient(step).into())]), 1e-2).unwrap();
    }
    let (mut after, c) = fresh();
    c.set(&b.as_detached_tensor()).unwrap();
    after.restore(before.state().unwrap()).unwrap();
    // With another number of threads as well.
    rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap().install(|| {
        for step in 2..4 {
            after.step(&Gradients::from([("w".into(), gradient(step).into())]), 1e-2).unwrap();
        }
    });
    let bits = |v: &Var| v.to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&a), bits(&c));
}

#[test]
fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
    let var = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), vec![("w".into(), var)]).unwrap();
    optimizer.step(&gradients(&[("w", &[1.0, 2.0])]), 0.1).unwrap();
    let good = optimizer.state().unwrap();
    let refused =
        |optimizer: &mut AdamW, state: Vec<(String, Tensor)>| optimizer.restore(state).unwrap_err().to_string();
    assert!(refused(&mut optimizer, good[1..].to_vec()).contains("w.first is missing"));
    let mut wrong = good.clone();
    wrong[1].1 = tensor(&[1.0]);
    assert!(refused(&mut optimizer, wrong).contains("w.second"));
    let mut more = good.clone();
    more.push(("x.first".into(), tensor(&[1.0])));
    assert!(refused(&mut optimizer, more).contains("x.first"));
    let mut negative = good.clone();
    negative[2].1 = Tensor::new(&[-1_i64], &Device::Cpu).unwrap();
    assert!(refused(&mut optimizer, negative).contains("w.steps"));
    let same = |a: &[(String, Tensor)], b: &[(String, Tensor)]| {
        a[..2].iter().zip(b).all(|(a, b)| a.1.to_vec1::<f32>().unwrap() == b.1.to_vec1::<f32>().unwrap())
    };
    assert!(same(&good, &optimizer.state().unwrap()));
}

#[test]
fn wrong_gradients_names_and_settings_are_refused() {
    let var = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let one = || vec![("w".to_string(), var.clone())];
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), one()).unwrap();
    let error = optimizer.step(&gradients(&[("w", &[1.0])]), 0.1).unwrap_err().to_string();
    assert!(error.contains("gradient of w has shape [1], expected [2]"), "{error}");
    let error = optimizer.step(&gradients(&[("v", &[1.0])]), 0.1).unwrap_err().to_string();
    assert!(error.contains("no such parameter"), "{error}");
    assert!(optimizer.step(&Gradients::new(), f64::NAN).is_err());
    let twice = vec![("w".to_string(), var.clone()), ("v".to_string(), var.clone())];
    assert!(
        matches!(AdamW::new(AdamWConfig::default(), &Groups::default(), twice), Err(OptimError::DuplicateParameter { name }) if name == "v")
    );
    for config in
        [AdamWConfig { beta1: 1.0, ..AdamWConfig::default() }, AdamWConfig { eps: 0.0, ..AdamWConfig::default() }]
    {
        assert!(AdamW::new(config, &Groups::default(), one()).is_err());
    }
    let groups = Groups { weight_decay: f64::NAN, ..Groups::default() };
    assert!(AdamW::new(AdamWConfig::default(), &groups, one()).is_err());
}

#[test]
fn clipping_while_stepping_is_clipping_first() {
    let start = [3.0, -2.0, 0.5];
    let run = |fused: bool| {
        let var = Var::from_tensor(&tensor(&start)).unwrap();
        let mut optimizer =
            AdamW::new(AdamWConfig::default(), &Groups::default(), vec![("w".into(), var.clone())]).unwrap();
        let mut norms = Vec::new();
        for step in 0..5 {
            let mut given = gradients(&[("w", &[3.0, step as f32, -4.0])]);
            norms.push(if fused {
                optimizer.step_clipped(&given, 0.1, 0.7).unwrap()
            } else {
                let norm = crate::clip_global_norm(&mut given, 0.7).unwrap();
                optimizer.step(&given, 0.1).unwrap();
                norm
            });
        }
        (var.to_vec1::<f32>().unwrap(), norms)
    };
    let (found, expected) = (run(true), run(false));
    assert_eq!(found.1, expected.1);
    assert!(found.0.iter().zip(&expected.0).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), Vec::new()).unwrap();
    assert!(optimizer.step_clipped(&Gradients::new(), 0.1, 0.0).is_err());
}

#[test]
fn rows_of_a_table_move_as_a_dense_step_moves_them_and_others_stay() {
    let start: Vec<f32> = (0..10).map(|i| i as f32 * 0.1).collect();
    let run = |by_rows: bool| {
        let var = Var::from_tensor(&tensor(&start).reshape((5, 2)).unwrap()).unwrap();
        let groups = Groups { weight_decay: 0.1, ..Groups::default() };
        let mut optimizer = AdamW::new(AdamWConfig::default(), &groups, vec![("w".into(), var.clone())]).unwrap();
        for step in 0..4 {
            let values = tensor(&[1.0, -2.0, 0.5 + step as f32, 3.0]).reshape((2, 2)).unwrap();
            let rows = Gradient::Rows { rows: vec![1, 4], values, height: 5 };
            let gradient = if by_rows { rows } else { rows.dense().unwrap().into() };
            optimizer.step(&Gradients::from([("w".into(), gradient)]), 0.1).unwrap();
        }
        var.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (found, dense) = (run(true), run(false));
    for row in 0..5 {
        let place = 2 * row..2 * row + 2;
        let expected = if [1, 4].contains(&row) { &dense } else { &start };
        assert_eq!(found[place.clone()], expected[place], "row {row}");
    }
    let var = Var::from_tensor(&tensor(&start).reshape((5, 2)).unwrap()).unwrap();
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), vec![("w".into(), var)]).unwrap();
    let values = tensor(&[1.0, 1.0]).reshape((1, 2)).unwrap();
    let past = Gradient::Rows { rows: vec![5], values, height: 5 };
    assert!(optimizer.step(&Gradients::from([("w".into(), past)]), 0.1).is_err());
}
