//! Ranking losses: against PyTorch, against each other, and where they refuse.

#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

mod properties;
mod reference;
mod refused;
mod training;

use candle_core::{DType, Device, Tensor, Var};
use paretune_recommender::{Negatives, RankingBatch, RankingLoss};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A matrix of numbers between -1 and 1.
fn random(rows: usize, columns: usize, seed: u64) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..rows * columns).map(|_| random.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn scalar(tensor: &Tensor) -> f64 {
    numbers(tensor)[0]
}

/// The value of a loss and its gradients with respect to users and candidates, in the type `dtype`.
fn differentiated(loss: &RankingLoss, batch: &RankingBatch<'_>, dtype: DType) -> (f64, [Vec<f64>; 2]) {
    let [users, candidates] =
        [batch.users, batch.candidates].map(|side| Var::from_tensor(&side.to_dtype(dtype).unwrap()).unwrap());
    let batch = RankingBatch { users: &users, candidates: &candidates, ..*batch };
    let value = loss.loss(&batch).unwrap();
    let gradients = value.backward().unwrap();
    (scalar(&value), [&users, &candidates].map(|side| numbers(gradients.get(side).unwrap())))
}

fn assert_near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(off <= tolerance * expected.abs().max(1.0), "{what}[{at}]: {found}, expected {expected}");
    }
}

/// Requests and candidates with lists that are right.
struct World {
    users: Tensor,
    candidates: Tensor,
    ids: Vec<u32>,
    positives: Vec<u32>,
    pool: Vec<u32>,
    log_q: Vec<f32>,
}

impl World {
    fn new(rows: usize, candidates: usize, width: usize, seed: u64) -> Self {
        let mut random_places = ChaCha8Rng::seed_from_u64(seed);
        let mut places = |count: usize| (0..count).map(|_| random_places.random_range(0..candidates as u32)).collect();
        Self {
            positives: places(rows),
            pool: places(candidates / 2 + 1),
            users: random(rows, width, seed + 1),
            candidates: random(candidates, width, seed + 2),
            ids: (0..candidates as u32).map(|place| 100 + 3 * place).collect(),
            log_q: numbers(&random(1, candidates, seed + 3)).iter().map(|value| *value as f32 - 3.0).collect(),
        }
    }

    fn batch(&self) -> RankingBatch<'_> {
        RankingBatch {
            users: &self.users,
            candidates: &self.candidates,
            ids: &self.ids,
            positives: &self.positives,
            negatives: Negatives::Shared(&self.pool),
            exempt: None,
            log_q: None,
            weights: None,
            catalogue: Some(self.ids.len()),
        }
    }
}
