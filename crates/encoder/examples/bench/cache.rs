//! An epoch of fine-tuning the last two layers, with and without remembering what the frozen layers give.

use std::error::Error;
use std::time::Instant;

use paretune_encoder::{CacheOptions, Encoder, LoadOptions, Trainable};
use paretune_features::{ModelFiles, TextTokenizer};

use crate::options::Options;
use crate::training::Training;

/// Tokens of a batch.
const BUDGET: usize = 2048;

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let titles = options.texts("--cache")?;
    let files = ModelFiles::local(&options.model)?;
    let texts = TextTokenizer::load(&files, None)?.encode(&titles)?;
    let batches = texts.batches(BUDGET);
    let cases = [
        ("all layers", Trainable::All, None),
        ("last 2", Trainable::LastLayers(2), None),
        ("last 2, cached", Trainable::LastLayers(2), Some(CacheOptions::default())),
    ];
    let mut last: Option<Vec<f32>> = None;
    for (name, trainable, cache) in cases {
        let cached = cache.is_some();
        let mut training =
            Training::new(Encoder::load(&files, &LoadOptions { trainable, cache, ..LoadOptions::default() })?)?;
        for epoch in 1..=3 {
            let start = Instant::now();
            let mut losses = Vec::new();
            for batch in &batches {
                losses.push(training.step(&texts.pack(batch))?);
            }
            let seconds = start.elapsed().as_secs_f64();
            options.say(&format!("epoch {epoch}"), name, seconds, titles.len());
            if epoch == 3 && trainable != Trainable::All {
                if cached && last.as_ref() != Some(&losses) {
                    return Err("the losses differ with and without the cache".into());
                }
                last = Some(losses);
            }
        }
    }
    if options.json {
        println!("{}", serde_json::json!({ "figure": "cache", "same_losses": true }));
    } else {
        println!("the losses with and without the cache are the same, bit for bit");
    }
    Ok(())
}
