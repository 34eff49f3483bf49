//! Measures one figure of one backbone, which it prints as a line of JSON: a process of its own for each, so that its peak memory is its own.
//!
//! usage: cargo run --release -p paretune-encoder --example backbone -- --model DIR --random CONFIG.json
//!        cargo run --release -p paretune-encoder --example backbone -- --model DIR --figure FIGURE [--arithmetic f32] [--batch 32] [--len 64]
//!        [--threads N] [--runs 9]
//!
//! The first line writes a model with random weights to DIR, whose architecture `CONFIG.json` (a `config.json` of any supported family) gives;
//! the second measures
//!   forward      an embedder, on `batch` sequences of `len` tokens
//!   train_step   the same batch: forward with dropout, backward, AdamW on every parameter
//!   train_last   the same with the last two layers trained
//! `cargo xtask bench backbones` does it for every family, beside transformers.

#![allow(clippy::print_stdout)]

#[allow(dead_code, reason = "the other bench uses more of it")]
#[path = "../bench/training.rs"]
mod training;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use candle_core::Device;
use paretune_encoder::{Arithmetic, Encoder, LoadOptions, ModelConfig, Pooling, Trainable};
use paretune_features::{ModelFiles, Packed};
use training::Training;

/// As in the `paretune` program: training frees and takes the same large buffers at every step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Layers that `train_last` trains.
const LAST: usize = 2;
/// Numbers of the first vector that are printed, for a comparison with other libraries.
const SHOWN: usize = 8;

struct Options {
    model: PathBuf,
    random: Option<PathBuf>,
    figure: String,
    arithmetic: Arithmetic,
    batch: usize,
    length: usize,
    threads: usize,
    runs: usize,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            model: PathBuf::new(),
            random: None,
            figure: String::new(),
            arithmetic: Arithmetic::F32,
            batch: 32,
            length: 64,
            threads: 0,
            runs: 9,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--model" => options.model = value.into(),
                "--random" => options.random = Some(value.into()),
                "--figure" => options.figure = value,
                "--arithmetic" => options.arithmetic = value.parse()?,
                "--batch" => options.batch = value.parse()?,
                "--len" => options.length = value.parse()?,
                "--threads" => options.threads = value.parse()?,
                "--runs" => options.runs = value.parse::<usize>()?.max(1),
                other => {
                    let known = "--model, --random, --figure, --arithmetic, --batch, --len, --threads, --runs";
                    return Err(format!("unknown `{other}`; there are {known}").into());
                }
            }
        }
        if options.model.as_os_str().is_empty() {
            return Err("say where the model is with --model DIR".into());
        }
        Ok(options)
    }

    /// The files of the model, which has no tokenizer.
    fn files(&self) -> ModelFiles {
        let weights = vec![self.model.join("model.safetensors")];
        ModelFiles { weights, ..ModelFiles::unweighted(&self.model) }
    }

    fn load(&self, trainable: Trainable) -> Result<Encoder, Box<dyn Error>> {
        let arithmetic = if trainable == Trainable::Nothing { Arithmetic::F32 } else { self.arithmetic };
        Ok(Encoder::load(&self.files(), &LoadOptions { trainable, arithmetic, ..LoadOptions::default() })?)
    }

    /// The median milliseconds of `work`, after one third of the runs to warm up.
    fn median_ms(&self, mut work: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
        let mut times = Vec::new();
        for _ in 0..self.runs + self.runs.div_ceil(3) {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.drain(..self.runs.div_ceil(3));
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    match &options.random {
        Some(config) => {
            let config = ModelConfig::read(config)?;
            let pooling = if config.is_causal() { Pooling::LastToken } else { Pooling::Mean };
            let encoder = Encoder::random(config, pooling, 1, &Device::Cpu)?;
            Ok(encoder.save(&options.model, &ModelFiles::unweighted(&options.model))?)
        }
        None => measure(&options),
    }
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    if !options.arithmetic.is_available() {
        return Err(format!("this processor has no instructions for {}", options.arithmetic).into());
    }
    let mut shown = None;
    let (ms, parameters) = match options.figure.as_str() {
        "forward" => {
            let encoder = options.load(Trainable::Nothing)?;
            let packed = sequences(encoder.config().vocab_size(), options.batch, options.length);
            let parameters = count(&encoder)?;
            let embedder = encoder.embedder(options.arithmetic)?;
            drop(encoder);
            shown = Some(embedder.embed_packed(&packed)?[..SHOWN.min(embedder.hidden_size())].to_vec());
            (options.median_ms(|| Ok(embedder.embed_packed(&packed).map(drop)?))?, parameters)
        }
        "train_step" | "train_last" => {
            let trainable = if options.figure == "train_step" { Trainable::All } else { Trainable::LastLayers(LAST) };
            let encoder = options.load(trainable)?;
            let packed = sequences(encoder.config().vocab_size(), options.batch, options.length);
            let parameters = count(&encoder)?;
            let mut training = Training::new(encoder)?;
            (options.median_ms(|| training.step(&packed).map(drop))?, parameters)
        }
        other => return Err(format!("no figure `{other}`; there are: forward, train_step, train_last").into()),
    };
    let line = serde_json::json!({
        "figure": options.figure, "peer": format!("paretune-{}", options.arithmetic), "ms": (ms * 100.0).round() / 100.0,
        "texts_per_s": (options.batch as f64 / ms * 1e4).round() / 10.0, "threads": rayon::current_num_threads(),
        "parameters": parameters, "peak_mib": peak_mib().map(f64::round), "vector": shown,
    });
    println!("{line}");
    Ok(())
}

/// Token sequences spread over the vocabulary, past the special tokens and single letters that come first.
fn sequences(vocabulary: usize, batch: usize, length: usize) -> Packed {
    let range = vocabulary.saturating_sub(1000).clamp(1, 20_000);
    let first = (vocabulary - range).min(1000);
    let id = |at: usize| (first + at * 7919 % range) as u32;
    Packed::from_sequences((0..batch).map(|row| (row * length..(row + 1) * length).map(id).collect::<Vec<u32>>()))
}

fn count(encoder: &Encoder) -> Result<usize, Box<dyn Error>> {
    Ok(encoder.tensors()?.values().map(candle_core::Tensor::elem_count).sum())
}

/// The most memory this process has held, where the system tells.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
