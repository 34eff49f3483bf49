//! A job over a log that is read shard by shard.

use std::path::Path;
use std::sync::Arc;

use paretune_data::{DataError, Shards, SplitStrategy};
use paretune_features::TextTokenizer;
use paretune_objectives::Objectives;
use paretune_recommender::{CorpusConfig, ItemSource};
use paretune_train::Stream;

use super::{Job, check_template, choose_negatives, corpus_config, model_files, note_cut_texts, refuse_leaks};
use crate::{
    config::{Baseline, RunConfig},
    failure::wrong_input,
    given::Given,
    run_dir::RunDir,
};

/// Deals the log out to the run's `shards/`, if it is not there yet, and reads it once.
pub(super) fn prepare(mut config: RunConfig, run: &RunDir, device: candle_core::Device) -> anyhow::Result<Job> {
    let (objectives, reads) = check(&config)?;
    let kept = run.join("shards");
    let shards = match kept.join("shards.json").is_file() {
        true => Shards::open(&kept)?,
        false => Shards::from_folder(Path::new(&config.data.dataset), &kept, config.data.shards, Some(&tell))?,
    };
    objectives.check_columns(&shards.feedback().iter().collect::<Vec<_>>())?;
    let mut notes = Vec::new();
    let files = model_files(&config.model, run)?;
    let tokenizer = match config.model.items {
        // Nobody reads their texts.
        ItemSource::Ids | ItemSource::Vectors => None,
        ItemSource::Text | ItemSource::Hybrid => Some(TextTokenizer::load(&files, Some(config.model.max_length))?),
    };
    let stream = Stream::new(shards, &config.data.split, reads, tokenizer.as_ref(), config.data.sample)?;
    let corpus = Arc::clone(stream.sample());
    if tokenizer.is_some() {
        check_template(&config.data.template, &corpus.dataset)?;
    }
    refuse_leaks(&config, &corpus.dataset, &corpus.split, &objectives, &mut notes)?;
    notes.push(format!(
        "The log is read in {} shards. Validation, evaluation and the search for leaks look at a sample of {} of {} users, with the whole \
         catalogue; popularity is counted over all events.",
        stream.shards().count(),
        corpus.dataset.users.len(),
        stream.shards().users(),
    ));
    choose_negatives(&mut config, &corpus, &mut notes);
    note_cut_texts(&config, &corpus, &mut notes);
    let given = Given::read(&config.model, &corpus, &device, run, &mut notes)?;
    Ok(Job {
        config,
        corpus,
        stream: Some(stream),
        objectives,
        files,
        cleaning: None,
        notes,
        given,
        facts: std::cell::OnceCell::new(),
        device,
    })
}

/// Says now and then how far the dealing is.
fn tell(rows: u64) {
    // Blocks are smaller than that: each multiple is met by one of them.
    const EVERY: u64 = 5_000_000;
    if rows % EVERY < 65_536 && rows >= EVERY {
        eprintln!("note: {} million events dealt out", rows / 1_000_000);
    }
}

/// The objectives, and what of the tables the model reads. What needs the whole log at once is refused before hours of reading.
fn check(config: &RunConfig) -> anyhow::Result<(Objectives, CorpusConfig)> {
    let name = &config.data.dataset;
    if config.data.from.is_some() || !Path::new(name).join("items.parquet").is_file() {
        return Err(wrong_input(format!(
            "data.stream reads a folder of canonical Parquet tables (items.parquet; events.parquet or events/*.parquet), and {name} is none: \
             turn raw files into one with `cargo xtask import`"
        )));
    }
    if config.refit {
        return Err(wrong_input(
            "refit divides the log once more, which data.stream cannot: leave one of them out".to_owned(),
        ));
    }
    if config.data.train_share != 1.0 {
        return Err(wrong_input(
            "data.train_share draws rows of the whole log, which data.stream does not keep: leave one of them out"
                .to_owned(),
        ));
    }
    let split = &config.data.split;
    if !matches!(split, SplitStrategy::Time { .. } | SplitStrategy::LeaveLast) {
        return Err(DataError::SplitOfShards { strategy: split.name() }.into());
    }
    let objectives = Objectives::new(config.objectives.clone())?;
    let reads = corpus_config(config, &objectives);
    Stream::check(&reads, &config.model.user, config.model.graph.is_some(), &objectives)?;
    let fitted = [(Baseline::ItemKnn, "item-knn"), (Baseline::Ease, "ease"), (Baseline::Mf, "mf")];
    match fitted.iter().find(|(baseline, _)| config.evaluation.baselines.contains(baseline)) {
        Some((_, name)) => Err(wrong_input(format!(
            "the baseline {name} is fitted on all events at once, which data.stream does not keep: leave it out of evaluation.baselines"
        ))),
        None => Ok((objectives, reads)),
    }
}
