//! The configuration of a run: what the data set suggests, what the user's file says, what the flags say, in that order.

mod start;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use paretune_data::{FeatureSpec, Part, SplitStrategy, VectorFile, leaks::LeakThresholds};
use paretune_encoder::{Arithmetic, DeviceChoice};
use paretune_objectives::{Architecture, Conditioning, Objective};
use paretune_recommender::{
    AlignConfig, Combine, ContrastConfig, FeatureConfig, GraphConfig, ItemSource, RankingLoss, UserConfig,
};
use paretune_train::{BalanceConfig, TrainingConfig, evaluation::Candidates};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{
    cli, embedded,
    failure::wrong_input,
    tuning::{self, LoraSettings, Tune},
};

/// Everything that determines a run. Written resolved to `config.toml`, which reproduces it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunConfig {
    /// Seed of everything random.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    pub(crate) data: DataConfig,
    #[serde(default)]
    pub(crate) model: ModelConfig,
    #[serde(default)]
    pub(crate) balance: BalanceConfig,
    #[serde(default)]
    pub(crate) training: TrainingConfig,
    #[serde(default)]
    pub(crate) evaluation: EvaluationConfig,
    /// Whether the model is trained once more when validation has chosen its length: from the beginning, for as many passes, on the rows of
    /// training and of validation, which are the newest.
    #[serde(default)]
    pub(crate) refit: bool,
    /// From where on a column that knows too much is reported, and refused.
    #[serde(default)]
    pub(crate) leaks: LeakThresholds,
    pub(crate) objectives: Vec<Objective>,
    /// Features of columns of users and items, and of moments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) features: Vec<FeatureSpec>,
}

fn one() -> u64 {
    1
}

fn all() -> f64 {
    1.0
}

fn is_all(share: &f64) -> bool {
    *share == 1.0
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// `marketplace`, a known data set, a descriptor, or a folder of Parquet tables.
    pub(crate) dataset: String,
    /// Folder with the raw files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<PathBuf>,
    /// How the log is divided.
    pub(crate) split: SplitStrategy,
    /// Feedback column whose positive value makes an event part of the history.
    pub(crate) engaged: String,
    /// How an item's fields become its text.
    pub(crate) template: String,
    /// Share of the rows of training and validation that are kept, by whole requests and by chance: how it would be with a shorter log.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub(crate) train_share: f64,
    /// Stop when more than this share of the raw rows is bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_bad_share: Option<f64>,
    /// Whether the log is read shard by shard instead of kept in memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stream: bool,
    /// Number of shards, with `stream`.
    #[serde(default = "shards", skip_serializing_if = "is_shards")]
    pub(crate) shards: usize,
    /// Users that validation and evaluation look at, with `stream`, about.
    #[serde(default = "sample", skip_serializing_if = "is_sample")]
    pub(crate) sample: usize,
}

fn shards() -> usize {
    64
}

fn is_shards(count: &usize) -> bool {
    *count == shards()
}

fn sample() -> usize {
    10_000
}

