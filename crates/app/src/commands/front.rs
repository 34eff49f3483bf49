//! `front`: a set of balances, and which of them are worth choosing.

mod forms;

use std::time::Instant;

use paretune_eval::report::{Cell, FrontSection, Table};
use paretune_objectives::{Conditioning, Objective, Objectives};
use paretune_recommender::{ItemSource, Recommender};
use serde::Serialize;

use crate::{
    cli,
    config::RunConfig,
    failure::wrong_input,
    fit::{self, Fit},
    job::{Job, Variant},
    measure::Bench,
    page,
    progress::{Show, seconds},
    run_dir::RunDir,
};

use super::finetune::{open, take_back};
use forms::{Form, Summary};

/// Number of balances unless another is asked for.
const POINTS: usize = 7;
/// Metrics of the lists that each balance serves.
const SERVED: [&str; 4] = ["ndcg", "diversity", "coverage", "provider_gini"];

/// What `front.json` holds.
#[derive(Debug, Serialize)]
struct FrontFile<'a> {
    dataset: &'a str,
    model: &'a str,
    front: &'a FrontSection,
    /// With `--compare`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    forms: Vec<Summary>,
    seed: u64,
    seconds: f64,
}

pub(super) fn run(args: &cli::Front) -> anyhow::Result<()> {
    let started = Instant::now();
    let (run, config, own) = open(&args.job, &args.output, "front", &args.own)?;
    measure(args, &own, &run, config, started).inspect_err(|error| take_back(&run, error))
}

fn measure(
    args: &cli::Front,
    own: &cli::Balances,
    run: &RunDir,
    config: RunConfig,
    started: Instant,
) -> anyhow::Result<()> {
    let show = if args.output.json { Show::Json } else { Show::People };
    if config.refit {
        return Err(wrong_input("a front compares balances and does not train them once more: leave --refit out"));
    }
    let job = Job::prepare(config, run)?;
    run.write("config.toml", toml::to_string(&job.config)?)?;
    if job.objectives.len() < 2 {
        return Err(wrong_input("a front needs at least two objectives"));
    }
    if show == Show::People {
        println!("{}", job.describe());
        println!("run: {}", run.path().display());
    }

    let mut bench = Bench::new(&job)?;
    if !own.exits.is_empty() {
        bench.count_layers();
    }
    let untrained = job.new_model(job.variant())?;
    bench.keep_vectors(&untrained, &untrained.embed(&job.corpus.tokens, None)?)?;
    let cut = job.config.evaluation.top.first().copied().unwrap_or(10);
    let shown = SERVED.map(|metric| format!("{metric}@{cut}"));
    let lists = Table::new("Served by its own weights", ["balance".to_owned()].into_iter().chain(shown.clone()))
        .note("The whole catalogue ranked by each balance's weights for the users of the test part.");
    if !own.exits.is_empty() && !matches!(job.config.model.items, ItemSource::Text | ItemSource::Hybrid) {
        return Err(wrong_input("--exits leaves a text encoder early: items = \"text\" or \"hybrid\" has one"));
    }
    let exits = match own.exits.as_slice() {
        [] => vec![job.config.model.exit_after],
        exits => exits.iter().copied().map(Some).collect(),
    };
    let mut points = Points { job: &job, run, show, shown, bench, lists, measured: 0 };
    let wanted = match own.compare {
        true => vec![Conditioning::None, Conditioning::Film, Conditioning::Hypernetwork],
        false => vec![job.config.model.conditioning],
    };
    let balances = balances(&job.objectives, own.points);
    for conditioning in wanted.iter().copied().filter(|form| !form.is_none()) {
        // What cannot be trained shows before anything is.
        let model = job.new_model(job.conditioned(conditioning, own.conditioned_epochs))?;
        fit::check(&job, &model, &job.config.balance)?;
    }
    let mut all = Vec::new();
    for conditioning in wanted {
        for &exit_after in &exits {
            let mut prefix = if own.compare { format!("{}: ", forms::name(conditioning)) } else { String::new() };
            if let (Some(layers), false) = (exit_after, own.exits.is_empty()) {
                prefix.push_str(&format!("{layers} layers, "));
            }
            let variant = Variant { exit_after, ..job.conditioned(conditioning, own.conditioned_epochs) };
            all.push(match conditioning {
                Conditioning::None => points.separate(variant, &balances, &prefix)?,
                _ => points.together(variant, &balances, &prefix, !own.compare && exits.len() == 1)?,
            });
        }
    }
    let Points { bench, lists, .. } = points;
    let Some(section) = bench.front()? else {
        return Err(wrong_input("the test part holds labels of fewer than two objectives: there is no front to draw"));
    };
    let summaries = if own.compare { forms::compare(&section, &all)? } else { Vec::new() };

    let mut report = page::opening(
        &format!("Pareto front on {}", job.corpus.dataset.name),
        &job,
        &[
            ("Balances", balances.len().to_string()),
            ("Models trained", all.iter().map(|form| form.trainings).sum::<usize>().to_string()),
            ("Seed", job.config.seed.to_string()),
            ("Device", job.device_name()),
            ("Time", seconds(started.elapsed().as_secs_f64())),
        ],
    );
    let table = section.table();
    let compared = (!summaries.is_empty()).then(|| forms::table(&summaries));
    if let Some(compared) = &compared {
        report = report.table(compared.clone());
    }
    report = report.front(section.clone()).table(lists.clone()).config(toml::to_string(&job.config)?);
    report.save(run.join("report.html"))?;
    let file = FrontFile {
        dataset: &job.corpus.dataset.name,
        model: &job.config.model.source,
        front: &section,
        forms: summaries,
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
    if let Some(compared) = compared {
        println!("{compared}\n");
    }
    println!("{chosen} of {} balances are on the front; hypervolume {:.6}", section.points.len(), section.hypervolume);
    println!("report: {}", run.join("report.html").display());
    Ok(())
}

/// Trains what is asked for and measures it at each balance.
struct Points<'a> {
    job: &'a Job,
    run: &'a RunDir,
    show: Show,
    shown: [String; SERVED.len()],
    bench: Bench<'a>,
    lists: Table,
    measured: usize,
}

