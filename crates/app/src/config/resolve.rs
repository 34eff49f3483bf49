//! From what the data set suggests, what the user's file says and what the flags say to one configuration.

use std::fs;

use anyhow::Context;
use paretune_data::leaks::LeakThresholds;
use paretune_objectives::Kind;
use paretune_recommender::ItemSource;
use toml::{Table, Value};

use super::layers::{merge, parse, put};
use super::{RunConfig, start};
use crate::{cli, embedded, failure::wrong_input, tuning};

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
        let flags = [Kind::Binary, Kind::Conditional];
        if !config.calibration.is_none() && !config.objectives.iter().any(|objective| flags.contains(&objective.kind)) {
            return Err(wrong_input(
                "calibration makes probabilities frequencies, and no objective is one: leave it out, or train one of kind \"binary\" or \
                 \"conditional\"",
            ));
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
