//! `front`: a set of balances, and which of them are worth choosing.

use std::{collections::BTreeMap, time::Instant};

use paretune_data::Part;
use paretune_eval::report::{FrontPoint, FrontSection};
use paretune_train::evaluation::{Ranking, Rows, predict, primary_metric, value_metrics};
use serde::Serialize;

use crate::{
    cli,
    failure::wrong_input,
    job::Job,
    measure, page,
    progress::{Show, seconds},
};

use super::finetune::open;

/// What `front.json` holds.
#[derive(Debug, Serialize)]
struct FrontFile<'a> {
    dataset: &'a str,
    model: &'a str,
    front: &'a FrontSection,
    seed: u64,
    seconds: f64,
}

pub(super) fn run(args: &cli::Front) -> anyhow::Result<()> {
    let started = Instant::now();
    let (run, config) = open(&args.job, &args.output)?;
    let show = if args.output.json { Show::Json } else { Show::People };
    let job = Job::prepare(config, &run)?;
    run.write("config.toml", toml::to_string(&job.config)?)?;
    let names: Vec<String> = job.objectives.iter().map(|objective| objective.name.clone()).collect();
    if names.len() < 2 {
        return Err(wrong_input("a front needs at least two objectives"));
    }
    if show == Show::People {
        println!("{}", job.describe());
        println!("run: {}", run.path().display());
    }

    let evaluation = &job.config.evaluation;
    let rows = Rows::new(&job.corpus, &job.objectives, Part::Test, job.evaluation_negatives(), evaluation.rows, job.config.seed)?;
    let ranking = Ranking::new(&job.corpus, Part::Test, evaluation.users, &evaluation.top);
    let pretrained = job.new_model(job.config.model.items)?.embed(&job.corpus.tokens, None)?.flatten_all()?.to_vec1::<f32>()?;
    let mut points = Vec::new();
    let mut metric_names: Vec<String> = job.objectives.iter().map(|o| format!("{} {}", o.name, primary_metric(o))).collect();
    let cut = evaluation.top.first().copied().unwrap_or(10);
    let lists = [format!("ndcg@{cut}"), format!("diversity@{cut}"), format!("coverage@{cut}")];
    metric_names.extend(lists.iter().cloned());
    for (number, weights) in balances(names.len(), args.points).into_iter().enumerate() {
        let label = label(&names, &weights);
        let folder = run.join("checkpoints").join(format!("balance-{number}"));
        let (model, _) = measure::train(&job, job.config.model.items, &weights, &folder, &label, None, show)?;
        let known = model.embed(&job.corpus.tokens, None)?;
        let predictions = predict(&model, &job.corpus, &known, &rows)?;
        let mut values = Vec::new();
        for (k, objective) in job.objectives.iter().enumerate() {
            let metrics = value_metrics(objective, &predictions[k], &rows.labels[k], &rows.users);
            values.push(metrics.get(primary_metric(objective)).copied().unwrap_or(f64::NAN));
        }
        // Each balance is served as it was trained: its weights rank.
        let ranked = ranking.model(&model, &job.objectives, &known, &weights, &pretrained)?;
        let listed: BTreeMap<String, f64> = ranked.ranking.into_iter().chain(ranked.list).collect();
        values.extend(lists.iter().map(|name| listed.get(name).copied().unwrap_or(f64::NAN)));
        points.push(FrontPoint {
            label,
            weights: names.iter().cloned().zip(weights).collect(),
            metrics: values,
            on_front: false,
        });
    }
    let (metric_names, points) = keep_measured(metric_names, points);
    let section = FrontSection::measure(metric_names, points)?;

    let mut report = page::opening(
        &format!("Pareto front on {}", job.corpus.dataset.name),
        &job,
        &[
            ("Data set", job.describe()),
            ("Text encoder", job.config.model.source.clone()),
            ("Balances trained", section.points.len().to_string()),
            ("Seed", job.config.seed.to_string()),
            ("Time", seconds(started.elapsed().as_secs_f64())),
        ],
    );
    let table = section.table();
    report = report.front(section.clone()).config(toml::to_string(&job.config)?);
    report.save(run.join("report.html"))?;
    let file = FrontFile {
        dataset: &job.corpus.dataset.name,
        model: &job.config.model.source,
        front: &section,
        seed: job.config.seed,
        seconds: started.elapsed().as_secs_f64(),
    };
    run.write("front.json", serde_json::to_string_pretty(&file)?)?;
    if show == Show::Json {
        println!("{}", serde_json::to_string(&file)?);
        return Ok(());
    }
    let chosen = section.points.iter().filter(|point| point.on_front).count();
    println!("\n{table}");
    println!("{chosen} of {} balances are on the front; hypervolume {:.6}", section.points.len(), section.hypervolume);
    println!("report: {}", run.join("report.html").display());
    Ok(())
}

/// Metrics that some balance lacks cannot be compared and are left out.
fn keep_measured(names: Vec<String>, mut points: Vec<FrontPoint>) -> (Vec<String>, Vec<FrontPoint>) {
    let measured: Vec<bool> = (0..names.len()).map(|m| points.iter().all(|point| point.metrics[m].is_finite())).collect();
    for point in &mut points {
        let mut keep = measured.iter();
        point.metrics.retain(|_| keep.next().copied().unwrap_or(false));
    }
    let mut keep = measured.iter();
    (names.into_iter().filter(|_| keep.next().copied().unwrap_or(false)).collect(), points)
}

/// Balances to train: all equal, each objective alone, then between each objective and the rest, ever closer to equal.
fn balances(objectives: usize, points: usize) -> Vec<Vec<f64>> {
    let mut all = vec![vec![1.0; objectives]];
    all.extend((0..objectives).map(|k| (0..objectives).map(|other| f64::from(u8::from(other == k))).collect::<Vec<f64>>()));
    for strength in [4.0, 2.0, 8.0, 16.0] {
        all.extend((0..objectives).map(|k| (0..objectives).map(|other| if other == k { strength } else { 1.0 }).collect::<Vec<f64>>()));
    }
    all.truncate(points.max(2));
    all
}

fn label(names: &[String], weights: &[f64]) -> String {
    if weights.iter().all(|weight| *weight == weights[0]) {
        return "equal".into();
    }
    let nonzero: Vec<usize> = (0..weights.len()).filter(|k| weights[*k] > 0.0).collect();
    match nonzero.as_slice() {
        [only] => format!("{} alone", names[*only]),
        _ => {
            let top = (0..weights.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b])).unwrap_or(0);
            format!("{} ×{}", names[top], weights[top])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_differ_and_start_with_equal_and_alone() {
        let all = balances(3, 9);
        assert_eq!(all.len(), 9);
        assert_eq!(all[0], vec![1.0, 1.0, 1.0]);
        assert_eq!(all[2], vec![0.0, 1.0, 0.0]);
        for (k, a) in all.iter().enumerate() {
            assert!(all[..k].iter().all(|b| a != b));
        }
    }

    #[test]
    fn labels_say_what_leads() {
        let names = ["click".to_owned(), "rating".to_owned()];
        assert_eq!(label(&names, &[1.0, 1.0]), "equal");
        assert_eq!(label(&names, &[0.0, 1.0]), "rating alone");
        assert_eq!(label(&names, &[4.0, 1.0]), "click ×4");
    }
}
