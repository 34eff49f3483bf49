//! Settings that come from the run that a model begins with.

use std::{fs, path::Path};

use anyhow::Context;
use toml::{Table, Value};

use super::layers::{parse, put};
use crate::failure::wrong_input;

/// What a run to begin with says of a configuration.
#[derive(Default)]
pub(super) struct Settings {
    /// Its model's settings, which file and flags can change.
    pub(super) beneath: Table,
    /// Where it lies, which they cannot.
    pub(super) above: Table,
}

/// Of one model each: other data does not have the graph, nor another run the adapter that is merged into the weights already.
const OWN: [&str; 6] = ["source", "start", "adapter", "graph", "device", "offline"];

/// Reads the run that `model.start` names, if it does. Its text encoder is where the new model begins.
pub(super) fn settings(file: &Table, flags: &Table) -> anyhow::Result<Settings> {
    let of = |table: &Table, key: &str| {
        let value = table.get("model").and_then(|model| model.get(key)).and_then(Value::as_str);
        value.map(str::to_owned)
    };
    let Some(named) = of(flags, "start").or_else(|| of(file, "start")) else { return Ok(Settings::default()) };
    let run = fs::canonicalize(&named).map_err(|error| {
        wrong_input(format!("--start {named}: there is no such run ({error}); name a run directory"))
    })?;
    refuse(&run)?;
    let source = run.join("model").display().to_string();
    if let Some(other) = of(flags, "source").or_else(|| of(file, "source")).filter(|other| *other != source) {
        return Err(wrong_input(format!(
            "model.source = {other} and --start {named} are two models to begin with: leave one of them out"
        )));
    }
    let path = run.join("config.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut theirs: Table = parse(&text, &path)?;
    let mut settings = Settings::default();
    if let Some(Value::Table(mut model)) = theirs.remove("model") {
        OWN.iter().for_each(|key| drop(model.remove(*key)));
        settings.beneath.insert("model".into(), Value::Table(model));
    }
    put(&mut settings.above, "model.start", run.display().to_string().into());
    put(&mut settings.above, "model.source", source.into());
    Ok(settings)
}

/// What is no run, has no model yet, or keeps none.
fn refuse(run: &Path) -> anyhow::Result<()> {
    let why = if !run.join("config.toml").is_file() {
        "is no run directory (it has no config.toml); `cargo xtask finetune` makes one"
    } else if run.join("front.json").is_file() && !run.join("model").is_dir() {
        "is a front, which keeps no one model: start from a run of `finetune`"
    } else if run.join("compare.jsonl").is_file() {
        "is a comparison, which keeps no model: start from a run of `finetune`"
    } else if !run.join("model/recommender.safetensors").is_file() {
        "has no trained model yet; finish it with --resume"
    } else if !run.join("model/config.json").is_file() {
        "knows items by their ids, which mean nothing elsewhere: start from a run with items = \"text\" or \"hybrid\""
    } else {
        return Ok(());
    };
    Err(wrong_input(format!("{} {why}", run.display())))
}
