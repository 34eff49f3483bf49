//! What must hold of every loader, whatever is in a folder: vectors, or an error that names a file of the folder.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use paretune_encoder::{
    Arithmetic, Encoder, EncoderError, LoadOptions, SentenceEncoder, SentenceOptions, Trainable, backward,
};
use paretune_features::{FeatureError, ModelFiles, Packed, TextTokenizer};

use super::corpus::ADAPTER;

/// How far the loaders came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The tokenizer made tokens.
    pub(crate) tokenizer: bool,
    /// The whole model made vectors.
    pub(crate) model: bool,
    /// The trainable part made vectors with an adapter.
    pub(crate) adapter: bool,
}

/// What does not hold.
pub(crate) type Finding = String;

/// Texts that are empty, of known and unknown words, long, and of odd characters.
fn texts() -> Vec<String> {
    let long = ["w7 w8 w9 w10 w11"; 100].join(" ");
    ["", "w7 w8 w9", "nobody knows this", "w7\u{0}\u{200B}\u{FFFD}é\u{1F600} \u{E000}", &long]
        .map(str::to_owned)
        .to_vec()
}

/// An error that is told to the user: it has to name a file of the folder.
pub(crate) fn told(step: &str, dir: &Path, error: &dyn std::error::Error) -> Result<(), Finding> {
    let message = error.to_string();
    match message.contains(&dir.display().to_string()) {
        true => Ok(()),
        false => Err(format!("{step}: an error without a file of the model: {message}")),
    }
}

/// Does one step; `None` where it is refused as it should be.
pub(crate) fn step<T, E: std::error::Error>(
    name: &str,
    dir: &Path,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<Option<T>, Finding> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(Some(value)),
        Ok(Err(error)) => told(name, dir, &error).map(|()| None),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(without words)");
            Err(format!("{name}: panic: {said}"))
        }
    }
}

fn tokenize(files: &ModelFiles) -> Result<usize, FeatureError> {
    let tokenizer = TextTokenizer::load(files, None)?;
    Ok(tokenizer.encode(&texts())?.tokens())
}

fn embed(files: &ModelFiles, arithmetic: Arithmetic) -> Result<(usize, usize), EncoderError> {
    let model = SentenceEncoder::load(files, &SentenceOptions { arithmetic, ..SentenceOptions::default() })?;
    let vectors = model.encode(&texts())?;
    model.encode_query(&["w7"])?;
    let similar = model.similarity(&vectors, &vectors)?;
    Ok((vectors.as_slice().len(), similar.len() * model.width()))
}

/// Tokens that every vocabulary of more than a few words has.
fn packed(encoder: &Encoder) -> Option<Packed> {
    let rows = u32::try_from(encoder.config().vocab_size()).ok().filter(|rows| *rows > 0)?;
    let length = encoder.config().longest().min(9);
    let ids: Vec<u32> = (0..length as u32).map(|at| at * 7 % rows).collect();
    Some(Packed::from_sequences([&ids[..1], &ids]))
}

/// Vectors, and where something is trained gradients; the answer is whether there are as many as asked for.
fn train(files: &ModelFiles, trainable: Trainable) -> Result<bool, EncoderError> {
    let encoder = match Encoder::load(files, &LoadOptions { trainable, ..LoadOptions::default() }) {
        // Asks too much of a model that has fewer layers, which says nothing about its files.
        Err(EncoderError::TooManyLayers { .. }) => return Ok(true),
        other => other?,
    };
    let Some(packed) = packed(&encoder) else { return Ok(true) };
    let vectors = encoder.encode(&packed, Some(1))?;
    if !encoder.parameters().is_empty() {
        backward(&vectors.sqr()?.sum_all()?)?;
    }
    Ok(vectors.dims() == [2, encoder.hidden_size()])
}

fn adapt(files: &ModelFiles, dir: &Path) -> Result<bool, EncoderError> {
    let mut encoder = Encoder::load(files, &LoadOptions::default())?;
    encoder.load_adapter("fuzzed", &dir.join(ADAPTER))?;
    let Some(packed) = packed(&encoder) else { return Ok(true) };
    let vectors = encoder.encode(&packed, Some(1))?;
    backward(&vectors.sqr()?.sum_all()?)?;
    encoder.merge_adapter()?;
    Ok(encoder.encode(&packed, None)?.dims() == [2, encoder.hidden_size()])
}

/// Loads what is in `dir` in every way.
pub(crate) fn check(dir: &Path) -> Result<Reached, Finding> {
    let tokenizer = step("TextTokenizer", dir, || tokenize(&ModelFiles::unweighted(dir)))?.is_some();
    let mut reached = Reached { tokenizer, ..Reached::default() };
    let Some(files) = step("ModelFiles::local", dir, || ModelFiles::local(dir))? else { return Ok(reached) };
    step("ModelFiles::hash", dir, || files.hash())?;
    for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
        let name = format!("SentenceEncoder, {arithmetic:?}");
        if let Some((numbers, expected)) = step(&name, dir, || embed(&files, arithmetic))? {
            reached.model = true;
            if numbers != expected {
                return Err(format!("{name}: {numbers} numbers instead of {expected}"));
            }
        }
    }
    for trainable in [Trainable::All, Trainable::LastLayers(1), Trainable::Biases, Trainable::Nothing] {
        let name = format!("Encoder, {trainable:?}");
        match step(&name, dir, || train(&files, trainable))? {
            Some(false) => return Err(format!("{name}: vectors of another shape")),
            Some(true) => {}
            // What cannot be loaded for one way of training cannot for another.
            None => return Ok(reached),
        }
    }
    if dir.join(ADAPTER).exists() {
        match step("load_adapter", dir, || adapt(&files, dir))? {
            Some(false) => return Err("load_adapter: vectors of another shape".to_owned()),
            done => reached.adapter = done.is_some(),
        }
    }
    Ok(reached)
}
