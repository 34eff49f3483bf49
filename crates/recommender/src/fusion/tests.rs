//! The fusion against PyTorch (`fixtures/make_graph.py`), its twin of Candle's operations, and what its masks promise.

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::backward;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::{Fusion, Hide, Modality, gates};

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.5..1.5)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(close, "at {place}: {found}, expected {expected}");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let fixture: Value = serde_json::from_str(include_str!("../../fixtures/graph.json")).unwrap();
    let case = &fixture["fusion"];
    let size = |value: &Value| value.as_u64().unwrap() as usize;
    let widths: Vec<usize> = case["widths"].as_array().unwrap().iter().map(size).collect();
    let (dim, rows) = (size(&case["dim"]), size(&case["rows"]));
    let fusion = Fusion::new(&widths, dim, 1, &Device::Cpu).unwrap();
    let mut expected = Vec::new();
    for (name, var) in fusion.parameters("fusion") {
        let mut parts = name.split('.').skip(1);
        let (place, layer, kind) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let weights = &case[layer][place.parse::<usize>().unwrap()];
        var.set(&Tensor::from_vec(floats(&weights[kind]), var.shape(), &Device::Cpu).unwrap()).unwrap();
        expected.push((name.clone(), var, floats(&weights[&format!("{kind}_gradient")])));
    }
    assert_eq!(expected.len(), 12);
    let present: Vec<Vec<bool>> = serde_json::from_value(case["present"].clone()).unwrap();
    let mut modalities = Vec::new();
    for (place, width) in widths.iter().enumerate() {
        let mut values = floats(&case["values"][place]);
        for row in (0..rows).filter(|row| !present[place][*row]) {
            // Never read.
            values[row * width..][..*width].fill(f32::NAN);
        }
        let values = Var::from_vec(values, (rows, *width), &Device::Cpu).unwrap();
        expected.push((format!("values {place}"), values.clone(), floats(&case["gradients"][place])));
        modalities.push(Modality { values: values.as_tensor().clone(), present: Some(&present[place]) });
    }
    let out = fusion.forward(&modalities, None).unwrap();
    assert_close(&numbers(&out), &wide(&floats(&case["out"])), 2e-6);
    let upstream = Tensor::from_vec(floats(&case["upstream"]), (rows, dim), &Device::Cpu).unwrap();
    let loss = (out * upstream).unwrap().sum_all().unwrap();
    let (own, candles) = (backward(&loss).unwrap(), loss.backward().unwrap());
    for (name, var, gradient) in &expected {
        for found in [own.get(var), candles.get(var)] {
            let found = numbers(found.unwrap_or_else(|| panic!("{name} has no gradient")));
            assert!(found.iter().any(|g| *g != 0.0), "{name}");
            assert_close(&found, &wide(gradient), 5e-6);
        }
    }
}

#[test]
fn the_kernel_is_its_twin() {
    let (rows, modalities, dim) = (150, 4, 9);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let present: Vec<bool> = (0..rows * modalities).map(|_| rng.random_bool(0.6)).collect();
    let nothing = present.chunks(modalities).filter(|row| !row.contains(&true)).count();
    assert!(nothing > 0, "some rows have nothing");
    let shape = [rows, modalities, dim];
    // Gates so far apart that an exponential without the maximum would overflow.
    let (values, logits) = (random(&shape, 1), (random(&shape, 2) * 80.0).unwrap());
    let pull = random(&[rows, dim], 4);
    let run = |dtype, kernel: bool| {
        let (values, logits) = (values.to_dtype(dtype).unwrap(), logits.to_dtype(dtype).unwrap());
        let (values, logits) = (Var::from_tensor(&values).unwrap(), Var::from_tensor(&logits).unwrap());
        let out = match kernel {
            true => gates::fuse(&values, &logits, present.clone().into()).unwrap(),
            false => gates::composed(&values, &logits, &present).unwrap(),
        };
        let loss = (out.sqr().unwrap() * pull.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        [numbers(&out), numbers(gradients.get(&values).unwrap()), numbers(gradients.get(&logits).unwrap())]
    };
    let expected = run(DType::F64, false);
    for found in [run(DType::F32, true), run(DType::F32, false)] {
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, 3e-6);
        }
    }
}

#[test]
fn one_modality_is_its_projection_and_the_identity_is_itself() {
    let values = random(&[5, 4], 1);
    let here = [true, false, true, true, true];
    let modality = |present| [Modality { values: values.clone(), present }];
    let identity = Fusion::identity(4).unwrap();
    assert!(identity.parameters("fusion").is_empty());
    assert_eq!(numbers(&identity.forward(&modality(None), None).unwrap()), numbers(&values));
    let mut expected = numbers(&values);
    expected[4..8].fill(0.0);
    assert_eq!(numbers(&identity.forward(&modality(Some(&here)), None).unwrap()), expected);

    // A softmax over one is 1.
    let fusion = Fusion::new(&[4], 3, 2, &Device::Cpu).unwrap();
    let projected = fusion.layers[0][0].forward(&values).unwrap();
    assert_close(&numbers(&fusion.forward(&modality(None), None).unwrap()), &numbers(&projected), 1e-7);
    let out = numbers(&fusion.forward(&modality(Some(&here)), None).unwrap());
    assert_eq!(out[3..6], [0.0; 3]);
}

