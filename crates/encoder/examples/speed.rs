//! Measures this machine: forward pass and training step (forward with dropout, backward; no optimizer) of a batch of
//! 32 sequences of 64 tokens, in milliseconds, the median of nine runs.
//!
//! usage: cargo run --release -p paretune-encoder --example speed -- MODEL_DIR

use std::time::Instant;

use paretune_encoder::{Encoder, LoadOptions, Trainable};
use paretune_features::{ModelFiles, Packed, Tokenized};

fn median_ms(
    mut work: impl FnMut() -> Result<(), Box<dyn std::error::Error>>,
) -> Result<f64, Box<dyn std::error::Error>> {
    for _ in 0..3 {
        work()?;
    }
    let mut times = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[4])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ModelFiles::local(std::env::args().nth(1).ok_or("usage: speed MODEL_DIR")?)?;
    let words =
        |sequence: u32| (0..64).map(move |i| 1000 + ((sequence * 64 + i) * 7919) % 20_000).collect::<Vec<u32>>();
    let sequences: Vec<Vec<u32>> = (0..32).map(words).collect();
    let (texts, packed) = (Tokenized::from_sequences(&sequences), Packed::from_sequences(&sequences));

    let load = |trainable| Encoder::load(&files, &LoadOptions { trainable, ..LoadOptions::default() });
    for trainable in [Trainable::All, Trainable::LastLayers(2)] {
        let encoder = load(trainable)?;
        let forward = median_ms(|| Ok(encoder.embed(&texts, 4096, None).map(drop)?))?;
        let mut seed = 0;
        let step = median_ms(|| {
            seed += 1;
            encoder.encode(&packed, Some(seed))?.sqr()?.sum_all()?.backward()?;
            Ok(())
        })?;
        println!("{trainable:?}: forward {forward:.0} ms, training step {step:.0} ms");
    }
    Ok(())
}
