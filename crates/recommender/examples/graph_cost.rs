//! Time and values of LightGCN's propagation, forward and backward, on a random graph:
//!
//! ```text
//! cargo run --release --example graph_cost -p paretune-recommender -- 22363 12101 153776 64 3
//! ```
//!
//! Users, items, interactions, width, layers; the popularity of items falls as one over their rank.

use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use paretune_recommender::{EdgeDropout, Graph, LightGcn, propagate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    let [users, items, edges, width, layers] =
        <[usize; 5]>::try_from(sizes).map_err(|_| "give users, items, interactions, width and layers")?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut pairs = std::collections::BTreeSet::new();
    while pairs.len() < edges {
        // Log-uniform ranks: popularity one over rank.
        let rank = (items as f64).powf(rng.random::<f64>()) as usize - 1;
        pairs.insert((rng.random_range(0..users as u32), rank as u32));
    }
    let start = Instant::now();
    let graph = Graph::interactions(users, items, pairs)?;
    println!("{} nodes, {} edges, built in {:.1} ms", graph.nodes(), graph.edges(), milliseconds(start));

    let values: Vec<f32> = (0..graph.nodes() * width).map(|_| rng.random_range(-1.0..1.0)).collect();
    let x = Var::from_vec(values, (graph.nodes(), width), &Device::Cpu)?;
    let pull = Tensor::ones((graph.nodes(), width), DType::F32, &Device::Cpu)?;
    time("propagate, forward", || Ok(propagate(&x, &graph, layers)?))?;
    time("propagate, forward and backward", || Ok((propagate(&x, &graph, layers)? * &pull)?.sum_all()?.backward()?))?;
    let model = LightGcn::new(graph.clone(), width, layers, 1, &Device::Cpu)?;
    let vectors = Var::from_tensor(&x.narrow(0, users, items)?.copy()?)?;
    time("LightGcn, a loss of users and items, forward and backward", || {
        let out = model.forward(&vectors, None)?;
        Ok(paretune_encoder::backward(&(out.users.sum_all()? + out.items.sum_all()?)?)?)
    })?;
    let dropout = EdgeDropout { probability: 0.2, seed: 1 };
    time("leaving out a fifth of the edges", || Ok(graph.thinned(dropout)?))?;
    Ok(())
}

/// Shortest and median of fifteen runs after three.
fn time<T>(
    name: &str,
    mut run: impl FnMut() -> Result<T, Box<dyn std::error::Error>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut times = Vec::new();
    for round in 0..18 {
        let start = Instant::now();
        run()?;
        if round >= 3 {
            times.push(milliseconds(start));
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    println!("{name}: {:.2} ms, {:.2} ms", times[0], times[times.len() / 2]);
    Ok(())
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
