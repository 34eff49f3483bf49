//! The command line.

mod texts;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use serde::{Deserialize, Serialize};

pub(crate) use texts::{Distill, Embed, Pretrain, PretrainObjective, Push};

/// Fine-tunes a pretrained language model into a recommender that balances several objectives at once.
#[derive(Debug, Parser)]
#[command(name = "paretune", version, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Which command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 something failed while running; 2 the input (arguments, configuration, data, model files) is wrong and the \
message says how to mend it.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model, measure it against baselines, and write a run directory with a report.
    Finetune(Box<Finetune>),
    /// Turn raw files into clean tables, by a descriptor.
    Import(Import),
    /// Measure a run's model again on its test part, or on another data set without training.
    Evaluate(Evaluate),
    /// Rank by several runs' models together: by the average of their weights, of their scores, of their ranks.
    Ensemble(Ensemble),
    /// Recommend items to a user, with a score for each objective.
    Recommend(Recommend),
    /// Train a set of balances and show which are worth choosing: the Pareto front.
    Front(Box<Front>),
    /// Train the same model under several balancing methods and seeds, and show how they do.
    Compare(Box<Compare>),
    /// Write the simulated marketplace that is embedded in this program.
    Simulate(Simulate),
    /// Write a run's tables with what its model says of their events, for a student to learn from.
    Teach(Teach),
    /// Make the small built-in text encoder from a larger sentence encoder.
    Distill(Distill),
    /// Teach a text encoder your own texts without labels: masked words, contrasts, or both.
    Pretrain(Pretrain),
    /// Turn texts into vectors: a file of any size to safetensors, Parquet or npy.
    Embed(Embed),
    /// Upload a run's text encoder to the Hugging Face Hub, with a model card that holds what was measured.
    Push(Box<Push>),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What to train on, with what, and how. Later ones win: the data set's own defaults, `--config`, the flags, `--set`.