fn is_sample(users: &usize) -> bool {
    *users == sample()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelConfig {
    /// `builtin`, a directory, or a Hub model.
    pub(crate) source: String,
    /// The run whose model this one begins with; `source` is its text encoder then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<PathBuf>,
    /// What an item's vector is made from: `text`, `ids`, `hybrid` (both), or `vectors` alone.
    pub(crate) items: ItemSource,
    /// Share of the items whose id training hides where something else is known of them: new items have none.
    pub(crate) hide_ids: f64,
    /// What makes a user's vector of a history.
    pub(crate) user: UserConfig,
    /// Propagation of vectors over a graph of users, items and what items share; absent = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<GraphConfig>,
    /// The loss of objectives of kind `ranking`.
    pub(crate) ranking: RankingLoss,
    /// Whether rankings may bring what a user has met already.
    pub(crate) repeats: bool,
    /// Whether what users search for (the events' column `query`) is part of a request.
    pub(crate) search: bool,
    /// Whether rankings add `w ln(1 + n)` to the score of an item that training engaged with `n` times, `w` learned.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) popularity: bool,
    /// Where the model lies: `auto`, `cpu`, `cuda:0`, `metal:0` or another number.
    pub(crate) device: DeviceChoice,
    /// Train the last layers only; absent = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) train_layers: Option<usize>,
    /// What of the text encoder is trained: `full` (its own weights), `biases`, `lora` or `ia3`.
    pub(crate) tune: Tune,
    /// The low-rank adapter of `tune = "lora"`.
    pub(crate) lora: LoraSettings,
    /// Folder of an adapter to go on with, as `peft` writes it; absent = a fresh one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<PathBuf>,
    /// How the encoder multiplies matrices: `f32`, or `bf16` where the processor has the instructions (weights stay `f32`).
    pub(crate) arithmetic: Arithmetic,
    /// Compute a layer's inner values again in the backward pass instead of keeping them.
    pub(crate) recompute: bool,
    /// Memory for what frozen layers make of each text, in MiB; 0 = compute it every time.
    pub(crate) cache_mib: usize,
    /// Tokens an item's text is cut to.
    pub(crate) max_length: usize,
    /// Dropout in the text encoder; absent = as its own files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encoder_dropout: Option<f64>,
    /// Width of the shared representation.
    pub(crate) dim: usize,
    /// What task towers share: `shared-bottom`, or a table with the name of an architecture (`mmoe`, `ple`, …) and its sizes.
    #[serde(skip_serializing_if = "Architecture::is_shared_bottom")]
    pub(crate) tasks: Architecture,
    /// Hidden width of a task tower.
    pub(crate) tower: usize,
    /// Dropout in the task towers.
    pub(crate) dropout: f64,
    /// Whether the model takes the objectives' weights as an input and answers for every balance: `none`, `film` or `hypernetwork`.
    pub(crate) conditioning: Conditioning,
    /// Past events the user tower sees.
    pub(crate) history: usize,
    /// Never touch the network.
    pub(crate) offline: bool,
    /// How text, id and the vectors of `vectors` become one: `sum`, or `gate`.
    pub(crate) fusion: Combine,
    /// Vectors of items that were made elsewhere, such as of images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) vectors: Vec<VectorFile>,
    /// Training adds the contrast of two changed versions of each history to the loss of the first ranking; absent = it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contrast: Option<ContrastConfig>,
    /// Training adds the alignment of texts and ids, with `items = "hybrid"`, to the loss of the first ranking; absent = it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) align: Option<AlignConfig>,
    /// What is made of `[[features]]`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) features: FeatureConfig,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ModelConfig {
    /// What items are known by, for people.
    pub(crate) fn known_by(&self) -> String {
        let own = (self.items != ItemSource::Vectors).then(|| self.items.name());
        let all: Vec<&str> = own.into_iter().chain(self.vectors.iter().map(|file| file.name.as_str())).collect();
        match self.fusion {
            Combine::Sum => all.join(", "),
            Combine::Gate => format!("{} (gated)", all.join(", ")),
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            source: "builtin".into(),
            start: None,
            items: ItemSource::Text,
            hide_ids: 0.1,
            user: UserConfig::default(),
            graph: None,
            ranking: RankingLoss::default(),
            repeats: true,
            search: false,
            popularity: false,
            device: DeviceChoice::Auto,
            train_layers: None,
            tune: Tune::Full,
            lora: LoraSettings::default(),
            adapter: None,
            arithmetic: Arithmetic::F32,
            recompute: false,
            cache_mib: 1024,
            max_length: 64,
            encoder_dropout: None,
            dim: 64,
            tasks: Architecture::SharedBottom,
            tower: 64,
            dropout: 0.1,
            conditioning: Conditioning::None,
            history: 20,
            offline: false,
            fusion: Combine::Sum,
            vectors: Vec::new(),
            contrast: None,
            align: None,
            features: FeatureConfig::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    /// What to compare with.
    pub(crate) baselines: Vec<Baseline>,
    /// Cut-offs of the ranking metrics; list metrics use the first.
    pub(crate) top: Vec<usize>,
    /// Users that are ranked for, at most.
    pub(crate) users: usize,
    /// Test rows, at most.
    pub(crate) rows: usize,
    /// What the full ranking ranks by; the first objective by default.
    pub(crate) rank_by: BTreeMap<String, f64>,
    /// The items that are ranked and that negatives are drawn from: `all`, `seen` in training, or `unseen`; absent = `unseen` for a split
    /// by items, `all` for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) candidates: Option<Candidates>,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        use Baseline::{ItemMean, Popularity, SingleObjective, Untrained};
        Self {
            baselines: vec![Untrained, Popularity, ItemMean, SingleObjective],
            top: vec![10, 20],
            users: 1000,
            rows: 100_000,
            rank_by: BTreeMap::new(),
            candidates: None,
        }
    }
}

/// What a model is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Baseline {
    /// The same model before training: pretrained encoder, fresh towers.
    Untrained,
    /// The item's popularity alone.
    Popularity,
    /// The item's mean label.
    ItemMean,
    /// Item neighbours by cosine (Sarwar et al. 2001); ranks only.
    ItemKnn,
    /// Item weights in closed form (EASE: Steck 2019); ranks only.
    Ease,
    /// Matrix factorization by alternating least squares (Hu et al. 2008); ranks only.
    Mf,
    /// A ranking by chance.
    Random,
    /// For each objective a model trained on it alone.
    SingleObjective,
    /// The same model with an id table in place of the text encoder.
    Ids,
}

impl RunConfig {
    /// Resolves flags, file and the data set's suggestions.
    pub(crate) fn resolve(job: &cli::Job) -> anyhow::Result<Self> {
        let file = match &job.config {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| wrong_input(format!("cannot read {}: {error}", path.display())))?;
                parse(&text, path)?
            }
            None => Table::new(),
        };
        let named = file.get("data").and_then(|data| data.get("dataset")).and_then(Value::as_str);
        let dataset = job.dataset.as_deref().or(named).unwrap_or(embedded::DATASET).to_owned();
        // A file that says everything (a run's config.toml does) needs no suggestion.
        let complete =
            file.contains_key("objectives") && file.get("data").is_some_and(|data| data.get("split").is_some());
        let flags = flags(job, &dataset)?;
        let stream = |table: &Table| table.get("data")?.get("stream")?.as_bool();
        let streams = stream(&flags).or_else(|| stream(&file)).unwrap_or(false);
        if streams && !complete {
            return Err(wrong_input(
                "data.stream reads no table before it is told what to train: say in a --config file which objectives there are (of kind \
                 \"ranking\"), data.split, data.engaged and data.template; docs/scale.md has one to begin with",
            ));
        }
        let mut merged = if complete && (streams || job.dataset.is_none()) {
            Table::new()
        } else {
            suggestions(&embedded::suggestions(&dataset)?)
        };
        // One bound can be set without the other.
        let leaks = Value::try_from(LeakThresholds::default()).context("the default thresholds are a table")?;
        merged.entry("leaks").or_insert(leaks);
        let start = start::settings(&file, &flags)?;
        merge(&mut merged, start.beneath);
        merge(&mut merged, file);
        merge(&mut merged, flags);
        merge(&mut merged, start.above);
        suggest_learning_rate(&mut merged);
        let mut config: Self = Value::Table(merged)
            .try_into()
            .map_err(|error| wrong_input(format!("the configuration does not fit: {error}")))?;
        config.choose(job)?;
        if let (Some(run), ItemSource::Ids) = (&config.model.start, config.model.items) {
            return Err(wrong_input(format!(
                "--start {} with items = \"ids\": only a model that reads texts can start from another run; set items to \"text\" or \
                 \"hybrid\"",
                run.display()
            )));
        }
        if config.evaluation.top.is_empty() || config.evaluation.top.contains(&0) {
            let top = &config.evaluation.top;
            return Err(wrong_input(format!(
                "evaluation.top = {top:?}: give at least one cut-off, each at least 1, as in [10, 20]"
            )));
        }
        Ok(config)
    }

    /// Keeps the objectives that were asked for and sets their weights.
    fn choose(&mut self, job: &cli::Job) -> anyhow::Result<()> {
        let known: Vec<String> = self.objectives.iter().map(|objective| objective.name.clone()).collect();
        let check = |name: &String| {
            let list = known.join(", ");
            if known.contains(name) {
                Ok(())
            } else {
                Err(wrong_input(format!("unknown objective `{name}`; this data set has {list}")))
            }
        };
        job.objectives.iter().try_for_each(&check)?;
        job.weights.iter().try_for_each(|(name, _)| check(name))?;
        self.evaluation.rank_by.keys().try_for_each(&check)?;
        if !job.objectives.is_empty() {
            self.objectives.retain(|objective| job.objectives.contains(&objective.name));
        }
        if !job.weights.is_empty() {
            for objective in &mut self.objectives {
                let given = job.weights.iter().find(|(name, _)| *name == objective.name);
                objective.weight = given.map_or(0.0, |(_, weight)| *weight);
            }
        }
        Ok(())
    }

    /// The same with other settings of how it is measured: what trained the model stays.
    pub(crate) fn measured_with(self, settings: &[String]) -> anyhow::Result<Self> {
        if settings.is_empty() {
            return Ok(self);
        }
        let Value::Table(mut table) = Value::try_from(&self).context("a configuration is a table")? else {
            return Ok(self);
        };
        for setting in settings {
            let (path, value) = parse_setting(setting)?;
            if !path.starts_with("evaluation.") && path != "data.split.given" {
                return Err(wrong_input(format!(
                    "--set {setting}: of a finished run only evaluation.* and data.split.given can be set; {path} is what it was \
                     trained with"
                )));
            }
            put(&mut table, path, value);
        }
        Value::Table(table).try_into().map_err(|error| wrong_input(format!("the configuration does not fit: {error}")))
    }

    /// The items that an evaluation of this part holds against each other.
    pub(crate) fn candidates(&self, part: Part) -> Candidates {
        self.evaluation.candidates.unwrap_or_else(|| Candidates::usual(&self.data.split, part))
    }

    /// Weights of the objectives for the full ranking.
    pub(crate) fn rank_weights(&self) -> Vec<f64> {
        let by = &self.evaluation.rank_by;
        self.objectives
            .iter()
            .enumerate()
            .map(|(k, objective)| match by.is_empty() {
                true => f64::from(u8::from(k == 0)),
                false => by.get(&objective.name).copied().unwrap_or(0.0),
            })
            .collect()
    }
}

