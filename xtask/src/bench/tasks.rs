//! What a training step costs with each task architecture, and what part of it lies above the shared representation.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::lines::Table;
use super::{Beside, absolute, example, measure};
use crate::process::root;

/// Which architectures, over what.
#[derive(Debug, clap::Args)]
pub(super) struct Tasks {
    /// Task architectures.
    #[arg(long, value_delimiter = ',', default_value = "shared-bottom,omoe,mmoe,ple,cross-stitch,aitm")]
    tasks: Vec<String>,
    /// Folder of the text encoder that they are measured with besides ids; by default `target/models/all-MiniLM-L6-v2`, where `cargo xtask fixtures
    /// --model-only` has put it.
    #[arg(long)]
    encoder: Option<PathBuf>,
    /// Impressions of a batch.
    #[arg(long, default_value_t = 512)]
    impressions: usize,
    /// Timed runs with that encoder.
    #[arg(long, default_value_t = 3)]
    encoder_runs: usize,
}

/// Fills the first column.
const NAME: &str = "tasks        ";

impl Tasks {
    pub(super) fn run(&self, beside: &Beside, peer: bool) -> anyhow::Result<()> {
        let heads = [
            NAME,
            "**Paretune** ms",
            "samples/s",
            "above, ms",
            "share",
            "PyTorch ms",
            "samples/s",
            "above, ms",
            "times as many samples",
        ];
        let title = format!("Task architectures over ids, {} impressions, four objectives", self.impressions);
        let table = Table::new(&title, &heads, beside.json);
        for tasks in &self.tasks {
            let own = self.own(tasks, None, beside.runs, beside)?;
            let mut line = vec![tasks.clone()];
            line.extend(cells(&own));
            match peer {
                true => {
                    let other = self.other(tasks, beside)?;
                    let times = format!("{:.1}", number(&own, "samples_per_s") / number(&other, "samples_per_s"));
                    line.extend([ms(&other, "ms"), rate(&other), ms(&other, "above_ms"), times]);
                }
                false => line.extend(["", "", "", ""].map(str::to_owned)),
            }
            table.line(&line);
        }
        let usual = root().join("target/models/all-MiniLM-L6-v2");
        let folder = self.encoder.as_ref().map(|folder| absolute(folder)).unwrap_or(usual);
        if !folder.join("model.safetensors").is_file() {
            eprintln!(
                "the table over a text encoder is left out: no model in {}; `cargo xtask fixtures --model-only` fetches one, --encoder names another",
                folder.display()
            );
            return Ok(());
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let title = format!("The same over {name}, which is trained");
        let table = Table::new(&title, &[NAME, "ms of a step", "samples/s", "above, ms", "share"], beside.json);
        for tasks in &self.tasks {
            let own = self.own(tasks, Some(&folder), self.encoder_runs, beside)?;
            let mut line = vec![tasks.clone()];
            line.extend(cells(&own));
            table.line(&line);
        }
        Ok(())
    }

    fn own(&self, tasks: &str, encoder: Option<&PathBuf>, runs: usize, beside: &Beside) -> anyhow::Result<Value> {
        let mut command = example("paretune-train", "tasks", None);
        if let Some(folder) = encoder {
            command.arg("--model").arg(folder);
        }
        self.take(command, tasks, runs, beside)
    }

    fn other(&self, tasks: &str, beside: &Beside) -> anyhow::Result<Value> {
        let mut command = Command::new(&beside.python);
        command.arg(root().join("xtask/peers/tasks.py"));
        self.take(command, tasks, beside.runs, beside)
    }

    fn take(&self, mut command: Command, tasks: &str, runs: usize, beside: &Beside) -> anyhow::Result<Value> {
        command.args(["--tasks", tasks]);
        for (name, value) in [("--batch", self.impressions), ("--threads", beside.threads), ("--runs", runs)] {
            command.arg(name).arg(value.to_string());
        }
        let line = format!("{command:?}");
        let first = measure(command, beside.json)?.into_iter().next();
        first.ok_or_else(|| anyhow::anyhow!("{line} printed no figure"))
    }
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or(f64::NAN)
}

fn ms(value: &Value, field: &str) -> String {
    format!("{:.1}", number(value, field))
}

fn rate(value: &Value) -> String {
    format!("{:.0}", number(value, "samples_per_s"))
}

/// A step, samples a second, what lies above the shared representation, and its share of the step.
fn cells(own: &Value) -> [String; 4] {
    let share = format!("{:.1} %", 100.0 * number(own, "above_ms") / number(own, "ms"));
    [ms(own, "ms"), rate(own), ms(own, "above_ms"), share]
}
