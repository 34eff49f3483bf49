//! `cargo xtask bench freshness`: what is gained in time and lost in quality when texts are read less often.
//!
//! Each setting trains the same model in a process of its own, twice: for a number of steps, and for as many steps as it makes in the
//! time that the first setting needed for them. Each training validates once, at its end: a validation reads all texts again, so one in
//! between would make them fresher than the setting does. Learning rates fall over the length of each training.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::{Value, json};

use super::{absolute, program};
use crate::process::run_cargo;

/// Trains with texts read at every step or seldom, and compares speed and quality.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench freshness", max_term_width = 110)]
struct Options {
    /// Data set, as `finetune` takes it.
    #[arg(long, default_value = "movielens-small")]
    dataset: String,
    /// Folder with its raw files.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Text encoder, as `finetune` takes it.
    #[arg(long, default_value = "builtin")]
    model: String,
    /// Steps of the first training of each setting.
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Values of `training.encode_every`.
    #[arg(long, value_delimiter = ',', default_value = "1,2,5,20")]
    encode_every: Vec<usize>,
    /// Values of `training.refresh_every`.
    #[arg(long, value_delimiter = ',', default_value = "50,500")]
    refresh_every: Vec<usize>,
    /// Trainings of each kind, with seeds from 1 on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Further settings of `finetune`, as `training.batch=512`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Print one JSON object for each setting instead of a table.
    #[arg(long)]
    json: bool,
}

/// What one training showed.
#[derive(Debug, Clone, Copy)]
struct Training {
    steps_per_s: f64,
    ndcg: f64,
}

/// How often texts are read.
#[derive(Debug, Clone, Copy)]
struct Freshness {
    encode_every: usize,
    refresh_every: usize,
}

/// One sequence model that ranks the catalogue by texts alone, so that nothing makes up for stale ones.
const SETTINGS: [&str; 11] = [
    r#"objectives=[{ name = "click", kind = "ranking", column = "click" }]"#,
    "data.split={ strategy = \"leave-last\" }",
    "model.user.kind=sasrec",
    "model.items=text",
    "model.user.heads=2",
    "model.history=50",
    "training.batch=512",
    "training.negatives=0",
    "training.monitor={ \"ndcg@10\" = 1.0 }",
    "training.validation_users=100000",
    // One validation, at the end.
    "training.validations=1e-6",
];

pub(super) fn run(rest: &[OsString]) -> anyhow::Result<()> {
    let name = OsString::from("freshness");
    let options = Options::parse_from([name].iter().chain(rest));
    if options.steps < 2 || options.seeds == 0 {
        bail!(
            "a speed needs two steps and a seed at least, got --steps {} and --seeds {}",
            options.steps,
            options.seeds
        )
    }
    run_cargo(&["build", "--quiet", "--release", "--package", "paretune"], &[])?;
    let folder = tempfile::tempdir().context("cannot make a folder for the runs")?;
    let settings = options.refresh_every.iter().flat_map(|&refresh_every| {
        options.encode_every.iter().map(move |&encode_every| Freshness { encode_every, refresh_every })
    });
    let mut first: Option<f64> = None;
    for freshness in settings {
        let equal = options.mean(freshness, options.steps, folder.path())?;
        let base = *first.get_or_insert(equal.steps_per_s);
        let faster = equal.steps_per_s / base;
        let steps = ((options.steps as f64 * faster).round() as usize).max(2);
        // Within a twentieth it is the same training.
        let alike = steps.abs_diff(options.steps) * 20 <= options.steps;
        let (steps, timed) = match alike {
            true => (options.steps, equal),
            false => (steps, options.mean(freshness, steps, folder.path())?),
        };
        options.line(freshness, equal, faster, steps, timed);
    }
    Ok(())
}

