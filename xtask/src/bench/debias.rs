//! `cargo xtask bench debias`: naive and debiased estimates on simulated logs, where truth is known.

use std::ffi::OsString;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::Value;

use super::{example, measure};

/// Trains each way on several simulated marketplaces and holds predictions, top tens, the position-bias curve and off-policy estimates
/// against the truth.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench debias", no_binary_name = true, max_term_width = 110)]
struct Options {
    /// How models are trained; the first is what others are compared with.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "naive,ips,clipped,snips,doubly-robust,examination,snips-true,doubly-robust-true"
    )]
    ways: Vec<String>,
    /// Marketplaces, with seeds from 1 on.
    #[arg(long, default_value_t = 8)]
    seeds: u64,
    /// Items of each.
    #[arg(long, default_value_t = 300)]
    items: usize,
    /// Users of each.
    #[arg(long, default_value_t = 1000)]
    users: usize,
    /// Requests of an average user.
    #[arg(long, default_value_t = 10.0)]
    requests: f64,
    /// η of the position bias.
    #[arg(long, default_value_t = 1.0)]
    eta: f64,
    /// Print JSON lines instead of tables.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let options = Options::try_parse_from(args).unwrap_or_else(|error| error.exit());
    if options.seeds < 2 {
        bail!("an interval needs two seeds at least, got --seeds {}", options.seeds)
    }
    let mut command = example("paretune-train", "debias", None);
    command.args(["--ways", &options.ways.join(","), "--seeds", &options.seeds.to_string()]);
    command.args(["--items", &options.items.to_string(), "--users", &options.users.to_string()]);
    command.args(["--requests", &options.requests.to_string(), "--eta", &options.eta.to_string()]);
    let lines = measure(command, options.json)?;
    if options.json {
        return Ok(());
    }
    let found = Found { ways: &options.ways, lines: &lines };
    for (objective, unit) in [("click", ""), ("conversion", ""), ("satisfaction", " (stars)")] {
        found.objective(objective, unit)?;
    }
    found.examination()?;
    found.off_policy()
}

struct Found<'a> {
    ways: &'a [String],
    lines: &'a [Value],
}

/// `mean ± half of the 95 % interval` over seeds, by Student's t.
struct Mean {
    value: f64,
    half: f64,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|other| (other - value).powi(2)).sum();
        Self { value, half: t_975(values.len() - 1) * (squares / (n - 1.0) / n).sqrt() }
    }

    fn text(&self) -> String {
        format!("{:.3} ± {:.3}", self.value, self.half)
    }

    /// With a mark where the interval leaves out 0.
    fn difference(&self) -> String {
        let mark = if self.value.abs() > self.half { "\\*" } else { "" };
        format!("{:+.3} ± {:.3}{mark}", self.value, self.half)
    }
}

/// The 97.5 % quantile of Student's t distribution.
fn t_975(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    TABLE.get(degrees.saturating_sub(1)).copied().unwrap_or(1.96)
}

impl Found<'_> {
    /// A number of each of a way's marketplaces, in the order of their seeds.
    fn of(&self, way: &str, get: impl Fn(&Value) -> &Value) -> anyhow::Result<Vec<f64>> {
        let own = self.lines.iter().filter(|line| line["way"] == way);
        own.map(|line| get(line).as_f64().with_context(|| format!("the example printed no figure for {way}: {line}")))
            .collect()
    }

    fn objective(&self, objective: &str, unit: &str) -> anyhow::Result<()> {
        let first = self.ways.first().context("--ways names at least one way")?;
        let heads = format!(
            "RMSE{unit} ↓ | less that of {first} | bias | rank correlation ↑ | less that of {first} | true value of the top 10 ↑ | RMSE where shown ↓"
        );
        println!("\n{objective}\n\n| way | {heads} |\n| --- | {}", "--- | ".repeat(7).trim_end());
        for way in self.ways {
            let of = |way: &str, metric: &str| self.of(way, |line| &line[objective][metric]);
            let than = |metric: &str| -> anyhow::Result<String> {
                if way == first {
                    return Ok(String::new());
                }
                let (own, base) = (of(way, metric)?, of(first, metric)?);
                let differences: Vec<f64> = own.iter().zip(&base).map(|(own, base)| own - base).collect();
                Ok(Mean::of(&differences).difference())
            };
            let shown = self.of(way, |line| &line["shown"][objective]["rmse"])?;
            println!(
                "| {way} | {} | {} | {} | {} | {} | {} | {} |",
                Mean::of(&of(way, "rmse")?).text(),
                than("rmse")?,
                Mean::of(&of(way, "bias")?).text(),
                Mean::of(&of(way, "order")?).text(),
                than("order")?,
                Mean::of(&of(way, "top10")?).text(),
                Mean::of(&shown).text(),
            );
        }
        Ok(())
    }

    /// The learned curve beside the true one.
    fn examination(&self) -> anyhow::Result<()> {
        let learned =
            |way: &&String| self.lines.iter().any(|line| line["way"] == **way && line["examination"].is_array());
        let ways: Vec<&String> = self.ways.iter().filter(learned).collect();
        if ways.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = ways.iter().map(|way| way.as_str()).collect();
        println!(
            "\nexamination\n\n| position | truth | {} |\n| --- | --- | {}",
            names.join(" | "),
            "--- | ".repeat(ways.len()).trim_end()
        );
        for position in 0..10 {
            let truth = self.of(names[0], |line| &line["examination_truth"][position])?;
            let cells =
                names.iter().map(|way| Ok(Mean::of(&self.of(way, |line| &line["examination"][position])?).text()));
            let cells = cells.collect::<anyhow::Result<Vec<_>>>()?;
            println!("| {} | {:.3} | {} |", position + 1, truth[0], cells.join(" | "));
        }
        Ok(())
    }

    /// Estimates less the truth, over all models.
    fn off_policy(&self) -> anyhow::Result<()> {
        println!("\noff-policy estimates of clicks per place of each model's top 10\n");
        println!(
            "| estimate | error | mean size of the error ↓ | intervals that hold the truth |\n| --- | --- | --- | --- |"
        );
        for estimate in ["naive", "ips", "clipped", "snips", "doubly-robust"] {
            let number = |line: &Value, path: [&str; 2]| match path {
                [one, ""] => line["off_policy"][one].as_f64().unwrap_or(f64::NAN),
                [one, two] => line["off_policy"][one][two].as_f64().unwrap_or(f64::NAN),
            };
            let error = |line: &Value| number(line, [estimate, "value"]) - number(line, ["truth", ""]);
            let errors: Vec<f64> = self.lines.iter().map(error).collect();
            let holds = |line: &&Value| error(line).abs() <= 1.96 * number(line, [estimate, "error"]);
            let held = self.lines.iter().filter(holds).count();
            let sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
            let text = |values: &[f64]| format!("{:.4}", values.iter().sum::<f64>() / values.len() as f64);
            println!("| {estimate} | {} | {} | {held} of {} |", text(&errors), text(&sizes), self.lines.len());
        }
        let mean = |key: &str| {
            self.lines.iter().filter_map(|line| line["off_policy"][key].as_f64()).sum::<f64>() / self.lines.len() as f64
        };
        println!(
            "\n{:.0} decisions of a test part, which say as much as {:.0} of the policy's own; truth {:.4}",
            mean("decisions"),
            mean("effective"),
            mean("truth")
        );
        Ok(())
    }
}
