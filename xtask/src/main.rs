//! Chores of the workspace: `cargo xtask --help`.
//!
//! User commands run the `paretune` binary in release mode, built on demand; the others keep the workspace in order.

mod bench;
mod cuda;
mod fixtures;
mod fuzz;
mod process;
mod test;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// Runs Paretune and the workspace's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Train a model, measure it against baselines, and write a run directory with a report.
    #[command(disable_help_flag = true)]
    Finetune(Rest),
    /// Turn raw files into clean tables, by a descriptor.
    #[command(disable_help_flag = true)]
    Import(Rest),
    /// Measure a run's model again on its test part.
    #[command(disable_help_flag = true)]
    Evaluate(Rest),
    /// Rank by several runs' models together: by the average of their weights, of their scores, of their ranks.
    #[command(disable_help_flag = true)]
    Ensemble(Rest),
    /// Write a run's tables with what its model says of their events, for a student to learn from.
    #[command(disable_help_flag = true)]
    Teach(Rest),
    /// Recommend items to a user, with a score for each objective.
    #[command(disable_help_flag = true)]
    Recommend(Rest),
    /// Train a set of balances and show which are worth choosing.
    #[command(disable_help_flag = true)]
    Front(Rest),
    /// Train the same model under several balancing methods and seeds, and show how they do.
    #[command(disable_help_flag = true)]
    Compare(Rest),
    /// Write the simulated marketplace.
    #[command(disable_help_flag = true)]
    Simulate(Rest),
    /// Make the small built-in text encoder from a larger one.
    #[command(disable_help_flag = true)]
    Distill(Rest),
    /// Teach a text encoder your own texts without labels: masked words, contrasts, or both.
    #[command(disable_help_flag = true)]
    Pretrain(Rest),
    /// Turn texts into vectors: a file of any size to safetensors, Parquet or npy.
    #[command(disable_help_flag = true)]
    Embed(Rest),
    /// Upload a run's text encoder to the Hugging Face Hub, with a model card.
    #[command(disable_help_flag = true)]
    Push(Rest),
    /// Print a completion script for a shell.
    #[command(disable_help_flag = true)]
    Completions(Rest),
    /// Format, lints, every test, documentation and its examples.
    Test,
    /// Fetch the real model that some tests use, and make the stored fixtures again with Python.
    Fixtures(fixtures::Args),
    /// Load damaged models at random, to find one that is neither loaded nor refused.
    Fuzz(fuzz::Args),
    /// Time the parts that have to be fast.
    Bench(bench::Args),
    /// Compile and link the program for NVIDIA GPUs, on a machine that need not have one.
    CheckCuda(cuda::Args),
}

/// Arguments of a user command, passed on as they are.
#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Finetune(rest) => process::paretune("finetune", rest.args),
        Chore::Import(rest) => process::paretune("import", rest.args),
        Chore::Evaluate(rest) => process::paretune("evaluate", rest.args),
        Chore::Ensemble(rest) => process::paretune("ensemble", rest.args),
        Chore::Teach(rest) => process::paretune("teach", rest.args),
        Chore::Recommend(rest) => process::paretune("recommend", rest.args),
        Chore::Front(rest) => process::paretune("front", rest.args),
        Chore::Compare(rest) => process::paretune("compare", rest.args),
        Chore::Simulate(rest) => process::paretune("simulate", rest.args),
        Chore::Distill(rest) => process::paretune("distill", rest.args),
        Chore::Pretrain(rest) => process::paretune("pretrain", rest.args),
        Chore::Embed(rest) => process::paretune("embed", rest.args),
        Chore::Push(rest) => process::paretune("push", rest.args),
        Chore::Completions(rest) => process::paretune("completions", rest.args),
        Chore::Test => test::run().map(|()| 0),
        Chore::Fixtures(args) => fixtures::run(&args).map(|()| 0),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Bench(args) => bench::run(&args).map(|()| 0),
        Chore::CheckCuda(args) => cuda::run(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
