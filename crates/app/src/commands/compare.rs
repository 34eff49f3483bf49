//! `compare`: balancing methods beside each other, over several seeds.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    time::Instant,
};

use anyhow::Context;
use paretune_data::Part;
use paretune_eval::{
    hypervolume,
    report::{Cell, Table},
};
use paretune_objectives::{Kind, Objective};
use paretune_optim::Method;
use paretune_train::{
    BalanceConfig, Observer, TrainEvent,
    evaluation::{Rows, predict, primary_metric, value_metrics},
};
use serde::{Deserialize, Serialize};

use crate::{
    cli,
    config::RunConfig,
    failure::wrong_input,
    job::Job,
    measure, page,
    progress::{Show, seconds},
    run_dir::RunDir,
};

use super::finetune::{open, take_back};

/// One training, as a line of `compare.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Training {
    method: String,
    seed: u64,
    /// Objective → its primary metric on the test part.
    metrics: BTreeMap<String, f64>,
    /// What the model dominates: the volume between it and a prediction that knows nothing, in skills (see [`skill`]).
    hypervolume: f64,
    /// Median over the steps, validations left out.
    seconds_per_step: f64,
    steps: usize,
}

/// What `compare.json` holds.
#[derive(Debug, Serialize)]
struct CompareFile<'a> {
    dataset: &'a str,
    model: &'a str,
    trainings: &'a [Training],
    seconds: f64,
}

const LINES: &str = "compare.jsonl";

pub(super) fn run(args: &cli::Compare) -> anyhow::Result<()> {
    let started = Instant::now();
    let methods = methods(&args.methods)?;
    let (run, config) = open(&args.job, &args.output)?;
    compare(args, &run, config, &methods, started).inspect_err(|error| take_back(&run, error))
}

fn compare(
    args: &cli::Compare,
    run: &RunDir,
    config: RunConfig,
    methods: &[(String, BalanceConfig)],
    started: Instant,
) -> anyhow::Result<()> {
    let show = if args.output.json { Show::Json } else { Show::People };
    let mut job = Job::prepare(config, run)?;
    run.write("config.toml", toml::to_string(&job.config)?)?;
    if show == Show::People {
        println!("{}", job.describe());
        println!("run: {}", run.path().display());
    }
    let first = job.config.seed;
    let negatives = job.evaluation_negatives();
    let rows = Rows::new(&job.corpus, &job.objectives, Part::Test, negatives, job.config.evaluation.rows, first)?;
    let mut done = read(run)?;
    let all = methods.len() * args.seeds.max(1);
    // Seed by seed, so that a run that is cut off has compared all methods by some seeds.
    for seed in (first..).take(args.seeds.max(1)) {
        for (name, balance) in methods {
            if done.iter().any(|training| training.method == *name && training.seed == seed) {
                continue;
            }
            (job.config.balance, job.config.seed) = (balance.clone(), seed);
            let label = format!("{} of {all}: {name}, seed {seed}", done.len() + 1);
            let training = train(&job, run, name, seed, &rows, &label, show)?;
            let line = serde_json::to_string(&training)?;
            let path = run.join(LINES);
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            writeln!(file, "{line}").and_then(|()| file.sync_all()).with_context(|| path.display().to_string())?;
            if show == Show::Json {
                println!("{line}");
            }
            done.push(training);
        }
    }

    let table = table(&job, methods, &done);
    let mut report = page::opening(
        &format!("Balancing methods on {}", job.corpus.dataset.name),
        &job,
        &[
            ("Methods", methods.len().to_string()),
            ("Seeds", args.seeds.max(1).to_string()),
            ("Test rows", rows.len().to_string()),
            ("Time", seconds(started.elapsed().as_secs_f64())),
        ],
    );
    report = report.table(table.clone()).config(fs::read_to_string(run.join("config.toml"))?);
    report.save(run.join("report.html"))?;
    let file = CompareFile {
        dataset: &job.corpus.dataset.name,
        model: &job.config.model.source,
        trainings: &done,
        seconds: started.elapsed().as_secs_f64(),
    };
    run.write("compare.json", serde_json::to_string_pretty(&file)?)?;
    match show {
        Show::Json => println!("{}", serde_json::to_string(&file)?),
        Show::People => println!("\n{table}\n\nreport: {}", run.join("report.html").display()),
    }
    Ok(())
}

