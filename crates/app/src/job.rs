//! A job's parts, made from its configuration: tables, corpus, objectives, models.

use std::{cell::OnceCell, collections::BTreeSet, fs, str::FromStr, sync::Arc};

use paretune_data::{Dataset, Part, Split, Transforms, keep_share};
use paretune_encoder::device_name;
use paretune_eval::report::Table;
use paretune_features::{FetchOptions, ModelFiles, ModelSource, TextTokenizer};
use paretune_objectives::{Objective, Objectives};
use paretune_recommender::{Corpus, CorpusConfig, FeatureConfig, ListFacts, Recommender};
use paretune_train::{Stream, evaluation::Candidates};

use crate::{
    config::{ModelConfig, RunConfig},
    embedded,
    failure::wrong_input,
    given::Given,
    run_dir::RunDir,
};

mod models;
mod streaming;
mod tables;

pub(crate) use models::Variant;
pub(crate) use tables::cleaning_table;
use tables::{check_template, refuse_leaking_features, refuse_leaks, tables};

/// Folder of the run that keeps the trained model.
const MODEL: &str = "model";
/// File of the run that keeps the cleaning report.
const CLEANING: &str = "cleaning.json";

/// Everything a command needs to build and train models.
pub(crate) struct Job {
    pub(crate) config: RunConfig,
    /// The tables; of a log in shards, a sample of its users.
    pub(crate) corpus: Arc<Corpus>,
    /// A log that is read shard by shard.
    pub(crate) stream: Option<Stream>,
    pub(crate) objectives: Objectives,
    pub(crate) files: ModelFiles,
    /// What cleaning did to the raw files, where there were raw files.
    pub(crate) cleaning: Option<Table>,
    /// What a reader of the report should know.
    pub(crate) notes: Vec<String>,
    given: Given,
    /// What goals of lists look at, the same for every model of the job.
    facts: OnceCell<ListFacts>,
    device: candle_core::Device,
}

impl Job {
    /// Reads or imports the tables, fetches the model files, splits and tokenizes. Clean tables are kept in the run's `data/`, so
    /// that a resumed run and later commands read those.
    pub(crate) fn prepare(config: RunConfig, run: &RunDir) -> anyhow::Result<Self> {
        Self::prepare_on(config, run, false, None)
    }

    /// As the model of a finished run sees it: of one that was trained once more, with validation among the training rows.
    pub(crate) fn finished(config: RunConfig, run: &RunDir) -> anyhow::Result<Self> {
        let refit = config.refit;
        // Features that were fitted once stay as they are, whatever becomes of the tables.
        let features = Recommender::saved_features(&run.join(MODEL))?;
        Self::prepare_on(config, run, refit, features)
    }

    fn prepare_on(
        mut config: RunConfig,
        run: &RunDir,
        refit: bool,
        features: Option<Arc<Transforms>>,
    ) -> anyhow::Result<Self> {
        // Before hours of import: a device that is not there shows at once.
        let device = config.model.device.open()?;
        if config.data.stream {
            return streaming::prepare(config, run, device);
        }
        let kept = run.join("data");
        let (mut dataset, cleaning) = if kept.join("events.parquet").is_file() {
            let cleaning = fs::read_to_string(run.join(CLEANING)).ok();
            (Dataset::read(&kept)?, cleaning.and_then(|text| serde_json::from_str(&text).ok()))
        } else {
            let (dataset, report) = tables(&config, &run.join("quarantine.tsv"))?;
            let cleaning = report.as_ref().map(cleaning_table);
            if let Some(table) = &cleaning {
                run.write(CLEANING, serde_json::to_string_pretty(table)?)?;
            }
            dataset.write(&kept)?;
            (dataset, cleaning)
        };
        let objectives = Objectives::new(config.objectives.clone())?;
        objectives.check_customs()?;
        objectives.check_columns(&dataset.events.feedback.keys().collect::<Vec<_>>())?;
        check_template(&config.data.template, &dataset)?;
        let mut notes = Vec::new();
        let files = model_files(&config.model, run)?;
        let tokenizer = TextTokenizer::load(&files, Some(config.model.max_length))?;
        let mut split = Split::new(&dataset, &config.data.split)?;
        refuse_leaks(&config, &dataset, &split, &objectives, &mut notes)?;
        keep_share(&mut dataset, &mut split, config.data.train_share, config.seed)?;
        if refit {
            split = split.without_validation();
        }
        let mut reads = corpus_config(&config, &objectives);
        if features.is_some() {
            reads.features.clear();
        }
        let corpus = Corpus::new(dataset, split, &tokenizer, reads)?;
        let corpus = match features {
            Some(features) => corpus.with_transforms(features)?,
            None => {
                refuse_leaking_features(&config, &corpus, &objectives, refit, &mut notes)?;
                corpus
            }
        };
        if corpus.transforms().is_none() && config.model.features != FeatureConfig::default() {
            notes.push("model.features says what to make of [[features]], of which there are none.".to_owned());
        }
        choose_negatives(&mut config, &corpus, &mut notes);
        note_cut_texts(&config, &corpus, &mut notes);
        let given = Given::read(&config.model, &corpus, &device, run, &mut notes)?;
        let corpus = Arc::new(corpus);
        Ok(Self {
            config,
            corpus,
            stream: None,
            objectives,
            files,
            cleaning,
            notes,
            given,
            facts: OnceCell::new(),
            device,
        })
    }

