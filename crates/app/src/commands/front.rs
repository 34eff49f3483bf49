//! `front`: a set of balances, and which of them are worth choosing.

use std::time::Instant;

use paretune_eval::report::{Cell, FrontSection, Table};
use serde::Serialize;

use crate::{
    cli,
    config::RunConfig,
    failure::wrong_input,
    job::Job,
    measure::{Bench, train},
    page,
    progress::{Show, seconds},
    run_dir::RunDir,
};

use super::finetune::{open, take_back};

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
    measure(args, &run, config, started).inspect_err(|error| take_back(&run, error))
}

fn measure(args: &cli::Front, run: &RunDir, config: RunConfig, started: Instant) -> anyhow::Result<()> {
    let show = if args.output.json { Show::Json } else { Show::People };
    let job = Job::prepare(config, run)?;
    run.write("config.toml", toml::to_string(&job.config)?)?;
    let names: Vec<String> = job.objectives.iter().map(|objective| objective.name.clone()).collect();
    if names.len() < 2 {
        return Err(wrong_input("a front needs at least two objectives"));
    }
    if show == Show::People {
        println!("{}", job.describe());
        println!("run: {}", run.path().display());
    }

    let mut bench = Bench::new(&job)?;
    bench.keep_vectors(&job.new_model(job.config.model.items)?)?;
    let cut = job.config.evaluation.top.first().copied().unwrap_or(10);
    let shown = ["ndcg", "diversity", "coverage", "provider_gini"].map(|metric| format!("{metric}@{cut}"));
    let mut lists = Table::new("Served by its own weights", ["balance".to_owned()].into_iter().chain(shown.clone()))
        .note("The whole catalogue ranked by each balance's weights for the users of the test part.");
    for (number, weights) in balances(names.len(), args.points).into_iter().enumerate() {
        let label = label(&names, &weights);
        let folder = run.join("checkpoints").join(format!("balance-{number}"));
        let (model, _) = train(&job, job.config.model.items, &weights, &folder, &label, None, show)?;
        let known = model.embed(&job.corpus.tokens, None)?;
        let listed = bench.point(&label, &weights, &model, &known)?;
        let cells = shown.iter().map(|name| listed.get(name).map_or(Cell::Empty, |value| Cell::number(*value, 4)));
        lists = lists.row([Cell::from(label)].into_iter().chain(cells));
    }
    let Some(section) = bench.front()? else {
        return Err(wrong_input("the test part holds labels of fewer than two objectives: there is no front to draw"));
    };

    let mut report = page::opening(
        &format!("Pareto front on {}", job.corpus.dataset.name),
        &job,
        &[
            ("Balances trained", section.points.len().to_string()),
            ("Seed", job.config.seed.to_string()),
            ("Time", seconds(started.elapsed().as_secs_f64())),
        ],
    );
    let table = section.table();
    report = report.front(section.clone()).table(lists.clone()).config(toml::to_string(&job.config)?);
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
    println!("\n{table}\n\n{lists}\n");
    println!("{chosen} of {} balances are on the front; hypervolume {:.6}", section.points.len(), section.hypervolume);
    println!("report: {}", run.join("report.html").display());
    Ok(())
}

/// Balances to train: all equal, each objective alone, then between each objective and the rest, ever closer to equal.
fn balances(objectives: usize, points: usize) -> Vec<Vec<f64>> {
    let mut all = vec![vec![1.0; objectives]];
    all.extend(
        (0..objectives).map(|k| (0..objectives).map(|other| f64::from(u8::from(other == k))).collect::<Vec<f64>>()),
    );
    for strength in [4.0, 2.0, 8.0, 16.0] {
        all.extend(
            (0..objectives)
                .map(|k| (0..objectives).map(|other| if other == k { strength } else { 1.0 }).collect::<Vec<f64>>()),
        );
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
