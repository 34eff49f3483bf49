//! `finetune`: the main job.

use std::time::Instant;

use anyhow::Context;
use paretune_encoder::DeviceChoice;
use paretune_train::{GradientCut, evaluation::Calibration};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    calibrate, cli,
    config::{self, Baseline, RunConfig},
    debias,
    failure::{self, wrong_input},
    fit::Fit,
    job::Job,
    measure::{Bench, MetricsFile},
    page,
    progress::{Show, seconds},
    run_dir::RunDir,
    tuning,
};

/// File of the run that says what it began with.
const STARTED: &str = "start.json";
/// Users shown in the report.
const EXAMPLES: usize = 4;

pub(super) fn run(args: &cli::Finetune) -> anyhow::Result<()> {
    let started = Instant::now();
    let (run, config, Nothing {}) = open(&args.job, &args.output, "finetune", &Nothing {})?;
    train(args, &run, config, started).inspect_err(|error| take_back(&run, error))
}

fn train(args: &cli::Finetune, run: &RunDir, config: RunConfig, started: Instant) -> anyhow::Result<()> {
    if args.output.resume && run.join("metrics.json").is_file() {
        println!("{} is finished already; its report is {}", run.path().display(), run.join("report.html").display());
        return Ok(());
    }
    let show = if args.output.json { Show::Json } else { Show::People };
    let mut job = Job::prepare(config, run)?;
    run.write("config.toml", toml::to_string(&job.config).context("cannot write the configuration")?)?;
    if show == Show::People {
        if let Some(cleaning) = &job.cleaning {
            println!("{cleaning}");
        }
        println!("{}", job.describe());
        job.notes.iter().for_each(|note| println!("note: {note}"));
        println!("run: {}", run.path().display());
    }

    // What cannot be measured shows before anything is trained.
    drop(Bench::new(&job)?);
    Calibration::check(&job.config.calibration, &job.corpus)?;
    let (mut untrained, taken) = job.begin(job.variant())?;
    if let Some(taken) = taken {
        run.write(STARTED, serde_json::to_string_pretty(&taken)?)?;
        let lines = taken.describe();
        if show == Show::People {
            lines.iter().for_each(|line| println!("note: {line}"));
        }
        job.notes.extend(lines);
    }
    if let (Show::People, Some(said)) = (show, untrained.encoder().and_then(tuning::describe)) {
        println!("{said}");
    }
    let checkpoints = run.join("checkpoints");
    let log = run.join("metrics.jsonl");
    let (weights, folder) = (job.weights(), checkpoints.join("model"));
    let fit = Fit { log: Some(&log), ..Fit::new(job.variant(), &weights, &folder, "training") };
    let (mut model, (outcome, progress)) = fit.run(&job, show)?;
    // While there are rows that it was not trained on; a second training keeps these calibrators.
    let calibration = calibrate::fit(&job, &model)?;
    // Once more on training and validation rows, for as many passes as were best.
    let until = job.config.refit.then_some(outcome.best_epoch);
    if job.config.refit {
        let Job { config, notes, .. } = job;
        job = Job::finished(config, run)?;
        job.notes = notes;
    }
    if until.is_some() {
        let (log, folder) = (run.join("refit.jsonl"), checkpoints.join("refit"));
        let fit = Fit { log: Some(&log), until, ..Fit::new(job.variant(), &weights, &folder, "once more") };
        model = fit.run(&job, show)?.0;
        untrained = job.new_model(job.variant())?;
    }
    let mut bench = Bench::new(&job)?;
    bench.untrained(&untrained)?;
    drop(untrained);
    let trained = started.elapsed().as_secs_f64();
    job.settle(&mut model);
    let known = model.embed(&job.corpus.tokens, None)?;
    bench.calibrated(calibration.clone());
    bench.trained(&model, &known)?;
    bench.point("this run", &job.weights(), &model, &known)?;
    bench.without_model()?;
    bench.trained_baselines(&checkpoints, until, show)?;
    job.save_model(&model, &run.join("model"))?;
    if let Some(calibration) = &calibration {
        calibrate::save(calibration, run)?;
    }
    let tables = [bench.tables(), debias::tables(&job, &model)?].concat();

    let total = started.elapsed().as_secs_f64();
    let (test_rows, ranked_users) = bench.sizes();
    let file = MetricsFile {
        dataset: &job.corpus.dataset.name,
        model: &job.config.model.source,
        metrics: &bench.metrics,
        steps: outcome.steps,
        test_rows,
        ranked_users,
        seed: job.config.seed,
        seconds: total,
    };
    let (verdicts, ahead) = bench.verdicts();
    let mut report = page::opening(
        &format!("{} fine-tuned on {}", job.config.model.source, job.corpus.dataset.name),
        &job,
        &[
            (
                "Balancing",
                match job.config.balance.gradients {
                    Some(GradientCut::Full) => format!("{}, gradients of all parameters", job.config.balance.method),
                    Some(GradientCut::Shared) | None => job.config.balance.method.to_string(),
                },
            ),
            ("Items known by", job.config.model.known_by()),
            ("User model", job.config.model.user.kind.name().to_owned()),
            ("Conditioning", job.config.model.conditioning.name().to_owned()),
            ("Steps", outcome.steps.to_string()),
            ("Test rows", test_rows.to_string()),
            ("Users ranked for", ranked_users.to_string()),
            ("Seed", job.config.seed.to_string()),
            ("Device", job.device_name()),
            ("Time", format!("{} to the trained model, {} with all baselines", seconds(trained), seconds(total))),
        ],
    );
    for line in &verdicts {
        report = report.summary(line);
    }
    for table in &tables {
        report = report.table(table.clone());
    }
    if let Some(front) = bench.front()? {
        report = report.front(front);
    }
    for diagram in std::mem::take(&mut bench.reliability) {
        report = report.reliability(diagram);
    }
    for chart in page::curves(&progress.events) {
        report = report.curve(chart);
    }
    for example in page::examples(&job, &model, EXAMPLES, calibration.as_ref())? {
        report = report.example(example);
    }
    if let Some(cleaning) = &job.cleaning {
        report = report.cleaning(cleaning.clone());
    }
    report.config(toml::to_string(&job.config)?).save(run.join("report.html"))?;
    // Last of all: its presence says that the run is finished.
    run.write("metrics.json", serde_json::to_string_pretty(&file)?)?;

    if show == Show::Json {
        println!("{}", serde_json::to_string(&file)?);
        return Ok(());
    }
    for table in &tables {
        println!("\n{table}");
    }
    println!();
    verdicts.iter().for_each(|line| println!("{line}"));
    let compared =
        [Baseline::Untrained, Baseline::Popularity].iter().all(|b| job.config.evaluation.baselines.contains(b));
    if compared && ahead {
        println!("The trained model beats the untrained one and popularity on every objective it trains.");
    } else if compared {
        println!("The trained model does NOT beat the untrained one and popularity on every objective; see above.");
    }
    println!("report: {}", run.join("report.html").display());
    println!("done in {}; recommend with: cargo xtask recommend --user {}", seconds(total), first_user(&job));
    Ok(())
}

