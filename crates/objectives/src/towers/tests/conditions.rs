//! Chains of conditions, ways through one of them, and towers of their own sizes.

use super::*;
use crate::TowerShape;

/// A purchase by way of a cart or without one, and what follows it.
fn chain() -> Objectives {
    let conditional = |name: &str, given: &str| Objective::new(name, Kind::Conditional, name).given(given);
    let own = TowerShape { hidden: Some(vec![6, 3]), dropout: Some(0.2) };
    Objectives::new(vec![
        conditional("stays", "buy"),
        conditional("buy", "click").through("cart").tower(own),
        Objective::new("click", Kind::Binary, "click"),
        conditional("cart", "click").tower(TowerShape { hidden: Some(Vec::new()), dropout: None }),
    ])
    .unwrap()
}

fn labels_of(objectives: &Objectives) -> [Vec<f32>; 4] {
    assert_eq!(objectives.names().collect::<Vec<_>>(), ["stays", "buy", "click", "cart"]);
    [
        vec![NO, NO, 0.0, NO, 1.0, NO, NO, 1.0],
        vec![NO, 0.0, 1.0, NO, 1.0, 0.0, 0.0, 1.0],
        vec![0.0, 1.0, 1.0, 0.0, 1.0, 1.0, NO, 1.0],
        vec![1.0, 0.0, 0.0, NO, 1.0, 1.0, NO, 1.0],
    ]
}

fn towers_of(config: TowerConfig) -> (TaskTowers, Labels) {
    let objectives = chain();
    let columns = labels_of(&objectives);
    let mut towers = TaskTowers::new(&objectives, &config, &Device::Cpu).unwrap();
    towers.fit(&columns).unwrap();
    let labels = Labels::new(&objectives, towers.scalers(), &columns, &Device::Cpu).unwrap();
    (towers, labels)
}

#[test]
fn labels_follow_their_chain() {
    let objectives = chain();
    let mut columns = labels_of(&objectives);
    objectives.apply_conditions(&mut columns).unwrap();
    let bits = |column: &[f32]| column.iter().map(|y| if y.is_nan() { 9 } else { *y as i32 }).collect::<Vec<_>>();
    // Without a click there is nothing, without a purchase nothing stays; a cart is no condition of a purchase.
    assert_eq!(bits(&columns[3]), [0, 0, 0, 0, 1, 1, 9, 1]);
    assert_eq!(bits(&columns[1]), [0, 0, 1, 0, 1, 0, 0, 1]);
    assert_eq!(bits(&columns[0]), [0, 0, 0, 0, 1, 0, 0, 1]);
    let (towers, labels) = towers_of(config());
    assert_eq!(labels.observed(), [8, 8, 7, 7]);
    let rates = objectives.base_rates(towers.scalers(), &labels_of(&objectives)).unwrap();
    assert_eq!(rates, [0.25, 0.375, 5.0 / 7.0, 3.0 / 7.0]);
}

#[test]
fn an_average_sample_gets_the_average_along_the_chain() {
    let (towers, _) = towers_of(config());
    let rates = [0.06, 0.2, 0.5, 0.3];
    towers.set_prior(&rates).unwrap();
    let zero = Tensor::zeros((1, D), DType::F32, &Device::Cpu).unwrap();
    let outputs = towers.forward(&zero, None).unwrap();
    let predictions = outputs.predictions().unwrap();
    for (prediction, rate) in predictions.iter().zip(rates) {
        assert!((prediction[0] - rate).abs() < 1e-5, "{predictions:?}");
    }
    for (name, rate) in [("stays", 0.3), ("buy", 0.4), ("cart", 0.6)] {
        assert!((outputs.conditional_rate(name).unwrap()[0] - rate).abs() < 1e-5, "{name}");
    }
}

