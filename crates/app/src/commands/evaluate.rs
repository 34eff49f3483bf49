//! `evaluate`: a run's model on its test part, measured again, or on another data set, without training.

mod elsewhere;

use std::time::Instant;

use paretune_recommender::Recommender;

use crate::{
    calibrate, cli,
    config::Baseline,
    job::Job,
    measure::{Bench, MetricsFile},
    run_dir::RunDir,
};

use super::finetune::{here, stored_config};

pub(super) fn run(args: &cli::Evaluate) -> anyhow::Result<()> {
    let started = Instant::now();
    let run = RunDir::existing(&args.run.run)?;
    if let Some(dataset) = &args.dataset {
        let scratch = tempfile::tempdir()?;
        let (job, model) = elsewhere::prepare(args, dataset, &run, scratch.path())?;
        let bench = Bench::new(&job)?;
        return measure(args, &job, model, bench, started);
    }
    let mut config = stored_config(&run)?.measured_with(&args.settings)?;
    config.model.device = here(config.model.device, args.run.device);
    // What would have to be trained again is in the run's own report.
    config.evaluation.baselines.retain(|baseline| !matches!(baseline, Baseline::SingleObjective | Baseline::Ids));
    let job = Job::finished(config, &run)?;
    let mut bench = Bench::new(&job)?;
    bench.untrained(&job.new_model(job.variant())?)?;
    let model = job.saved_model(&run)?;
    // Another balance is another model, whose calibration nobody has measured.
    if args.weights.is_empty() || model.preference().is_none() {
        bench.calibrated(calibrate::read(&run)?);
    }
    measure(args, &job, model, bench, started)
}

fn measure(
    args: &cli::Evaluate,
    job: &Job,
    mut model: Recommender,
    mut bench: Bench<'_>,
    started: Instant,
) -> anyhow::Result<()> {
    if !args.weights.is_empty() {
        job.ask(&mut model, &job.asked_weights(&args.weights)?)?;
    }
    let known = model.embed(&job.corpus.tokens, None)?;
    if args.dataset.is_some() {
        // Nothing is trained there: the model is what it was before.
        bench.keep_vectors(&model, &known)?;
    }
    bench.trained(&model, &known)?;
    bench.without_model()?;
    if args.run.json {
        let (test_rows, ranked_users) = bench.sizes();
        let file = MetricsFile {
            dataset: &job.corpus.dataset.name,
            model: &job.config.model.source,
            metrics: &bench.metrics,
            steps: 0,
            test_rows,
            ranked_users,
            seed: job.config.seed,
            seconds: started.elapsed().as_secs_f64(),
        };
        println!("{}", serde_json::to_string_pretty(&file)?);
        return Ok(());
    }
    println!("{}", job.describe());
    if args.dataset.is_some() {
        job.notes.iter().for_each(|note| println!("note: {note}"));
    }
    if let Some(shares) = model.preference() {
        let named: Vec<String> =
            job.objectives.names().zip(shares).map(|(n, share)| format!("{n} {share:.2}")).collect();
        println!("asked for: {}", named.join(", "));
    }
    for table in bench.tables() {
        println!("\n{table}");
    }
    Ok(())
}