#[derive(Debug, Args, Clone, Default, PartialEq)]
pub(crate) struct Job {
    /// Configuration file (TOML; a run's `config.toml` reproduces the run).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Data set: `marketplace` (embedded, the default), a known one (`movielens-small`, `steam`, `bookcrossing`,
    /// `amazon-beauty`; needs --from), a descriptor file, or a folder of canonical Parquet tables.
    #[arg(long, value_name = "NAME|FILE|DIR")]
    pub(crate) dataset: Option<String>,
    /// Folder with the raw files that the descriptor names.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) from: Option<PathBuf>,
    /// Deal a log larger than memory out to shards and train on one after the other; the data set is a folder of canonical Parquet
    /// tables with `events.parquet` or `events/*.parquet`. For rankings by models that read histories.
    #[arg(long)]
    pub(crate) stream: bool,
    /// Text encoder: `builtin` (the default), a model directory, or a Hub model such as
    /// `sentence-transformers/all-MiniLM-L6-v2[@revision]`.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) model: Option<String>,
    /// Begin with what another run's model has learned, on its data or on other data: its text encoder, and of what stands above it
    /// whatever fits. Settings of the model are that run's, unless they are given.
    #[arg(long, value_name = "RUN", conflicts_with = "model", value_hint = ValueHint::DirPath)]
    pub(crate) start: Option<PathBuf>,
    /// What items are known by: `text` (the default), `ids`, `hybrid`, which is both, or `vectors`, those of [[model.vectors]] alone.
    #[arg(long, value_name = "WHAT")]
    pub(crate) items: Option<String>,
    /// What makes a user's vector of a history: `attention` (the default), `mean`, `two-tower`, `gru`, `lstm`, `sasrec`, `bert4rec`,
    /// `graph` or `factors`.
    #[arg(long, value_name = "KIND")]
    pub(crate) user: Option<String>,
    /// Train these objectives only, for example `click,conversion`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) objectives: Vec<String>,
    /// Weights of objectives, for example `click=0.3,conversion=0.7`.
    #[arg(long, value_name = "NAME=W", value_delimiter = ',', value_parser = weight)]
    pub(crate) weights: Vec<(String, f64)>,
    /// How objectives are balanced: `weighted-sum`, `uncertainty`, `mgda`, `upgrad`, `cagrad`, `famo` or another of the methods that
    /// docs/balancing.md describes; `--set balance.KEY=VALUE` sets their parameters.
    #[arg(long, value_name = "METHOD")]
    pub(crate) balance: Option<String>,
    /// One model for every balance, which takes the weights as an input: `film` or `hypernetwork` (`none` by default).
    #[arg(long, value_name = "FORM")]
    pub(crate) conditioning: Option<String>,
    /// What the objectives' towers share: shared-bottom, omoe, mmoe, ple, cross-stitch or aitm; sizes are settings (`--set
    /// model.tasks.experts=8`).
    #[arg(long, value_name = "NAME")]
    pub(crate) tasks: Option<String>,
    /// Where gradients are compared: `shared` (cheap) or `full`.
    #[arg(long, value_name = "CUT")]
    pub(crate) gradients: Option<String>,
    /// Train the last N layers of the text encoder only; 0 freezes it.
    #[arg(long, value_name = "N")]
    pub(crate) train_layers: Option<usize>,
    /// What of the text encoder is trained: its own weights (`full`), its biases, or an adapter, which is small, takes less time
    /// and memory, and is saved by itself as well.
    #[arg(long, value_name = "WHAT")]
    pub(crate) tune: Option<crate::tuning::Tune>,
    /// Rank of the adapter of `--tune lora`.
    #[arg(long, value_name = "N")]
    pub(crate) lora_rank: Option<usize>,
    /// Go on with an adapter from this folder, as `peft` writes it, instead of a fresh one.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) adapter: Option<PathBuf>,
    /// How the text encoder multiplies matrices: `f32`, or `bf16`, faster where the processor has it.
    #[arg(long, value_name = "KIND")]
    pub(crate) arithmetic: Option<paretune_encoder::Arithmetic>,
    /// Where the model lies: `auto` (a GPU if this program was built for one and it answers, else the CPU), `cpu`, `cuda[:N]` or
    /// `metal[:N]`.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<paretune_encoder::DeviceChoice>,
    /// Passes over the training rows.
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Stop after this many steps.
    #[arg(long, value_name = "N")]
    pub(crate) max_steps: Option<usize>,
    /// Train the model once more when validation has chosen its length: from the beginning, on the rows of training and of validation.
    #[arg(long)]
    pub(crate) refit: bool,
    /// Seed of everything random.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Baselines to train and measure: any of `untrained`, `popularity`, `item-mean`, `item-knn`, `ease`, `mf`, `random`, `single-objective`, `ids`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) baselines: Option<Vec<String>>,
    /// Any other setting, for example `training.batch=256` or `data.split.test=0.2`. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Never touch the network: model files come from the cache.
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Where a run goes.
#[derive(Debug, Args, Clone)]
pub(crate) struct Output {
    /// Folder that holds the runs.
    #[arg(long, value_name = "DIR", default_value = "runs", value_hint = ValueHint::DirPath)]
    pub(crate) runs: PathBuf,
    /// Name of the run; the data set's name and a number by default.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Go on with a run that was cut off (`--name`, or the latest); it ends as if it had never stopped.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print one JSON object for each event and the metrics at the end, instead of bars and tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Train a model, measure it against baselines, and write a run directory with a report.
#[derive(Debug, Args)]
pub(crate) struct Finetune {
    #[command(flatten)]
    pub(crate) job: Job,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Train a set of balances and show which are worth choosing.
#[derive(Debug, Args)]
pub(crate) struct Front {
    #[command(flatten)]
    pub(crate) job: Job,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) own: Balances,
}

/// Which balances a front is made of. Stored in the run, for `--resume`.
#[derive(Debug, Args, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Balances {
    /// Number of balances: each objective alone, all equally, then points between; 7 by default.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) points: Option<usize>,
    /// Train each balance once for each early exit from the text encoder, after so many layers, for example `1,3,6`: the front has the number of
    /// layers as a metric.
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', conflicts_with = "compare")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) exits: Vec<usize>,
    /// Train one model for each balance, and both forms of one model for all of them (`--conditioning`), and compare what they cover.
    #[arg(long, conflicts_with = "conditioning")]
    pub(crate) compare: bool,
    /// With --compare: passes over the training rows of a model for all balances; as many as of the others by default.
    #[arg(long, value_name = "N", requires = "compare")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conditioned_epochs: Option<usize>,
}

/// Train the same model under several balancing methods and seeds, and show how they do.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    pub(crate) job: Job,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) own: Methods,
}

/// What a comparison is made of. Stored in the run, for `--resume`.
#[derive(Debug, Args, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Methods {
    /// Methods, each with its settings if it has any, for example `weighted-sum,cagrad:c=0.2,upgrad:gradients=full`; `all` of them by default.
    #[arg(long, value_name = "METHODS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) methods: Option<String>,
    /// Seeds, from --seed on; 3 by default.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seeds: Option<usize>,
}

/// Turn raw files into clean tables.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A known data set or a descriptor file.
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) dataset: String,
    /// Folder with the raw files that the descriptor names.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) from: PathBuf,
    /// Where the Parquet tables and `quarantine.tsv` go.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Stop when more than this share of the rows is bad.
    #[arg(long, value_name = "SHARE")]
    pub(crate) max_bad_share: Option<f64>,
    /// Print the cleaning report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A run to use.
