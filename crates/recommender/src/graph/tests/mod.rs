//! The graph against SciPy and PyTorch (`fixtures/make_graph.py`), dense products, closed forms and finite differences.

mod building;
mod light_gcn;
mod propagation;
mod relations;

use candle_core::{DType, Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::{Graph, GraphBuilder};

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/graph.json")).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

fn weight(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

/// The graph of the fixture, interactions and relations in a given order.
fn graph_of(fixture: &Value, backwards: bool) -> Graph {
    let ordered = |value: &Value| {
        let mut rows = value.as_array().unwrap().clone();
        if backwards {
            rows.reverse();
        }
        rows
    };
    let mut builder =
        GraphBuilder::new(number(&fixture["users"]) as usize, number(&fixture["items"]) as usize).unwrap();
    let interactions = ordered(&fixture["interactions"]);
    builder.weighted_interactions(interactions.iter().map(|e| (number(&e[0]), number(&e[1]), weight(&e[2])))).unwrap();
    for relation in ["also_bought", "same_series"] {
        let pairs = ordered(&fixture[relation][1]);
        let pairs = pairs.iter().map(|e| (number(&e[0]), number(&e[1])));
        builder.relate(relation, weight(&fixture[relation][0]), pairs).unwrap();
    }
    for relation in ["brand", "category"] {
        let values = ordered(&fixture[relation][1]);
        let values = values.iter().map(|e| (number(&e[0]), e[1].as_str().unwrap()));
        builder.share(relation, weight(&fixture[relation][0]), values).unwrap();
    }
    builder.build().unwrap()
}

/// `[nodes × nodes]`, row by row.
fn dense(graph: &Graph) -> Vec<f64> {
    let nodes = graph.nodes();
    let mut all = vec![0f64; nodes * nodes];
    let exact = graph.adjacency.exact();
    for row in 0..nodes {
        for place in graph.adjacency.row(row) {
            all[row * nodes + graph.adjacency.neighbours()[place] as usize] += exact[place];
        }
    }
    all
}

/// Numbers from -1 to 1.
fn random(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Pairs of which some repeat and some users and items have none.
fn pairs(users: usize, items: usize, count: usize, seed: u64) -> Vec<(u32, u32)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (rng.random_range(0..users as u32), rng.random_range(0..items as u32))).collect()
}

fn tensor(values: &[f64], rows: usize, dtype: DType) -> Tensor {
    let width = values.len() / rows.max(1);
    Tensor::from_slice(values, (rows, width), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(close, "at {place}: {found}, expected {expected}");
    }
}