/// A row whose id is hidden is the row that has none.
#[test]
fn hiding_is_being_absent() {
    let rows = 2000;
    let fusion = Fusion::new(&[4, 6], 5, 2, &Device::Cpu).unwrap();
    let (ids, texts) = (random(&[rows, 4], 1), random(&[rows, 6], 2));
    // Every fourth row has no text and must keep its id.
    let with_text: Vec<bool> = (0..rows).map(|row| row % 4 != 0).collect();
    let run = |ids_here: Option<&[bool]>, hide| {
        let modalities = [
            Modality { values: ids.clone(), present: ids_here },
            Modality { values: texts.clone(), present: Some(&with_text) },
        ];
        fusion.forward(&modalities, hide).unwrap().to_vec2::<f32>().unwrap()
    };
    let hide = |probability, seed| Some(Hide { modality: 0, probability, seed });
    let (all, none) = (run(None, None), run(Some(&with_text.iter().map(|text| !text).collect::<Vec<_>>()), None));
    let some = run(None, hide(0.3, 7));
    let mut hidden = 0;
    for row in 0..rows {
        assert!(some[row] == all[row] || some[row] == none[row], "row {row}");
        hidden += usize::from(some[row] != all[row]);
    }
    let share = hidden as f64 / with_text.iter().filter(|text| **text).count() as f64;
    assert!((share - 0.3).abs() < 0.05, "{share}");
    assert_eq!(run(None, hide(0.0, 7)), all);
    assert_eq!(run(None, hide(1.0, 7)), none);
    assert_eq!(run(None, hide(0.3, 7)), some);
    assert_ne!(run(None, hide(0.3, 8)), some);
}

#[test]
fn what_is_missing_gets_no_gradient() {
    let fusion = Fusion::new(&[3, 3], 4, 2, &Device::Cpu).unwrap();
    let (a, b) = (Var::from_tensor(&random(&[2, 3], 1)).unwrap(), Var::from_tensor(&random(&[2, 3], 2)).unwrap());
    let modalities = [
        Modality { values: a.as_tensor().clone(), present: Some(&[true, false]) },
        Modality { values: b.as_tensor().clone(), present: None },
    ];
    let gradients = fusion.forward(&modalities, None).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let gradient = numbers(gradients.get(&a).unwrap());
    assert!(gradient[..3].iter().all(|g| *g != 0.0));
    assert_eq!(gradient[3..], [0.0; 3]);
    assert!(numbers(gradients.get(&b).unwrap()).iter().all(|g| *g != 0.0));
}

#[test]
fn bits_depend_on_the_seed_alone() {
    let make = |seed| {
        let fusion = Fusion::new(&[3, 2], 4, seed, &Device::Cpu).unwrap();
        fusion.parameters("f").iter().map(|(name, var)| (name.clone(), numbers(var))).collect::<Vec<_>>()
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1), make(2));
    // No two layers begin alike.
    let square = Fusion::new(&[4, 4], 4, 1, &Device::Cpu).unwrap();
    let weights: Vec<Vec<f64>> = square.parameters("f").iter().map(|(_, var)| numbers(var)).collect();
    assert!((0..weights.len()).all(|a| (0..a).all(|b| weights[a] != weights[b])));
}

#[test]
fn what_does_not_fit_is_named() {
    for (widths, dim) in [(&[][..], 4), (&[3, 0][..], 4), (&[3][..], 0)] {
        assert!(Fusion::new(widths, dim, 1, &Device::Cpu).unwrap_err().to_string().contains("above 0"));
    }
    assert!(Fusion::identity(0).is_err());
    let fusion = Fusion::new(&[3, 2], 4, 1, &Device::Cpu).unwrap();
    let modality = |rows: usize, width: usize| Modality { values: random(&[rows, width], 1), present: None };
    let check = |modalities: &[Modality], hide, words: &[&str]| {
        let message = fusion.forward(modalities, hide).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    check(&[modality(2, 3)], None, &["1 modalities", "of 2"]);
    check(&[modality(2, 3), modality(3, 2)], None, &["modality 1", "[2, 2]"]);
    check(&[modality(2, 4), modality(2, 2)], None, &["modality 0", "[2, 3]"]);
    let short = Modality { present: Some(&[true]), ..modality(2, 2) };
    check(&[modality(2, 3), short], None, &["modality 1", "1 rows"]);
    let right = [modality(2, 3), modality(2, 2)];
    for (modality, probability) in [(2, 0.5), (0, -0.1), (1, 1.1), (1, f64::NAN)] {
        check(&right, Some(Hide { modality, probability, seed: 1 }), &["cannot be hidden"]);
    }
    assert_eq!(fusion.forward(&[modality(0, 3), modality(0, 2)], None).unwrap().dims(), [0, 4]);
}
