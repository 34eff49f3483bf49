//! Forward pass, train step and embedding, in every arithmetic.

use std::error::Error;
use std::fs;
use std::time::Instant;

use paretune_encoder::{Arithmetic, Encoder};
use paretune_features::{ModelFiles, Packed, TextTokenizer};

use crate::options::{Options, median_seconds};
use crate::training::Training;

/// Tokens of a batch when a whole file is embedded.
pub(crate) const TOKEN_BUDGET: usize = 4096;

/// Token sequences spread over the vocabulary, past the special tokens and single letters that come first.
pub(crate) fn sequences(encoder: &Encoder, batch: usize, length: usize) -> Packed {
    let range = (encoder.config().vocab_size() as u32).saturating_sub(1000).clamp(1, 20_000);
    let first = (encoder.config().vocab_size() as u32 - range).min(1000);
    let id = |at: usize| first + (at as u32).wrapping_mul(7919) % range;
    Packed::from_sequences((0..batch).map(|row| (row * length..(row + 1) * length).map(id).collect::<Vec<u32>>()))
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let files = ModelFiles::local(&options.model)?;
    let encoder = Encoder::load(&files, &options.load(Arithmetic::F32)?)?;
    let packed = sequences(&encoder, options.batch, options.length);
    let wanted = |arithmetic: &Arithmetic| options.wants(arithmetic.name());
    for arithmetic in Arithmetic::ALL.into_iter().filter(wanted) {
        if !options.can(arithmetic) {
            continue;
        }
        let peer = options.peer(arithmetic)?;
        if options.wants("forward") {
            let embedder = encoder.embedder(arithmetic)?;
            let seconds = median_seconds(15, || Ok(embedder.embed_packed(&packed).map(drop)?))?;
            options.say("forward", &peer, seconds, packed.len());
        }
        if options.wants("train_step") && arithmetic != Arithmetic::Int8 {
            let mut training = Training::new(Encoder::load(&files, &options.load(arithmetic)?)?)?;
            let seconds = median_seconds(9, || training.step(&packed).map(drop))?;
            options.say("train_step", &peer, seconds, packed.len());
        }
        if let Some(path) = options.titles.as_ref().filter(|_| options.wants("embed")) {
            let file = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            let titles: Vec<&str> = file.lines().filter(|line| !line.trim().is_empty()).collect();
            let tokenizer = TextTokenizer::load(&files, None)?;
            let embedder = encoder.embedder(arithmetic)?;
            embedder.embed(&tokenizer.encode(&titles[..titles.len().min(256)])?, TOKEN_BUDGET, None)?;
            let start = Instant::now();
            embedder.embed(&tokenizer.encode(&titles)?, TOKEN_BUDGET, None)?;
            options.say("embed", &peer, start.elapsed().as_secs_f64(), titles.len());
        }
    }
    Ok(())
}
