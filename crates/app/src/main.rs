//! The command line of Paretune: parsing, wiring, printing. The mathematics lives in the libraries.

mod calibrate;
mod card;
mod cli;
mod commands;
mod config;
mod crash;
mod debias;
mod embedded;
mod failure;
mod fit;
mod given;
mod job;
mod listening;
mod measure;
mod meter;
mod page;
mod progress;
mod run_dir;
mod suggest;
mod tuning;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is logged where nobody asks. The client of the Hub's storage calls it an error when it goes another way and succeeds; what it really
/// fails at comes back as an error of ours.
const LOGGED: &str = "warn,xet_client=off,xet_data=off,xet_runtime=off,xet=off";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("PARETUNE_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let cli = cli::Cli::parse();
    crash::guard(|| match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", failure::describe(&error));
            ExitCode::from(failure::exit_code(&error))
        }
    })
}
