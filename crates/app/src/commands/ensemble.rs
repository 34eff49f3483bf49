//! `ensemble`: several runs' models, and what they say together.

use std::collections::BTreeMap;

use candle_core::Tensor;
use paretune_data::Part;
use paretune_encoder::Trainable;
use paretune_eval::report::Table;
use paretune_recommender::{Corpus, Recommender};
use paretune_train::evaluation::{Ensemble, Ranked, Ranking};

use crate::{cli, failure::wrong_input, job::Job, run_dir::RunDir};

use super::finetune::{here, stored_config};

/// A run's model with everything it needs.
struct Member {
    name: String,
    run: RunDir,
    job: Job,
    model: Recommender,
    known: Tensor,
}

impl Member {
    fn load(path: &std::path::Path) -> anyhow::Result<Self> {
        let run = RunDir::existing(path)?;
        let mut config = stored_config(&run)?;
        config.model.device = here(config.model.device, None);
        let job = Job::finished(config, &run)?;
        // Weights can be averaged only where they are parameters.
        let model = job.saved_model_with(&run, Trainable::All)?;
        let known = model.embed(&job.corpus.tokens, None)?;
        let name = run.path().file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned());
        Ok(Self { name, run, job, model, known })
    }

    fn parts(&self) -> (&Recommender, &Corpus, &Tensor) {
        (&self.model, &self.job.corpus, &self.known)
    }
}

pub(super) fn run(args: &cli::Ensemble) -> anyhow::Result<()> {
    if args.runs.len() < 2 {
        return Err(wrong_input("an ensemble needs at least two runs: --runs runs/a,runs/b".to_owned()));
    }
    let members = args.runs.iter().map(|path| Member::load(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let first = &members[0];
    members.iter().try_for_each(|member| check(first, member))?;
    let evaluation = &first.job.config.evaluation;
    let ranking = Ranking::among(
        first.job.config.candidates(Part::Test),
        &first.job.corpus,
        Part::Test,
        evaluation.users,
        &evaluation.top,
    );
    let mut columns: Vec<(String, Ranked)> = Vec::new();
    let weights = first.job.config.rank_weights();
    let rank = |models: &[(&Recommender, &Corpus, &Tensor)], how| -> anyhow::Result<Ranked> {
        Ok(ranking.ensemble(models, how, &first.job.objectives, &weights, &[])?)
    };
    for member in &members {
        columns.push((member.name.clone(), rank(&[member.parts()], Ensemble::Scores)?));
    }
    let parts: Vec<_> = members.iter().map(Member::parts).collect();
    columns.push(("scores".into(), rank(&parts, Ensemble::Scores)?));
    columns.push(("ranks".into(), rank(&parts, Ensemble::Ranks)?));
    let mut notes = String::from("scores, ranks: the mean of standardised scores, reciprocal rank fusion.");
    let mut soup = first.job.saved_model_with(&first.run, Trainable::All)?;
    let others: Vec<&Recommender> = members.iter().skip(1).map(|member| &member.model).collect();
    match soup.soup(&others) {
        Ok(()) => {
            let known = soup.embed(&first.job.corpus.tokens, None)?;
            columns.push(("weights".into(), rank(&[(&soup, &first.job.corpus, &known)], Ensemble::Scores)?));
            notes.push_str(" weights: one model with the mean of all weights.");
            if let Some(folder) = &args.soup {
                first.job.save_model(&soup, folder)?;
            }
        }
        Err(error) if args.soup.is_some() => return Err(wrong_input(error.to_string())),
        Err(error) => notes.push_str(&format!(" Weights were not averaged: {error}.")),
    }
    print(args, &columns, ranking.len(), &notes)
}

/// Runs of other tables, or another split, were trained on what this one is tested on.
fn check(first: &Member, other: &Member) -> anyhow::Result<()> {
    let (ours, theirs) = (&first.job.corpus, &other.job.corpus);
    let same = ours.dataset.items.ids == theirs.dataset.items.ids
        && ours.dataset.users.ids == theirs.dataset.users.ids
        && ours.split == theirs.split;
    let objectives = first.job.objectives.names().eq(other.job.objectives.names());
    match same && objectives {
        true => Ok(()),
        false => Err(wrong_input(format!(
            "{} and {} do not fit together: runs of an ensemble share data set, split and objectives",
            first.run.path().display(),
            other.run.path().display()
        ))),
    }
}

fn print(args: &cli::Ensemble, columns: &[(String, Ranked)], users: usize, notes: &str) -> anyhow::Result<()> {
    if args.json {
        let of = |(name, ranked): &(String, Ranked)| (name.clone(), ranked.ranking.clone());
        let all: BTreeMap<String, BTreeMap<String, f64>> = columns.iter().map(of).collect();
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "users": users, "ranking": all }))?);
        return Ok(());
    }
    let names = columns.iter().map(|(name, _)| name.clone());
    let mut table = Table::new("Ranking the whole catalogue", std::iter::once("metric".to_owned()).chain(names))
        .note(format!("{users} users of the test part. {notes}"));
    for metric in columns[0].1.ranking.keys() {
        let cells: Vec<Option<f64>> = columns.iter().map(|(_, ranked)| ranked.ranking.get(metric).copied()).collect();
        table = table.compare(&[], metric, &cells);
    }
    println!("{table}");
    Ok(())
}
