//! Measures the encoder: a forward pass and a training step (forward with dropout, backward, AdamW on every parameter) of a batch
//! of 32 sequences of 64 tokens, the median of nine runs; and texts to vectors, tokenizing included.
//!
//! usage: cargo run --release -p paretune-encoder --example bench -- [--model DIR] [--titles FILE] [--threads N] [--json]
//!
//! `DIR` is a model in Hub layout (without it: the built-in one), `FILE` holds one text a line. With `--json` every figure is one line
//! of JSON.

use std::{error::Error, fs, time::Instant};

use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::{ModelFiles, Packed, TextTokenizer, Tokenized};
use paretune_optim::{AdamW, AdamWConfig, collect};

const BATCH: u32 = 32;
const LENGTH: u32 = 64;
/// Tokens of a batch when a whole file is embedded.
const TOKEN_BUDGET: usize = 4096;

struct Options {
    model: String,
    titles: Option<String>,
    threads: usize,
    json: bool,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let builtin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/builtin");
        let mut options = Self { model: builtin.into(), titles: None, threads: 0, json: false };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--model" => options.model = value()?,
                "--titles" => options.titles = Some(value()?),
                "--threads" => options.threads = value()?.parse()?,
                "--json" => options.json = true,
                other => {
                    return Err(format!("unknown `{other}`; there are --model, --titles, --threads, --json").into());
                }
            }
        }
        Ok(options)
    }

    fn say(&self, figure: &str, seconds: f64, rows: usize) {
        let (ms, rate, threads) = (seconds * 1e3, rows as f64 / seconds, rayon::current_num_threads());
        if self.json {
            let line = serde_json::json!({
                "figure": figure, "peer": "paretune-f32", "ms": (ms * 100.0).round() / 100.0,
                "rows_per_s": (rate * 10.0).round() / 10.0, "threads": threads,
            });
            println!("{line}");
        } else {
            println!("{figure:<12}{ms:>12.1} ms{rate:>12.1} rows/s{threads:>4} threads");
        }
    }
}

fn median_seconds(mut work: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    for _ in 0..3 {
        work()?;
    }
    let mut times = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let files = ModelFiles::local(&options.model)?;
    let encoder = Encoder::load(&files, &LoadOptions::default())?;

    // Spread over the vocabulary, past the special tokens and single letters that come first.
    let range = (encoder.config().vocab_size as u32).saturating_sub(1000).clamp(1, 20_000);
    let first = (encoder.config().vocab_size as u32 - range).min(1000);
    let sequence = |at: u32| (at * LENGTH..(at + 1) * LENGTH).map(|i| first + i * 7919 % range).collect::<Vec<u32>>();
    let sequences: Vec<Vec<u32>> = (0..BATCH).map(sequence).collect();
    let (texts, packed) = (Tokenized::from_sequences(&sequences), Packed::from_sequences(&sequences));

    let seconds = median_seconds(|| Ok(encoder.embed(&texts, TOKEN_BUDGET, None).map(drop)?))?;
    options.say("forward", seconds, texts.len());

    if let Some(path) = &options.titles {
        let file = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let titles: Vec<&str> = file.lines().filter(|line| !line.trim().is_empty()).collect();
        let tokenizer = TextTokenizer::load(&files, None)?;
        encoder.embed(&tokenizer.encode(&titles[..titles.len().min(256)])?, TOKEN_BUDGET, None)?;
        let start = Instant::now();
        encoder.embed(&tokenizer.encode(&titles)?, TOKEN_BUDGET, None)?;
        options.say("embed", start.elapsed().as_secs_f64(), titles.len());
    }

    let parameters = encoder.parameters();
    let mut optimizer = AdamW::new(AdamWConfig::default(), parameters.clone())?;
    let mut seed = 0;
    let seconds = median_seconds(|| {
        seed += 1;
        let loss = encoder.encode(&packed, Some(seed))?.sqr()?.mean_all()?;
        optimizer.step(&collect(&loss.backward()?, &parameters), 1e-5)?;
        Ok(())
    })?;
    options.say("train_step", seconds, texts.len());
    Ok(())
}