impl Points<'_> {
    /// One model for each balance.
    fn separate(&mut self, variant: Variant, balances: &[Vec<f64>], prefix: &str) -> anyhow::Result<Form> {
        let (first, mut seconds) = (self.measured, 0.0);
        let variant = Variant { epochs: self.job.variant().epochs, ..variant };
        let folder = |number: usize| match (variant.exit_after, variant.exit_after == self.job.variant().exit_after) {
            (Some(layers), false) => format!("balance-{number}-exit-{layers}"),
            _ => format!("balance-{number}"),
        };
        for (number, weights) in balances.iter().enumerate() {
            let label = format!("{prefix}{}", self.label(weights));
            let (model, took) = self.train(variant, weights, &folder(number), &label)?;
            seconds += took;
            self.measure(&label, weights, &model)?;
        }
        Ok(Form { conditioning: Conditioning::None, trainings: balances.len(), seconds, points: first..self.measured })
    }

    /// One model that is asked for each of them; it goes into the run if it is to be kept.
    fn together(&mut self, variant: Variant, balances: &[Vec<f64>], prefix: &str, keep: bool) -> anyhow::Result<Form> {
        let first = self.measured;
        let conditioning = variant.conditioning;
        let name = match (variant.exit_after, variant.exit_after == self.job.variant().exit_after) {
            (Some(layers), false) => &format!("{}-exit-{layers}", conditioning.name()),
            _ => conditioning.name(),
        };
        let (mut model, seconds) = self.train(variant, &vec![1.0; self.job.objectives.len()], name, name)?;
        if keep {
            self.job.save_model(&model, &self.run.join("model"))?;
        }
        for weights in balances {
            model.prefer(weights)?;
            self.measure(&format!("{prefix}{}", self.label(weights)), weights, &model)?;
        }
        Ok(Form { conditioning, trainings: 1, seconds, points: first..self.measured })
    }

    fn train(
        &self,
        variant: Variant,
        weights: &[f64],
        folder: &str,
        label: &str,
    ) -> anyhow::Result<(Recommender, f64)> {
        let folder = self.run.join("checkpoints").join(folder);
        let started = Instant::now();
        let (model, (outcome, progress)) = Fit::new(variant, weights, &folder, label).run(self.job, self.show)?;
        // A training that was finished before costs no more for being looked at again.
        let took = if outcome.steps > progress.first_step { started.elapsed().as_secs_f64() } else { 0.0 };
        Ok((model, forms::record(&folder, took)?))
    }

    fn measure(&mut self, label: &str, weights: &[f64], model: &Recommender) -> anyhow::Result<()> {
        let known = model.embed(&self.job.corpus.tokens, None)?;
        let listed = self.bench.point(label, weights, model, &known)?;
        let cells = self.shown.iter().map(|name| listed.get(name).map_or(Cell::Empty, |value| Cell::number(*value, 4)));
        self.lists = std::mem::take(&mut self.lists).row([Cell::from(label)].into_iter().chain(cells));
        self.measured += 1;
        Ok(())
    }

    fn label(&self, weights: &[f64]) -> String {
        if self.job.objectives.iter().any(|objective| !objective.kind.has_labels()) {
            return goals_label(&self.job.objectives, weights);
        }
        let names: Vec<String> = self.job.objectives.names().map(str::to_owned).collect();
        label(&names, weights)
    }
}

/// Balances to train. With goals that have no labels (of lists, of cost): what there is without any, then with each of them, ever stronger, and
/// with all; the others keep their weights.
fn balances(objectives: &Objectives, points: Option<usize>) -> Vec<Vec<f64>> {
    let labelled = |k: &usize| objectives.as_slice()[*k].kind.has_labels();
    let goals: Vec<usize> = (0..objectives.len()).filter(|k| !labelled(k)).collect();
    if goals.is_empty() {
        return between(objectives.len(), points.unwrap_or(POINTS));
    }
    let with = |strength: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let weight = |(k, objective): (usize, &Objective)| match objective.kind {
            kind if kind.has_labels() => objective.weight,
            _ => objective.weight * strength(k),
        };
        objectives.iter().enumerate().map(weight).collect()
    };
    let mut all = vec![with(&|_| 0.0)];
    for factor in STRENGTHS {
        all.extend(goals.iter().map(|&goal| with(&|k| if k == goal { factor } else { 0.0 })));
        if goals.len() > 1 {
            all.push(with(&|_| factor));
        }
    }
    all.truncate(points.unwrap_or(1 + 2 * (goals.len() + usize::from(goals.len() > 1))).max(2));
    all
}

/// Times a goal's own weight.
const STRENGTHS: [f64; 5] = [1.0, 4.0, 0.25, 16.0, 2.0];

fn goals_label(objectives: &Objectives, weights: &[f64]) -> String {
    let goals: Vec<String> = objectives
        .iter()
        .zip(weights)
        .filter(|(objective, weight)| !objective.kind.has_labels() && **weight > 0.0)
        .map(|(objective, weight)| format!("{} {weight}", objective.name))
        .collect();
    if goals.is_empty() { "no goal".to_owned() } else { goals.join(", ") }
}

/// All equal, each objective alone, then between each objective and the rest, ever closer to equal.
fn between(objectives: usize, points: usize) -> Vec<Vec<f64>> {
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
        let all = between(3, 9);
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
