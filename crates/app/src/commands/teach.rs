//! `teach`: a run's tables with what its model says of their events, for a student to learn from.

use std::path::Path;

use paretune_data::{Dataset, EVENT_COLUMNS, FeatureSpec, Part};
use paretune_eval::report::{Cell, Table};
use paretune_objectives::{Distill, Kind, Loss, Objective};
use paretune_train::Balancer;
use paretune_train::evaluation::{Candidates, Rows, predict_telling};
use serde::Serialize;

use crate::{
    calibrate, cli,
    config::{DataConfig, EvaluationConfig},
    failure::wrong_input,
    job::Job,
    meter::Meter,
    run_dir::{RunDir, write_atomically},
};

use super::finetune::{here, stored_config};

/// File beside the tables.
const STUDENT: &str = "student.toml";

/// What the teacher said of one objective.
#[derive(Debug, Serialize)]
struct Taught {
    objective: String,
    column: String,
    /// Events it was asked about.
    events: usize,
    /// Mean of the labels that there are among them.
    labels: Option<f64>,
    /// Mean of what it said.
    said: f64,
    /// What a student's objective is configured with.
    distill: Distill,
}

pub(super) fn run(args: &cli::Teach) -> anyhow::Result<()> {
    let run = RunDir::existing(&args.run.run)?;
    let mut config = stored_config(&run)?;
    config.model.device = here(config.model.device, args.run.device);
    if config.data.stream {
        return Err(wrong_input(format!(
            "{} was trained on a log in shards, of which no single tables could be written: teach from a run on a share of it",
            run.path().display()
        )));
    }
    if config.data.train_share < 1.0 {
        return Err(wrong_input(format!(
            "{} was trained on a share of the log (data.train_share = {}), which another split would cut elsewhere: teach from a run on all of it",
            run.path().display(),
            config.data.train_share
        )));
    }
    if args.out.join("events.parquet").exists() {
        return Err(wrong_input(format!("{} holds tables already: give another --out", args.out.display())));
    }
    let job = Job::finished(config, &run)?;
    let mut dataset = job.corpus.dataset.clone();
    let pupils = pupils(&job, &dataset, &args.prefix)?;
    let said = ask(&job, &run, args.run.json)?;

    let mut taught = Vec::with_capacity(pupils.len());
    for (k, column) in pupils {
        let objective = &job.objectives.as_slice()[k];
        taught.push(Taught::new(objective, &column, &said.labels[k], &said.predictions[k]));
        let mut values = vec![f32::NAN; dataset.events.len()];
        said.events.iter().zip(&said.predictions[k]).for_each(|(event, value)| values[*event as usize] = *value);
        dataset.events.feedback.insert(column, values);
    }
    dataset.write(&args.out)?;
    let student = args.out.join(STUDENT);
    write_atomically(&student, Student::new(&job, &taught, &args.out).toml()?.as_bytes())?;
    if args.run.json {
        println!("{}", serde_json::to_string_pretty(&taught)?);
        return Ok(());
    }
    println!("{}", table(&taught, said.events.len(), dataset.events.len()));
    println!("\nA student learns from them with: cargo xtask finetune --config {}", student.display());
    Ok(())
}

/// What a student's configuration begins with: the same split of the new tables, what is learned from and measured by, and the run's objectives
/// with their teachers.
#[derive(Serialize)]
struct Student {
    data: DataConfig,
    training: Negatives,
    evaluation: EvaluationConfig,
    objectives: Vec<Objective>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    features: Vec<FeatureSpec>,
}

#[derive(Serialize)]
struct Negatives {
    negatives: usize,
}

impl Student {
    fn new(job: &Job, taught: &[Taught], tables: &Path) -> Self {
        // A name alone could be that of a known data set.
        let tables = if tables.components().count() == 1 { Path::new(".").join(tables) } else { tables.into() };
        let config = &job.config;
        let data = DataConfig { dataset: tables.display().to_string(), from: None, ..config.data.clone() };
        let objectives = job.objectives.iter().map(|objective| {
            let teacher = taught.iter().find(|taught| taught.objective == objective.name);
            Objective { distill: teacher.map(|taught| taught.distill.clone()), ..objective.clone() }
        });
        Self {
            data,
            training: Negatives { negatives: config.training.negatives },
            evaluation: config.evaluation.clone(),
            objectives: objectives.collect(),
            features: config.features.clone(),
        }
    }