/// `upgrad`, or with settings: `cagrad:c=0.2`, `mgda:normalize=none:gradients=full`. `all` is every method that needs no setting.
fn methods(given: &[String]) -> anyhow::Result<Vec<(String, BalanceConfig)>> {
    let mut methods: Vec<(String, BalanceConfig)> = Vec::new();
    for text in given {
        if text == "all" {
            let named = Method::ALL.iter().filter(|method| **method != Method::Constant);
            let plain = |method: &Method| BalanceConfig { method: *method, ..BalanceConfig::default() };
            methods.extend(named.map(|method| (method.to_string(), plain(method))));
            continue;
        }
        let mut parts = text.split(':');
        let mut table = toml::Table::new();
        table.insert("method".into(), parts.next().unwrap_or_default().into());
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                wrong_input(format!("`{part}` in --methods {text} is not KEY=VALUE, as in cagrad:c=0.2"))
            })?;
            let read = toml::from_str::<toml::Table>(&format!("v = {value}"));
            let value = read.ok().and_then(|mut table| table.remove("v")).unwrap_or_else(|| value.into());
            table.insert(key.into(), value);
        }
        let config = toml::Value::Table(table)
            .try_into()
            .map_err(|error| wrong_input(format!("--methods {text}: {}", error.to_string().trim())))?;
        methods.push((text.clone(), config));
    }
    let mut names: Vec<&String> = methods.iter().map(|(name, _)| name).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(wrong_input(format!("--methods names {} twice", pair[0]))),
        None if methods.is_empty() => Err(wrong_input("--methods names no method")),
        None => Ok(methods),
    }
}

/// What an earlier part of the run has done. A line that was cut off goes, and is trained again.
fn read(run: &RunDir) -> anyhow::Result<Vec<Training>> {
    let Ok(text) = fs::read_to_string(run.join(LINES)) else { return Ok(Vec::new()) };
    let whole = |line: &&str| serde_json::from_str::<Training>(line).is_ok();
    let lines: Vec<&str> = text.lines().filter(whole).collect();
    run.write(LINES, lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn train(
    job: &Job,
    run: &RunDir,
    name: &str,
    seed: u64,
    rows: &Rows,
    label: &str,
    show: Show,
) -> anyhow::Result<Training> {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let checkpoints = run.join("checkpoints").join(format!("{plain}-{seed}"));
    let mut pace = Pace::default();
    let (model, (outcome, _)) =
        measure::train_watched(job, job.variant(), &job.weights(), (&checkpoints, None), label, show, &mut pace)
            .with_context(|| name.to_owned())?;
    fs::remove_dir_all(&checkpoints).with_context(|| format!("cannot remove {}", checkpoints.display()))?;
    let known = model.embed(&job.corpus.tokens, None)?;
    let predictions = predict(&model, &job.corpus, &known, rows)?;
    let mut metrics = BTreeMap::new();
    let mut skills = Vec::new();
    for (k, objective) in job.objectives.iter().enumerate() {
        let values = value_metrics(objective, &predictions[k], &rows.labels[k], &rows.users);
        let Some(value) = values.get(primary_metric(objective)) else { continue };
        metrics.insert(objective.name.clone(), *value);
        skills.push(skill(objective, *value, &rows.labels[k]));
    }
    let reference = vec![0.0; skills.len()];
    let hypervolume = hypervolume(&[skills], &reference, &vec![true; reference.len()])?;
    let seconds_per_step = pace.median();
    Ok(Training { method: name.into(), seed, metrics, hypervolume, seconds_per_step, steps: outcome.steps })
}

/// How much better than knowing nothing, 1 being perfect: `2 AUC - 1`, or R² (of logarithms, for times).
fn skill(objective: &Objective, value: f64, labels: &[f32]) -> f64 {
    let of = |label: f32| f64::from(if objective.kind == Kind::LogRegression { label.max(0.0).ln_1p() } else { label });
    if objective.kind.is_binary() {
        return 2.0 * value - 1.0;
    }
    let seen: Vec<f64> = labels.iter().filter(|label| label.is_finite()).map(|label| of(*label)).collect();
    let mean = seen.iter().sum::<f64>() / seen.len() as f64;
    let variance = seen.iter().map(|label| (label - mean).powi(2)).sum::<f64>() / seen.len() as f64;
    1.0 - value * value / variance
}

/// One row for each method, the best hypervolume first.
fn table(job: &Job, methods: &[(String, BalanceConfig)], done: &[Training]) -> Table {
    let metrics = job.objectives.iter().map(|objective| format!("{} {}", objective.name, primary_metric(objective)));
    let columns = ["method".to_owned()].into_iter().chain(metrics);
    let columns = columns.chain(["hypervolume".to_owned(), "ms/step".to_owned(), "of weighted-sum".to_owned()]);
    let pace = |name: &str| {
        let of: Vec<f64> =
            done.iter().filter(|training| training.method == name).map(|training| training.seconds_per_step).collect();
        spread(&of).map(|(mean, _)| mean * 1e3)
    };
    let plain = pace("weighted-sum").or_else(|| pace("sum"));
    let mut lines = Vec::new();
    for (name, _) in methods {
        let own: Vec<&Training> = done.iter().filter(|training| training.method == *name).collect();
        let column = |value: &dyn Fn(&Training) -> Option<f64>| {
            spread(&own.iter().filter_map(|training| value(training)).collect::<Vec<_>>())
        };
        let cell = |value: Option<(f64, f64)>, digits: usize| {
            value.map_or(Cell::Empty, |(mean, deviation)| Cell::from(format!("{mean:.digits$} ± {deviation:.digits$}")))
        };
        let volume = column(&|training| Some(training.hypervolume));
        let mut cells = vec![Cell::from(name.as_str())];
        for objective in job.objectives.iter() {
            cells.push(cell(column(&|training| training.metrics.get(&objective.name).copied()), 4));
        }
        cells.push(cell(volume, 4));
        cells.push(pace(name).map_or(Cell::Empty, |ms| Cell::number(ms, 1)));
        cells.push(match (pace(name), plain) {
            (Some(ms), Some(plain)) => Cell::number(ms / plain, 2),
            _ => Cell::Empty,
        });
        lines.push((volume.map_or(f64::NEG_INFINITY, |(mean, _)| mean), cells));
    }
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    let note = "Means and standard deviations over the seeds, test part. Hypervolume: the product of the skills (2 AUC - 1, or R²; 0 where \
                one is negative), which is the volume between the model and a prediction that knows nothing.";
    lines.into_iter().fold(Table::new("Balancing methods", columns).note(note), |table, (_, cells)| table.row(cells))
}

/// Mean and standard deviation.
fn spread(values: &[f64]) -> Option<(f64, f64)> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Some((mean, variance.sqrt()))
}

/// Times the steps.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    steps: Vec<f64>,
}

