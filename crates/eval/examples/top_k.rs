//! Times the exact top 20 of users × items scores: `cargo run --release -p paretune-eval --example top_k -- 22363 12101`.

use std::time::Instant;

use paretune_eval::top_k;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut sizes = std::env::args().skip(1).map(|size| size.parse());
    let users: usize = sizes.next().transpose()?.unwrap_or(22_363);
    let items: usize = sizes.next().transpose()?.unwrap_or(12_101);

    // As many rows as scoring would hand over at once, again and again.
    let rows = users.min(512);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let scores: Vec<f32> = (0..rows * items).map(|_| random.random()).collect();
    let mut ascending = scores.clone();
    ascending.chunks_mut(items.max(1)).for_each(|row| row.sort_unstable_by(f32::total_cmp));

    for (order, scores) in [("random", &scores), ("ascending, the worst", &ascending)] {
        let start = Instant::now();
        let mut ranked = 0;
        while ranked < users {
            let now = rows.min(users - ranked);
            let tops = scores[..now * items].par_chunks(items.max(1)).map(|scores| top_k(scores, 20, &[]));
            ranked += tops.collect::<Vec<_>>().len();
        }
        println!("{ranked} users x {items} items, {order}: {:.3} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}
