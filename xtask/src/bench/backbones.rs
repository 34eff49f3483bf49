//! Every family of language models, in realistic sizes with random weights, beside transformers on the same weights.

mod shapes;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::Value;

use super::{Beside, example, measure, python_has};
use crate::process::root;
use shapes::Shape;

/// Measures every family and its peer.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench backbones", no_binary_name = true)]
struct Options {
    /// The families to measure; all of them otherwise.
    #[arg(long, value_delimiter = ',')]
    families: Vec<String>,
    /// What to measure: `forward`, `train_step`, `train_last`; all of it otherwise.
    #[arg(long, value_delimiter = ',')]
    figures: Vec<String>,
    /// Layers of each model, at most.
    #[arg(long)]
    layers: Option<u64>,
    /// Texts of the timed batch.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Tokens of each of them.
    #[arg(long = "len", default_value_t = 64)]
    length: usize,
    #[command(flatten)]
    beside: Beside,
}

/// A measured figure.
struct Line {
    family: &'static str,
    figure: &'static str,
    who: &'static str,
    value: Value,
}

/// Who takes part in a figure: arithmetics, peers.
type Figure = (&'static str, &'static [&'static str], &'static [&'static str]);

const FIGURES: [Figure; 3] = [
    ("forward", &["f32", "bf16", "int8"], &["torch-f32", "torch-bf16"]),
    ("train_step", &["f32", "bf16"], &["torch-f32", "torch-bf16"]),
    ("train_last", &["f32", "bf16"], &["torch-f32", "torch-bf16"]),
];

/// How far the vectors of both may be from each other in `f32`, in shares of the largest number.
const SAME: f64 = 1e-3;

pub(crate) fn run(args: &[OsString]) -> anyhow::Result<()> {
    let options = Options::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let shapes = options.shapes()?;
    let figures = options.figures()?;
    let peers = !options.beside.alone
        && python_has(&options.beside.python, &["torch", "transformers"], "transformers is", "backbones.py");
    let folder = root().join("target/bench/backbones");
    let mut lines = Vec::new();
    for shape in &shapes {
        let model = folder.join(shape.family);
        make(shape, &model)?;
        for (figure, own, others) in &figures {
            for arithmetic in *own {
                let mut command = example("paretune-encoder", "backbone", None);
                command.arg("--model").arg(&model).args(["--figure", figure, "--arithmetic", arithmetic]);
                options.take(command, shape.family, figure, arithmetic, &mut lines)?;
            }
            for peer in others.iter().filter(|_| peers) {
                let mut command = Command::new(&options.beside.python);
                command.arg(root().join("xtask/peers/backbones.py")).arg(&model);
                command.args(["--figure", figure, "--peer", peer]);
                options.take(command, shape.family, figure, peer, &mut lines)?;
            }
        }
        // Half a gigabyte each.
        fs::remove_dir_all(&model).with_context(|| format!("cannot remove {}", model.display()))?;
        check(shape.family, &lines)?;
    }
    if !options.beside.json {
        options.tables(&shapes, &lines);
    }
    Ok(())
}

/// Writes the model with its random weights.
fn make(shape: &Shape, model: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(model).with_context(|| format!("cannot make {}", model.display()))?;
    let config = model.join("shape.json");
    fs::write(&config, shape.config.to_string()).with_context(|| format!("cannot write {}", config.display()))?;
    let mut command = example("paretune-encoder", "backbone", None);
    command.arg("--model").arg(model).arg("--random").arg(&config);
    measure(command, false)?;
    Ok(())
}

/// That both compute the same: otherwise their times say nothing.
fn check(family: &str, lines: &[Line]) -> anyhow::Result<()> {
    let vector = |who: &str| {
        let line = lines.iter().find(|line| (line.family, line.figure, line.who) == (family, "forward", who))?;
        line.value["vector"].as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>()
    };
    let (Some(own), Some(theirs)) = (vector("f32"), vector("torch-f32")) else { return Ok(()) };
    let largest = theirs.iter().fold(0.0f64, |largest, number| largest.max(number.abs()));
    let off = own.iter().zip(&theirs).fold(0.0f64, |off, (a, b)| off.max((a - b).abs()));
    if own.len() != theirs.len() || off.is_nan() || off > SAME * largest {
        bail!("{family}: the vectors differ by {off} of {largest}: {own:?} here, {theirs:?} in transformers");
    }
    eprintln!("{family}: the vectors agree to {:.1e}", off / largest);
    Ok(())
}

impl Options {
    fn shapes(&self) -> anyhow::Result<Vec<Shape>> {
        let mut shapes = shapes::all();
        if let Some(unknown) = self.families.iter().find(|name| !shapes.iter().any(|shape| shape.family == **name)) {
            let known: Vec<&str> = shapes.iter().map(|shape| shape.family).collect();
            bail!("no family `{unknown}`; there are: {}", known.join(", "));
        }
        shapes.retain(|shape| self.families.is_empty() || self.families.iter().any(|name| name == shape.family));
        if let Some(layers) = self.layers {
            shapes.iter_mut().for_each(|shape| shape.cut(layers));
        }
        Ok(shapes)
    }

    /// What is to be measured.
    fn figures(&self) -> anyhow::Result<Vec<Figure>> {
        let known = FIGURES.map(|(name, ..)| name);
        if let Some(unknown) = self.figures.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("no figure `{unknown}`; there are: {}", known.join(", "));
        }
        let is_asked = |figure: &Figure| self.figures.is_empty() || self.figures.iter().any(|name| name == figure.0);
        Ok(FIGURES.into_iter().filter(is_asked).collect())
    }

    /// Runs one program and reads its line.
    fn take(
        &self,
        mut command: Command,
        family: &'static str,
        figure: &'static str,
        who: &'static str,
        lines: &mut Vec<Line>,
    ) -> anyhow::Result<()> {
        for (name, value) in [
            ("--batch", self.batch),
            ("--len", self.length),
            ("--threads", self.beside.threads),
            ("--runs", self.beside.runs),
        ] {
            command.arg(name).arg(value.to_string());
        }
        let line = format!("{command:?}");
        let found = measure(command, false)?.into_iter().next();
        let mut value = found.with_context(|| format!("{line} printed no figure"))?;
        value["family"] = family.into();
        if self.beside.json {
            println!("{value}");
        } else {
            eprintln!("{family}: measured {figure} of {who}");
        }
        lines.push(Line { family, figure, who, value });
        Ok(())
    }

    /// Tables in Markdown.
    fn tables(&self, shapes: &[Shape], lines: &[Line]) {
        println!("{} texts of {} tokens, {} threads\n", self.batch, self.length, self.beside.threads);
        println!("| family | in the sizes of | million parameters |\n| --- | --- | ---: |");
        for shape in shapes {
            let parameters = lines.iter().find(|line| line.family == shape.family);
            let parameters = parameters.and_then(|line| line.value["parameters"].as_f64()).unwrap_or(f64::NAN);
            let name = self.layers.map_or(String::new(), |layers| format!(", at most {layers} layers"));
            println!("| {} | {}{name} | {:.0} |", shape.family, shape.name, parameters / 1e6);
        }
        let titles = [
            ("forward", "Embedding, ms (texts/s)"),
            ("train_step", "Train step over all layers, ms"),
            ("train_last", "Train step over the last two layers, ms"),
        ];
        for (figure, title) in titles {
            table(title, figure, shapes, lines, |value| {
                let ms = value["ms"].as_f64()?;
                Some(match (figure, value["texts_per_s"].as_f64()) {
                    ("forward", Some(texts)) => format!("{ms:.0} ({texts:.0})"),
                    _ => format!("{ms:.0}"),
                })
            });
        }
        for (figure, title) in titles {
            let title = title.split([',', '(']).next().unwrap_or(title);
            table(&format!("{title}: peak memory, MiB"), figure, shapes, lines, |value| {
                Some(format!("{:.0}", value["peak_mib"].as_f64()?))
            });
        }
    }
}

/// One figure of all families, a column for everyone who was measured.
fn table(title: &str, figure: &str, shapes: &[Shape], lines: &[Line], cell: impl Fn(&Value) -> Option<String>) {
    let (_, own, others) = FIGURES.iter().find(|(name, ..)| *name == figure).expect("a figure of the table");
    let took_part = |who: &&&str| lines.iter().any(|line| line.figure == figure && line.who == **who);
    let columns: Vec<&&str> = own.iter().chain(*others).filter(took_part).collect();
    if columns.is_empty() {
        return;
    }
    let heads: Vec<String> = columns
        .iter()
        .map(|who| match who.strip_prefix("torch-") {
            Some(precision) => format!("PyTorch {precision}"),
            None => format!("**Paretune** {who}"),
        })
        .collect();
    println!("\n{title}\n\n| family | {} |\n| --- |{}", heads.join(" | "), " ---: |".repeat(heads.len()));
    for shape in shapes {
        let find = |who: &str| {
            let line = lines.iter().find(|line| (line.family, line.figure, line.who) == (shape.family, figure, who));
            line.and_then(|line| cell(&line.value)).unwrap_or_default()
        };
        println!("| {} | {} |", shape.family, columns.iter().map(|who| find(who)).collect::<Vec<_>>().join(" | "));
    }
}