/// Reads TOML, or says in one line where it is wrong.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(text: &str, path: &Path) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| format!(", line {}", before.matches('\n').count() + 1)).unwrap_or_default();
        wrong_input(format!("{}{line}: {}", path.display(), error.message()))
    })
}

/// A large pretrained encoder wants small steps; the small built-in one has more to learn and can take larger ones.
fn suggest_learning_rate(merged: &mut Table) {
    let source = merged.get("model").and_then(|model| model.get("source")).and_then(Value::as_str);
    let is_builtin = source.is_none_or(|source| source == embedded::MODEL);
    let tune = merged.get("model").and_then(|model| model.get("tune")).cloned();
    // A word that is none of them is refused where the configuration is read.
    let tune = tune.and_then(|tune| tune.try_into().ok()).unwrap_or_default();
    let rate = tuning::learning_rate(tune, is_builtin);
    let training = merged.entry("training").or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(training) = training {
        training.entry("backbone_learning_rate").or_insert(rate.into());
    }
}

/// A descriptor's `[finetune]` table in the shape of a run's configuration: `template`, `split` and `engaged` belong to the data,
/// `negatives` to training.
fn suggestions(table: &Table) -> Table {
    let mut result = Table::new();
    let mut data = Table::new();
    let mut training = Table::new();
    for (key, value) in table {
        match key.as_str() {
            "template" | "split" | "engaged" => drop(data.insert(key.clone(), value.clone())),
            "negatives" => drop(training.insert(key.clone(), value.clone())),
            _ => drop(result.insert(key.clone(), value.clone())),
        }
    }
    for (name, part) in [("data", data), ("training", training)] {
        let mut whole = Table::new();
        whole.insert(name.into(), Value::Table(part));
        merge(&mut result, whole);
    }
    result
}

