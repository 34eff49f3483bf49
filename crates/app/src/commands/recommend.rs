//! `recommend`: the best items for somebody, with a score for each objective.

use std::collections::BTreeMap;

use paretune_data::Side;
use paretune_eval::report::{Cell, Table};
use paretune_features::TextTokenizer;
use paretune_objectives::Objective;
use paretune_recommender::{BatchBuilder, Corpus, Encode, Viewer};
use paretune_train::evaluation::{rank_weights, utilities};
use serde::Serialize;

use crate::{
    calibrate, cli,
    failure::wrong_input,
    job::{Job, labelled},
    run_dir::RunDir,
};

use super::finetune::{here, stored_config};

/// One recommended item.
#[derive(Debug, Serialize)]
struct Pick<'a> {
    rank: usize,
    /// `None` for an item given by its text.
    item: Option<&'a str>,
    title: &'a str,
    /// Objective → predicted probability, rating or seconds.
    scores: BTreeMap<&'a str, f32>,
}

pub(super) fn run(args: &cli::Recommend) -> anyhow::Result<()> {
    let run = RunDir::existing(&args.run.run)?;
    let mut config = stored_config(&run)?;
    config.model.device = here(config.model.device, args.run.device);
    let job = Job::finished(config, &run)?;
    let weights = job.asked_weights(&args.weights)?;
    let mut model = job.saved_model(&run)?;
    // Another balance is another model, whose calibration nobody has measured.
    let own = args.weights.is_empty() || model.preference().is_none();
    let calibration = if own { calibrate::read(&run)? } else { None };
    if model.preference().is_some() && !args.weights.is_empty() {
        job.ask(&mut model, &weights)?;
    }
    let corpus = &job.corpus_of(args.user.as_deref())?;

    let (viewer, seen, past) = match &args.user {
        Some(id) => {
            let user = corpus.user(id)?;
            let past = corpus.histories.before(user, i64::MAX, 5, false);
            let past = past.iter().map(|&row| corpus.dataset.events.item[row as usize]).collect::<Vec<_>>();
            (
                Viewer::Known { user, clock: i64::MAX, train_only: false },
                corpus.histories.engaged_items(user, false),
                past,
            )
        }
        None => {
            let history = args.history.iter().map(|id| corpus.item(id)).collect::<Result<Vec<u32>, _>>()?;
            let (columns, query) = (about(args, corpus)?, args.query.clone());
            (Viewer::Described { history: history.clone(), columns, query, clock: i64::MAX }, history.clone(), history)
        }
    };
    let tokenizer = || TextTokenizer::load(&job.files, Some(job.config.model.max_length));
    let known = model.embed(&corpus.tokens, None)?;
    let mut builder = BatchBuilder::new(corpus, 0);
    let asked = builder.request(&viewer);
    if let Some(query) = &args.query {
        let is_feature = args.user.is_none() && reads(corpus, Side::EventContext, "query");
        if !model.config().search && !is_feature {
            return Err(wrong_input(
                "this run's model reads no queries: leave out --query, or train one with --set model.search=true",
            ));
        }
        if model.config().search {
            builder.search(asked, tokenizer()?.encode(&[query])?.sequence(0));
        }
    }
    let request = builder.build(Encode::Nothing);
    let mut scores = model.score(&model.catalogue(corpus, &known, i64::MAX)?, &request, &known)?.remove(0);
    if !args.item_texts.is_empty() {
        let new = model.new_items(corpus, &tokenizer()?.encode(&args.item_texts)?)?;
        let more = model.score(&new, &request, &known)?.remove(0);
        scores.iter_mut().zip(more).for_each(|(all, new)| all.extend(new));
    }

    let hidden = if args.keep_seen { Vec::new() } else { seen };
    let reach = if args.item_texts.is_empty() { args.top } else { usize::MAX };
    // The preference that the model was asked for may hold goals that say nothing of single items.
    let weights = rank_weights(&job.objectives, &weights);
    let top = paretune_eval::top_k(&utilities(&job.objectives, &scores, &weights), reach, &hidden);
    let items = corpus.dataset.items.len();
    // What is shown is calibrated, after the order is found.
    if let Some(calibration) = &calibration {
        let user = args.user.as_deref().map(|id| corpus.user(id)).transpose()?;
        let of = |item: usize| (user, (item < items).then_some(item as u32));
        calibration.apply(corpus, &job.objectives, &mut scores, of)?;
    }
    // A new item is what the question was about: it is shown with its rank wherever it stands.
    let listed = top.iter().copied().enumerate().filter(|(place, item)| *place < args.top || *item as usize >= items);
    let picks: Vec<Pick<'_>> = listed
        .map(|(place, item)| {
            let new = (item as usize).checked_sub(items);
            Pick {
                rank: place + 1,
                item: corpus.dataset.items.ids.get(item as usize).map(String::as_str),
                title: new.map_or_else(|| corpus.title(item), |new| args.item_texts[new].as_str()),
                scores: job
                    .objectives
                    .iter()
                    .zip(&scores)
                    .filter(|(objective, _)| objective.kind.has_labels())
                    .map(|(objective, scores)| (objective.name.as_str(), scores[item as usize]))
                    .collect(),
            }
        })
        .collect();
    if args.run.json {
        println!("{}", serde_json::to_string_pretty(&picks)?);
        return Ok(());
    }
    if !past.is_empty() {
        println!("lately: {}", past.iter().map(|&item| corpus.title(item)).collect::<Vec<_>>().join(" · "));
    }
    println!("{}", table(&job, &picks, &weights));
    Ok(())
}

/// Whether a feature of the run reads a column.
fn reads(corpus: &Corpus, side: Side, column: &str) -> bool {
    corpus.transforms().is_some_and(|all| all.specs().iter().any(|spec| spec.column() == Some((side, column))))
}

/// What is known of somebody new, by column.
fn about(args: &cli::Recommend, corpus: &Corpus) -> anyhow::Result<BTreeMap<String, String>> {
    match args.about.iter().find(|(column, _)| !reads(corpus, Side::User, column)) {
        Some((column, _)) => Err(wrong_input(format!(
            "--about {column}=…: no feature of this run reads the users' column `{column}`; leave it out, or train with such a feature"
        ))),
        None => Ok(args.about.iter().cloned().collect()),
    }
}

fn table(job: &Job, picks: &[Pick<'_>], weights: &[f64]) -> Table {
    let less = |objective: &Objective| if objective.direction.is_more() { "" } else { "less " };
    let by = job.objectives.iter().zip(weights).filter(|(objective, _)| objective.kind.has_labels());
    let by: Vec<String> =
        by.map(|(objective, weight)| format!("{}{} {weight}", less(objective), objective.name)).collect();
    let names = labelled(&job.objectives).map(|objective| objective.name.clone());
    let columns = ["rank", "item", "title"].into_iter().map(str::to_owned).chain(names);
    let mut table = Table::new("Recommendations", columns).note(format!("Ranked by {}.", by.join(", ")));
    for pick in picks {
        let scores = labelled(&job.objectives).map(|objective| {
            let value = f64::from(pick.scores[objective.name.as_str()]);
            Cell::number(value, if value.abs() < 10.0 { 3 } else { 1 })
        });
        let head = [Cell::count(pick.rank), Cell::from(pick.item.unwrap_or("(new)")), Cell::from(pick.title)];
        table = table.row(head.into_iter().chain(scores));
    }
    table
}
