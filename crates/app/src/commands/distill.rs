//! `distill`: a small text encoder that imitates a large one, and how closely one does.

use std::{fs, path::Path, str::FromStr};

use anyhow::Context;
use paretune_encoder::{Arithmetic, Embedder, Encoder, LoadOptions, Precision, Trainable};
use paretune_features::{
    FetchOptions, ModelFiles, ModelSource, PrunedTokenizer, TextTokenizer, Tokenized, prune_vocabulary,
};
use paretune_train::distill::{DistillConfig, Lesson, agreement, distill, invented};
use serde_json::json;

use super::corpus::{Corpus, learned};
use crate::{
    cli,
    embedded::{self, Unpacked},
    failure::wrong_input,
    meter::Meter,
    run_dir::write_atomically,
};

/// Tokens a text is cut to.
const MAX_LENGTH: usize = 64;
/// Tokens of one inference batch.
const BUDGET: usize = 4096;
/// Pairs of held-out titles whose similarities are compared, in each corpus and over all.
const PAIRS: usize = 50_000;

pub(super) fn run(args: &cli::Distill) -> anyhow::Result<()> {
    let corpora = Corpus::read_all(&args.texts, args.column.as_deref())?;
    let teacher = Reader::load(&args.teacher)?;
    let student = match (&args.measure, &args.out) {
        (Some(student), _) => student.clone(),
        (None, Some(out)) => {
            teach(args, &teacher, &corpora, out)?;
            out.to_string_lossy().into_owned()
        }
        (None, None) => return Err(wrong_input("say where the student goes (--out), or which one to --measure")),
    };
    measure(&teacher, &student, &corpora, args.seed)
}

/// Trains a student and saves it.
fn teach(args: &cli::Distill, teacher: &Reader, corpora: &[Corpus], out: &Path) -> anyhow::Result<()> {
    let written = learned(corpora);
    let pruned = prune(teacher, &written, args.vocabulary)?;
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    save_tokenizer(out, &pruned)?;

    // Whole words that the texts may lack, so that a new title's words are known.
    let words = pruned.pieces.iter().filter(|piece| piece.len() > 2 && piece.chars().all(char::is_alphabetic));
    let words: Vec<String> = words.cloned().collect();
    let made = invented(&written, &words, args.invent.unwrap_or(written.len()), args.seed);
    let texts: Vec<String> = written.iter().chain(&made).cloned().collect();

    let targets = teacher.vectors(&teacher.tokenizer.encode(&texts)?, args.arithmetic, "texts the teacher reads")?;
    let alone = alone(&teacher.tokenizer, &pruned.kept)?;
    let pieces = teacher.vectors(&alone, args.arithmetic, "word pieces the teacher reads")?;
    let config = DistillConfig {
        layers: args.layers,
        hidden: args.hidden,
        intermediate: args.intermediate.unwrap_or(2 * args.hidden),
        epochs: args.epochs,
        learning_rate: args.learning_rate,
        seed: args.seed,
        ..DistillConfig::default()
    };
    let files = ModelFiles::unweighted(out);
    let tokens = TextTokenizer::load(&files, Some(MAX_LENGTH))?.encode(&texts)?;
    let meter = Meter::new("steps of the student", 0);
    let lesson = Lesson { tokens: &tokens, targets: &targets, pieces: &pieces };
    let student = distill(&teacher.encoder, &lesson, &config, &mut |step| {
        meter.set_of(step.step as u64, step.steps as u64);
    })?;
    meter.finish();
    student.save_as(out, &files, Precision::F16)?;
    println!(
        "{} texts learned, {} of them invented; {} word pieces, {} layers of width {} and {}",
        texts.len(),
        made.len(),
        pruned.kept.len(),
        config.layers,
        config.hidden,
        config.intermediate
    );
    Ok(())
}

