//! `compare`: balancing methods beside each other, over several seeds.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use paretune_data::Part;
use paretune_eval::{
    hypervolume,
    report::{Cell, Table},
};
use paretune_optim::Method;
use paretune_train::{
    BalanceConfig, Observer, TrainError, TrainEvent,
    evaluation::{Rows, predict, primary_metric, skill, value_metrics},
};
use serde::{Deserialize, Serialize};

use crate::{
    cli,
    config::RunConfig,
    failure::wrong_input,
    fit::{self, Fit},
    job::Job,
    page,
    progress::{Show, seconds},
    run_dir::RunDir,
};

use super::finetune::{open, take_back};

/// One training, as a line of `compare.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Training {
    method: String,
    seed: u64,
    /// Objective → its primary metric on the test part; of the objectives that are trained.
    metrics: BTreeMap<String, f64>,
    /// What the model dominates: the volume between it and a prediction that knows nothing, in skills.
    hypervolume: Option<f64>,
    /// Median over the steps, validations left out; absent where no two steps followed each other.
    seconds_per_step: Option<f64>,
    steps: usize,
    /// Why it came to no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
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
/// Seeds unless another number is asked for.
const SEEDS: usize = 3;

pub(super) fn run(args: &cli::Compare) -> anyhow::Result<()> {
    let started = Instant::now();
    // What is wrong with the methods shows before there is a folder.
    methods(args.own.methods.as_deref())?;
    let (run, config, own) = open(&args.job, &args.output, "compare", &args.own)?;
    compare(args, &own, &run, config, started).inspect_err(|error| take_back(&run, error))
}

