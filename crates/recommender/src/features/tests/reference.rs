//! Values and gradients are those of the fixture.

use candle_core::{Device, Tensor, Var};
use serde_json::Value;

use crate::features::config::FeatureConfig;
use crate::features::network::{Network, Start};

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-5 * scale, "{what}, value {at}: {found} and {expected}");
    }
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/features.json")).unwrap()
}

/// The network of a case with its weights, and its input.
fn case(fixture: &Value, case: &Value) -> (Network, Var) {
    let size = |name: &str| fixture[name].as_u64().unwrap() as usize;
    let config = FeatureConfig { dropout: 0.0, ..serde_json::from_value(case["config"].clone()).unwrap() };
    config.check().unwrap();
    let network = Network::new(&config, size("inputs"), size("outputs"), Start::Usual, 1, &Device::Cpu).unwrap();
    let parameters = network.parameters("net");
    assert_eq!(parameters.len(), case["parameters"].as_object().unwrap().len());
    for (name, var) in parameters {
        let own = &case["parameters"][&name];
        assert_eq!(own["shape"], serde_json::json!(var.dims()), "{name}");
        var.set(&Tensor::from_vec(floats(&own["values"]), var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
    let x = Tensor::from_vec(floats(&case["x"]), (size("rows"), size("inputs")), &Device::Cpu).unwrap();
    (network, Var::from_tensor(&x).unwrap())
}

#[test]
fn networks_and_their_gradients_are_those_of_pytorch() {
    let fixture = fixture();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 7);
    for own in cases {
        let (network, x) = case(&fixture, own);
        let out = network.forward(&x, None).unwrap();
        let what = own["config"].to_string();
        assert_near(&values(&out), &floats(&own["out"]), &what);
        let weights = Tensor::from_vec(floats(&own["weights"]), out.shape(), &Device::Cpu).unwrap();
        let store = (out * weights).unwrap().sum_all().unwrap().backward().unwrap();
        assert_near(&values(store.get(&x).unwrap()), &floats(&own["gradient"]), &what);
        for (name, var) in network.parameters("net") {
            let gradient = floats(&own["parameters"][&name]["gradient"]);
            assert_near(&values(store.get(&var).unwrap()), &gradient, &format!("{what}, {name}"));
        }
    }
}

/// `(L(x + εd) − L(x − εd)) / 2ε = ⟨∇L, d⟩` at the input, for a loss that is not linear in the output.
#[test]
fn gradients_are_those_of_finite_differences() {
    let fixture = fixture();
    for own in fixture["cases"].as_array().unwrap() {
        let (network, x) = case(&fixture, own);
        let loss = |x: &Tensor| network.forward(x, None).unwrap().sqr().unwrap().mean_all().unwrap();
        let gradient = loss(&x).backward().unwrap().remove(&x).unwrap();
        let direction = (&gradient
            / gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar::<f32>().unwrap() as f64)
            .unwrap();
        let at = |epsilon: f64| {
            let moved = (x.as_tensor() + (&direction * epsilon).unwrap()).unwrap();
            f64::from(loss(&moved).to_scalar::<f32>().unwrap())
        };
        let found = (at(2e-3) - at(-2e-3)) / 4e-3;
        let expected = f64::from((&gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
        assert!((found - expected).abs() < 0.01 * expected.abs() + 1e-3, "{}: {found} and {expected}", own["config"]);
    }
}

#[test]
fn dropout_is_that_of_its_seed() {
    let fixture = fixture();
    let own = &fixture["cases"][4];
    let config = FeatureConfig { dropout: 0.5, ..serde_json::from_value(own["config"].clone()).unwrap() };
    let network = Network::new(&config, 7, 3, Start::Usual, 1, &Device::Cpu).unwrap();
    let x = Tensor::from_vec(floats(&own["x"]), (5, 7), &Device::Cpu).unwrap();
    let of = |seed| values(&network.forward(&x, seed).unwrap());
    assert_eq!(of(Some(3)), of(Some(3)));
    assert_ne!(of(Some(3)), of(Some(4)));
    assert_ne!(of(Some(3)), of(None));
}