/// Prints how closely a student's similarities follow the teacher's on held-out titles.
fn measure(teacher: &Reader, student: &str, corpora: &[Corpus], seed: u64) -> anyhow::Result<()> {
    let student = Reader::load(student)?;
    let bytes = student.files.weights.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum::<u64>();
    println!("student: {:.2} MB of weights, vectors of {} numbers", bytes as f64 / 1e6, student.encoder.hidden_size());
    println!("Spearman correlation of the student's similarities with the teacher's on pairs of held-out titles:");
    let mut all = [Vec::new(), Vec::new()];
    let mut titles = 0;
    let longest = corpora.iter().map(|corpus| corpus.name.chars().count()).max().unwrap_or(0).max("all of them".len());
    for corpus in corpora {
        // A title of one piece was read when the word embeddings got their start.
        let held: Vec<&String> = corpus.held.iter().collect();
        let tokens = teacher.tokenizer.encode(&held)?;
        let held: Vec<&String> =
            held.into_iter().enumerate().filter(|(at, _)| tokens.length(*at) > 3).map(|(_, text)| text).collect();
        if held.len() < 2 {
            continue;
        }
        let read = |reader: &Reader, what: &str| {
            reader.vectors(
                &reader.tokenizer.encode(&held)?,
                Arithmetic::F32,
                &format!("held-out titles the {what} reads"),
            )
        };
        let (theirs, own) = (read(teacher, "teacher")?, read(&student, "student")?);
        row(&corpus.name, longest, held.len(), agreement(&own, &theirs, held.len(), PAIRS, seed));
        titles += held.len();
        all[0].extend(own);
        all[1].extend(theirs);
    }
    let [own, theirs] = all;
    row("all of them", longest, titles, agreement(&own, &theirs, titles, PAIRS, seed));
    Ok(())
}

fn row(name: &str, longest: usize, titles: usize, spearman: f64) {
    println!("  {name:longest$}  {spearman:.4}  {PAIRS} pairs of {titles} titles");
}

/// A model that turns texts into vectors.
struct Reader {
    files: ModelFiles,
    tokenizer: TextTokenizer,
    encoder: Encoder,
    /// The embedded model's files, as long as they are needed.
    _unpacked: Option<Unpacked>,
}

impl Reader {
    fn load(source: &str) -> anyhow::Result<Self> {
        let unpacked = (source == embedded::MODEL).then(Unpacked::new).transpose()?;
        let files = match &unpacked {
            Some(unpacked) => unpacked.files.clone(),
            None => {
                ModelSource::from_str(source)?.fetch(&FetchOptions { progress: true, ..FetchOptions::default() })?
            }
        };
        let options = LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() };
        let encoder = Encoder::load(&files, &options)?;
        let tokenizer = TextTokenizer::load(&files, Some(MAX_LENGTH))?;
        Ok(Self { files, tokenizer, encoder, _unpacked: unpacked })
    }

    fn vectors(&self, tokens: &Tokenized, arithmetic: Arithmetic, what: &str) -> anyhow::Result<Vec<f32>> {
        let embedder: Embedder = self.encoder.embedder(arithmetic)?;
        let meter = Meter::new(what, tokens.len() as u64);
        let vectors = embedder.embed(tokens, BUDGET, Some(&|done| meter.set(done as u64)))?;
        meter.finish();
        Ok(vectors)
    }
}

/// The teacher's vocabulary, cut to what the texts use most.
fn prune(teacher: &Reader, texts: &[String], size: usize) -> anyhow::Result<PrunedTokenizer> {
    let tokens = teacher.tokenizer.encode(texts)?;
    let mut counts = vec![0u64; teacher.tokenizer.vocab_size()];
    (0..tokens.len()).flat_map(|text| tokens.sequence(text)).for_each(|&id| counts[id as usize] += 1);
    Ok(prune_vocabulary(&teacher.files.tokenizer, &counts, size)?)
}

fn save_tokenizer(out: &Path, pruned: &PrunedTokenizer) -> anyhow::Result<()> {
    write_atomically(&out.join("tokenizer.json"), pruned.json.as_bytes())?;
    let config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_LENGTH, "cls_token": "[CLS]",
        "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"});
    write_atomically(&out.join("tokenizer_config.json"), config.to_string().as_bytes())
}

/// Each piece between the special tokens that the tokenizer puts around an empty text.
fn alone(tokenizer: &TextTokenizer, pieces: &[u32]) -> anyhow::Result<Tokenized> {
    let around = tokenizer.encode(&[""])?;
    let (before, after) = around.sequence(0).split_at(around.length(0) / 2);
    Ok(Tokenized::from_sequences(pieces.iter().map(|piece| [before, &[*piece], after].concat())))
}
