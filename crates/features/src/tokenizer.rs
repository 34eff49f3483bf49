//! Text to token ids.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use rayon::prelude::*;
use serde::de::IgnoredAny;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{Tokenizer, TruncationDirection, TruncationParams};

use crate::files::read_bytes;
use crate::{FeatureError, ModelFiles, Tokenized};

/// Texts handed to one task at a time; the result does not depend on it.
const TEXTS_PER_TASK: usize = 64;

/// A model's tokenizer, which cuts texts at a maximum length and never pads.
///
/// ```no_run
/// use paretune_features::{ModelFiles, TextTokenizer};
///
/// let files = ModelFiles::local("models/all-MiniLM-L6-v2")?;
/// let tokenized = TextTokenizer::load(&files, Some(64))?.encode(&["Toy Story (1995)", "Heat (1995)"])?;
/// println!("{} texts, {} tokens, {} cut", tokenized.len(), tokenized.tokens(), tokenized.truncated());
/// # Ok::<(), paretune_features::FeatureError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    max_length: Option<usize>,
    /// Which end of a text is cut.
    direction: TruncationDirection,
    /// What stands for a text that has no tokens, where the tokenizer adds no special ones.
    empty: Option<u32>,
    highest: u32,
    path: PathBuf,
}

impl TextTokenizer {
    /// Reads the tokenizer of a model. Texts are cut at `max_length` tokens, special ones included; `None` means what
    /// the model asks for ([`ModelFiles::max_length`]), and no limit if it asks for none. `do_lower_case` in
    /// `sentence_bert_config.json` is followed.
    ///
    /// Tokenizers of models that generate text may add no special tokens (GPT-2, Qwen): a text without tokens, which would have no vector,
    /// then becomes the one token that ends texts (`eos_token` in `tokenizer_config.json` or `eos_token_id` in `config.json`; without an
    /// end, `bos_token` or `bos_token_id`).
    ///
    /// # Errors
    /// [`FeatureError::Malformed`] if `tokenizer.json` cannot be read, or adds no special tokens and no file names one to end a text with;
    /// [`FeatureError::MaxLength`] if `max_length` exceeds the model's positions or leaves no room for text;
    /// [`FeatureError::VocabularyMismatch`] if the tokenizer knows more tokens than the model.
    pub fn load(files: &ModelFiles, max_length: Option<usize>) -> Result<Self, FeatureError> {
        let path = &files.tokenizer;
        let malformed = |reason: String| FeatureError::Malformed { path: path.clone(), reason };
        let bytes = read_bytes(path)?;
        // The tokenizers crate panics where a part of the file is no JSON: that is found out before.
        serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|error| malformed(error.to_string()))?;
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(&bytes)).map_err(malformed)?;

        // Published tokenizers often pad and cut as they did when they were made; here the caller decides.
        let direction = tokenizer.get_truncation().map(|truncation| truncation.direction).unwrap_or_default();
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| malformed(error.to_string()))?;

        if files.lowers_case() {
            lower_case(&mut tokenizer).map_err(malformed)?;
        }

        let special = guarded(|| tokenizer.encode_fast("", true)).map_err(malformed)?.len();
        let empty = (special == 0)
            .then(|| end_of_text(&tokenizer, files).ok_or_else(|| malformed(NO_END.into())))
            .transpose()?;
        let highest = highest(&tokenizer).map_err(malformed)?;
        if let Some(rows) = files.vocabulary()
            && highest as usize >= rows
        {
            return Err(FeatureError::VocabularyMismatch { path: path.clone(), highest, rows });
        }

        let refuse = |asked, reason| FeatureError::MaxLength { asked, model: files.dir.clone(), reason };
        if let (Some(asked), Some(positions)) = (max_length, files.positions())
            && asked > positions
        {
            let reason = format!("it has {positions} positions for tokens, by its config.json");
            return Err(refuse(asked, reason));
        }
        let max_length = max_length.or_else(|| files.max_length());
        if let Some(asked) = max_length {
            if asked <= special {
                let reason = match special {
                    0 => "it leaves no room for text".to_owned(),
                    _ => format!("its {special} special tokens leave no room for text"),
                };
                return Err(refuse(asked, reason));
            }
            // The library stops at the length it is given. Without special tokens that leave it less, what fits and what is cut would
            // look alike.
            let room = if special == 0 { asked.saturating_add(1) } else { asked };
            let truncation = TruncationParams { max_length: room, direction, ..TruncationParams::default() };
            tokenizer.with_truncation(Some(truncation)).map_err(|error| malformed(error.to_string()))?;
        }
        Ok(Self { tokenizer, max_length, direction, empty, highest, path: path.clone() })
    }

    /// Tokenizes the texts, in parallel and in their order, each with the model's special tokens and cut at the
    /// maximum length; [`Tokenized::truncated`] says how many were cut. An empty text has its special tokens only, or the one token that
    /// ends texts.
    ///
    /// # Errors
    /// [`FeatureError::Tokenizing`] with the first text that fails; [`FeatureError::TooManyTokens`].
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Tokenized, FeatureError> {
        let parts: Vec<Result<Tokenized, FeatureError>> = texts
            .par_chunks(TEXTS_PER_TASK)
            .enumerate()
            .map(|(part, texts)| self.encode_part(texts, part * TEXTS_PER_TASK))
            .collect();
        let mut tokenized = Tokenized::default();
        for part in parts {
            let part = part?;
            if tokenized.tokens() + part.tokens() > u32::MAX as usize {
                return Err(FeatureError::TooManyTokens);
            }
            tokenized.append(&part);
        }
        Ok(tokenized)
    }

    fn encode_part<S: AsRef<str>>(&self, texts: &[S], first: usize) -> Result<Tokenized, FeatureError> {
        let mut tokenized = Tokenized::default();
        for (place, text) in texts.iter().enumerate() {
            let text = text.as_ref();
            let encoding = guarded(|| self.tokenizer.encode_fast(text, true)).map_err(|reason| {
                let (path, start) = (self.path.clone(), text.chars().take(40).collect());
                FeatureError::Tokenizing { path, index: first + place, start, reason }
            })?;
            let all = encoding.get_ids();
            let kept = all.len().min(self.max_length.unwrap_or(usize::MAX));
            let is_cut = kept < all.len() || !encoding.get_overflowing().is_empty();
            let ids = match (self.direction, &self.empty) {
                (_, Some(end)) if all.is_empty() => std::slice::from_ref(end),
                (TruncationDirection::Right, _) => &all[..kept],
                (TruncationDirection::Left, _) => &all[all.len() - kept..],
            };
            tokenized.push(ids, is_cut);
        }
        Ok(tokenized)
    }

    /// Number of tokens in the vocabulary, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The greatest id that a token can have.
    pub fn highest_id(&self) -> u32 {
        self.highest
    }

    /// The length at which texts are cut, in tokens.
    pub fn max_length(&self) -> Option<usize> {
        self.max_length
    }
}

