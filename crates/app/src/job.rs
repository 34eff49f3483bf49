//! A job's parts, made from its configuration: tables, corpus, objectives, models.

use std::{collections::BTreeSet, fs, path::Path, str::FromStr, sync::Arc};

use paretune_data::{CleaningReport, Dataset, ImportOptions, Part, Split, Transforms, import, keep_share, leaks};
use paretune_encoder::{CacheOptions, Encoder, LoadOptions, Trainable, device_name};
use paretune_eval::report::{Cell, Table};
use paretune_features::{FetchOptions, ModelFiles, ModelSource, Template, TextTokenizer};
use paretune_objectives::{Conditioning, Objective, Objectives};
use paretune_recommender::{
    Auxiliary, Combine, Corpus, CorpusConfig, FeatureConfig, Inputs, ItemSource, ItemVectors, Recommender,
    RecommenderConfig, Start, Taken,
};
use paretune_train::{Stream, evaluation::Candidates};

use crate::{
    config::{ModelConfig, RunConfig},
    embedded,
    failure::wrong_input,
    given::Given,
    run_dir::RunDir,
    tuning,
};

mod streaming;

/// Folder of the run that keeps the trained model.
const MODEL: &str = "model";
/// File of the run that keeps the cleaning report.
const CLEANING: &str = "cleaning.json";

