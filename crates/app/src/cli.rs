//! The command line.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueHint};
use serde::{Deserialize, Serialize};

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
    /// Measure a run's model again on its test part.
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
    /// Text encoder: `builtin` (the default), a model directory, or a Hub model such as
    /// `sentence-transformers/all-MiniLM-L6-v2[@revision]`.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) model: Option<String>,
    /// What items are known by: `text` (the default), `ids`, or `hybrid`, which is both.
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
    /// Baselines to train and measure: any of `untrained`, `popularity`, `item-mean`, `item-knn`, `ease`, `mf`, `single-objective`, `ids`.
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

/// Measure a run's model again on its test part.
#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    pub(crate) run: RunArgs,
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

/// Recommend items to a user.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["user", "history"]))]
pub(crate) struct Recommend {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// A user of the data set.
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Items that a new user likes, newest first.
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    pub(crate) history: Vec<String>,
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

/// Make a small text encoder that imitates a larger one, and measure how closely it does on titles it never saw.
#[derive(Debug, Args)]
pub(crate) struct Distill {
    /// The sentence encoder to imitate (directory or Hub model).
    #[arg(long, value_name = "SOURCE")]
    pub(crate) teacher: String,
    /// Texts: folders of canonical tables, tables (`.csv`, `.tsv`, `.jsonl`, `.parquet`), or `.txt` with one a line. A tenth of the titles,
    /// chosen by their letters alone, is held out to measure on.
    #[arg(long, value_name = "FILE|DIR", required = true, num_args = 1..)]
    pub(crate) texts: Vec<PathBuf>,
    /// Column of a table that holds the text; `title` by default. Folders of canonical tables need none.
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
    /// Where the student goes.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "measure")]
    pub(crate) out: Option<PathBuf>,
    /// Train nothing: measure this student (`builtin`, a directory, or a Hub model) on the titles that are held out.
    #[arg(long, value_name = "STUDENT", conflicts_with = "out")]
    pub(crate) measure: Option<String>,
    /// Layers of the student.
    #[arg(long, default_value_t = 3)]
    pub(crate) layers: usize,
    /// Width of the student.
    #[arg(long, default_value_t = 192)]
    pub(crate) hidden: usize,
    /// Width of its feed-forward layers; twice the student's by default.
    #[arg(long, value_name = "N")]
    pub(crate) intermediate: Option<usize>,
    /// Word pieces the student keeps.
    #[arg(long, default_value_t = 12_000)]
    pub(crate) vocabulary: usize,
    /// Texts to make up from words of the others, which the teacher reads too; as many as there are by default.
    #[arg(long, value_name = "N")]
    pub(crate) invent: Option<usize>,
    /// Passes over the texts.
    #[arg(long, default_value_t = 10)]
    pub(crate) epochs: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 3e-3)]
    pub(crate) learning_rate: f64,
    /// How matrices are multiplied when the teacher reads what the student learns from: `f32`, or `bf16`, faster where the processor has
    /// it. Measuring is done in `f32`.
    #[arg(long, value_name = "KIND", default_value_t)]
    pub(crate) arithmetic: paretune_encoder::Arithmetic,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Teach a text encoder your own texts without labels. The folder that it writes is a `--model` for every other command.
#[derive(Debug, Args)]
pub(crate) struct Pretrain {
    /// Text encoder to start from: `builtin`, a model directory, or a Hub model such as `sentence-transformers/all-MiniLM-L6-v2[@revision]`.
    #[arg(long, value_name = "SOURCE", default_value = crate::embedded::MODEL)]
    pub(crate) model: String,
    /// Texts: folders of canonical tables, tables (`.csv`, `.tsv`, `.jsonl`, `.parquet`), or `.txt` with one a line. A tenth of the titles,
    /// chosen by their letters alone, is held out to measure on.
    #[arg(long, value_name = "FILE|DIR", required = true, num_args = 1..)]
    pub(crate) texts: Vec<PathBuf>,
    /// Column of a table that holds the text; `title` by default. Folders of canonical tables need none.
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
    /// Where the model goes; it appears when it is whole.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// What to learn, one after the other: `mlm` (words that are hidden), `simcse` (a text against the others).
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "mlm,simcse")]
    pub(crate) objective: Vec<PretrainObjective>,
    /// Passes over the texts, for each objective.
    #[arg(long, default_value_t = 1)]
    pub(crate) epochs: usize,
    /// Steps for each objective, whatever --epochs says.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) steps: usize,
    /// Texts of a step.
    #[arg(long, default_value_t = 128)]
    pub(crate) batch: usize,
    /// Peak learning rate; by default 5e-4 for `mlm` and 3e-5 for `simcse`.
    #[arg(long)]
    pub(crate) learning_rate: Option<f64>,
    /// Share of the steps over which the learning rate rises; it falls along a cosine then.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) warmup: f64,
    /// Share of the tokens that `mlm` hides.
    #[arg(long, default_value_t = 0.15)]
    pub(crate) mask: f64,
    /// Temperature of `simcse`.
    #[arg(long, default_value_t = 0.05)]
    pub(crate) temperature: f64,
    /// Dropout while learning; the saved configuration keeps the model's own.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) dropout: f64,
    /// Tokens at which a text is cut; the model's own limit by default, 128 at most.
    #[arg(long, value_name = "N")]
    pub(crate) max_length: Option<usize>,
    /// How matrices are multiplied: `f32`, or `bf16`, faster where the processor has it.
    #[arg(long, value_name = "KIND", default_value_t)]
    pub(crate) arithmetic: paretune_encoder::Arithmetic,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Never touch the network: model files come from the cache.
    #[arg(long)]
    pub(crate) offline: bool,
}