fn flags(job: &cli::Job, dataset: &str) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let mut set = |path: &str, value: Option<Value>| {
        if let Some(value) = value {
            put(&mut table, path, value);
        }
    };
    set("data.dataset", Some(dataset.into()));
    set("data.from", job.from.as_ref().map(|path| path.display().to_string().into()));
    set("data.stream", job.stream.then_some(true.into()));
    set("model.source", job.model.clone().map(Value::from));
    set("model.start", job.start.as_ref().map(|path| path.display().to_string().into()));
    set("model.offline", job.offline.then_some(true.into()));
    set("model.device", job.device.map(|device| device.to_string().into()));
    set("model.train_layers", job.train_layers.map(|n| (n as i64).into()));
    set("model.tune", job.tune.and_then(|tune| Value::try_from(tune).ok()));
    set("model.lora.rank", job.lora_rank.map(|n| (n as i64).into()));
    set("model.adapter", job.adapter.as_ref().map(|path| path.display().to_string().into()));
    set("model.arithmetic", job.arithmetic.map(|arithmetic| arithmetic.name().into()));
    set("model.items", job.items.clone().map(Value::from));
    set("model.user.kind", job.user.clone().map(Value::from));
    set("model.tasks.name", job.tasks.clone().map(Value::from));
    set("model.conditioning", job.conditioning.clone().map(Value::from));
    set("balance.method", job.balance.clone().map(Value::from));
    set("balance.gradients", job.gradients.clone().map(Value::from));
    set("training.epochs", job.epochs.map(|n| (n as i64).into()));
    set("training.max_steps", job.max_steps.map(|n| (n as i64).into()));
    set(
        "evaluation.baselines",
        job.baselines
            .clone()
            .map(|names| Value::Array(names.into_iter().filter(|name| name != "none").map(Value::from).collect())),
    );
    set("refit", job.refit.then_some(true.into()));
    set("seed", job.seed.map(|n| (n as i64).into()));
    for setting in &job.settings {
        let (path, value) = parse_setting(setting)?;
        put(&mut table, path, value);
    }
    Ok(table)
}