#[test]
fn losses_are_the_cross_entropies_of_predictions() {
    let (towers, labels) = towers_of(config());
    let outputs = towers.forward(&shared(8, 3), None).unwrap();
    let mut columns = labels_of(&chain());
    chain().apply_conditions(&mut columns).unwrap();
    let (losses, predictions) = (outputs.losses(&labels).unwrap(), outputs.predictions().unwrap());
    for (k, loss) in losses.iter().enumerate() {
        let seen = columns[k].iter().zip(&predictions[k]).filter(|(y, _)| !y.is_nan());
        let each = seen.map(|(y, p)| -f64::from(if *y == 1.0 { *p } else { 1.0 - *p }).ln());
        let expected = each.sum::<f64>() / loss.observed as f64;
        assert!((scalar(&loss.loss) - expected).abs() < 1e-5, "{k}: {} and {expected}", scalar(&loss.loss));
    }
}

#[test]
fn every_gradient_of_a_chain_matches_central_differences() {
    let (towers, labels) = towers_of(config());
    let z = shared(8, 1);
    let mut inputs = towers.parameters();
    inputs.push(("shared".into(), z.clone()));
    let mut touched = vec![false; inputs.len()];
    for (k, name) in ["stays", "buy", "click", "cart"].iter().enumerate() {
        let loss = || towers.forward(&z, Some(5)).unwrap().losses(&labels).unwrap()[k].loss.clone();
        let store = loss().backward().unwrap();
        for ((parameter, var), touched) in inputs.iter().zip(&mut touched) {
            let found = store.get(var).map_or(vec![0.0; var.elem_count()], values);
            *touched |= found.iter().any(|g| *g != 0.0);
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
                let found = f64::from(found[i]);
                assert!(
                    (difference - found).abs() < 2e-3 * difference.abs().max(0.1),
                    "{name}, {parameter}[{i}]: {found} instead of {difference}"
                );
            }
            set(start);
        }
    }
    assert!(touched.iter().all(|touched| *touched), "{touched:?}");
}

#[test]
fn towers_have_their_own_layers_and_a_second_one() {
    let (towers, _) = towers_of(config());
    let shapes: Vec<String> =
        towers.parameters().into_iter().map(|(name, var)| format!("{name} {:?}", var.dims())).collect();
    let weights: Vec<&str> = shapes
        .iter()
        .filter(|shape| shape.contains("weight"))
        .map(|shape| shape.strip_prefix("towers.").unwrap())
        .collect();
    let expected = [
        "stays.0.weight [4, 5]",
        "stays.1.weight [1, 4]",
        "buy.0.weight [6, 5]",
        "buy.1.weight [3, 6]",
        "buy.2.weight [1, 3]",
        "buy.other.0.weight [6, 5]",
        "buy.other.1.weight [3, 6]",
        "buy.other.2.weight [1, 3]",
        "click.0.weight [4, 5]",
        "click.1.weight [1, 4]",
        "cart.0.weight [1, 5]",
    ];
    assert_eq!(weights, expected);
    // The two ways are two networks from the beginning.
    let all: BTreeMap<String, Var> = towers.parameters().into_iter().collect();
    assert_ne!(values(&all["towers.buy.0.weight"]), values(&all["towers.buy.other.0.weight"]));
    for conditioning in [Conditioning::Film, Conditioning::Hypernetwork] {
        let towers = TaskTowers::new(&chain(), &TowerConfig { conditioning, ..config() }, &Device::Cpu).unwrap();
        let of =
            |weights: &[f64]| towers.forward_for(&shared(3, 1), Some(weights), None).unwrap().predictions().unwrap();
        assert_ne!(of(&[1.0, 1.0, 1.0, 1.0]), of(&[1.0, 9.0, 1.0, 1.0]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_more_likely_than_what_it_is_given(seed in any::<u64>(), scale in 0.1..300.0_f64) {
        let towers = TaskTowers::new(&chain(), &TowerConfig { seed, ..config() }, &Device::Cpu).unwrap();
        let z = (shared(8, seed).as_tensor() * scale).unwrap();
        let p = towers.forward(&z, None).unwrap().predictions().unwrap();
        let rows = p[0].iter().zip(&p[1]).zip(p[2].iter().zip(&p[3]));
        for ((stays, buy), (click, cart)) in rows {
            prop_assert!(0.0 <= *stays && stays <= buy && buy <= click && cart <= click && *click <= 1.0);
        }
    }
}
