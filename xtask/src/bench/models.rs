//! `cargo xtask bench models`: what a training step of each user model and of each task architecture costs, and how it grows, beside PyTorch's;
//! what fitting the models without gradients costs.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::Value;

use super::lines::Table;
use super::tasks::Tasks;
use super::{Beside, example, measure, python_has};
use crate::process::root;

/// What `xtask/peers/models.py` knows.
const PEERS: [&str; 3] = ["sasrec", "gru", "graph"];

/// Measures training steps of user models, how they grow with history, catalogue and batch, fits of models without gradients, and steps with each
/// task architecture.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench models", no_binary_name = true, max_term_width = 110)]
struct Options {
    /// The models of the first table.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "attention,mean,two-tower,gru,lstm,sasrec,bert4rec,graph,factors"
    )]
    kinds: Vec<String>,
    /// Those of them that are measured with the built-in text encoder too, which is trained.
    #[arg(long, value_delimiter = ',', default_value = "sasrec")]
    texts: Vec<String>,
    /// Those that are measured with features of events too, and are measured as they grow.
    #[arg(long, value_delimiter = ',', default_value = "sasrec,attention")]
    growing: Vec<String>,
    /// Models without gradients: any of item-knn, ease, mf.
    #[arg(long, value_delimiter = ',', default_value = "item-knn,ease,mf")]
    fits: Vec<String>,
    /// Sequences of a batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Events of a sequence.
    #[arg(long, default_value_t = 50)]
    length: usize,
    /// Items of the catalogue.
    #[arg(long, default_value_t = 12_101)]
    items: usize,
    /// The tables to print.
    #[arg(long, value_delimiter = ',', default_value = "users,peers,growth,fits,tasks")]
    tables: Vec<String>,
    #[command(flatten)]
    tasks: Tasks,
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
    texts: bool,
    features: bool,
}

/// Fills the first column.
const MODEL: &str = "model                  ";

pub(super) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let options = Options::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let beside = &options.beside;
    let peer = !beside.alone && python_has(&beside.python, &["torch"], "PyTorch is", "models.py");
    let usual = Work {
        batch: options.batch,
        length: options.length,
        items: options.items,
        ragged: false,
        texts: false,
        features: false,
    };
    for table in &options.tables {
        match table.as_str() {
            "users" => options.steps(usual)?,
            "peers" => options.beside_peer(usual, peer)?,
            "growth" => options.growth(usual, peer)?,
            "fits" => options.fits()?,
            "tasks" => options.tasks.run(beside, peer)?,
            other => bail!("no table `{other}`; there are: users, peers, growth, fits, tasks"),
        }
    }
    Ok(())
}

fn ms(value: &Value) -> String {
    format!("{:.1}", value["ms"].as_f64().unwrap_or(f64::NAN))
}

fn rate(value: &Value) -> String {
    format!("{:.0}", value["samples_per_s"].as_f64().unwrap_or(f64::NAN))
}

/// How many times as many samples a second `own` takes.
fn times(own: &Value, other: &Value) -> String {
    let rate = |value: &Value| value["samples_per_s"].as_f64().unwrap_or(f64::NAN);
    format!("{:.1}", rate(own) / rate(other))
}

impl Options {
    fn table(&self, title: &str, heads: &[&str]) -> Table {
        Table::new(title, heads, self.beside.json)
    }

    /// Every model.
    fn steps(&self, usual: Work) -> anyhow::Result<()> {
        let Work { batch, length, items, .. } = usual;
        let title = format!("{batch} sequences of {length} events, {items} items");
        let table = self.table(&title, &[MODEL, "ms of a step", "samples/s", "ms to make its batch"]);
        for kind in &self.kinds {
            let mut works = vec![(kind.clone(), usual)];
            if self.growing.contains(kind) {
                works.push((format!("{kind}, features"), Work { features: true, ..usual }));
            }
            if self.texts.contains(kind) {
                works.push((format!("{kind}, texts"), Work { texts: true, ..usual }));
            }
            for (name, work) in works {
                let own = self.own(kind, work)?;
                let made = format!("{:.1}", own["batch_ms"].as_f64().unwrap_or(f64::NAN));
                table.line(&[name, ms(&own), rate(&own), made]);
            }
        }
        Ok(())
    }

