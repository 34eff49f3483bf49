//! The folder that is uploaded, made from a run and read again.

use std::{fs, path::Path, str::FromStr};

use anyhow::{Context, bail};
use paretune_data::Dataset;
use paretune_encoder::{SentenceEncoder, SentenceOptions};
use paretune_features::{ModelFiles, ModelSource, RepoName, Template};
use paretune_recommender::ItemSource;

use super::last_part;
use crate::{
    card::{Base, Card, Counts, Measured, Shape},
    cli,
    commands::finetune::stored_config,
    config::RunConfig,
    embedded,
    failure::wrong_input,
    run_dir::{RunDir, write_atomically},
};

/// Texts on which the written model is compared with the run's.
const COMPARED: usize = 64;
/// Folder of the recommender's files.
const RECOMMENDER: &str = "recommender";

/// Writes everything into `folder`; what a user should know of it.
pub(super) fn write(args: &cli::Push, repo: &RepoName, run: &RunDir, folder: &Path) -> anyhow::Result<Vec<String>> {
    let config = stored_config(run)?;
    let measured = measured(run)?;
    if matches!(config.model.items, ItemSource::Ids | ItemSource::Vectors) {
        return Err(wrong_input(format!(
            "{} has a table of items and no text encoder (model.items = \"{}\"): there is nothing to upload",
            run.path().display(),
            config.model.items.name()
        )));
    }
    if args.with_run && run.join("model/features.json").is_file() {
        return Err(wrong_input(format!(
            "{} reads [[features]], and its features.json holds what is known of every user: its towers cannot be uploaded; leave out --with-run",
            run.path().display()
        )));
    }
    let source = ModelFiles::local(run.join("model"))?;
    let model = SentenceEncoder::load(&source, &SentenceOptions::default())?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    model.save(folder)?;
    let data = Dataset::read(&run.join("data"))?;
    let template = Template::parse(&config.data.template)?;
    let texts: Vec<String> = (0..data.items.len().min(COMPARED) as u32)
        .map(|item| template.render(|field| data.items.field(item, field)))
        .collect();
    verify(&model, folder, &texts)?;

    let public = public(&config);
    if args.with_run {
        write_recommender(run, &public, repo, &folder.join(RECOMMENDER))?;
    }
    let base = base(&config, args);
    let told = told_by_base(&config);
    let languages = if args.languages.is_empty() { told.languages } else { args.languages.clone() };
    let card = Card {
        repo,
        config: &public,
        measured: &measured,
        base,
        shape: shape(&model)?,
        counts: Counts { items: data.items.len(), users: data.users.len(), events: data.events.len() },
        license: args.license.clone().or(told.license),
        languages,
        datasets: args.datasets.iter().map(RepoName::to_string).collect(),
        with_run: args.with_run,
    };
    let mut notes = Vec::new();
    if card.license.is_none() {
        notes.push("the card states no licence; --license says one, as in --license apache-2.0".to_owned());
    }
    if card.base.hub.is_none() && config.model.source != embedded::MODEL {
        notes.push(format!(
            "the card names no base model on the Hub; --base-model says what {} is there",
            card.base.name
        ));
    }
    write_atomically(&folder.join("README.md"), card.render()?.as_bytes())?;
    Ok(notes)
}

fn measured(run: &RunDir) -> anyhow::Result<Measured> {
    let (path, shown) = (run.join("metrics.json"), run.path().display());
    for (file, what) in [("front.json", "a front"), ("compare.jsonl", "a comparison")] {
        if run.join(file).is_file() {
            return Err(wrong_input(format!("{shown} is {what}: push takes a run of `finetune`")));
        }
    }
    let text = fs::read_to_string(&path).map_err(|_| {
        wrong_input(format!("{shown} has no metrics.json: it is not finished; finish it with --resume"))
    })?;
    serde_json::from_str(&text).map_err(|error| wrong_input(format!("{}: {error}", path.display())))
}

/// What is uploaded must load again, and give the same vectors to the last bit.
fn verify(model: &SentenceEncoder, folder: &Path, texts: &[String]) -> anyhow::Result<()> {
    let written = SentenceEncoder::load(&ModelFiles::local(folder)?, &SentenceOptions::default())?;
    let vectors = written.encode(texts)?;
    if vectors != model.encode(texts)? || vectors.as_slice().iter().any(|value| !value.is_finite()) {
        bail!(
            "{}: the model that was written does not give the vectors of the run's own; nothing was sent",
            folder.display()
        );
    }
    Ok(())
}