const NO_END: &str = "it adds no special tokens (`post_processor`), and neither `eos_token` in tokenizer_config.json nor `eos_token_id` in \
    config.json names a token that ends texts, so an empty text would have no tokens";

/// The token that stands for a text without tokens.
fn end_of_text(tokenizer: &Tokenizer, files: &ModelFiles) -> Option<u32> {
    let (names, numbers) = files.boundary_tokens();
    let named = names.iter().find_map(|name| tokenizer.token_to_id(name));
    named.or_else(|| numbers.into_iter().find(|id| tokenizer.id_to_token(*id).is_some()))
}

/// The greatest id of a vocabulary and of the special tokens, whose ids the post-processor gives itself.
fn highest(tokenizer: &Tokenizer) -> Result<u32, String> {
    let special = guarded(|| tokenizer.encode_fast("", true))?;
    let known = guarded(|| Ok(tokenizer.get_vocab(true)))?;
    Ok(known.into_values().chain(special.get_ids().iter().copied()).max().unwrap_or(0))
}

/// The answer of the tokenizers crate, which panics at some configurations that make no sense, such as a normalizer that names a
/// broken character map; a file that came from elsewhere must not end the program.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("the tokenizer makes no sense: {}", said.unwrap_or("it breaks off")))
        }
    }
}

/// Puts lower case before all other normalizing, unless it is there.
fn lower_case(tokenizer: &mut Tokenizer) -> Result<(), String> {
    let lowers = |normalizer: &NormalizerWrapper| matches!(normalizer, NormalizerWrapper::Lowercase(_));
    let present = match tokenizer.get_normalizer() {
        None => Vec::new(),
        Some(NormalizerWrapper::Sequence(all)) => all.as_ref().to_vec(),
        Some(one) => vec![one.clone()],
    };
    if !present.iter().any(lowers) {
        let all = std::iter::once(NormalizerWrapper::Lowercase(Lowercase)).chain(present).collect();
        tokenizer
            .with_normalizer(Some(NormalizerWrapper::Sequence(Sequence::new(all))))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}