fn compare(
    args: &cli::Compare,
    own: &cli::Methods,
    run: &RunDir,
    config: RunConfig,
    started: Instant,
) -> anyhow::Result<()> {
    let show = if args.output.json { Show::Json } else { Show::People };
    if config.balance != BalanceConfig::default() {
        return Err(wrong_input(
            "a comparison takes its methods and their settings from --methods, as in cagrad:c=0.2 or upgrad:gradients=full, and nothing \
             from --balance, --gradients or [balance]",
        ));
    }
    if config.refit {
        return Err(wrong_input("a comparison measures single trainings: leave --refit out"));
    }
    let methods = methods(own.methods.as_deref())?;
    let seeds = own.seeds.unwrap_or(SEEDS).max(1);
    let mut job = Job::prepare(config, run)?;
    run.write("config.toml", toml::to_string(&job.config)?)?;
    let model = job.new_model(job.variant())?;
    for (name, balance) in &methods {
        fit::check(&job, &model, balance).with_context(|| format!("--methods {name}"))?;
    }
    drop(model);
    if show == Show::People {
        println!("{}", job.describe());
        println!("run: {}", run.path().display());
    }
    let first = job.config.seed;
    let negatives = job.evaluation_negatives();
    let candidates = job.config.candidates(Part::Test);
    let rows = Rows::among(
        candidates,
        &job.corpus,
        &job.objectives,
        Part::Test,
        negatives,
        job.config.evaluation.rows,
        first,
    )?;
    let all = methods.len() * seeds;
    let mut done = read(run)?;
    done.retain(|training| {
        (first..first + seeds as u64).contains(&training.seed)
            && methods.iter().any(|(name, _)| *name == training.method)
    });
    // Seed by seed, so that a run that is cut off has compared all methods by some seeds.
    for seed in (first..).take(seeds) {
        for (name, balance) in &methods {
            let checkpoints = checkpoints(run, name, seed);
            if !done.iter().any(|training| training.method == *name && training.seed == seed) {
                (job.config.balance, job.config.seed) = (balance.clone(), seed);
                let label = format!("{} of {all}: {name}, seed {seed}", done.len() + 1);
                let training = train(&job, &checkpoints, name, seed, &rows, &label, show)?;
                append(run, &training)?;
                if show == Show::Json {
                    println!("{}", serde_json::to_string(&training)?);
                }
                done.push(training);
            }
            discard(&checkpoints)?;
        }
    }

    let table = table(&job, &methods, &done);
    let mut report = page::opening(
        &format!("Balancing methods on {}", job.corpus.dataset.name),
        &job,
        &[
            ("Methods", methods.len().to_string()),
            ("Seeds", seeds.to_string()),
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
fn methods(given: Option<&str>) -> anyhow::Result<Vec<(String, BalanceConfig)>> {
    let mut methods: Vec<(String, BalanceConfig)> = Vec::new();
    for text in split(given.unwrap_or("all"), ',').into_iter().map(str::trim).filter(|text| !text.is_empty()) {
        if text == "all" {
            let named = Method::ALL.iter().filter(|method| **method != Method::Constant);
            let plain = |method: &Method| BalanceConfig { method: *method, ..BalanceConfig::default() };
            methods.extend(named.map(|method| (method.to_string(), plain(method))));
            continue;
        }
        let mut parts = split(text, ':').into_iter();
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
        methods.push((text.to_owned(), config));
    }
    let mut names: Vec<&String> = methods.iter().map(|(name, _)| name).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(wrong_input(format!("--methods names {} twice", pair[0]))),
        None if methods.is_empty() => Err(wrong_input("--methods names no method")),
        None => Ok(methods),
    }
}

/// Splits where no bracket and no quotation mark is open.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0i32, false);
    for (place, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            c if c == at && depth <= 0 && !quoted => {
                parts.push(&text[start..place]);
                start = place + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// What an earlier part of the run has done. A line that was cut off goes, and is trained again.
fn read(run: &RunDir) -> anyhow::Result<Vec<Training>> {
    let Ok(text) = fs::read_to_string(run.join(LINES)) else { return Ok(Vec::new()) };
    let whole = |line: &&str| serde_json::from_str::<Training>(line).is_ok();
    let lines: Vec<&str> = text.lines().filter(whole).collect();
    run.write(LINES, lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn append(run: &RunDir, training: &Training) -> anyhow::Result<()> {
    let path = run.join(LINES);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{}", serde_json::to_string(training)?)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn checkpoints(run: &RunDir, name: &str, seed: u64) -> PathBuf {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    run.join("checkpoints").join(format!("{plain}-{seed}"))
}

/// Removes the checkpoints of a training whose result is safe; one that is half removed is not taken for a checkpoint.
fn discard(checkpoints: &Path) -> anyhow::Result<()> {
    if !checkpoints.exists() {
        return Ok(());
    }
    let beside = checkpoints.with_extension("discarded");
    let remove = || -> std::io::Result<()> {
        if beside.exists() {
            fs::remove_dir_all(&beside)?;
        }
        fs::rename(checkpoints, &beside)?;
        fs::remove_dir_all(&beside)
    };
    remove().with_context(|| format!("cannot remove {}", checkpoints.display()))
}

fn train(
    job: &Job,
    checkpoints: &Path,
    name: &str,
    seed: u64,
    rows: &Rows,
    label: &str,
    show: Show,
) -> anyhow::Result<Training> {
    let mut pace = Pace::default();
    let weights = job.weights();
    let trained = Fit::new(job.variant(), &weights, checkpoints, label).watched(job, show, &mut pace);
    let mut training = Training {
        method: name.into(),
        seed,
        metrics: BTreeMap::new(),
        hypervolume: None,
        seconds_per_step: pace.median(),
        steps: 0,
        error: None,
    };
    let model = match trained {
        Ok((model, (outcome, _))) => {
            training.steps = outcome.steps;
            model
        }
        // It would come to the same end again; the others need not wait for it.
        Err(error) if matches!(error.downcast_ref(), Some(TrainError::NotFinite { .. })) => {
            eprintln!("{label}: {error}");
            training.error = Some(error.to_string());
            return Ok(training);
        }
        Err(error) => return Err(error.context(name.to_owned())),
    };
    let known = model.embed(&job.corpus.tokens, None)?;
    let predictions = predict(&model, &job.corpus, &known, rows)?;
    let mut skills = Vec::new();
    for (k, objective) in job.objectives.iter().enumerate().filter(|(k, _)| weights[*k] > 0.0) {
        let (predicted, labels) = (&predictions[k], &rows.labels[k]);
        let values = value_metrics(objective, predicted, labels, &rows.users);
        if let Some(value) = values.get(primary_metric(objective)) {
            training.metrics.insert(objective.name.clone(), *value);
        }
        skills.extend(skill(objective, predicted, labels, &rows.users));
    }
    let reference = vec![0.0; skills.len()];
    training.hypervolume = Some(hypervolume(&[skills], &reference, &vec![true; reference.len()])?);
    Ok(training)
}

/// One row for each method, the best hypervolume first.
fn table(job: &Job, methods: &[(String, BalanceConfig)], done: &[Training]) -> Table {
    let weights = job.weights();
    let trained: Vec<_> =
        job.objectives.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0).map(|(one, _)| one).collect();
    let metrics = trained.iter().map(|objective| format!("{} {}", objective.name, primary_metric(objective)));
    let columns = ["method".to_owned()].into_iter().chain(metrics);
    let columns = columns.chain(["hypervolume".to_owned(), "ms/step".to_owned(), "of weighted-sum".to_owned()]);
    // The fastest seed: what else the machine had to do can only have slowed the others.
    let pace = |name: &str| {
        let of = done.iter().filter(|training| training.method == name).filter_map(|one| one.seconds_per_step);
        of.reduce(f64::min).map(|seconds| seconds * 1e3)
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
        let volume = column(&|training| training.hypervolume);
        let mut cells = vec![Cell::from(name.as_str())];
        for objective in &trained {
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
    let failed: Vec<String> = done
        .iter()
        .filter(|training| training.error.is_some())
        .map(|training| format!("{} (seed {})", training.method, training.seed))
        .collect();
    let failed = if failed.is_empty() { String::new() } else { format!(" Came to no end: {}.", failed.join(", ")) };
    let note = "Means and standard deviations over the seeds, test part. Hypervolume: the product of the skills (2 AUC - 1, or R²; 0 where \
                one is negative), which is the volume between the model and a prediction that knows nothing. ms/step: the fastest seed's median.";
    lines
        .into_iter()
        .fold(Table::new("Balancing methods", columns).note(format!("{note}{failed}")), |table, (_, cells)| {
            table.row(cells)
        })
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
    fn median(&self) -> Option<f64> {
        let mut steps = self.steps.clone();
        steps.sort_by(f64::total_cmp);
        steps.get(steps.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_with_their_settings() {
        let all = methods(Some("all,cagrad:c=0.2,constant:weights=[1,2],mgda:normalize=none:gradients=full:refresh=5"))
            .unwrap();
        assert_eq!(all.len(), Method::ALL.len() + 2);
        assert_eq!(all[all.len() - 2].0, "constant:weights=[1,2]");
        let (name, config) = all.last().unwrap();
        assert_eq!(name, "mgda:normalize=none:gradients=full:refresh=5");
        assert_eq!((config.method, config.refresh), (Method::Mgda, 5));
        let controlled = methods(Some("upgrad:control={kind=\"anneal\",to={click=2,dwell=1}}")).unwrap();
        assert!(controlled[0].1.control.is_some());
        assert_eq!(methods(None).unwrap().len(), Method::ALL.len() - 1);
        let refused = |text: &str| methods(Some(text)).unwrap_err().to_string();
        assert!(refused("cagrad:0.2").contains("KEY=VALUE"));
        assert!(refused("cagrad:alpha=1").contains("no parameter alpha"));
        assert!(refused("pcgrid").contains("pcgrid"));
        assert!(refused("mgda,mgda").contains("twice"));
        assert!(refused(",").contains("no method"));
    }

    #[test]
    fn spread_of_a_sample() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[2.0]), Some((2.0, 0.0)));
        assert_eq!(spread(&[1.0, 3.0]), Some((2.0, 2f64.sqrt())));
    }
}
