//! Measures the encoder, one line per figure.
//!
//! usage: cargo run --release -p paretune-encoder --example bench -- [--model DIR] [--titles FILE] [--batch 32] [--len 64] [--threads N]
//!        [--only FIGURE|ARITHMETIC,...] [--scaling | --cache | --profile | --curve | --agreement]
//!        [--device DEVICE [--compare]] [--json]
//!
//! figures
//!   forward      one batch of `batch` sequences of `len` tokens, inference
//!   train_step   the same batch: forward with dropout, backward, AdamW on every parameter
//!   embed        every line of `--titles` to its vector, tokenizing included
//!
//! `--scaling` times forward and train step over batches, lengths and depths; `--cache` an epoch of fine-tuning the last two layers on
//! `--titles` with and without remembering what the frozen layers give; `--profile` shows where the time of a train step goes;
//! `--curve` trains on `--titles` in `f32` and in `bf16` and shows both losses; `--agreement` compares the vectors of `--titles` in `bf16` and in
//! 8 bits with those in `f32`.
//! With `--device`, figures are those of the network that other devices run, on the device (`cpu` too); `--compare` says how far its values,
//! gradients and first steps of training are from those of the CPU's kernels, and fails where that is more than rounding.
//! `DIR` is a model in Hub layout (without it: the built-in one), `FILE` holds one text a line. With `--json`, lines are JSON.

#![allow(clippy::print_stdout)]

mod agreement;
mod cache;
mod compare;
mod curve;
mod figures;
mod options;
mod profile;
mod scaling;
mod training;

use std::error::Error;
use std::process::ExitCode;

use options::{Mode, Options};

/// As in the `paretune` program: training frees and takes the same large buffers at every step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    match options.mode {
        Mode::Figures => figures::run(&options),
        Mode::Scaling => scaling::run(&options),
        Mode::Cache => cache::run(&options),
        Mode::Profile => profile::run(&options),
        Mode::Curve => curve::run(&options),
        Mode::Compare => compare::run(&options),
        Mode::Agreement => agreement::run(&options),
    }
}
