//! The encoder beside PyTorch, sentence-transformers and ONNX Runtime on the same work, in one run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use serde_json::Value;

use super::{absolute, example, measure, python_has};
use crate::process::{feature, root, run as start};

/// Measures the encoder and its peers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench encoder", no_binary_name = true)]
struct Options {
    /// A model in Hub layout; the built-in one otherwise (peers are left out then).
    #[arg(long)]
    model: Option<PathBuf>,
    /// Texts to embed, one a line.
    #[arg(long)]
    titles: Option<PathBuf>,
    /// Sequences of the timed batch.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Tokens of each of them.
    #[arg(long = "len", default_value_t = 64)]
    length: usize,
    /// Threads of everyone; all cores otherwise.
    #[arg(long)]
    threads: Option<usize>,
    /// The Python that has torch, sentence-transformers and onnxruntime (see `xtask/peers/encoder.py`).
    #[arg(long, default_value = "python3", env = "PARETUNE_PYTHON")]
    python: PathBuf,
    /// Leave the peers out.
    #[arg(long)]
    alone: bool,
    /// Measure the network that other devices run, on this one: `cuda[:N]`, `metal[:N]`, or `cpu` to try it without. First its values,
    /// gradients and first steps of training are compared with those of the CPU's kernels.
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["scaling", "cache", "profile", "curve", "agreement"])]
    device: Option<String>,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    /// How cost grows: a table over batches, lengths and depths.
    #[arg(long, conflicts_with_all = ["cache", "profile"])]
    scaling: bool,
    /// Fine-tuning the last two layers with and without remembering what the frozen ones give.
    #[arg(long, conflicts_with = "profile")]
    cache: bool,
    /// Where the time of a train step goes.
    #[arg(long, conflicts_with = "curve")]
    profile: bool,
    /// The training curve in f32 and in bf16, side by side.
    #[arg(long, conflicts_with_all = ["scaling", "cache"])]
    curve: bool,
    /// How near the vectors of bf16 and of 8 bits come to those of f32.
    #[arg(long, conflicts_with_all = ["scaling", "cache", "profile", "curve"])]
    agreement: bool,
}

/// A measured figure, as a line of JSON.
struct Line {
    figure: String,
    peer: String,
    ms: f64,
    rows_per_s: f64,
    peak_mib: Option<f64>,
}

/// Who takes part in which figure.
const FIGURES: [(&str, &[&str], &[&str]); 3] = [
    ("forward", &["f32", "bf16", "int8"], &["torch-f32", "torch-bf16", "onnxruntime-f32", "onnxruntime-int8"]),
    ("train_step", &["f32", "bf16"], &["torch-f32", "torch-bf16"]),
    ("embed", &["f32", "bf16", "int8"], &["torch-f32", "torch-bf16", "onnxruntime-f32", "onnxruntime-int8"]),
];

pub(crate) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let options = Options::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let modes = [
        ("--scaling", options.scaling),
        ("--cache", options.cache),
        ("--profile", options.profile),
        ("--curve", options.curve),
        ("--agreement", options.agreement),
    ];
    for (flag, given) in modes {
        if given {
            let mut command = options.own();
            command.arg(flag).args(options.json.then_some("--json"));
            return start(command);
        }
    }
    if options.device.is_some() {
        // What is wrong is not worth timing.
        let mut command = options.own();
        command.arg("--compare").args(options.json.then_some("--json"));
        start(command)?;
    }
    let peers = options.peers();
    let mut lines = Vec::new();
    for (figure, own, others) in FIGURES {
        if figure == "embed" && options.titles.is_none() {
            continue;
        }
        // One process for each, so that its peak memory is its own.
        let device = options.device.is_some();
        for arithmetic in own.iter().filter(|arithmetic| !device || **arithmetic != "int8") {
            let mut command = options.own();
            command.args(["--json", "--only", &format!("{figure},{arithmetic}")]);
            lines.extend(options.lines(command)?);
        }
        for peer in others.iter().filter(|_| peers) {
            let Some(model) = &options.model else { break };
            let mut command = Command::new(&options.python);
            command.arg(root().join("xtask/peers/encoder.py")).arg(model).args(["--figure", figure, "--peer", peer]);
            command.args(options.sizes());
            lines.extend(options.lines(command)?);
        }
    }
    if !options.json {
        options.table(&lines);
    }
    Ok(())
}

impl Options {
    fn own(&self) -> Command {
        let mut command = example("paretune-encoder", "bench", self.device.as_deref().and_then(feature));
        if let Some(device) = &self.device {
            command.args(["--device", device]);
        }
        if let Some(model) = &self.model {
            command.arg("--model").arg(absolute(model));
        }
        command.args(self.sizes());
        command
    }

    fn sizes(&self) -> Vec<OsString> {
        let mut sizes: Vec<OsString> = Vec::new();
        for (name, value) in [("--batch", Some(self.batch)), ("--len", Some(self.length)), ("--threads", self.threads)]
        {
            if let Some(value) = value {
                sizes.extend([name.into(), value.to_string().into()]);
            }
        }
        if let Some(titles) = &self.titles {
            sizes.extend(["--titles".into(), absolute(titles).into()]);
        }
        sizes
    }

    /// Whether the peers can be measured; if not, says why.
    fn peers(&self) -> bool {
        if self.alone {
            return false;
        }
        if self.model.is_none() {
            eprintln!("peers are left out: they need --model DIR");
            return false;
        }
        python_has(&self.python, &["torch", "transformers"], "peers are", "encoder.py")
    }

    /// Runs one program, told to the user, and reads its figures.
    fn lines(&self, command: Command) -> anyhow::Result<Vec<Line>> {
        let values = measure(command, self.json)?;
        let figure = |value: &Value| {
            let number = |name: &str| value[name].as_f64();
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            if !self.json {
                eprintln!("measured {} {}", text("peer"), text("figure"));
            }
            Some(Line {
                figure: text("figure"),
                peer: text("peer"),
                ms: number("ms")?,
                rows_per_s: number("rows_per_s")?,
                peak_mib: number("peak_mib"),
            })
        };
        Ok(values.iter().filter_map(figure).collect())
    }

    fn table(&self, lines: &[Line]) {
        println!("{} x {} tokens for forward and train step", self.batch, self.length);
        println!(
            "{:<12}{:<27}{:>12}{:>12}{:>12}{:>22}",
            "figure", "who", "ms", "rows/s", "peak MiB", "of the best peer's ms"
        );
        for (figure, _, _) in FIGURES {
            let of_figure: Vec<&Line> = lines.iter().filter(|line| line.figure == figure).collect();
            let theirs = of_figure.iter().filter(|line| !line.peer.starts_with("paretune")).map(|line| line.ms);
            let best = theirs.fold(f64::INFINITY, f64::min);
            for line in of_figure {
                let share = if best.is_finite() { format!("{:.2}", line.ms / best) } else { String::new() };
                let peak = line.peak_mib.map_or(String::new(), |peak| format!("{peak:.0}"));
                println!(
                    "{figure:<12}{:<27}{:>12.1}{:>12.1}{peak:>12}{share:>22}",
                    line.peer, line.ms, line.rows_per_s
                );
            }
        }
    }
}
