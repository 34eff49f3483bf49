//! `cargo xtask bench models`: what a training step of each user model costs, and how it grows; SASRec beside PyTorch's.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Context;
use clap::Parser;
use serde_json::Value;

use super::{Beside, example, measure, python_has};
use crate::process::root;

/// Measures training steps of user models, and how they grow with history, catalogue and batch.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench models", no_binary_name = true, max_term_width = 110)]
struct Options {
    /// The models; all of them otherwise.
    #[arg(long, value_delimiter = ',', default_value = "sasrec,bert4rec,gru,lstm,attention,mean,two-tower,factors")]
    kinds: Vec<String>,
    /// Sequences of a batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Events of a sequence.
    #[arg(long, default_value_t = 50)]
    length: usize,
    /// Items of the catalogue.
    #[arg(long, default_value_t = 12_101)]
    items: usize,
    #[command(flatten)]
    beside: Beside,
}

/// The work of one line of a table.
#[derive(Debug, Clone, Copy)]
struct Work {
    batch: usize,
    length: usize,
    items: usize,
    ragged: bool,
}

pub(super) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let options = Options::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let peer = !options.beside.alone && python_has(&options.beside.python, &["torch"], "PyTorch is", "sasrec.py");
    let usual = Work { batch: options.batch, length: options.length, items: options.items, ragged: false };
    let say = |title: &str, heads: &str| {
        if !options.beside.json {
            let line = "| ---: ".repeat(heads.matches('|').count());
            println!("\n{title}\n\n| {heads} |\n| --- {line}|");
        }
    };

    say(
        &format!("{} sequences of {} events, {} items", usual.batch, usual.length, usual.items),
        "model | ms of a step | samples/s",
    );
    for kind in &options.kinds {
        let own = options.own(kind, usual)?;
        options.line(&[kind, &ms(&own), &rate(&own)]);
    }

    say(
        "SASRec beside PyTorch",
        "sequences | **Paretune** ms | samples/s | PyTorch ms | samples/s | times as many samples",
    );
    for ragged in [false, true] {
        let work = Work { ragged, ..usual };
        let own = options.own("sasrec", work)?;
        let name = match ragged {
            true => "7 events on average",
            false => "all of full length",
        };
        let other = if peer { Some(options.other(work)?) } else { None };
        let cell = |of: &dyn Fn(&Value) -> String| other.as_ref().map(of).unwrap_or_default();
        let ratio = |other: &Value| {
            let rate = |value: &Value| value["samples_per_s"].as_f64().unwrap_or(f64::NAN);
            format!("{:.1}", rate(&own) / rate(other))
        };
        options.line(&[name, &ms(&own), &rate(&own), &cell(&ms), &cell(&rate), &cell(&ratio)]);
    }

    say("How SASRec grows", "batch | events | items | ms of a step | samples/s");
    let half = |size: usize| [size.div_ceil(2), size * 2];
    let growth = [usual]
        .into_iter()
        .chain(half(usual.batch).map(|batch| Work { batch, ..usual }))
        .chain(half(usual.length).map(|length| Work { length, ..usual }))
        .chain([10, 80].map(|times| Work { items: usual.items * times, ..usual }));
    for work in growth {
        let own = options.own("sasrec", work)?;
        let sizes = [work.batch, work.length, work.items].map(|size| size.to_string());
        options.line(&[&sizes[0], &sizes[1], &sizes[2], &ms(&own), &rate(&own)]);
    }
    Ok(())
}

fn ms(value: &Value) -> String {
    format!("{:.1}", value["ms"].as_f64().unwrap_or(f64::NAN))
}

fn rate(value: &Value) -> String {
    format!("{:.0}", value["samples_per_s"].as_f64().unwrap_or(f64::NAN))
}

impl Options {
    fn line(&self, cells: &[&str]) {
        if !self.beside.json {
            println!("| {} |", cells.join(" | "));
        }
    }

    fn own(&self, kind: &str, work: Work) -> anyhow::Result<Value> {
        let mut command = example("paretune-train", "models", None);
        command.args(["--kinds", kind]);
        self.take(command, work)
    }

    fn other(&self, work: Work) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.beside.python);
        command.arg(root().join("xtask/peers/sasrec.py"));
        self.take(command, work)
    }

    fn take(&self, mut command: Command, work: Work) -> anyhow::Result<Value> {
        let sizes = [("--batch", work.batch), ("--length", work.length), ("--items", work.items)];
        for (name, value) in sizes.into_iter().chain([("--threads", self.beside.threads), ("--runs", self.beside.runs)])
        {
            command.arg(name).arg(value.to_string());
        }
        if work.ragged {
            command.arg("--ragged");
        }
        let line = format!("{command:?}");
        measure(command, self.beside.json)?.into_iter().next().with_context(|| format!("{line} printed no figure"))
    }
}