fn first_user(job: &Job) -> &str {
    job.corpus.dataset.users.ids.first().map_or("ID", String::as_str)
}

/// Which command made a run, with what arguments of its own.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<T> {
    command: String,
    #[serde(flatten)]
    own: T,
}

/// Of a command without arguments of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Nothing {}

/// File of the run that holds it.
const COMMAND: &str = "command.toml";

/// A new run with its resolved configuration, or the one to go on with and what it was started with; and the arguments that are the
/// command's own.
pub(super) fn open<T>(
    job: &cli::Job,
    output: &cli::Output,
    command: &str,
    own: &T,
) -> anyhow::Result<(RunDir, RunConfig, T)>
where
    T: Clone + Default + PartialEq + Serialize + DeserializeOwned,
{
    let begin = |run: &RunDir, config: RunConfig| -> anyhow::Result<RunConfig> {
        let stored = Stored { command: command.to_owned(), own: own.clone() };
        run.write(COMMAND, toml::to_string(&stored)?)?;
        run.write("config.toml", toml::to_string(&config).context("cannot write the configuration")?)?;
        Ok(config)
    };
    if !output.resume {
        // Before there is a folder: that is when wrong settings show, and when `latest` is still the run that `--config` may name.
        let config = RunConfig::resolve(job)?;
        let run = RunDir::open(output, &config.data.dataset)?;
        return Ok((run.clone(), begin(&run, config)?, own.clone()));
    }
    let run = RunDir::open(output, "")?;
    // A run that was cut off before it had written its configuration begins with the one that is given again.
    if !run.join("config.toml").is_file() {
        return Ok((run.clone(), begin(&run, RunConfig::resolve(job)?)?, own.clone()));
    }
    let path = run.join(COMMAND);
    let text = std::fs::read_to_string(&path).map_err(|error| wrong_input(format!("{}: {error}", path.display())))?;
    let stored: Stored<toml::Table> = config::parse(&text, &path)?;
    if stored.command != command {
        let (path, made) = (run.path().display(), stored.command);
        return Err(wrong_input(format!("{path} was made by `{made}`: go on with it by `{made} --resume`")));
    }
    let stored: Stored<T> = config::parse(&text, &path)?;
    let mut config = stored_config(&run)?;
    // The one thing that may change: a run goes on wherever there is a machine for it.
    let others = cli::Job { device: None, ..job.clone() };
    config.model.device = here(config.model.device, job.device);
    if others != cli::Job::default() || (*own != T::default() && *own != stored.own) {
        eprintln!(
            "note: a resumed run keeps the configuration that it was started with; other settings are not looked at"
        );
    }
    Ok((run.clone(), config, stored.own))
}

/// The configuration a run was started with.
pub(super) fn stored_config(run: &RunDir) -> anyhow::Result<RunConfig> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| wrong_input(format!("{}: {error}", path.display())))?;
    config::parse(&text, &path)
}

/// The device for a run that exists: the one that is asked for, else its own, else whatever is here.
pub(super) fn here(own: DeviceChoice, asked: Option<DeviceChoice>) -> DeviceChoice {
    if let Some(asked) = asked {
        return asked;
    }
    match own.open() {
        Ok(_) => own,
        Err(_) => {
            eprintln!("note: the run was made on {own}, which is not here; --device says where else, `auto` is taken");
            DeviceChoice::Auto
        }
    }
}

/// A run whose input was wrong leaves nothing behind.
pub(super) fn take_back(run: &RunDir, error: &anyhow::Error) {
    if failure::exit_code(error) == 2 {
        run.take_back();
    }
}
