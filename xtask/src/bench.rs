//! `cargo xtask bench`: timings, printed by the programs that take them.

use std::ffi::OsString;

use anyhow::bail;

use crate::process::{cargo, root, run as start};

/// Which bench, and its own arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `encoder` (forward, train step, embedding) or `step` (a training step by balancing method).
    what: String,
    /// Passed on.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (package, example) = match args.what.as_str() {
        "encoder" => ("paretune-encoder", "bench"),
        "step" => ("paretune-train", "step_cost"),
        other => bail!("no bench `{other}`; there are: encoder, step"),
    };
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", package, "--example", example, "--"]).args(&args.rest);
    command.current_dir(root());
    start(command)
}
