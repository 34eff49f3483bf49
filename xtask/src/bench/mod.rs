//! `cargo xtask bench`: timings, printed by the programs that take them, beside those of other libraries.

mod encoder;
mod optim;
mod tuning;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::process::{cargo, root};

/// Which bench, and its own arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `encoder` (forward, train step, embedding), `optim` (what balancing costs) or `tuning` (what adapters cost and save).
    what: String,
    /// Passed on; `cargo xtask bench encoder --help` lists what `encoder` takes, and so on.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match args.what.as_str() {
        "encoder" => encoder::run(&args.rest),
        "optim" => optim::run(&args.rest),
        "tuning" => tuning::run(&args.rest),
        other => bail!("no bench `{other}`; there are: encoder, optim, tuning"),
    }
}

/// `cargo run` of an example in release mode.
fn example(package: &str, name: &str) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", package, "--example", name, "--"]);
    command.current_dir(root());
    command
}

/// Examples run in the workspace's root, whatever the folder the command was given in.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
