use super::*;
use crate::{Labels, Objective};
use candle_core::DType;
use proptest::prelude::*;
use rand::RngExt;

use crate::layers::named_rng;

mod conditions;
mod masks;

const NO: f32 = f32::NAN;
const D: usize = 5;

fn objectives() -> Objectives {
    Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click"),
        Objective::new("conversion", Kind::Conditional, "conversion").given("click"),
        Objective::new("rating", Kind::Regression, "rating"),
        Objective::new("dwell", Kind::LogRegression, "dwell_seconds"),
    ])
    .unwrap()
}

fn columns() -> Vec<Vec<f32>> {
    vec![
        vec![1.0, 0.0, 1.0, 0.0, 1.0, 1.0],
        vec![0.0, NO, 1.0, 0.0, NO, 1.0],
        vec![4.0, NO, 2.5, NO, NO, 5.0],
        vec![120.0, 0.0, NO, 3.0, 45.0, NO],
    ]
}

fn towers(config: TowerConfig) -> (TaskTowers, Labels) {
    let objectives = objectives();
    let scalers = objectives.fit_scalers(&columns()).unwrap();
    let labels = Labels::new(&objectives, &scalers, &columns(), &Device::Cpu).unwrap();
    let mut towers = TaskTowers::new(&objectives, &config, &Device::Cpu).unwrap();
    towers.set_scalers(scalers).unwrap();
    (towers, labels)
}

fn config() -> TowerConfig {
    TowerConfig { input: D, hidden: 4, dropout: 0.3, seed: 11, ..TowerConfig::default() }
}

fn shared(rows: usize, seed: u64) -> Var {
    let mut random = named_rng(seed, "shared");
    let values: Vec<f32> = (0..rows * D).map(|_| random.random_range(-1.5..1.5)).collect();
    Var::from_vec(values, (rows, D), &Device::Cpu).unwrap()
}

fn scalar(t: &Tensor) -> f64 {
    f64::from(t.to_scalar::<f32>().unwrap())
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_gradient_matches_central_differences() {
    let (towers, labels) = towers(config());
    let z = shared(6, 1);
    let mut inputs = towers.parameters();
    inputs.push(("shared".into(), z.clone()));
    for (k, name) in ["click", "conversion", "rating", "dwell"].iter().enumerate() {
        let loss = || towers.forward(&z, Some(5)).unwrap().losses(&labels).unwrap()[k].loss.clone();
        let store = loss().backward().unwrap();
        for (parameter, var) in &inputs {
            let found = store.get(var).map_or(vec![0.0; var.elem_count()], values);
            let start = values(var);
            let set = |v: Vec<f32>| var.set(&Tensor::from_vec(v, var.shape(), &Device::Cpu).unwrap()).unwrap();
            for i in 0..start.len() {
                let at = |step: f32| {
                    let mut moved = start.clone();
                    moved[i] += step;
                    set(moved);
                    scalar(&loss())
                };
                let step = 1e-2;
                let difference = (at(step) - at(-step)) / f64::from(2.0 * step);
                assert!(
                    (difference - f64::from(found[i])).abs() < 2e-3 * difference.abs().max(0.1),
                    "{name}, {parameter}[{i}]: {} instead of {difference}",
                    found[i]
                );
            }
            set(start);
        }
    }
}

#[test]
fn every_parameter_gets_a_finite_gradient_that_is_not_zero() {
    let (towers, labels) = towers(config());
    let losses = towers.forward(&shared(6, 2), None).unwrap().losses(&labels).unwrap();
    let total = losses.iter().map(|l| l.loss.clone()).reduce(|a, b| (a + b).unwrap()).unwrap();
    let store = total.backward().unwrap();
    let parameters = towers.parameters();
    assert_eq!(parameters.len(), 16);
    for (name, var) in parameters {
        let gradient = values(store.get(&var).unwrap_or_else(|| panic!("{name} has no gradient")));
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0), "{name}");
    }
}

