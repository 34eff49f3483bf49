//! Arguments of the commands that work on texts and text encoders alone.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, ValueHint};

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