#[derive(Debug, Args, Clone)]
pub(crate) struct RunArgs {
    /// Run directory.
    #[arg(long, value_name = "DIR", default_value = "runs/latest", value_hint = ValueHint::DirPath)]
    pub(crate) run: PathBuf,
    /// Where the model lies: `auto` (a GPU if this program was built for one and it answers, else the CPU), `cpu`, `cuda[:N]` or
    /// `metal[:N]`. The run's own by default, where there is one here.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<paretune_encoder::DeviceChoice>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measure a run's model again on its test part, or on other data, without training.
#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Another data set that the model has not seen: a known one, a descriptor file, or a folder of canonical tables. Only a model that reads
    /// texts can be asked.
    #[arg(long, value_name = "NAME|FILE|DIR")]
    pub(crate) dataset: Option<String>,
    /// Folder with the raw files of that data set.
    #[arg(long, value_name = "DIR", requires = "dataset", value_hint = ValueHint::DirPath)]
    pub(crate) from: Option<PathBuf>,
    /// A setting of the evaluation, for example `evaluation.candidates=all` or `data.split.given=3`; with --dataset any of data and
    /// evaluation. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// The balance to ask a model trained with --conditioning for, for example `click=0.3,conversion=0.7`; the run's own weights by
    /// default.
    #[arg(long, value_name = "NAME=W", value_delimiter = ',', value_parser = weight)]
    pub(crate) weights: Vec<(String, f64)>,
}

/// Measure several runs' models, and what they say together, on the test part that they share.
#[derive(Debug, Args)]
pub(crate) struct Ensemble {
    /// Run directories of one data set and split.
    #[arg(long, value_name = "DIR,DIR", value_delimiter = ',', required = true, num_args = 1.., value_hint = ValueHint::DirPath)]
    pub(crate) runs: Vec<PathBuf>,
    /// Save the model with the averaged weights into this folder.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) soup: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a run's tables once more, with a column for each objective that holds what the run's model says of every event that it was trained
/// on, each with what was known when it happened. A student learns from them by `distill = { column = "…" }`.
#[derive(Debug, Args)]
pub(crate) struct Teach {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Folder of the new tables.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// What the columns' names begin with; the objective's name follows.
    #[arg(long, value_name = "TEXT", default_value = "teacher_")]
    pub(crate) prefix: String,
}

/// Recommend items to a user.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("who").required(true).multiple(true).args(["user", "history", "about"]))]
pub(crate) struct Recommend {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// A user of the data set.
    #[arg(long, value_name = "ID", conflicts_with_all = ["history", "about"])]
    pub(crate) user: Option<String>,
    /// Items that a new user likes, newest first.
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    pub(crate) history: Vec<String>,
    /// What is known of a new user, by the columns that the run's `[[features]]` read: for example `region=north`. Can be repeated.
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = known)]
    pub(crate) about: Vec<(String, String)>,
    /// What they search for, of a model trained with `model.search` (or, of a new user, with a feature of `query`).
    #[arg(long, value_name = "TEXT")]
    pub(crate) query: Option<String>,
    /// How many items.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,
    /// What to rank by, for example `click=0.3,conversion=0.7`; the run's own weights by default. A model trained with
    /// --conditioning is asked for this balance.
    #[arg(long, value_name = "NAME=W", value_delimiter = ',', value_parser = weight)]
    pub(crate) weights: Vec<(String, f64)>,
    /// Text of a new item: ranked among the others and shown with its rank. Can be repeated.
    #[arg(long = "item-text", value_name = "TEXT")]
    pub(crate) item_texts: Vec<String>,
    /// Keep items that the user already engaged with.
    #[arg(long)]
    pub(crate) keep_seen: bool,
}

/// Write the simulated marketplace.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Where the Parquet tables go.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Number of items.
    #[arg(long)]
    pub(crate) items: Option<usize>,
    /// Number of users.
    #[arg(long)]
    pub(crate) users: Option<usize>,
}

fn known(text: &str) -> Result<(String, String), String> {
    let (column, value) = text.split_once('=').ok_or_else(|| "expected COLUMN=VALUE, as in region=north".to_owned())?;
    Ok((column.trim().to_owned(), value.to_owned()))
}

fn weight(text: &str) -> Result<(String, f64), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=WEIGHT, for example click=0.3"))?;
    let value: f64 = value.trim().parse().map_err(|_| format!("`{value}` in `{text}` is not a number"))?;
    if !(value.is_finite() && value >= 0.0) {
        return Err(format!("the weight of `{name}` is {value}; weights are zero or positive"));
    }
    Ok((name.trim().to_owned(), value))
}