impl Observer for Pace {
    fn observe(&mut self, event: &TrainEvent) {
        let now = Instant::now();
        let step = matches!(event, TrainEvent::Step { .. });
        if let (Some(last), true) = (self.last, step) {
            self.steps.push(now.duration_since(last).as_secs_f64());
        }
        // What stands between two steps (a validation, a checkpoint) is not part of either.
        self.last = step.then_some(now);
    }
}

impl Pace {
    fn median(&self) -> f64 {
        let mut steps = self.steps.clone();
        steps.sort_by(f64::total_cmp);
        steps.get(steps.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(given: &[&str]) -> anyhow::Result<Vec<(String, BalanceConfig)>> {
        methods(&given.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn methods_are_named_with_their_settings() {
        let all = named(&["all", "cagrad:c=0.2", "mgda:normalize=none:gradients=full:refresh=5"]).unwrap();
        assert_eq!(all.len(), Method::ALL.len() + 1);
        let (name, config) = all.last().unwrap();
        assert_eq!(name, "mgda:normalize=none:gradients=full:refresh=5");
        assert_eq!((config.method, config.refresh), (Method::Mgda, 5));
        let refused = |text: &str| named(&[text]).unwrap_err().to_string();
        assert!(refused("cagrad:0.2").contains("KEY=VALUE"));
        assert!(refused("cagrad:alpha=1").contains("no parameter alpha"));
        assert!(refused("pcgrid").contains("pcgrid"));
        assert!(named(&["mgda", "mgda"]).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn skills_are_relative_to_knowing_nothing() {
        let labels = [1.0, 3.0, f32::NAN];
        assert_eq!(skill(&Objective::new("rating", Kind::Regression, "rating"), 1.0, &labels), 0.0);
        assert_eq!(skill(&Objective::new("rating", Kind::Regression, "rating"), 0.0, &labels), 1.0);
        assert_eq!(skill(&Objective::new("click", Kind::Binary, "click"), 0.75, &labels), 0.5);
    }

    #[test]
    fn spread_of_a_sample() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[2.0]), Some((2.0, 0.0)));
        assert_eq!(spread(&[1.0, 3.0]), Some((2.0, 2f64.sqrt())));
    }
}