    /// The tables that hold a user's events, or any where none is asked for.
    pub(crate) fn corpus_of(&self, user: Option<&str>) -> anyhow::Result<Arc<Corpus>> {
        Ok(match (&self.stream, user) {
            (Some(stream), Some(user)) => Arc::new(stream.corpus_of(user)?),
            _ => Arc::clone(&self.corpus),
        })
    }

    /// What the device is called.
    pub(crate) fn device_name(&self) -> String {
        device_name(&self.device)
    }

    /// Sampled negatives for each row of an evaluation.
    pub(crate) fn evaluation_negatives(&self) -> usize {
        if self.corpus.only_positives() { self.config.training.negatives } else { 0 }
    }

    /// Configured weights of the objectives.
    pub(crate) fn weights(&self) -> Vec<f64> {
        self.objectives.iter().map(|objective| objective.weight).collect()
    }

    /// The weights that were asked for on the command line, 0 for objectives that were not named; the run's own if none was.
    pub(crate) fn asked_weights(&self, asked: &[(String, f64)]) -> anyhow::Result<Vec<f64>> {
        let known: Vec<&str> = self.objectives.iter().map(|objective| objective.name.as_str()).collect();
        if let Some((name, _)) = asked.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(wrong_input(format!("unknown objective `{name}`; this run has {}", known.join(", "))));
        }
        if asked.is_empty() {
            return Ok(self.weights());
        }
        let weight = |name: &&str| asked.iter().find(|(asked, _)| asked == name).map_or(0.0, |(_, weight)| *weight);
        Ok(known.iter().map(weight).collect())
    }

    /// Asks a model with conditioning for a balance; what it was never trained for, it does not know.
    pub(crate) fn ask(&self, model: &mut Recommender, weights: &[f64]) -> anyhow::Result<()> {
        let unknown = model.preference().and_then(|shares| {
            self.objectives
                .names()
                .zip(shares.iter().zip(weights))
                .find(|(_, (share, asked))| **share == 0.0 && **asked > 0.0)
        });
        if let Some((name, _)) = unknown {
            return Err(wrong_input(format!(
                "this run's model was not trained for `{name}`: leave it out of --weights"
            )));
        }
        Ok(model.prefer(weights)?)
    }

    /// One line on the tables and the split.
    pub(crate) fn describe(&self) -> String {
        let data = &self.corpus.dataset;
        let (users, events) = match &self.stream {
            Some(stream) => (stream.shards().users(), stream.shards().events()),
            None => (data.users.len() as u64, data.events.len() as u64),
        };
        let part = |part| match &self.stream {
            Some(stream) => stream.rows(part),
            None => self.corpus.split.rows(part).len() as u64,
        };
        format!(
            "{}: {} items, {users} users, {events} events ({} train, {} valid, {} test by {}); {} tokens of item text",
            data.name,
            data.items.len(),
            part(Part::Train),
            part(Part::Valid),
            part(Part::Test),
            self.corpus.split.strategy().name(),
            self.corpus.tokens.tokens(),
        )
    }
}

/// The objectives that have labels.
pub(crate) fn labelled(objectives: &Objectives) -> impl Iterator<Item = &Objective> {
    objectives.iter().filter(|objective| objective.kind.has_labels())
}

/// What of the tables the configured model reads.
fn corpus_config(config: &RunConfig, objectives: &Objectives) -> CorpusConfig {
    let feedback: BTreeSet<&String> =
        labelled(objectives).map(|objective| &objective.column).chain([&config.data.engaged]).collect();
    CorpusConfig {
        engaged: config.data.engaged.clone(),
        feedback: feedback.into_iter().cloned().collect(),
        history: config.model.history,
        reading: config.model.user.kind.reading(),
        template: config.data.template.clone(),
        search: config.model.search,
        features: config.features.clone(),
    }
}

fn note_cut_texts(config: &RunConfig, corpus: &Corpus, notes: &mut Vec<String>) {
    let cut = corpus.tokens.truncated();
    if cut > 0 {
        notes.push(format!(
            "{cut} of {} item texts were cut to {} tokens (model.max_length).",
            corpus.tokens.len(),
            config.model.max_length
        ));
    }
}

/// A data set that logs only what was chosen teaches nothing without something that was not.
fn choose_negatives(config: &mut RunConfig, corpus: &Corpus, notes: &mut Vec<String>) {
    if corpus.only_positives() && config.training.negatives == 0 {
        config.training.negatives = 4;
    }
    let (engaged, negatives) = (&config.data.engaged, config.training.negatives);
    if corpus.only_positives() {
        notes.push(format!(
            "The log holds only positives for `{engaged}`: for each of them {negatives} items that the user did not engage with were \
             sampled uniformly, in training from the items somebody engaged with, in evaluation from {}. AUC and log loss are against \
             those.",
            match config.candidates(Part::Test) {
                Candidates::All => "the whole catalogue",
                Candidates::Seen => "the items that training met",
                Candidates::Unseen => "the items of the part that training never met",
            }
        ));
    } else if negatives > 0 {
        notes.push(format!(
            "In training, {negatives} items that were not shown were sampled for each engagement (`{engaged}`), so that the model \
             can rank the whole catalogue; evaluation is on what was really shown."
        ));
    }
}

fn model_files(model: &ModelConfig, run: &RunDir) -> anyhow::Result<ModelFiles> {
    if model.source == embedded::MODEL {
        return embedded::model(&run.join("pretrained"));
    }
    let source = ModelSource::from_str(&model.source)?;
    let mut options = FetchOptions::default();
    options.offline |= model.offline;
    options.progress = true;
    Ok(source.fetch(&options)?)
}
