//! `pretrain`: the text encoder learns from a user's own texts, without labels.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context;
use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::{FetchOptions, ModelFiles, ModelSource, TextTokenizer, Tokenized};
use paretune_train::pretrain::{
    MaskedWordHead, Masking, PretrainConfig, PretrainStep, Pretrained, Spread, WordLoss, contrast, masked_words,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::corpus::{Corpus, learned};
use crate::{
    cli::{self, PretrainObjective},
    embedded::{self, Unpacked},
    failure::wrong_input,
    meter::Meter,
    run_dir::write_atomically,
};

/// Tokens a text is cut to where neither the model nor the user says less.
const MAX_LENGTH: usize = 128;
/// Spellings of the token that hides another.
const MASKS: [&str; 2] = ["[MASK]", "<mask>"];
/// What was done, beside the model.
const REPORT: &str = "pretrain.json";

pub(super) fn run(args: &cli::Pretrain) -> anyhow::Result<()> {
    if args.out.exists() && fs::read_dir(&args.out).map_or(true, |mut inside| inside.next().is_some()) {
        return Err(wrong_input(format!("{} exists already: give another --out", args.out.display())));
    }
    let corpora = Corpus::read_all(&args.texts, args.column.as_deref())?;
    let model = Model::load(args)?;
    let texts = Texts::new(&corpora, &model.tokenizer)?;
    let (count, held) = (texts.learned.len(), texts.held.len());
    println!("{count} texts to learn from, {} tokens; {held} held-out titles to measure on", texts.learned.tokens());
    let mut head = None;
    let mut stages = Vec::new();
    for objective in &args.objective {
        stages.push(match objective {
            PretrainObjective::Mlm => masked_word_stage(args, &model, &texts, &mut head)?,
            PretrainObjective::Simcse => contrast_stage(args, &model, &texts)?,
        });
    }
    let about = json!({
        "model": args.model, "texts": args.texts, "learned": count, "tokens": texts.learned.tokens(), "held_out": held,
        "dropout": args.dropout, "stages": stages,
    });
    save(&args.out, &model, head.as_ref(), &about)?;
    println!("{}: give it to other commands as --model {}", args.out.display(), args.out.display());
    Ok(())
}

fn masked_word_stage(
    args: &cli::Pretrain,
    model: &Model,
    texts: &Texts,
    kept: &mut Option<MaskedWordHead>,
) -> anyhow::Result<Value> {
    let (head, fresh) = match kept.take() {
        Some(head) => (head, false),
        None => match MaskedWordHead::load(&model.encoder, &model.files)? {
            Some(head) => (head, false),
            None => (MaskedWordHead::new(&model.encoder, args.seed)?, true),
        },
    };
    let masking = masking(&model.tokenizer, args.mask)?;
    let config = config(args, 5e-4);
    let meter = Meter::new("steps with masked words", 0);
    let told: Pretrained<WordLoss> =
        masked_words(&model.encoder, &head, &masking, &texts.learned, &texts.held, &config, &mut |step| {
            tick(&meter, step);
        })?;
    meter.finish();
    println!("masked words{}:", if fresh { " (with a fresh head: the model brought none)" } else { "" });
    for (when, WordLoss { loss, perplexity, accuracy, words }) in [("before", told.before), ("after", told.after)] {
        let guessed = 100.0 * accuracy;
        println!(
            "  {when:6}  loss {loss:.4}, perplexity {perplexity:.1}, {guessed:.1} % guessed, of {words} held-out words"
        );
    }
    *kept = Some(head);
    stage("mlm", &json!({"mask": args.mask, "fresh_head": fresh}), &config, &told)
}

fn contrast_stage(args: &cli::Pretrain, model: &Model, texts: &Texts) -> anyhow::Result<Value> {
    let config = config(args, 3e-5);
    let meter = Meter::new("steps of contrasts", 0);
    let told: Pretrained<Spread> =
        contrast(&model.encoder, args.temperature, &texts.learned, &texts.held, &config, &mut |step| {
            tick(&meter, step);
        })?;
    meter.finish();
    println!("contrasts (lower is better):");
    for (when, Spread { alignment, uniformity, texts }) in [("before", told.before), ("after", told.after)] {
        println!("  {when:6}  alignment {alignment:.4}, uniformity {uniformity:.4}, of {texts} held-out titles");
    }
    stage("simcse", &json!({"temperature": args.temperature}), &config, &told)
}

fn tick(meter: &Meter, step: PretrainStep) {
    meter.set_of(step.step as u64, step.steps as u64);
}

fn config(args: &cli::Pretrain, learning_rate: f64) -> PretrainConfig {
    PretrainConfig {
        epochs: args.epochs,
        steps: args.steps,
        batch: args.batch,
        learning_rate: args.learning_rate.unwrap_or(learning_rate),
        warmup: args.warmup,
        seed: args.seed,
        ..PretrainConfig::default()
    }
}

/// One stage of the report: its settings, what was measured, and its curve.
fn stage<M: Serialize>(
    objective: &str,
    own: &Value,
    config: &PretrainConfig,
    told: &Pretrained<M>,
) -> anyhow::Result<Value> {
    Ok(json!({
        "objective": objective, "settings": own, "config": serde_json::to_value(config)?,
        "before": serde_json::to_value(&told.before)?, "after": serde_json::to_value(&told.after)?,
        "curve": serde_json::to_value(&told.curve)?,
    }))
}

/// The model to train.
struct Model {
    files: ModelFiles,
    tokenizer: TextTokenizer,
    encoder: Encoder,
    /// The embedded model's files, as long as they are needed.
    _unpacked: Option<Unpacked>,
}

impl Model {
    fn load(args: &cli::Pretrain) -> anyhow::Result<Self> {
        let unpacked = (args.model == embedded::MODEL).then(Unpacked::new).transpose()?;
        let files = match &unpacked {
            Some(unpacked) => unpacked.files.clone(),
            None => {
                let mut options = FetchOptions { progress: true, ..FetchOptions::default() };
                options.offline |= args.offline;
                ModelSource::from_str(&args.model)?.fetch(&options)?
            }
        };
        let tokenizer = TextTokenizer::load(&files, Some(args.max_length.unwrap_or(MAX_LENGTH)))?;
        let options =
            LoadOptions { dropout: Some(args.dropout), arithmetic: args.arithmetic, ..LoadOptions::default() };
        let encoder = Encoder::load(&files, &options)?;
        Ok(Self { files, tokenizer, encoder, _unpacked: unpacked })
    }
}

/// What is learned from and what is measured on.
struct Texts {
    learned: Tokenized,
    held: Tokenized,
}

impl Texts {
    fn new(corpora: &[Corpus], tokenizer: &TextTokenizer) -> anyhow::Result<Self> {
        let held: Vec<&String> = corpora.iter().flat_map(|corpus| &corpus.held).collect();
        Ok(Self { learned: tokenizer.encode(&learned(corpora))?, held: tokenizer.encode(&held)? })
    }
}

/// Hides words behind the tokenizer's own mask, never those that it puts around every text.
fn masking(tokenizer: &TextTokenizer, share: f64) -> anyhow::Result<Masking> {
    let around = tokenizer.encode(&[""])?;
    let special = around.sequence(0);
    for mask in MASKS {
        let read = tokenizer.encode(&[mask])?;
        let mut own = read.sequence(0).iter().filter(|id| !special.contains(id));
        // An unknown spelling is cut into several tokens, or becomes the unknown one.
        if let (Some(&id), None) = (own.next(), own.next())
            && tokenizer.encode(&["\u{fffe}"])?.sequence(0).iter().all(|unknown| *unknown != id)
        {
            return Ok(Masking::new(share, id, special, tokenizer.vocab_size())?);
        }
    }
    Err(wrong_input(format!("the model's tokenizer has no token to hide words behind ({})", MASKS.join(" or "))))
}

/// Writes the folder beside, and renames it once it is whole.
fn save(out: &Path, model: &Model, head: Option<&MaskedWordHead>, about: &Value) -> anyhow::Result<()> {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".writing");
    let beside: PathBuf = out.with_file_name(name);
    if beside.exists() {
        fs::remove_dir_all(&beside).with_context(|| format!("cannot remove {}", beside.display()))?;
    }
    model.encoder.save(&beside, &model.files)?;
    if let Some(head) = head {
        head.save(&model.encoder, &beside.join("model.safetensors"))?;
    }
    write_atomically(&beside.join(REPORT), format!("{about:#}\n").as_bytes())?;
    if out.is_dir() {
        fs::remove_dir(out).with_context(|| format!("cannot replace {}", out.display()))?;
    }
    fs::rename(&beside, out).with_context(|| format!("cannot write {}", out.display()))
}