#[test]
fn a_masked_row_touches_no_bit_of_a_gradient() {
    let (towers, labels) = towers(config());
    let gradients = |z: &Var, k: usize| {
        let loss = towers.forward(z, None).unwrap().losses(&labels).unwrap()[k].loss.clone();
        let store = loss.backward().unwrap();
        let bits = |v: &Var| store.get(v).map(|g| values(g).iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        (scalar(&loss).to_bits(), towers.parameters().iter().map(|(_, v)| bits(v)).collect::<Vec<_>>(), bits(z))
    };
    // Ratings are seen in rows 0, 2 and 5. Whatever the others hold must not matter.
    let first = shared(6, 3);
    let mut changed = values(&first);
    for row in [1, 3, 4] {
        for (i, x) in changed[row * D..(row + 1) * D].iter_mut().enumerate() {
            *x = [1e3, -7.0, 0.0, 1e-3, 40.0][i];
        }
    }
    let second = Var::from_vec(changed, (6, D), &Device::Cpu).unwrap();
    let (loss, parameters, by_row) = gradients(&first, 2);
    assert_eq!((loss, &parameters), (gradients(&second, 2).0, &gradients(&second, 2).1));
    for row in [1, 3, 4] {
        assert!(by_row.as_ref().unwrap()[row * D..(row + 1) * D].iter().all(|b| f32::from_bits(*b) == 0.0));
    }
    // The loss is that of the seen rows alone.
    let logits = values(&towers.forward(&first, None).unwrap().logits()[2]);
    let scaler = towers.scalers()[2];
    let expected: f32 =
        [(0, 4.0), (2, 2.5), (5, 5.0)].iter().map(|&(r, y)| (logits[r] - scaler.transform(y)).powi(2)).sum();
    assert!((f64::from_bits(loss) - f64::from(expected / 3.0)).abs() < 1e-6);
}

#[test]
fn a_batch_without_labels_has_loss_zero_and_no_gradient() {
    let (towers, _) = towers(config());
    let columns = vec![vec![1.0, 0.0], vec![1.0, NO], vec![NO, NO], vec![NO, NO]];
    let labels = Labels::new(towers.objectives(), towers.scalers(), &columns, &Device::Cpu).unwrap();
    let losses = towers.forward(&shared(2, 1), None).unwrap().losses(&labels).unwrap();
    assert_eq!(losses.iter().map(|l| l.observed).collect::<Vec<_>>(), [2, 2, 0, 0]);
    assert_eq!(scalar(&losses[2].loss).to_bits(), 0.0_f64.to_bits());
    let store = losses[2].loss.backward().unwrap();
    assert!(towers.parameters().iter().all(|(_, var)| store.get(var).is_none()));
    // And it can stand in a sum with the others.
    let sum = (&losses[0].loss + &losses[2].loss).unwrap();
    assert!(sum.backward().unwrap().get(&towers.parameters()[0].1).is_some());
}

#[test]
fn a_prior_makes_an_average_sample_get_the_average() {
    let (towers, _) = towers(config());
    let rates = towers.objectives().base_rates(towers.scalers(), &columns()).unwrap();
    towers.set_prior(&rates).unwrap();
    let zero = Tensor::zeros((1, D), DType::F32, &Device::Cpu).unwrap();
    let outputs = towers.forward(&zero, None).unwrap();
    let predictions = outputs.predictions().unwrap();
    for (prediction, rate) in predictions.iter().zip(&rates) {
        assert!((prediction[0] - rate).abs() < 1e-4 * rate.max(1.0), "{predictions:?} instead of {rates:?}");
    }
    let cvr = outputs.conditional_rate("conversion").unwrap()[0];
    assert!((cvr * predictions[0][0] - predictions[1][0]).abs() < 1e-6);
    assert!(outputs.conditional_rate("click").is_err() && outputs.conditional_rate("buy").is_err());
    // Rates of 0 and 1 stay finite.
    towers.set_prior(&[0.0, 1.0, 3.0, 0.0]).unwrap();
    assert!(towers.forward(&zero, None).unwrap().predictions().unwrap().iter().all(|p| p[0].is_finite()));
    assert!(towers.set_prior(&[0.5]).is_err() && towers.set_prior(&[NO; 4]).is_err());
}

#[test]
fn a_tower_starts_the_same_whatever_stands_beside_it() {
    let whole = TaskTowers::new(&objectives(), &config(), &Device::Cpu).unwrap();
    let alone = TaskTowers::new(&objectives().select(&["rating"]).unwrap(), &config(), &Device::Cpu).unwrap();
    let z = shared(3, 9);
    let of = |t: &TaskTowers, k: usize| values(&t.forward(&z, Some(4)).unwrap().logits()[k]);
    assert_eq!(of(&whole, 2), of(&alone, 0));
}

#[test]
fn dropout_is_seeded_and_off_without_a_seed() {
    let (towers, _) = towers(config());
    let z = shared(6, 1);
    let of = |seed| values(&towers.forward(&z, seed).unwrap().logits()[0]);
    assert_eq!(of(Some(1)), of(Some(1)));
    assert_ne!(of(Some(1)), of(Some(2)));
    assert_eq!(of(None), of(None));
}

#[test]
fn parameters_have_fixed_names_and_can_be_loaded() {
    let (towers, _) = towers(config());
    let names: Vec<String> = towers.parameters().into_iter().map(|(name, _)| name).collect();
    let expected = ["towers.click.0.weight", "towers.click.0.bias", "towers.click.1.weight", "towers.click.1.bias"];
    assert_eq!(names[..4], expected);
    let mut saved: BTreeMap<String, Tensor> =
        towers.parameters().into_iter().map(|(n, v)| (n, v.as_tensor().clone())).collect();
    let other = TaskTowers::new(&objectives(), &TowerConfig { seed: 99, ..config() }, &Device::Cpu).unwrap();
    other.load(&saved).unwrap();
    let z = shared(3, 9);
    let of = |t: &TaskTowers| values(&t.forward(&z, None).unwrap().logits()[1]);
    assert_eq!(of(&towers), of(&other));
    saved.insert("towers.dwell.1.bias".into(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
    assert!(other.load(&saved).unwrap_err().to_string().contains("towers.dwell.1.bias has shape [2]"));
    saved.remove("towers.dwell.1.bias");
    assert!(other.load(&saved).unwrap_err().to_string().contains("towers.dwell.1.bias is missing"));
}

#[test]
fn linear_towers_and_wrong_settings() {
    let (towers, labels) = towers(TowerConfig { hidden: 0, ..config() });
    assert_eq!(towers.parameters().len(), 8);
    assert!(towers.forward(&shared(6, 1), Some(1)).unwrap().losses(&labels).is_ok());
    let error = towers.forward(&shared(5, 1), None).unwrap().losses(&labels).unwrap_err().to_string();
    assert!(error.contains("got 6 rows of labels, expected 5"), "{error}");
    let wide = Tensor::zeros((2, D + 1), DType::F32, &Device::Cpu).unwrap();
    assert!(towers.forward(&wide, None).is_err());
    for wrong in [TowerConfig { input: 0, ..config() }, TowerConfig { dropout: 1.0, ..config() }] {
        assert!(TaskTowers::new(&objectives(), &wrong, &Device::Cpu).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_conversion_is_never_more_likely_than_its_click(seed in any::<u64>(), scale in 0.1..200.0_f64) {
        let (towers, _) = towers(TowerConfig { seed, ..config() });
        let z = (shared(8, seed).as_tensor() * scale).unwrap();
        let p = towers.forward(&z, None).unwrap().predictions().unwrap();
        for (conversion, click) in p[1].iter().zip(&p[0]) {
            prop_assert!(conversion <= click && (0.0..=1.0).contains(click));
        }
        prop_assert!(p[2].iter().all(|rating| rating.is_finite()));
        prop_assert!(p[3].iter().all(|seconds| seconds.is_finite() && *seconds >= 0.0));
    }
}
