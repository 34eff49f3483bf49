//! The cost of balancing beside TorchJD, in one run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use serde_json::Value;

use super::{absolute, example, measure, python_has};
use crate::process::{cargo, root};

/// A training step's cost relative to a plain weighted sum, for 2, 4 and 8 objectives, and the time of each weighting.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench optim", no_binary_name = true)]
struct Options {
    /// A BERT in Hub layout; without one, a small random one is trained and peers leave BERT out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Samples of a step of our recommenders.
    #[arg(long)]
    batch: Option<usize>,
    /// Timed steps of each form on the BERT recommender; the MLP takes four times as many.
    #[arg(long)]
    steps: Option<usize>,
    /// Threads of everyone; all cores otherwise.
    #[arg(long)]
    threads: Option<usize>,
    /// The Python that has torch and torchjd (see `xtask/peers/optim.py`).
    #[arg(long, default_value = "python3", env = "PARETUNE_PYTHON")]
    python: PathBuf,
    /// Leave the peers out.
    #[arg(long)]
    alone: bool,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let options = Options::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let mut own = example("paretune-train", "optim", None);
    own.arg("--json").args(options.shared()).args(options.numbers());
    let mut lines = measure(own, options.json)?;
    let mut weightings = cargo();
    weightings.args(["run", "--quiet", "--release", "--package", "paretune-optim", "--example", "weightings"]);
    weightings.current_dir(root());
    lines.extend(measure(weightings, options.json)?);
    if options.peers() {
        let mut command = Command::new(&options.python);
        command.arg(root().join("xtask/peers/optim.py")).args(options.shared());
        lines.extend(measure(command, options.json)?);
    }
    if !options.json {
        table(&lines);
    }
    Ok(())
}

impl Options {
    /// What our bench and the peers' take alike.
    fn shared(&self) -> Vec<OsString> {
        let model = self.model.iter().flat_map(|model| ["--model".into(), absolute(model).into()]);
        let threads = self.threads.iter().flat_map(|threads| ["--threads".into(), threads.to_string().into()]);
        model.chain(threads).collect()
    }

    fn numbers(&self) -> Vec<OsString> {
        let numbers = [("--batch", self.batch), ("--steps", self.steps)];
        let given = numbers.into_iter().filter_map(|(name, value)| Some([name.into(), value?.to_string().into()]));
        given.flatten().collect()
    }

    /// Whether the peers can be measured; if not, says why.
    fn peers(&self) -> bool {
        let modules = ["torch", "torchjd", "quadprog", "transformers"];
        let needed = if self.model.is_some() { &modules[..] } else { &modules[..3] };
        !self.alone && python_has(&self.python, needed, "TorchJD is", "optim.py")
    }
}

fn table(lines: &[Value]) {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    println!("{:<8}{:<12}{:<12}{:>4}{:>12}{:>10}", "model", "who", "form", "K", "ms/step", "of sum");
    for line in lines.iter().filter(|line| line["figure"] == "step") {
        let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:<8}{:<12}{:<12}{:>4}{:>12.2}{:>10.2}",
            text(line, "model"),
            text(line, "peer"),
            text(line, "form"),
            line["k"],
            number("ms"),
            number("ratio")
        );
    }
    println!("\n{:<28}{:>14}{:>14}", "weighting, 8 objectives", "paretune µs", "torchjd µs");
    let us = |method: &str, peer: &str| {
        let of = |line: &&Value| line["figure"] == "weighting" && line["method"] == method && line["peer"] == peer;
        lines.iter().find(of).and_then(|line| line["us"].as_f64()).map_or(String::new(), |us| format!("{us:.1}"))
    };
    for line in lines.iter().filter(|line| line["figure"] == "weighting" && line["peer"] == "paretune") {
        let method = text(line, "method");
        println!("{method:<28}{:>14}{:>14}", us(&method, "paretune"), us(&method, "torchjd"));
    }
}
