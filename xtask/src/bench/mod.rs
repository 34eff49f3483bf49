//! `cargo xtask bench`: timings, printed by the programs that take them, beside those of other libraries.

mod encoder;

use std::ffi::OsString;
use std::process::Command;

use anyhow::bail;

use crate::process::{cargo, root, run as start};

/// Which bench, and its own arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `encoder` (forward, train step, embedding) or `step` (a training step by balancing method).
    what: String,
    /// Passed on; `cargo xtask bench encoder --help` lists what `encoder` takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match args.what.as_str() {
        "encoder" => encoder::run(&args.rest),
        "step" => {
            let mut command = example("paretune-train", "step_cost");
            command.args(&args.rest);
            start(command)
        }
        other => bail!("no bench `{other}`; there are: encoder, step"),
    }
}

/// `cargo run` of an example in release mode.
fn example(package: &str, name: &str) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", package, "--example", name, "--"]);
    command.current_dir(root());
    command
}