/// The towers, and a configuration with which they work beside the uploaded encoder.
fn write_recommender(run: &RunDir, public: &RunConfig, repo: &RepoName, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, path) in [
        ("recommender.safetensors", run.join("model/recommender.safetensors")),
        ("recommender.json", run.join("model/recommender.json")),
    ] {
        fs::copy(&path, folder.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    let path = run.join("metrics.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut metrics: serde_json::Value = serde_json::from_str(&text)?;
    metrics["model"] = public.model.source.as_str().into();
    write_atomically(&folder.join("metrics.json"), format!("{metrics:#}\n").as_bytes())?;
    let mut config = public.clone();
    if config.model.source != embedded::MODEL {
        // Its tokenizer is the one that it started with, and is on the Hub for sure.
        config.model.source = repo.to_string();
    }
    write_atomically(&folder.join("config.toml"), toml::to_string(&config)?.as_bytes())
}

/// The configuration without the paths of this machine.
fn public(config: &RunConfig) -> RunConfig {
    let mut public = config.clone();
    public.data.from = config.data.from.as_ref().map(|path| last_part(path).into());
    let dataset = Path::new(&config.data.dataset);
    if dataset.components().count() > 1 {
        public.data.dataset = last_part(dataset);
    }
    // What it began with lies on this machine.
    public.model.start = None;
    if let Ok(ModelSource::Local(path)) = ModelSource::from_str(&config.model.source)
        && config.model.source != embedded::MODEL
    {
        public.model.source = last_part(&path);
    }
    for file in &mut public.model.vectors {
        file.file = last_part(&file.file).into();
        file.ids = file.ids.as_ref().map(|path| last_part(path).into());
    }
    for relation in public.model.graph.iter_mut().flat_map(|graph| &mut graph.relations) {
        relation.file = relation.file.at(last_part(relation.file.path()).into());
    }
    public
}

fn base(config: &RunConfig, args: &cli::Push) -> Base {
    let given = args.base_model.as_ref().map(RepoName::to_string);
    if config.model.source == embedded::MODEL {
        let name = "the encoder built into Paretune (distilled from sentence-transformers/all-MiniLM-L6-v2)".to_owned();
        return Base { name, hub: given };
    }
    match ModelSource::from_str(&config.model.source) {
        Ok(ModelSource::Hub { repo, .. }) => Base { name: repo.clone(), hub: given.or(Some(repo)) },
        Ok(ModelSource::Local(path)) => Base { name: last_part(&path), hub: given },
        Err(_) => Base { name: last_part(Path::new(&config.model.source)), hub: given },
    }
}

/// What the card of the model that the run started from says.
#[derive(Debug, Default, PartialEq)]
struct Told {
    license: Option<String>,
    languages: Vec<String>,
}

fn told_by_base(config: &RunConfig) -> Told {
    if config.model.source == embedded::MODEL {
        return Told { license: Some("apache-2.0".to_owned()), languages: vec!["en".to_owned()] };
    }
    match ModelSource::from_str(&config.model.source) {
        Ok(ModelSource::Local(dir)) => {
            fs::read_to_string(dir.join("README.md")).map(|card| told(&card)).unwrap_or_default()
        }
        _ => Told::default(),
    }
}

/// Reads `license:` and `language:` where they are plain words or a list of them; whatever else a card says is not looked at.
fn told(card: &str) -> Told {
    let mut told = Told::default();
    let Some((yaml, _)) = card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---")) else {
        return told;
    };
    let word = |text: &str| {
        let text = text.trim().trim_matches(['"', '\'']);
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        plain.then(|| text.to_owned())
    };
    let mut key = "";
    for line in yaml.lines() {
        match (line.strip_prefix("- ").or_else(|| line.strip_prefix("  - ")), line.split_once(':')) {
            (Some(value), _) if key == "language" => told.languages.extend(word(value)),
            (None, Some((name, value))) => {
                key = name;
                match name {
                    "license" => told.license = word(value),
                    "language" => told.languages.extend(word(value)),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    told
}

fn shape(model: &SentenceEncoder) -> anyhow::Result<Shape> {
    let encoder = model.encoder();
    Ok(Shape {
        family: encoder.config().model_type().to_owned(),
        layers: encoder.config().layers(),
        parameters: encoder.tensors()?.values().map(candle_core::Tensor::elem_count).sum(),
        width: model.width(),
        pooling: encoder.pooling().name().to_owned(),
        normalizes: model.normalizes(),
        max_length: model.tokenizer().max_length(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_card_is_read_where_it_is_plain() {
        let card = "---\nlanguage: en\nlicense: apache-2.0\ntags:\n- sentence-transformers\n---\nlicense: mit\n";
        assert_eq!(told(card), Told { license: Some("apache-2.0".into()), languages: vec!["en".into()] });
        let card = "---\nlicense: \"mit\"\nlanguage:\n- de\n  - fr\ndatasets:\n- x\n---\n";
        assert_eq!(told(card), Told { license: Some("mit".into()), languages: vec!["de".into(), "fr".into()] });
        for none in ["", "# No front matter\nlicense: mit\n", "---\nlicense: [a, b]\n", "---\nlicense: [a, b]\n---\n"] {
            assert_eq!(told(none), Told::default(), "{none:?}");
        }
    }
}