/// What pretraining learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PretrainObjective {
    /// Masked language modelling: tell hidden words.
    Mlm,
    /// Contrastive tuning: tell a text from the others of its batch under another dropout.
    Simcse,
}

/// Turn texts into vectors. A run that was cut off goes on where it stopped when the same command is given again, to the same bytes.
#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// Text encoder: `builtin`, a model directory (such as a run's `model/`), or a Hub model such as
    /// `sentence-transformers/all-MiniLM-L6-v2[@revision]`.
    #[arg(long, value_name = "SOURCE", default_value = crate::embedded::MODEL)]
    pub(crate) model: String,
    /// The texts: `.txt` with one a line, or a table, `.csv`, `.tsv`, `.jsonl` or `.parquet`. An empty text has a vector like any other,
    /// so that rows stay beside rows.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// Where the vectors go: `.safetensors`, `.parquet` or `.npy`. It is replaced if it exists, once the new one is whole.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// Column of the table that holds the text; `title` by default.
    #[arg(long, value_name = "NAME", conflicts_with = "template")]
    pub(crate) column: Option<String>,
    /// Text of several columns, for example `{title}. {description}`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) template: Option<String>,
    /// Column of the table that names the rows: a column of the Parquet file, or FILE.ids.jsonl beside the others.
    #[arg(long, value_name = "NAME")]
    pub(crate) id_column: Option<String>,
    /// How matrices are multiplied: `f32`, or `bf16` or `int8`, faster where the processor has them.
    #[arg(long, value_name = "KIND", default_value_t)]
    pub(crate) arithmetic: paretune_encoder::Arithmetic,
    /// Where the model lies: `auto` (a GPU if this program was built for one and it answers, else the CPU), `cpu`, `cuda[:N]` or
    /// `metal[:N]`.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub(crate) device: paretune_encoder::DeviceChoice,
    /// Tokens at which a text is cut; the model's own limit by default.
    #[arg(long, value_name = "N")]
    pub(crate) max_length: Option<usize>,
    /// The model's prompt of this name, such as `query`, before each text; its default prompt, if it has one, where nothing is asked.
    #[arg(long, value_name = "NAME", conflicts_with = "prompt")]
    pub(crate) prompt_name: Option<String>,
    /// This text before each text, in place of the model's prompts; empty for none.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// Keep only the first N numbers of each vector, for models trained for it (Matryoshka).
    #[arg(long, value_name = "N")]
    pub(crate) dim: Option<NonZeroUsize>,
    /// Scale every vector to length 1 even if the model does not.
    #[arg(long)]
    pub(crate) normalize: bool,
    /// Tokens that go through the model at once.
    #[arg(long, value_name = "N", default_value = "8192")]
    pub(crate) batch_tokens: NonZeroUsize,
    /// Texts of a part: what is in memory, and what a kill can cost.
    #[arg(long, value_name = "N", default_value = "4096")]
    pub(crate) part_texts: NonZeroUsize,
    /// Print one JSON object for each event instead of a bar.
    #[arg(long)]
    pub(crate) json: bool,
    /// Never touch the network: model files come from the cache.
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Upload a run's text encoder to the Hugging Face Hub as a sentence-transformers model, in one commit. HF_TOKEN is the token, HF_ENDPOINT
/// the Hub's address. Before it is sent, what was written is read again and must give the run's own vectors.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Run directory, of `finetune`.
    #[arg(long, value_name = "DIR", default_value = "runs/latest", value_hint = ValueHint::DirPath)]
    pub(crate) run: PathBuf,
    /// Repository; it is made if there is none.
    #[arg(long, value_name = "ORG/NAME")]
    pub(crate) to: String,
    /// Make the repository a private one; an existing public one is refused.
    #[arg(long)]
    pub(crate) private: bool,
    /// Message of the commit.
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Branch, which is made from `main` if there is none; `main` by default.
    #[arg(long, value_name = "NAME", visible_alias = "revision")]
    pub(crate) branch: Option<String>,
    /// Upload the recommender's towers too, in the folder `recommender`; never the data.
    #[arg(long)]
    pub(crate) with_run: bool,
    /// Licence for the card, as the Hub names it, such as `apache-2.0`; that of the base model by default, where its files say it.
    #[arg(long, value_name = "ID")]
    pub(crate) license: Option<String>,
    /// Languages for the card, such as `en,de`; those of the base model by default, where its files say them.
    #[arg(long = "language", value_name = "CODES", value_delimiter = ',')]
    pub(crate) languages: Vec<String>,
    /// What the run started from, where it was a folder, by its name on the Hub.
    #[arg(long, value_name = "ORG/NAME")]
    pub(crate) base_model: Option<paretune_features::RepoName>,
    /// The data sets by their names on the Hub, where they are there.
    #[arg(long, value_name = "ORG/NAME", value_delimiter = ',')]
    pub(crate) datasets: Vec<paretune_features::RepoName>,
    /// Write the files and list them, and send nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep the files in this folder, which must be new or empty.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub(crate) json: bool,
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
