//! `cargo xtask bench tuning`: what is lost and what is saved when less of the text encoder is trained.
//!
//! Each way of tuning trains the same model on the same data in a process of its own. The validation metrics are those of the best
//! validation, over several seeds; the time of a step is the median of those between two reports of the program, and the memory the
//! most that the process held.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::{Map, Value, json};

use super::{absolute, program};
use crate::process::run_cargo;

/// Trains with each way of tuning the text encoder, and compares quality, time and memory.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench tuning", max_term_width = 110)]
struct Options {
    /// Data set, as `finetune` takes it.
    #[arg(long, default_value = "marketplace")]
    dataset: String,
    /// Folder with its raw files.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Text encoder, as `finetune` takes it.
    #[arg(long, default_value = "builtin")]
    model: String,
    /// Steps of each training.
    #[arg(long, default_value_t = 150)]
    steps: usize,
    /// Trainings of each way, with seeds from 1 on.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Rank of the low-rank adapter.
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// Ways to compare: any of full, last-2, lora, lora-all, ia3, biases.
    #[arg(long, value_delimiter = ',', default_value = "full,last-2,lora,lora-all,ia3,biases")]
    ways: Vec<String>,
    /// Validation metrics to show beside what early stopping looks at; `--json` has all of them.
    #[arg(long, value_delimiter = ',', default_value = "click.auc,satisfaction.rmse")]
    metrics: Vec<String>,
    /// Print one JSON object for each way instead of a table.
    #[arg(long)]
    json: bool,
}

/// What one training showed.
struct Training {
    /// Of the best validation.
    metrics: Map<String, Value>,
    monitor: f64,
    step_ms: f64,
    peak_mib: f64,
}

pub(super) fn run(rest: &[OsString]) -> anyhow::Result<()> {
    let name = OsString::from("tuning");
    let options = Options::parse_from([name].iter().chain(rest));
    run_cargo(&["build", "--quiet", "--release", "--package", "paretune"], &[])?;
    let folder = tempfile::tempdir().context("cannot make a folder for the runs")?;
    let mut first: Option<(f64, f64)> = None;
    let mut heading = true;
    for way in &options.ways {
        let mut trainings = Vec::new();
        for seed in 1..=options.seeds {
            let began = Instant::now();
            trainings.push(train(&options, way, seed, folder.path())?);
            eprintln!("{way}, seed {seed}: {:.0} s", began.elapsed().as_secs_f64());
        }
        let of = |value: &dyn Fn(&Training) -> f64| mean_and_deviation(trainings.iter().map(value));
        let (step, peak) = (of(&|training| training.step_ms).0, of(&|training| training.peak_mib).0);
        let base = *first.get_or_insert((step, peak));
        let names: Vec<&String> = trainings[0].metrics.keys().collect();
        let values = names.iter().map(|name| {
            (name.to_string(), of(&|training| training.metrics.get(*name).and_then(Value::as_f64).unwrap_or(f64::NAN)))
        });
        let values: Vec<(String, (f64, f64))> = values.collect();
        let monitor = of(&|training| training.monitor);
        if options.json {
            let metrics: Map<String, Value> =
                values.iter().map(|(name, (mean, deviation))| (name.clone(), json!([mean, deviation]))).collect();
            println!(
                "{}",
                json!({"tuning": way, "monitor": [monitor.0, monitor.1], "metrics": metrics, "step_ms": step, "peak_mib": peak})
            );
            continue;
        }
        let values: Vec<_> = values.into_iter().filter(|(name, _)| options.metrics.contains(name)).collect();
        if std::mem::take(&mut heading) {
            println!(
                "{} on {}, {} steps, {} seeds: validation metrics (mean ± standard deviation), time and memory beside {}",
                options.model, options.dataset, options.steps, options.seeds, options.ways[0]
            );
            let columns: String = values.iter().map(|(name, _)| format!("{name:>26}")).collect();
            println!(
                "{:<10}{:>18}{columns}{:>10}{:>8}{:>10}{:>8}",
                "tuning", "monitor", "step ms", "share", "peak MiB", "share"
            );
        }
        let shown = |(mean, deviation): (f64, f64)| format!("{mean:.4} ± {deviation:.4}");
        let columns: String = values.iter().map(|(_, value)| format!("{:>26}", shown(*value))).collect();
        println!(
            "{way:<10}{:>18}{columns}{step:>10.0}{:>8.2}{peak:>10.0}{:>8.2}",
            shown(monitor),
            step / base.0,
            peak / base.1
        );
    }
    Ok(())
}

