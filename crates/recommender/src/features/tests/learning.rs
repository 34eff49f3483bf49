//! A label that is a cross of two categories: even or odd. Any sum of functions of one category each is at best undecided, so its loss is at
//! least ln 2.

use candle_core::{Device, Tensor, Var};
use paretune_data::CategoryTable;

use crate::features::config::{Arrangement, FeatureConfig, FeatureNetwork};
use crate::features::network::{Network, Start};
use crate::features::tables::Tables;

const NAMES: u32 = 6;

/// The loss after training on all pairs of names, with rows for each of the pairs or without.
fn loss(config: &FeatureConfig, crossed: bool) -> f32 {
    let table = |name: &str, rows| CategoryTable { name: name.into(), rows, slots: 1 };
    let mut columns = vec![table("a", NAMES), table("b", NAMES)];
    if crossed {
        columns.push(table("a × b", NAMES * NAMES));
    }
    let device = Device::Cpu;
    let tables = Tables::new(&columns, 8, 1, &device).unwrap();
    let network = Network::new(config, tables.width(), 1, Start::Usual, 2, &device).unwrap();
    let pairs = || (0..NAMES).flat_map(|a| (0..NAMES).map(move |b| (a, b)));
    let indices: Vec<u32> =
        pairs().flat_map(|(a, b)| [a, b, a * NAMES + b][..2 + usize::from(crossed)].to_vec()).collect();
    let n = (NAMES * NAMES) as usize;
    let labels: Vec<f32> = pairs().map(|(a, b)| ((a + b) % 2) as f32).collect();
    let labels = Tensor::from_vec(labels, (n, 1), &device).unwrap();
    let parameters: Vec<Var> =
        tables.parameters().into_iter().chain(network.parameters("net")).map(|(_, var)| var).collect();
    let loss = || {
        let x = tables.forward(&indices, n, &device).unwrap().unwrap();
        let z = network.forward(&x, None).unwrap();
        // log(1 + eᶻ), without an overflow.
        let rest = (z.abs().unwrap().neg().unwrap().exp().unwrap() + 1.0).unwrap().log().unwrap();
        let softplus = (z.relu().unwrap() + rest).unwrap();
        (softplus - (z * &labels).unwrap()).unwrap().mean_all().unwrap()
    };
    adam(&parameters, 300, 0.02, loss)
}

/// Adam (Kingma and Ba 2015) on all of it at every step; the last loss.
fn adam(parameters: &[Var], steps: i32, rate: f64, loss: impl Fn() -> Tensor) -> f32 {
    let mut moments: Vec<[Tensor; 2]> =
        parameters.iter().map(|var| [var.zeros_like().unwrap().detach(), var.zeros_like().unwrap().detach()]).collect();
    for step in 1..=steps {
        let store = loss().backward().unwrap();
        for (var, [m, v]) in parameters.iter().zip(&mut moments) {
            let g = store.get(var).unwrap();
            *m = ((&*m * 0.9).unwrap() + (g * 0.1).unwrap()).unwrap().detach();
            *v = ((&*v * 0.999).unwrap() + (g.sqr().unwrap() * 0.001).unwrap()).unwrap().detach();
            let rate = rate * (1.0 - 0.999f64.powi(step)).sqrt() / (1.0 - 0.9f64.powi(step));
            let moved = (&*m / (v.sqrt().unwrap() + 1e-8).unwrap()).unwrap();
            var.set(&(var.as_tensor() - (moved * rate).unwrap()).unwrap()).unwrap();
        }
    }
    loss().to_scalar().unwrap()
}

#[test]
fn what_is_no_sum_of_two_is_learned_by_crosses_and_hidden_layers_alone() {
    let linear = FeatureConfig { dropout: 0.0, ..FeatureConfig::default() };
    let undecided = loss(&linear, false);
    assert!((undecided - std::f32::consts::LN_2).abs() < 5e-3, "a sum cannot: {undecided}");
    let dcn = FeatureConfig { kind: FeatureNetwork::Dcn, hidden: Vec::new(), ..linear.clone() };
    let kinds = [
        ("linear, with rows for pairs", linear.clone(), true),
        ("crosses alone", dcn.clone(), false),
        ("crosses of rank 2", FeatureConfig { rank: 2, ..dcn.clone() }, false),
        ("crosses beside layers", FeatureConfig { hidden: vec![16], ..dcn.clone() }, false),
        (
            "layers above crosses",
            FeatureConfig { hidden: vec![16], arrangement: Arrangement::Stacked, ..dcn.clone() },
            false,
        ),
        ("layers", FeatureConfig { kind: FeatureNetwork::Mlp, hidden: vec![32], ..linear }, false),
    ];
    for (name, config, crossed) in kinds {
        let learned = loss(&config, crossed);
        assert!(learned < 0.05, "{name}: {learned}");
    }
}