    fn toml(&self) -> anyhow::Result<String> {
        let head = "# For a student of the run that wrote these tables: model and training are its own to say.\n\n";
        Ok(format!("{head}{}", toml::to_string(self)?))
    }
}

/// Objectives that a student can learn, with the columns that are written for them.
fn pupils(job: &Job, dataset: &Dataset, prefix: &str) -> anyhow::Result<Vec<(usize, String)>> {
    // A tower without weight is as it was at first.
    let balancer = Balancer::new(&job.config.balance, &job.objectives, &job.weights())?;
    let able = |objective: &Objective| {
        let plain = objective.kind.has_tower() && objective.kind != Kind::Custom;
        plain && !matches!(objective.loss, Some(Loss::Ordinal { .. }))
    };
    let trained = job.objectives.iter().zip(balancer.wanted()).enumerate();
    let pupils: Vec<(usize, String)> = trained
        .filter(|(_, (objective, wanted))| able(objective) && **wanted)
        .map(|(k, (objective, _))| (k, format!("{prefix}{}", objective.name)))
        .collect();
    if pupils.is_empty() {
        return Err(wrong_input(
            "this run predicts no label that a student could learn: rankings, goals of lists, ordinal losses and objectives without weight have \
             no teacher",
        ));
    }
    match pupils.iter().find(|(_, column)| is_taken(dataset, column)) {
        Some((_, column)) => Err(wrong_input(format!(
            "the run's events have a column `{column}` of their own: give another --prefix, as in --prefix second_"
        ))),
        None => Ok(pupils),
    }
}

/// Whether the events have such a column, or could have one that means something else.
fn is_taken(dataset: &Dataset, column: &str) -> bool {
    dataset.events.feedback.contains_key(column) || EVENT_COLUMNS.contains(&column)
}

/// What the teacher said of some events.
struct Said {
    /// Their rows in the table.
    events: Vec<u32>,
    /// For each objective, `NaN` where there is none.
    labels: Vec<Vec<f32>>,
    /// For each objective.
    predictions: Vec<Vec<f32>>,
}

/// Asks the run's model about every event that it was trained on, each with what training knew when it happened: nothing of validation and test
/// reaches a student.
fn ask(job: &Job, run: &RunDir, quiet: bool) -> anyhow::Result<Said> {
    let model = job.saved_model(run)?;
    let calibration = calibrate::read(run)?;
    let known = model.embed(&job.corpus.tokens, None)?;
    let rows = Rows::among(Candidates::All, &job.corpus, &job.objectives, Part::Train, 0, usize::MAX, job.config.seed)?;
    let meter = if quiet { Meter::hidden(rows.len() as u64) } else { Meter::new("events", rows.len() as u64) };
    let mut tell = |done: usize| meter.set(done as u64);
    let mut predictions = predict_telling(&model, &job.corpus, &known, &rows, &mut tell)?;
    meter.finish();
    if let Some(calibration) = &calibration {
        let of = |row: usize| (Some(rows.users[row]), Some(rows.items[row]));
        calibration.apply(&job.corpus, &job.objectives, &mut predictions, of)?;
    }
    Ok(Said { events: job.corpus.split.rows(Part::Train), labels: rows.labels, predictions })
}

impl Taught {
    fn new(objective: &Objective, column: &str, labels: &[f32], said: &[f32]) -> Self {
        let mean = |values: &mut dyn Iterator<Item = f32>| {
            let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + f64::from(value), count + 1));
            (count > 0).then(|| sum / count as f64)
        };
        Self {
            objective: objective.name.clone(),
            column: column.to_owned(),
            events: said.len(),
            labels: mean(&mut labels.iter().copied().filter(|label| !label.is_nan())),
            said: mean(&mut said.iter().copied()).unwrap_or_default(),
            distill: Distill::new(column),
        }
    }
}

fn table(taught: &[Taught], asked: usize, all: usize) -> Table {
    let columns = ["objective", "column", "mean label", "mean said"];
    let mut table =
        Table::new("Taught", columns).note(format!("{asked} of {all} events, those that the run was trained on."));
    for Taught { objective, column, labels, said, .. } in taught {
        let number = |value: f64| Cell::number(value, if value.abs() < 10.0 { 4 } else { 1 });
        table = table.row([
            Cell::Text { text: objective.clone() },
            Cell::Text { text: column.clone() },
            labels.map_or(Cell::Empty, number),
            number(*said),
        ]);
    }
    table
}