    /// The models that PyTorch has, for sequences of full length and short ones.
    fn beside_peer(&self, usual: Work, peer: bool) -> anyhow::Result<()> {
        let heads =
            [MODEL, "sequences", "**Paretune** ms", "samples/s", "PyTorch ms", "samples/s", "times as many samples"];
        let table = self.table("Beside PyTorch", &heads);
        for kind in PEERS.into_iter().filter(|kind| self.kinds.iter().any(|own| own == kind)) {
            for (ragged, name) in [(false, "full"), (true, "7 events")] {
                let work = Work { ragged, ..usual };
                let own = self.own(kind, work)?;
                let mut line = vec![kind.to_owned(), name.to_owned(), ms(&own), rate(&own)];
                if peer {
                    let other = self.other(kind, work)?;
                    line.extend([ms(&other), rate(&other), times(&own, &other)]);
                } else {
                    line.extend(["", "", ""].map(str::to_owned));
                }
                table.line(&line);
            }
        }
        Ok(())
    }

    /// One size after the other.
    fn growth(&self, usual: Work, peer: bool) -> anyhow::Result<()> {
        let heads = [
            MODEL,
            "batch",
            "events",
            "items",
            "ms of a step",
            "samples/s",
            "PyTorch ms",
            "samples/s",
            "times as many samples",
        ];
        let table = self.table("How steps grow", &heads);
        let sizes: Vec<Work> = [usual]
            .into_iter()
            .chain([64, 256].map(|batch| Work { batch, ..usual }))
            .chain([10, 200].map(|length| Work { length, ..usual }))
            .chain([1_000, 100_000].map(|items| Work { items, ..usual }))
            .collect();
        for kind in &self.growing {
            for &work in &sizes {
                let own = self.own(kind, work)?;
                let mut line = vec![kind.clone()];
                line.extend([work.batch, work.length, work.items].map(|size| size.to_string()));
                line.extend([ms(&own), rate(&own)]);
                if peer && PEERS.contains(&kind.as_str()) {
                    let other = self.other(kind, work)?;
                    line.extend([ms(&other), rate(&other), times(&own, &other)]);
                } else {
                    line.extend(["", "", ""].map(str::to_owned));
                }
                table.line(&line);
            }
        }
        Ok(())
    }

    /// Models without gradients, for a small catalogue and the usual one.
    fn fits(&self) -> anyhow::Result<()> {
        if self.fits.is_empty() {
            return Ok(());
        }
        let table = self.table("Fits without gradients", &[MODEL, "items", "interactions", "s"]);
        for items in [1_000, self.items] {
            let mut command = example("paretune-recommender", "fits", None);
            command.args(["--models", &self.fits.join(","), "--items", &items.to_string()]);
            command.args(["--threads", &self.beside.threads.to_string()]);
            for line in measure(command, self.beside.json)? {
                let name = line["model"].as_str().unwrap_or_default().to_owned();
                let seconds = format!("{:.3}", line["s"].as_f64().unwrap_or(f64::NAN));
                table.line(&[name, line["items"].to_string(), line["interactions"].to_string(), seconds]);
            }
        }
        Ok(())
    }

    fn own(&self, kind: &str, work: Work) -> anyhow::Result<Value> {
        let mut command = example("paretune-train", "models", None);
        for (flag, wanted) in [("--texts", work.texts), ("--features", work.features)] {
            if wanted {
                command.arg(flag);
            }
        }
        self.take(command, kind, work)
    }

    fn other(&self, kind: &str, work: Work) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.beside.python);
        command.arg(root().join("xtask/peers/models.py"));
        self.take(command, kind, work)
    }

    fn take(&self, mut command: Command, kind: &str, work: Work) -> anyhow::Result<Value> {
        command.args(["--kinds", kind]);
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