impl Options {
    fn line(&self, freshness: Freshness, equal: Training, faster: f64, steps: usize, timed: Training) {
        let Freshness { encode_every, refresh_every } = freshness;
        if self.json {
            println!(
                "{}",
                json!({
                    "encode_every": encode_every, "refresh_every": refresh_every, "steps_per_s": equal.steps_per_s,
                    "faster": faster, "steps": self.steps, "ndcg@10": equal.ndcg, "steps_in_equal_time": steps,
                    "ndcg@10_in_equal_time": timed.ndcg,
                })
            );
            return;
        }
        if encode_every == self.encode_every[0] && refresh_every == self.refresh_every[0] {
            println!(
                "{} on {}, sasrec, validation NDCG@10 after {} steps and after as many as fit into the first line's time\n",
                self.model, self.dataset, self.steps
            );
            let heads = format!("NDCG@10 after {} steps | steps in equal time | NDCG@10 in equal time", self.steps);
            println!("| encode_every | refresh_every | steps/s | times as fast | {heads} |\n|{}", " ---: |".repeat(7));
        }
        println!(
            "| {encode_every} | {refresh_every} | {:.2} | {faster:.2} | {:.4} | {steps} | {:.4} |",
            equal.steps_per_s, equal.ndcg, timed.ndcg
        );
    }

    /// The mean over the seeds.
    fn mean(&self, freshness: Freshness, steps: usize, folder: &Path) -> anyhow::Result<Training> {
        let trainings = (1..=self.seeds).map(|seed| self.train(freshness, steps, seed, folder));
        let trainings = trainings.collect::<anyhow::Result<Vec<Training>>>()?;
        let mean = |of: fn(&Training) -> f64| trainings.iter().map(of).sum::<f64>() / trainings.len() as f64;
        Ok(Training { steps_per_s: mean(|training| training.steps_per_s), ndcg: mean(|training| training.ndcg) })
    }

    fn train(&self, freshness: Freshness, steps: usize, seed: u64, folder: &Path) -> anyhow::Result<Training> {
        let Freshness { encode_every, refresh_every } = freshness;
        let mut command = program();
        command.args(["finetune", "--json", "--baselines", "none", "--dataset", &self.dataset, "--model", &self.model]);
        if let Some(from) = &self.from {
            command.arg("--from").arg(absolute(from));
        }
        let name = format!("{encode_every}-{refresh_every}-{steps}-{seed}");
        command.args(["--max-steps", &steps.to_string(), "--epochs", "1000000", "--seed", &seed.to_string()]);
        command.arg("--runs").arg(folder).args(["--name", &name]);
        let own = [
            format!("training.encode_every={encode_every}"),
            format!("training.refresh_every={refresh_every}"),
            // The report ranks for a few users only: it is not what is measured.
            "evaluation.users=10".to_owned(),
        ];
        let settings = SETTINGS.iter().copied().chain(own.iter().map(String::as_str));
        for setting in settings.chain(self.settings.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start paretune")?;
        let output = child.stdout.take().context("paretune has no output")?;
        let (mut first, mut last, mut ndcg) = (None, None, None);
        for line in BufReader::new(output).lines() {
            let Ok(event) = serde_json::from_str::<Value>(&line.context("cannot read what paretune says")?) else {
                continue;
            };
            match event["event"].as_str() {
                Some("step") => {
                    let now = Instant::now();
                    first.get_or_insert(now);
                    last = Some(now);
                }
                Some("validation") => ndcg = event["metrics"]["ndcg@10"].as_f64().or(ndcg),
                _ => {}
            }
        }
        let status = child.wait().context("cannot wait for paretune")?;
        let (Some(first), Some(last), Some(ndcg)) = (first, last, ndcg) else {
            bail!("{command:?} ended with {status} before a step and a validation")
        };
        if !status.success() {
            bail!("{command:?} ended with {status}");
        }
        Ok(Training { steps_per_s: (steps - 1) as f64 / (last - first).as_secs_f64(), ndcg })
    }
}
