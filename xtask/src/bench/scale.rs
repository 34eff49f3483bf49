//! `cargo xtask bench scale`: a log dealt out to shards and trained on, at two sizes, and the most memory that each phase takes.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::Value;

use super::{absolute, example, measure};

/// Deals logs out to shards, trains on them, and tells the peak memory of each phase.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench scale", no_binary_name = true, max_term_width = 110)]
struct Options {
    /// Items of the catalogue.
    #[arg(long, default_value_t = 100_000)]
    items: usize,
    /// Events of the logs: one line of the table for each.
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    events: Vec<usize>,
    /// Shards of a log.
    #[arg(long, default_value_t = 64)]
    shards: usize,
    /// Steps of training.
    #[arg(long, default_value_t = 300)]
    steps: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where the logs are written, about 15 bytes an event at a time; each is removed when it has been measured. Otherwise a temporary folder.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let options = Options::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = options.folder.as_deref().map_or_else(|| scratch.path().to_owned(), absolute);
    if !options.json {
        println!("{} items, SASRec on ids, {} shards, {} steps\n", options.items, options.shards, options.steps);
        println!(
            "| events | writing: peak MiB | sharding: events/s | peak MiB | opening: s | peak MiB | training: samples/s | peak MiB | NDCG@10 | of popularity |"
        );
        println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    }
    for &events in &options.events {
        let place = folder.join(format!("scale-{events}"));
        if place.exists() {
            bail!("{} exists already; name another --folder, or remove it", place.display());
        }
        let measured = options.measure(events, &place);
        // Gigabytes are not left behind, whatever happened.
        let removed = std::fs::remove_dir_all(&place);
        let [write, shard, train] = measured?;
        removed.with_context(|| format!("cannot remove {}", place.display()))?;
        if !options.json {
            let whole = |value: &Value| format!("{:.0}", value.as_f64().unwrap_or(f64::NAN));
            let exact = |value: &Value| format!("{:.4}", value.as_f64().unwrap_or(f64::NAN));
            let cells = [
                events.to_string(),
                whole(&write["peak_mib"]),
                whole(&shard["events_per_s"]),
                whole(&shard["peak_mib"]),
                format!("{:.1}", train["open_s"].as_f64().unwrap_or(f64::NAN)),
                whole(&train["open_peak_mib"]),
                whole(&train["samples_per_s"]),
                whole(&train["peak_mib"]),
                exact(&train["ndcg"]),
                exact(&train["ndcg_popularity"]),
            ];
            println!("| {} |", cells.join(" | "));
        }
    }
    Ok(())
}

impl Options {
    fn measure(&self, events: usize, folder: &std::path::Path) -> anyhow::Result<[Value; 3]> {
        let phase = |name: &str| {
            let mut command = example("paretune-train", "scale", None);
            command.args(["--phase", name, "--folder"]).arg(folder);
            let sizes = [("--items", self.items), ("--events", events), ("--shards", self.shards)];
            for (name, value) in sizes.into_iter().chain([("--steps", self.steps), ("--threads", self.threads)]) {
                command.arg(name).arg(value.to_string());
            }
            measure(command, self.json)?.into_iter().next().with_context(|| format!("phase {name} printed no figure"))
        };
        Ok([phase("write")?, phase("shard")?, phase("train")?])
    }
}