/// What sort of model, and how long it trains: what a comparison varies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    pub(crate) items: ItemSource,
    /// Whether vectors made elsewhere stand beside.
    pub(crate) given: bool,
    pub(crate) conditioning: Conditioning,
    pub(crate) epochs: usize,
}

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
        Ok(Self { config, corpus, stream: None, objectives, files, cleaning, notes, given, device })
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

    /// The model that is configured.
    pub(crate) fn variant(&self) -> Variant {
        let model = &self.config.model;
        let given = !model.vectors.is_empty();
        Variant { items: model.items, given, conditioning: model.conditioning, epochs: self.config.training.epochs }
    }

    /// The model that is configured, with this form of conditioning, trained for so many passes if it is said.
    pub(crate) fn conditioned(&self, conditioning: Conditioning, epochs: Option<usize>) -> Variant {
        let own = self.variant();
        Variant { conditioning, epochs: epochs.unwrap_or(own.epochs), ..own }
    }

    /// A model before training: pretrained item vectors, fresh towers, scales and base rates from the training rows.
    pub(crate) fn new_model(&self, variant: Variant) -> anyhow::Result<Recommender> {
        Ok(self.begin(variant)?.0)
    }

    /// As [`Self::new_model`], and what it took from the run that it begins with.
    pub(crate) fn begin(&self, variant: Variant) -> anyhow::Result<(Recommender, Option<Taken>)> {
        let model = &self.config.model;
        let vectors = match variant.items {
            ItemSource::Ids => self.with_ids(variant, self.config.seed)?,
            ItemSource::Vectors => ItemVectors::Given,
            ItemSource::Text | ItemSource::Hybrid => {
                let memory = model.cache_mib.saturating_mul(1 << 20);
                let options = LoadOptions {
                    trainable: tuning::trainable(model),
                    dropout: model.encoder_dropout,
                    arithmetic: model.arithmetic,
                    recompute: model.recompute,
                    cache: (model.cache_mib > 0).then_some(CacheOptions { memory, folder: None }),
                    device: self.device.clone(),
                    ..LoadOptions::default()
                };
                let mut encoder = Encoder::load(&self.files, &options)?;
                tuning::adapt(&mut encoder, model, self.config.seed)?;
                self.with_text(variant.items, encoder)?
            }
        };
        let sizes = RecommenderConfig {
            dim: model.dim,
            user: model.user.clone(),
            history: model.history,
            users: self.corpus.dataset.users.len(),
            items: self.corpus.dataset.items.len(),
            hide_ids: model.hide_ids,
            ranking: model.ranking,
            repeats: model.repeats,
            search: model.search,
            tasks: model.tasks.clone(),
            tower: model.tower,
            dropout: model.dropout,
            item_features: self.corpus.item_width(),
            user_features: self.corpus.user_width(),
            event_features: self.corpus.event_width(),
            conditioning: variant.conditioning,
            features: self.corpus.transforms().map(|_| model.features.clone()),
        };
        let mut recommender =
            Recommender::new(sizes, self.inputs(vectors, variant), &self.objectives, self.config.seed, &self.device)?;
        recommender.fit(&self.train_labels())?;
        // A baseline of another kind of items has nothing to align.
        let align = model.align.filter(|_| variant.items == model.items);
        let mut recommender = recommender.with_auxiliary(Auxiliary { contrast: model.contrast, align })?;
        recommender.name_features(self.corpus.feature_names());
        // Ids of other data mean nothing here.
        let start = model.start.as_ref().filter(|_| variant.items != ItemSource::Ids);
        let taken = start.map(|run| Start::read(&run.join("model"))?.take(&mut recommender)).transpose()?;
        Ok((recommender, taken))
    }

    /// Saves a trained model; an adapter of its text encoder is merged into the weights there, and is saved by itself as well.
    pub(crate) fn save_model(&self, model: &Recommender, folder: &Path) -> anyhow::Result<()> {
        model.save(folder, &self.files)?;
        tuning::save(model.encoder(), folder, &self.config.model.source)
    }

    /// The model that a run has trained.
    pub(crate) fn saved_model(&self, run: &RunDir) -> anyhow::Result<Recommender> {
        self.saved_model_with(run, Trainable::Nothing)
    }

    /// As [`Self::saved_model`], with these parameters of the text encoder.
    pub(crate) fn saved_model_with(&self, run: &RunDir, trainable: Trainable) -> anyhow::Result<Recommender> {
        let folder = run.join(MODEL);
        if run.join("front.json").is_file() && !folder.is_dir() {
            return Err(wrong_input(format!(
                "{} is a front: it compares balances and keeps no one model; train the one you choose with `finetune --weights …`, \
                 or one model for all of them with --conditioning film",
                run.path().display()
            )));
        }
        if run.join("compare.jsonl").is_file() {
            return Err(wrong_input(format!(
                "{} is a comparison: it keeps no model; train the method you choose with `finetune --balance …`",
                run.path().display()
            )));
        }
        if !folder.is_dir() {
            return Err(wrong_input(format!(
                "{} has no trained model yet; finish it with --resume",
                run.path().display()
            )));
        }
        let vectors = match self.config.model.items {
            ItemSource::Text | ItemSource::Hybrid => {
                let arithmetic = self.config.model.arithmetic;
                let device = self.device.clone();
                let options = LoadOptions { trainable, arithmetic, device, ..LoadOptions::default() };
                self.with_text(self.config.model.items, Encoder::load(&ModelFiles::local(&folder)?, &options)?)?
            }
            ItemSource::Ids => self.with_ids(self.variant(), 0)?,
            ItemSource::Vectors => ItemVectors::Given,
        };
        Ok(Recommender::load(&folder, self.inputs(vectors, self.variant()), &self.device)?)
    }

    /// Item vectors with those made elsewhere, the graph, the prior and the features, as the configuration asks for them.
    fn inputs(&self, vectors: ItemVectors, variant: Variant) -> Inputs {
        let mut inputs = match &self.given.graph {
            Some((graph, config)) => Inputs::with_graph(vectors, graph.clone(), config.clone()),
            None => vectors.into(),
        };
        if self.config.model.popularity {
            inputs = inputs.with_popularity(self.corpus.summary().engagement().to_vec());
        }
        let own = self.variant();
        // A baseline of ids alone has nothing to weigh them against.
        let combine = match (variant.items, variant.given) == (own.items, own.given) {
            true => self.config.model.fusion,
            false => Combine::Sum,
        };
        let given = if variant.given { self.given.vectors.clone() } else { Vec::new() };
        inputs.with_vectors(given, combine).with_features(self.corpus.transforms().cloned())
    }

    /// An id table; beside other vectors, new items have no row of it.
    fn with_ids(&self, variant: Variant, seed: u64) -> anyhow::Result<ItemVectors> {
        let width = self.config.model.dim;
        Ok(match variant.given {
            true => ItemVectors::met_ids(self.corpus.met_in_training(), width, seed, &self.device)?,
            false => ItemVectors::ids(self.corpus.dataset.items.len(), width, seed, &self.device)?,
        })
    }

    /// Item vectors around a text encoder.
    fn with_text(&self, items: ItemSource, encoder: Encoder) -> anyhow::Result<ItemVectors> {
        let encoder = Box::new(encoder);
        if items != ItemSource::Hybrid {
            return Ok(ItemVectors::Text(encoder));
        }
        let met = self.corpus.met_in_training();
        Ok(ItemVectors::hybrid(encoder, met, self.config.model.dim, self.config.seed, &self.device)?)
    }

    /// The labels of the training rows, one column for each objective, with the sampled negatives.
    fn train_labels(&self) -> Vec<Vec<f32>> {
        let rows = self.corpus.split.rows(Part::Train);
        let feedback = &self.corpus.dataset.events.feedback;
        let engaged = feedback.get(&self.config.data.engaged);
        let positives = rows.iter().filter(|&&row| engaged.is_some_and(|column| column[row as usize] > 0.0)).count();
        let sampled = positives * self.config.training.negatives;
        let column = |objective: &Objective| {
            let values = feedback
                .get(&objective.column)
                .into_iter()
                .flat_map(|column| rows.iter().map(|&row| column[row as usize]));
            let negative = if objective.kind.is_binary() { 0.0 } else { f32::NAN };
            values.chain(std::iter::repeat_n(negative, sampled)).collect()
        };
        self.objectives.iter().map(column).collect()
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

/// What of the tables the configured model reads.
fn corpus_config(config: &RunConfig, objectives: &Objectives) -> CorpusConfig {
    let feedback: BTreeSet<&String> =
        objectives.iter().map(|objective| &objective.column).chain([&config.data.engaged]).collect();
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

/// A field that the items do not have would silently leave their texts shorter, or empty.
fn check_template(template: &str, dataset: &Dataset) -> anyhow::Result<()> {
    let items = &dataset.items;
    let category = items.category.as_ref().map(|_| "category");
    let provider = items.provider.as_ref().map(|_| "provider");
    let known: Vec<&str> = items.text.keys().map(String::as_str).chain(category).chain(provider).collect();
    match Template::parse(template)?.fields().into_iter().find(|field| !known.contains(field)) {
        Some(field) => Err(wrong_input(format!(
            "data.template names `{{{field}}}`, which the items of data set \"{}\" do not have; their text fields are: {}",
            dataset.name,
            known.join(", ")
        ))),
        None => Ok(()),
    }
}

/// A column that holds the label, or the future, would be learned instead of what it stands for.
fn refuse_leaks(
    config: &RunConfig,
    dataset: &Dataset,
    split: &Split,
    objectives: &Objectives,
    notes: &mut Vec<String>,
) -> anyhow::Result<()> {
    let columns: Vec<&str> = objectives.iter().map(|objective| objective.column.as_str()).collect();
    let found = leaks::check(dataset, split, &columns, &config.leaks)?;
    let template = Template::parse(&config.data.template)?;
    leaks::refuse(&found, &config.features, &template.fields())?;
    notes.extend(found.iter().map(|leak| format!("Columns that may know too much: {leak}.")));
    Ok(())
}

/// What comes to light only in a feature: a cross, or what was met lately. Features that are fitted once more, for the last training, were
/// looked at before.
fn refuse_leaking_features(
    config: &RunConfig,
    corpus: &Corpus,
    objectives: &Objectives,
    refit: bool,
    notes: &mut Vec<String>,
) -> anyhow::Result<()> {
    let Some(transforms) = corpus.transforms().filter(|_| !refit) else { return Ok(()) };
    let columns: Vec<&str> = objectives.iter().map(|objective| objective.column.as_str()).collect();
    let found = leaks::check_features(transforms, &corpus.dataset, &corpus.split, &columns, &config.leaks)?;
    leaks::refuse(&found, &config.features, &[])?;
    notes.extend(found.iter().map(|leak| format!("Features that may know too much: {leak}.")));
    Ok(())
}

/// Clean tables from wherever the configuration says.
fn tables(config: &RunConfig, quarantine: &Path) -> anyhow::Result<(Dataset, Option<CleaningReport>)> {
    let name = &config.data.dataset;
    if name == embedded::DATASET && config.data.from.is_none() {
        return Ok((embedded::marketplace()?, None));
    }
    let Some(descriptor) = embedded::descriptor(name)? else {
        return Ok((Dataset::read(Path::new(name))?, None));
    };
    let Some(from) = &config.data.from else {
        return Err(wrong_input(format!(
            "data set `{name}` is read from raw files: say where they are with --from DIR"
        )));
    };
    let mut options = ImportOptions { quarantine: Some(quarantine.to_owned()), ..ImportOptions::default() };
    if let Some(share) = config.data.max_bad_share {
        options.max_bad_share = share;
    }
    let (dataset, report) = import(&descriptor, from, options)?;
    Ok((dataset, Some(report)))
}

/// The cleaning report as a table of terminal and page.
pub(crate) fn cleaning_table(report: &CleaningReport) -> Table {
    let dropped = report.files.iter().any(|file| !file.dropped.is_empty());
    let quarantine = report.quarantine.as_ref().filter(|_| dropped);
    let mut table =
        Table::new("Cleaning", ["file", "table", "read", "kept", "repeated", "merged", "dropped", "reasons"])
            .note(quarantine.map_or_else(String::new, |path| format!("Dropped rows are in {}.", path.display())));
    for file in &report.files {
        let count = |value: u64| Cell::count(value as usize);
        let reasons: Vec<String> = file.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        table = table.row([
            Cell::from(file.file.as_str()),
            Cell::from(file.table),
            count(file.read),
            count(file.kept),
            count(file.repeated),
            count(file.merged),
            count(file.dropped.values().sum()),
            Cell::from(reasons.join(", ")),
        ]);
    }
    table
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