/// The flags of `finetune` for a way of tuning.
fn flags(way: &str, rank: usize) -> anyhow::Result<Vec<String>> {
    let words = match way {
        "full" => vec![],
        "last-2" => vec!["--train-layers", "2"],
        "lora" => vec!["--tune", "lora"],
        "lora-all" => vec!["--tune", "lora", "--set", "model.lora.targets=[\"all\"]"],
        "ia3" => vec!["--tune", "ia3"],
        "biases" => vec!["--tune", "biases"],
        other => bail!("no way of tuning `{other}`; there are: full, last-2, lora, lora-all, ia3, biases"),
    };
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    if way.starts_with("lora") {
        words.extend(["--lora-rank".to_owned(), rank.to_string()]);
    }
    Ok(words)
}

fn train(options: &Options, way: &str, seed: u64, folder: &Path) -> anyhow::Result<Training> {
    let mut command = program();
    command.args([
        "finetune",
        "--json",
        "--baselines",
        "none",
        "--dataset",
        &options.dataset,
        "--model",
        &options.model,
    ]);
    if let Some(from) = &options.from {
        command.arg("--from").arg(absolute(from));
    }
    command.args(["--max-steps", &options.steps.to_string(), "--seed", &seed.to_string()]);
    command.arg("--runs").arg(folder).args(["--name", &format!("{way}-{seed}")]);
    command.args(flags(way, options.rank)?).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start paretune")?;
    let peak = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let id = child.id();
    let events = std::thread::scope(|scope| {
        scope.spawn(|| watch(id, &peak, &done));
        let events = read(&mut child);
        done.store(true, Ordering::Relaxed);
        events
    })?;
    let status = child.wait().context("cannot wait for paretune")?;
    if !status.success() {
        bail!("finetune with {way}, seed {seed}, ended with {status}");
    }
    let (gaps, best) = events;
    let Some((monitor, metrics)) = best else { bail!("finetune with {way}, seed {seed}, never validated") };
    Ok(Training { metrics, monitor, step_ms: median(gaps), peak_mib: peak.into_inner() as f64 / 1024.0 })
}

type Best = Option<(f64, Map<String, Value>)>;

/// Milliseconds between steps, and the best validation.
fn read(child: &mut Child) -> anyhow::Result<(Vec<f64>, Best)> {
    let output = child.stdout.take().context("paretune has no output")?;
    let (mut gaps, mut last, mut best): (Vec<f64>, Option<Instant>, Best) = (Vec::new(), None, None);
    for line in BufReader::new(output).lines() {
        let Ok(event) = serde_json::from_str::<Value>(&line.context("cannot read what paretune says")?) else {
            continue;
        };
        match event["event"].as_str() {
            Some("step") => {
                let now = Instant::now();
                gaps.extend(last.replace(now).map(|last| (now - last).as_secs_f64() * 1e3));
            }
            Some("validation") => {
                // The time of a validation is not that of a step.
                last = None;
                let monitor = event["monitor"].as_f64().unwrap_or(f64::NEG_INFINITY);
                if best.as_ref().is_none_or(|(best, _)| monitor > *best) {
                    best = Some((monitor, event["metrics"].as_object().cloned().unwrap_or_default()));
                }
            }
            _ => {}
        }
    }
    Ok((gaps, best))
}

/// Looks at the most memory that a process has held, in KiB, until it is done; Linux says it.
fn watch(id: u32, peak: &AtomicU64, done: &AtomicBool) {
    let status = PathBuf::from(format!("/proc/{id}/status"));
    while !done.load(Ordering::Relaxed) {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let most =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak.fetch_max(most.unwrap_or(0), Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(super) fn mean_and_deviation(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (square / (values.len().max(2) - 1) as f64).sqrt())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