/// `KEY=VALUE`. A bare word is a string; everything else is TOML.
fn parse_setting(setting: &str) -> anyhow::Result<(&str, Value)> {
    let (path, value) = setting
        .split_once('=')
        .ok_or_else(|| wrong_input(format!("--set {setting}: expected KEY=VALUE, as in training.batch=256")))?;
    let parsed = toml::from_str::<Table>(&format!("v = {value}")).ok().and_then(|mut table| table.remove("v"));
    Ok((path.trim(), parsed.unwrap_or_else(|| Value::from(value))))
}

/// Sets `a.b.c` in nested tables.
fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(table.insert(path.to_owned(), value)),
        Some((head, rest)) => {
            let entry = table.entry(head.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                put(inner, rest, value);
            }
        }
    }
}

/// Puts `over` on top of `base`, table by table. A split strategy replaces the other's fields as a whole.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) if !table.contains_key("strategy") => merge(inner, table),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn later_settings_win_table_by_table() {
        let mut base = table("[training]\nepochs = 2\nbatch = 8\n");
        merge(&mut base, table("[training]\nepochs = 5\n"));
        assert_eq!(base, table("[training]\nepochs = 5\nbatch = 8\n"));
    }

    #[test]
    fn a_split_strategy_is_replaced_whole() {
        let mut base = table("split = { strategy = \"time\", valid = 0.1, test = 0.1 }");
        merge(&mut base, table("split = { strategy = \"leave-last\" }"));
        assert_eq!(base, table("split = { strategy = \"leave-last\" }"));
    }

    #[test]
    fn settings_reach_nested_tables() {
        let mut base = Table::new();
        put(&mut base, "a.b.c", Value::from(3));
        assert_eq!(base, table("[a.b]\nc = 3\n"));
    }
}
