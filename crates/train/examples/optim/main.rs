//! What balancing costs: a training step of several objectives under several forms of balancing, relative to a plain weighted sum.
//!
//! usage: cargo run --release -p paretune-train --example optim -- [--on mlp|bert] [--model DIR] [--batch N] [--steps N] [--threads N]
//! [--json]
//!
//! - `mlp`: 10 categorical fields, tables of 20,000 × 32, an MLP 320-256-128-64 with ReLU, K linear heads, batch 512, SGD;
//! - `bert`: the recommender of this project (`shop` in the table) on a simulated marketplace, AdamW; without `--model` its text encoder is a random one
//!   of two layers, 128 wide.
//!
//! Forms: `sum` (one backward pass of the weighted sum), `shared` (UPGrad at the shared representation), `shared/10` (its weights kept for 10 steps),
//! `full` (UPGrad over every shared parameter, streamed). The steps of all forms take turns, and each figure is the median. With `--json` each
//! is one line of JSON.

mod bert;
mod mlp;

use std::error::Error;
use std::time::Instant;

use paretune_optim::Method;
use paretune_train::{BalanceConfig, GradientCut};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Steps before the clock runs.
const WARM: usize = 4;
/// Steps that weights are kept for.
const KEPT: usize = 10;
/// Numbers of objectives.
const SIZES: [usize; 3] = [2, 4, 8];

struct Options {
    on: Option<String>,
    model: Option<String>,
    batch: usize,
    steps: usize,
    threads: usize,
    json: bool,
}

impl Options {
    fn parse() -> Fallible<Self> {
        let mut options = Self { on: None, model: None, batch: 512, steps: 30, threads: 0, json: false };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--on" => options.on = Some(value()?),
                "--model" => options.model = Some(value()?),
                "--batch" => options.batch = value()?.parse()?,
                "--steps" => options.steps = value()?.parse::<usize>()?.max(1),
                "--threads" => options.threads = value()?.parse()?,
                "--json" => options.json = true,
                other => {
                    let known = "--on, --model, --batch, --steps, --threads, --json";
                    return Err(format!("unknown `{other}`; there are {known}").into());
                }
            }
        }
        Ok(options)
    }
}

/// A form of balancing.
struct Form {
    name: &'static str,
    config: BalanceConfig,
}

fn forms() -> Vec<Form> {
    let upgrad = BalanceConfig { method: Method::UpGrad, ..BalanceConfig::default() };
    let full = Some(GradientCut::Full);
    vec![
        Form { name: "sum", config: BalanceConfig::default() },
        Form { name: "shared", config: upgrad.clone() },
        Form { name: "shared/10", config: BalanceConfig { refresh: KEPT, ..upgrad.clone() } },
        Form { name: "full", config: BalanceConfig { gradients: full, ..upgrad } },
    ]
}

/// Milliseconds of each form's step: the median over groups of ten, so that weights kept for ten steps are paid for once in each. The
/// forms take turns, so that whatever disturbs one disturbs all.
fn take_turns(forms: usize, steps: usize, mut step: impl FnMut(usize, usize) -> Fallible<()>) -> Fallible<Vec<f64>> {
    let mut times = vec![Vec::with_capacity(steps); forms];
    for number in 0..WARM + steps {
        for (form, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            step(form, number)?;
            if number >= WARM {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let median = |times: Vec<f64>| {
        let mean = |group: &[f64]| group.iter().sum::<f64>() / group.len() as f64;
        let mut means: Vec<f64> = times.chunks(KEPT).map(mean).collect();
        means.sort_by(f64::total_cmp);
        means[means.len() / 2]
    };
    Ok(times.into_iter().map(median).collect())
}

fn tell(options: &Options, model: &str, k: usize, forms: &[Form], times: &[f64]) {
    for (form, ms) in forms.iter().zip(times) {
        let ratio = ms / times[0];
        if options.json {
            let line = serde_json::json!({
                "figure": "step", "peer": "paretune", "model": model, "form": form.name, "k": k,
                "ms": (ms * 1e3).round() / 1e3, "ratio": (ratio * 1e3).round() / 1e3,
            });
            println!("{line}");
        } else {
            println!("{model:<6}{:<12}{k:>4}{ms:>12.2}{ratio:>10.2}", form.name);
        }
    }
}

fn main() -> Fallible<()> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let wants = |name: &str| options.on.as_deref().is_none_or(|on| on == name);
    if let Some(other) = options.on.as_deref().filter(|on| !["mlp", "bert"].contains(on)) {
        return Err(format!("nothing to measure on `{other}`; there are mlp, bert").into());
    }
    if !options.json {
        println!("batch {}, {} threads", options.batch, rayon::current_num_threads());
        println!("{:<6}{:<12}{:>4}{:>12}{:>10}", "model", "form", "K", "ms/step", "of sum");
    }
    if wants("mlp") {
        mlp::run(&options)?;
    }
    if wants("bert") {
        bert::run(&options)?;
    }
    Ok(())
}
