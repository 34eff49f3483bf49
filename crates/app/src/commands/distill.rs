//! `distill`: a small text encoder that imitates a large one.

use std::{collections::BTreeSet, fs, path::Path, str::FromStr};

use anyhow::Context;
use paretune_data::Dataset;
use paretune_encoder::{Encoder, LoadOptions, Precision, Trainable};
use paretune_features::{FetchOptions, ModelFiles, ModelSource, TextTokenizer, prune_vocabulary};
use paretune_train::distill::{DistillConfig, agreement, distill};
use serde_json::json;

use crate::{cli, failure::wrong_input, meter::Meter, run_dir::write_atomically};

/// Tokens a text is cut to.
const MAX_LENGTH: usize = 64;
/// Tokens of one inference batch.
const BUDGET: usize = 4096;
/// Pairs of held-out texts whose similarities are compared.
const PAIRS: usize = 50_000;

pub(super) fn run(args: &cli::Distill) -> anyhow::Result<()> {
    let texts = texts(args)?;
    if texts.len() < 20 {
        return Err(wrong_input(format!("{} distinct texts are too few to learn from", texts.len())));
    }
    // Every tenth text is never trained on. The texts are sorted, so the choice does not depend on the files' order.
    let (held, learned): (Vec<_>, Vec<_>) = texts.into_iter().enumerate().partition(|(at, _)| at % 10 == 0);
    let [held, learned] = [held, learned].map(|part| part.into_iter().map(|(_, text)| text).collect::<Vec<String>>());

    let files =
        ModelSource::from_str(&args.teacher)?.fetch(&FetchOptions { progress: true, ..FetchOptions::default() })?;
    let options = LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() };
    let teacher = Encoder::load(&files, &options)?;
    let tokenizer = TextTokenizer::load(&files, Some(MAX_LENGTH))?;
    let tokens = tokenizer.encode(&learned)?;
    let mut counts = vec![0u64; tokenizer.vocab_size()];
    (0..tokens.len()).flat_map(|text| tokens.sequence(text)).for_each(|&id| counts[id as usize] += 1);
    let pruned = prune_vocabulary(&files.tokenizer, &counts, args.vocabulary)?;

    fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    write_atomically(&args.out.join("tokenizer.json"), pruned.json.as_bytes())?;
    write_atomically(
        &args.out.join("tokenizer_config.json"),
        json!({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_LENGTH, "cls_token": "[CLS]", "sep_token": "[SEP]",
               "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"})
        .to_string()
        .as_bytes(),
    )?;
    let embed =
        |encoder: &Encoder, tokenizer: &TextTokenizer, texts: &[String], what: &str| -> anyhow::Result<Vec<f32>> {
            let meter = Meter::new(what, texts.len() as u64);
            let vectors = encoder.embed(&tokenizer.encode(texts)?, BUDGET, Some(&|done| meter.set(done as u64)))?;
            meter.finish();
            Ok(vectors)
        };
    let targets = embed(&teacher, &tokenizer, &learned, "teacher reads")?;
    let held_targets = embed(&teacher, &tokenizer, &held, "teacher reads held-out texts")?;

    // The student's files are needed to load its tokenizer before there are weights.
    let student_tokenizer = load_tokenizer(&args.out)?;
    let config = DistillConfig {
        layers: args.layers,
        hidden: args.hidden,
        epochs: args.epochs,
        batch: 256,
        learning_rate: 1e-3,
        seed: args.seed,
    };
    let meter = Meter::new("student learns", 0);
    let student =
        distill(&teacher, &pruned.kept, &student_tokenizer.encode(&learned)?, &targets, &config, &mut |step| {
            meter.set_of(step.step as u64, step.steps as u64);
        })?;
    meter.finish();
    let files = ModelFiles::unweighted(&args.out);
    student.save_as(&args.out, &files, Precision::F16)?;

    let saved = ModelFiles::local(&args.out)?;
    let student = Encoder::load(&saved, &options)?;
    let vectors = embed(&student, &student_tokenizer, &held, "student reads held-out texts")?;
    let spearman = agreement(&vectors, &held_targets, held.len(), PAIRS, args.seed);
    let bytes: u64 = saved.weights.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
    println!(
        "{} texts learned, {} held out; {} word pieces, {} layers of width {}, {:.1} MB of weights",
        learned.len(),
        held.len(),
        pruned.kept.len(),
        args.layers,
        args.hidden,
        bytes as f64 / 1e6
    );
    println!("Spearman correlation with the teacher's similarities on {PAIRS} pairs of held-out texts: {spearman:.4}");
    Ok(())
}

/// Distinct texts, sorted: lines of files, and the text columns of folders of canonical tables.
fn texts(args: &cli::Distill) -> anyhow::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for path in &args.texts {
        if path.is_dir() {
            let items = Dataset::read(path)?.items;
            for at in 0..items.len() {
                let fields: Vec<&str> = items.text.values().filter_map(|column| column.get(at)?.as_deref()).collect();
                all.extend(fields.iter().map(|field| (*field).to_owned()));
                all.insert(fields.join(". "));
            }
        } else {
            let text = fs::read_to_string(path).map_err(|error| wrong_input(format!("{}: {error}", path.display())))?;
            all.extend(text.lines().map(|line| line.trim().to_owned()));
        }
    }
    all.retain(|text| text.chars().count() > 2);
    Ok(all)
}

fn load_tokenizer(folder: &Path) -> anyhow::Result<TextTokenizer> {
    Ok(TextTokenizer::load(&ModelFiles::unweighted(folder), Some(MAX_LENGTH))?)
}
