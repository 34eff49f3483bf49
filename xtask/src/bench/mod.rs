//! `cargo xtask bench`: timings, printed by the programs that take them, beside those of other libraries.

mod backbones;
mod debias;
mod encoder;
mod freshness;
mod lines;
mod models;
mod multitask;
mod optim;
mod scale;
mod tasks;
mod tuning;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::process::{cargo, root};

/// Which bench, and its own arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `encoder` (forward, train step, embedding), `backbones` (every family), `debias` (biased logs against the truth), `models` (every user
    /// model, every task architecture), `freshness` (reading texts less often), `multitask` (what sharing between objectives is worth), `optim`
    /// (what balancing costs), `scale` (logs larger than memory) or `tuning` (what adapters cost and save).
    what: String,
    /// Passed on; `cargo xtask bench encoder --help` lists what `encoder` takes, and so on.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match args.what.as_str() {
        "debias" => debias::run(&args.rest),
        "encoder" => encoder::run(&args.rest),
        "backbones" => backbones::run(&args.rest),
        "freshness" => freshness::run(&args.rest),
        "models" => models::run(&args.rest),
        "multitask" => multitask::run(&args.rest),
        "optim" => optim::run(&args.rest),
        "scale" => scale::run(&args.rest),
        "tuning" => tuning::run(&args.rest),
        other => {
            bail!(
                "no bench `{other}`; there are: encoder, backbones, debias, models, freshness, multitask, optim, scale, tuning"
            )
        }
    }
}

/// Options of benches that take one figure a process, beside a peer in Python.
#[derive(Debug, clap::Args)]
struct Beside {
    /// Threads of everyone.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Timed runs of each figure, of which the median counts; a third as many go before them.
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// The Python that has what the peer needs (the scripts in `xtask/peers` say what to install).
    #[arg(long, default_value = "python3", env = "PARETUNE_PYTHON")]
    python: PathBuf,
    /// Leave the peer out.
    #[arg(long)]
    alone: bool,
    /// Print JSON lines instead of tables.
    #[arg(long)]
    json: bool,
}

/// `cargo run` of an example in release mode, with a feature of its package if it needs one.
fn example(package: &str, name: &str, feature: Option<&str>) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", package, "--example", name]);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    command.arg("--");
    command.current_dir(root());
    command
}

/// The program, as `cargo build --release --package paretune` has left it.
fn program() -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Command::new(target.join("release").join("paretune"))
}

/// Examples run in the workspace's root, whatever the folder the command was given in.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Runs one program and reads its lines of JSON, which are printed as they are with `json`.
fn measure(mut command: Command, json: bool) -> anyhow::Result<Vec<Value>> {
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let mut lines = Vec::new();
    for text in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(value) = serde_json::from_str::<Value>(text) else { continue };
        if json {
            println!("{text}");
        }
        lines.push(value);
    }
    Ok(lines)
}

/// Whether this Python can import `modules`; if not, says that `who` is left out, and which of `xtask/peers` says what to install.
fn python_has(python: &Path, modules: &[&str], who: &str, peers: &str) -> bool {
    let import = format!("import {}", modules.join(", "));
    let check = Command::new(python).args(["-c", &import]).output();
    let found = check.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!(
            "{who} left out: {} cannot `{import}`; name one that has them with --python (xtask/peers/{peers} says what to install)",
            python.display()
        );
    }
    found
}
