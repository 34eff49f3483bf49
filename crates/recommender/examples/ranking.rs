//! What a ranking loss costs beside the three matrix products that it cannot do without.
//!
//! usage: cargo run --release -p paretune-recommender --example ranking -- [REQUESTS] [WIDTH]
//!
//! For several numbers of negatives: the loss and its gradients, the three products alone (logits, and a gradient for each side) by
//! Candle, and sampled softmax of Candle's own operations. Milliseconds, the median of several runs.

use std::error::Error;
use std::time::Instant;

use candle_core::{D, Device, Tensor, Var};
use paretune_recommender::{Negatives, RankingBatch, RankingLoss, Scoring};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Negatives of each row's own.
const OWN: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let mut sizes = std::env::args().skip(1).map(|size| size.parse::<usize>());
    let rows = sizes.next().transpose()?.unwrap_or(1000);
    let width = sizes.next().transpose()?.unwrap_or(64);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    println!("{rows} requests, vectors of {width}; milliseconds");
    println!(
        "{:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "negatives", "products", "sampled", "cosine", "bpr", "bce", "bpr own64", "composed"
    );
    for count in [256, 1024, 4096, 12_000] {
        let mut matrix = |rows: usize| {
            let values: Vec<f32> = (0..rows * width).map(|_| random.random_range(-0.5..0.5)).collect();
            Var::from_vec(values, (rows, width), &Device::Cpu)
        };
        let (users, candidates) = (matrix(rows)?, matrix(count + rows)?);
        let ids: Vec<u32> = (0..(count + rows) as u32).collect();
        let pool: Vec<u32> = (0..count as u32).collect();
        let positives: Vec<u32> = (count as u32..(count + rows) as u32).collect();
        let own: Vec<u32> = (0..rows * OWN).map(|_| random.random_range(0..count as u32)).collect();
        let log_q: Vec<f32> = ids.iter().map(|id| -((id % 100 + 2) as f32).ln()).collect();
        let batch = RankingBatch {
            users: &users,
            candidates: &candidates,
            ids: &ids,
            positives: &positives,
            negatives: Negatives::Shared(&pool),
            exempt: None,
            log_q: Some(&log_q),
            weights: None,
            catalogue: None,
        };
        let own = RankingBatch { negatives: Negatives::Own { per_row: OWN, places: &own }, ..batch };
        let (plain, cosine) = (Scoring::default(), Scoring { temperature: 0.1, cosine: true });
        let learn = |loss: RankingLoss, batch: &RankingBatch<'_>| {
            median(|| loss.loss(batch).and_then(|loss| Ok(loss.backward()?)).map(drop).map_err(Box::from))
        };
        let rivals = candidates.narrow(0, 0, count)?.detach();
        let logits = users.detach().matmul(&rivals.t()?)?;
        let products = median(|| {
            users.detach().matmul(&rivals.t()?)?;
            logits.matmul(&rivals)?;
            logits.t()?.matmul(&users.detach())?;
            Ok(())
        })?;
        let corrections = Tensor::from_slice(&log_q[..count], (1, count), &Device::Cpu)?;
        let composed = median(|| {
            let logits = users.matmul(&candidates.narrow(0, 0, count)?.t()?)?.broadcast_sub(&corrections)?;
            let own = (users.as_tensor() * candidates.narrow(0, count, rows)?)?.sum_keepdim(D::Minus1)?;
            let logits = Tensor::cat(&[&own, &logits], 1)?;
            let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
            let losses = (shifted.exp()?.sum_keepdim(D::Minus1)?.log()? - shifted.narrow(1, 0, 1)?)?;
            losses.mean_all()?.backward()?;
            Ok(())
        })?;
        println!(
            "{count:>10} {products:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {composed:>10.2}",
            learn(RankingLoss::SampledSoftmax(plain), &batch)?,
            learn(RankingLoss::SampledSoftmax(cosine), &batch)?,
            learn(RankingLoss::Bpr(plain), &batch)?,
            learn(RankingLoss::Bce(plain), &batch)?,
            learn(RankingLoss::Bpr(plain), &own)?,
        );
    }
    Ok(())
}

/// Median milliseconds of eleven runs.
fn median(work: impl Fn() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::new();
    work()?;
    for _ in 0..11 {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
