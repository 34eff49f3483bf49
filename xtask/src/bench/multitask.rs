//! `cargo xtask bench multitask`: what sharing between objectives is worth, on the test part of a data set.
//!
//! Each architecture trains the same objectives with the same settings, seed by seed; `single` is a model for each objective alone, `esmm` the
//! set in which one objective is conditional on another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::{Value, json};

use super::tuning::mean_and_deviation;
use super::{absolute, program};
use crate::process::{root, run_cargo};

/// Trains each architecture of task towers on several seeds and compares what every objective is worth.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench multitask", max_term_width = 110)]
struct Options {
    /// Data set, as `finetune` takes it; its objectives are in datasets/tasks/NAME.toml, with ESMM in NAME-esmm.toml.
    #[arg(long, default_value = "steam")]
    dataset: String,
    /// Folder with its raw files.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Text encoder, as `finetune` takes it.
    #[arg(long, default_value = "builtin")]
    model: String,
    /// Trainings of each architecture, with seeds from 1 on.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// What to compare: `single`, `esmm`, or an architecture as `--tasks` takes it.
    #[arg(long, value_delimiter = ',', default_value = "single,shared-bottom,mmoe,ple,esmm,aitm")]
    ways: Vec<String>,
    /// Folder that keeps the runs, so that a bench that was cut off goes on; a temporary one without.
    #[arg(long)]
    runs: Option<PathBuf>,
    /// Print one JSON object for each architecture instead of a table.
    #[arg(long)]
    json: bool,
    /// Passed on to `finetune`, behind `--`.
    #[arg(last = true)]
    rest: Vec<OsString>,
}

/// Objective, metric.
const PRIMARY: [&str; 3] = ["auc", "rmse", "log_rmse"];

pub(super) fn run(rest: &[OsString]) -> anyhow::Result<()> {
    let name = OsString::from("multitask");
    let options = Options::parse_from([name].iter().chain(rest));
    run_cargo(&["build", "--quiet", "--release", "--package", "paretune"], &[])?;
    let scratch = tempfile::tempdir().context("cannot make a folder for the runs")?;
    let folder = options.runs.as_deref().map_or_else(|| scratch.path().to_owned(), absolute);
    let mut heading = true;
    for way in &options.ways {
        let mut seeds: Vec<Vec<((String, String), f64)>> = Vec::new();
        for seed in 1..=options.seeds {
            let began = Instant::now();
            seeds.push(measured(&options, way, seed, &folder)?);
            eprintln!("{way}, seed {seed}: {:.0} s", began.elapsed().as_secs_f64());
        }
        let keys: Vec<&(String, String)> = seeds[0].iter().map(|(key, _)| key).collect();
        let of = |key: &(String, String)| {
            let values = seeds.iter().filter_map(|all| all.iter().find(|(own, _)| own == key));
            mean_and_deviation(values.map(|(_, value)| *value))
        };
        if options.json {
            let values: serde_json::Map<String, Value> =
                keys.iter().map(|key| (format!("{}.{}", key.0, key.1), json!([of(key).0, of(key).1]))).collect();
            println!("{}", json!({"tasks": way, "seeds": options.seeds, "metrics": values}));
            continue;
        }
        if std::mem::take(&mut heading) {
            println!(
                "{} on {}, test part, {} seeds: mean ± standard deviation",
                options.model, options.dataset, options.seeds
            );
            let columns: String =
                keys.iter().map(|(objective, metric)| format!("{:>24}", format!("{objective} {metric}"))).collect();
            println!("{:<16}{columns}", "tasks");
        }
        let columns: String = keys
            .iter()
            .map(|key| {
                let (mean, deviation) = of(key);
                format!("{:>24}", format!("{mean:.4} ± {deviation:.4}"))
            })
            .collect();
        println!("{way:<16}{columns}");
    }
    Ok(())
}

/// Each objective's primary metric on the test part.
fn measured(options: &Options, way: &str, seed: u64, folder: &Path) -> anyhow::Result<Vec<((String, String), f64)>> {
    let name = Path::new(&options.dataset).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let config = |suffix: &str| root().join("datasets/tasks").join(format!("{name}{suffix}.toml"));
    if way != "single" {
        let (config, tasks) = match way {
            "esmm" => (config("-esmm"), "shared-bottom"),
            other => (config(""), other),
        };
        return train(options, &config, &["--tasks", tasks], &format!("{name}-{way}-{seed}"), seed, folder);
    }
    let text = std::fs::read_to_string(config("")).with_context(|| format!("cannot read {}", config("").display()))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| config("").display().to_string())?;
    let objectives = table.get("objectives").and_then(|all| all.as_array()).into_iter().flatten();
    let mut all = Vec::new();
    for objective in objectives.filter_map(|one| one.get("name")?.as_str()) {
        let run = format!("{name}-{objective}-{seed}");
        all.extend(train(options, &config(""), &["--objectives", objective], &run, seed, folder)?);
    }
    Ok(all)
}

fn train(
    options: &Options,
    config: &Path,
    flags: &[&str],
    name: &str,
    seed: u64,
    folder: &Path,
) -> anyhow::Result<Vec<((String, String), f64)>> {
    let metrics = folder.join(name).join("metrics.json");
    if !metrics.is_file() {
        let mut command = program();
        command.arg("finetune");
        if folder.join(name).is_dir() {
            // A bench was cut off in the middle of it.
            command.arg("--resume");
        } else {
            command.args(["--baselines", "none", "--dataset", &options.dataset, "--model", &options.model]);
            if let Some(from) = &options.from {
                command.arg("--from").arg(absolute(from));
            }
            command.arg("--config").arg(config).args(flags).args(["--seed", &seed.to_string()]).args(&options.rest);
        }
        command.arg("--runs").arg(folder).args(["--name", name]);
        let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().context("cannot start paretune")?;
        if !output.status.success() {
            bail!("finetune of {name} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
    }
    let text = std::fs::read_to_string(&metrics).with_context(|| format!("cannot read {}", metrics.display()))?;
    let found: Value = serde_json::from_str(&text).with_context(|| metrics.display().to_string())?;
    let mut all = Vec::new();
    let order = std::fs::read_to_string(config).unwrap_or_default();
    for (objective, of) in found["objectives"].as_object().into_iter().flatten() {
        let Some(metric) = PRIMARY.iter().find(|metric| of.get(**metric).is_some()) else { continue };
        let Some(value) = of[*metric]["model"].as_f64() else { continue };
        all.push(((objective.clone(), (*metric).to_owned()), value));
    }
    // As the configuration has them.
    all.sort_by_key(|((objective, _), _)| order.find(&format!("\"{objective}\"")));
    Ok(all)
}
