//! Where the files of one model lie, and what the small ones among them say.

mod folder;
mod reading;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::FeatureError;
use crate::gguf::{self, Gguf};
use crate::modules::{self, Module};
use folder::{copy_whole, only_gguf, pooling, weights};
pub(crate) use reading::{existing, malformed, read_bytes, read_json};
use reading::{missing, read, required};

/// The files of a model in the layout of the Hugging Face Hub and sentence-transformers.
///
/// Made by [`ModelFiles::local`] for a directory or by [`ModelSource::fetch`](crate::ModelSource::fetch) for a Hub name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    /// The model's folder.
    pub dir: PathBuf,
    /// `config.json`: the architecture. There need not be one beside a llama.cpp file, which says itself what it is.
    pub config: PathBuf,
    /// `tokenizer.json`: the whole tokenizing pipeline.
    pub tokenizer: PathBuf,
    /// `model.safetensors` alone, or the shards named by `model.safetensors.index.json` in the order of their names;
    /// or one llama.cpp file (`.gguf`).
    pub weights: Vec<PathBuf>,
    /// `1_Pooling/config.json` (or where `modules.json` puts it): how token vectors become one.
    pub pooling: Option<PathBuf>,
    /// `modules.json`: the parts of a sentence-transformers model.
    pub modules: Option<PathBuf>,
    /// `sentence_bert_config.json`: the length at which sentence-transformers cuts texts.
    pub sentence_config: Option<PathBuf>,
}

/// One part of a sentence-transformers model, as `modules.json` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPart {
    /// `Transformer`, `Pooling`, `Normalize`, `Dense`, …: the class without its Python package.
    pub kind: String,
    /// The folder of its files; it need not exist where a part has none, as `Normalize`.
    pub dir: PathBuf,
}

impl ModelPart {
    /// The safetensors files of the part: one, or the shards of its index.
    ///
    /// # Errors
    /// [`FeatureError::MissingFile`] if there are no weights, [`FeatureError::UnsafeWeights`] if only a pickle has them,
    /// [`FeatureError::Malformed`] if the index of the shards cannot be read or leads out of the folder.
    pub fn weights(&self) -> Result<Vec<PathBuf>, FeatureError> {
        weights(&self.dir)
    }
}

/// What tokenizing needs beside `tokenizer.json`, in this crate or in Python; those present are copied with a model.
const TOKENIZER_FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// Weights that Python opens by running what is in them.
pub(crate) const PICKLES: &[&str] = &["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.pt"];

impl ModelFiles {
    /// The files of a folder that are needed to tokenize, whether or not there are weights; nothing is looked for.
    pub fn unweighted(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self {
            config: dir.join("config.json"),
            tokenizer: dir.join("tokenizer.json"),
            weights: Vec::new(),
            pooling: None,
            modules: None,
            sentence_config: None,
            dir,
        }
    }

    /// Finds the files of the model in the folder `dir`, or of a llama.cpp file (`.gguf`), which needs a `tokenizer.json` beside it. A
    /// folder may also hold one such file instead of `config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// [`FeatureError::NoDirectory`]; [`FeatureError::MissingFile`] if there is no configuration, tokenizer, weights
    /// file or shard; [`FeatureError::UnsafeWeights`] if the weights are there only as a pickle;
    /// [`FeatureError::Malformed`] if `modules.json`, `sentence_bert_config.json` or the index of the shards cannot be read.
    pub fn local(dir: impl AsRef<Path>) -> Result<Self, FeatureError> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            return match gguf::is_named(dir) {
                true => Self::of_gguf(dir),
                false => Err(FeatureError::NoDirectory { dir: dir.to_path_buf() }),
            };
        }
        Self::of_folder(dir, None)
    }

    /// The llama.cpp file at `path` and what lies beside it.
    fn of_gguf(path: &Path) -> Result<Self, FeatureError> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(missing(dir, &name, "check the path of the llama.cpp file"));
        }
        Self::of_folder(dir, Some(path.to_path_buf()))
    }

    /// The files of a folder, with these weights or the ones that are there.
    fn of_folder(dir: &Path, gguf: Option<PathBuf>) -> Result<Self, FeatureError> {
        let modules_path = existing(dir, "modules.json");
        let modules = match &modules_path {
            Some(path) => modules::parse(&read(path)?).map_err(|reason| malformed(path, reason))?,
            None => Vec::new(),
        };
        // Older sentence-transformers models keep the transformer in a folder of its own.
        let base = match modules.iter().find(|module| module.kind() == "Transformer") {
            Some(transformer) => dir.join(transformer.path()),
            None => dir.to_path_buf(),
        };
        let sentence_config = existing(&base, "sentence_bert_config.json");
        if let Some(path) = &sentence_config {
            read_json::<SentenceConfig>(path)?;
        }
        let (config, tokenizer, weights) = match gguf.map_or_else(|| only_gguf(&base), |path| Ok(Some(path)))? {
            Some(path) => {
                (base.join("config.json"), required(&base, "tokenizer.json", GGUF_TOKENIZER_ADVICE)?, vec![path])
            }
            None => (
                required(
                    &base,
                    "config.json",
                    "give a directory in the layout of the Hub: config.json, tokenizer.json and model.safetensors",
                )?,
                required(&base, "tokenizer.json", TOKENIZER_ADVICE)?,
                weights(&base)?,
            ),
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            config,
            tokenizer,
            weights,
            pooling: pooling(dir, &modules)?,
            modules: modules_path,
            sentence_config,
        })
    }

    /// The greatest number of tokens per text, special ones included: the smaller of `max_seq_length` in
    /// `sentence_bert_config.json` (without it, `model_max_length` in `tokenizer_config.json`) and the positions that `config.json`
    /// gives (`max_position_embeddings` or `n_positions`; in a llama.cpp file, its context length), less those that RoBERTa and MPNet
    /// leave unused. `None` if none of them is given.
    pub fn max_length(&self) -> Option<usize> {
        let sentence = self.sentence_config.as_deref().and_then(|path| read_json::<SentenceConfig>(path).ok());
        let asked = sentence.and_then(|config| config.max_seq_length).or_else(|| {
            let path = self.tokenizer.with_file_name("tokenizer_config.json");
            let length = read_json::<TokenizerConfig>(&path).ok()?.model_max_length?;
            // Tokenizers without a limit say 1e30.
            (length >= 1.0 && length < f64::from(u32::MAX)).then_some(length as usize)
        });
        asked.into_iter().chain(self.positions()).min()
    }

    /// The llama.cpp file that holds configuration and weights, if the model is one.
    pub fn gguf(&self) -> Option<&Path> {
        match self.weights.as_slice() {
            [one] if gguf::is_named(one) => Some(one),
            _ => None,
        }
    }

    /// How many rows the model's table of word vectors has, by `config.json`.
    pub(crate) fn vocabulary(&self) -> Option<usize> {
        self.architecture().and_then(|config| config.vocab_size)
    }

    /// How many tokens the model has positions for, by `config.json`.
    pub(crate) fn positions(&self) -> Option<usize> {
        let config = self.architecture()?;
        let rows = config.max_position_embeddings.or(config.n_positions)?;
        let padding = config.pad_token_id.as_ref().and_then(Value::as_u64).unwrap_or(1) as usize;
        // RoBERTa counts positions from the one after its padding token's number, MPNet from 2.
        let unused = match config.model_type.as_deref() {
            Some("roberta" | "xlm-roberta" | "camembert") => padding.saturating_add(1),
            Some("mpnet") => 2,
            _ => 0,
        };
        Some(rows.saturating_sub(unused))
    }

    /// The token that ends a text, or else the one that begins it: names from `tokenizer_config.json` and numbers from `config.json`.
    pub(crate) fn boundary_tokens(&self) -> (Vec<String>, Vec<u32>) {
        let settings: Boundaries =
            read_json(&self.tokenizer.with_file_name("tokenizer_config.json")).unwrap_or_default();
        let name = |value: Value| match &value {
            Value::String(name) => Some(name.clone()),
            other => other.get("content").and_then(Value::as_str).map(str::to_owned),
        };
        let config: Boundaries = read_json(&self.config).unwrap_or_default();
        // Some models end texts in several ways.
        let number = |value: Value| value.get(0).unwrap_or(&value).as_u64().and_then(|id| u32::try_from(id).ok());
        (
            [settings.eos_token, settings.bos_token].into_iter().flatten().filter_map(name).collect(),
            [config.eos_token_id, config.bos_token_id].into_iter().flatten().filter_map(number).collect(),
        )
    }

    fn architecture(&self) -> Option<Architecture> {
        if let Some(path) = self.gguf() {
            let file = Gguf::read(path).ok()?;
            let (max_position_embeddings, vocab_size) = (file.positions(), file.vocabulary());
            return Some(Architecture { max_position_embeddings, vocab_size, ..Architecture::default() });
        }
        read_json(&self.config).ok()
    }

    /// Whether the model ends by scaling its vectors to length 1 (`Normalize` in `modules.json`).
    pub fn normalizes(&self) -> bool {
        self.module_kinds().iter().any(|kind| kind == "Normalize")
    }

    /// The kinds of the model's parts in their order, such as `Transformer`, `Pooling`, `Normalize`, `Dense`; empty
    /// without `modules.json`. A caller that computes fewer of them does not compute this model's own vectors.
    pub fn module_kinds(&self) -> Vec<String> {
        let modules = self.modules.as_deref().and_then(|path| modules::parse(&read(path).ok()?).ok());
        modules.unwrap_or_default().iter().map(|module| module.kind().to_owned()).collect()
    }

    /// The model's parts in their order; empty without `modules.json`.
    ///
    /// # Errors
    /// [`FeatureError::Malformed`] if `modules.json` cannot be read or names a folder outside of the model's.
    pub fn parts(&self) -> Result<Vec<ModelPart>, FeatureError> {
        let Some(path) = &self.modules else {
            return Ok(Vec::new());
        };
        let modules = modules::parse(&read(path)?).map_err(|reason| malformed(path, reason))?;
        let part = |module: &Module| ModelPart { kind: module.kind().to_owned(), dir: self.dir.join(module.path()) };
        Ok(modules.iter().map(part).collect())
    }

    /// Whether texts are to be in lower case whatever `tokenizer.json` does (`do_lower_case` in
    /// `sentence_bert_config.json`).
    pub(crate) fn lowers_case(&self) -> bool {
        let sentence = self.sentence_config.as_deref().and_then(|path| read_json::<SentenceConfig>(path).ok());
        sentence.and_then(|config| config.do_lower_case).unwrap_or(false)
    }

    /// Identifies what the model computes: 16 hexadecimal digits of the SHA-256 of configuration, tokenizer, pooling,
    /// weights, and what follows the pooling (dense layers with their weights, scaling, in their order). Equal for copies of a model wherever they lie; reads every file once.
    ///
    /// # Errors
    /// [`FeatureError::Io`] if a file cannot be read, [`FeatureError::Malformed`] if `modules.json` is damaged.
    pub fn hash(&self) -> Result<String, FeatureError> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let after = self.parts()?.into_iter().filter(|part| !["Transformer", "Pooling"].contains(&part.kind.as_str()));
        let (mut dense, mut kinds) = (Vec::new(), Vec::new());
        for part in after {
            kinds.push(part.kind.clone());
            if part.kind == "Dense" {
                dense.push(part);
            }
        }
        if self.lowers_case() {
            kinds.push("lower case".to_owned());
        }
        hasher.update(kinds.join(","));
        let dense: Vec<PathBuf> = dense
            .into_iter()
            .flat_map(|part| ["config.json", "model.safetensors"].map(|name| part.dir.join(name)))
            .filter(|path| path.is_file())
            .collect();
        let config = self.gguf().is_none().then_some(&self.config);
        let own = config.into_iter().chain([&self.tokenizer]).chain(&self.pooling).chain(&self.weights);
        for path in own.chain(&dense) {
            let failed = |source| FeatureError::Io { action: "read", path: path.clone(), source };
            let mut file = fs::File::open(path).map_err(failed)?;
            // The length first, so that no byte can move from one file to the next unnoticed.
            hasher.update(file.metadata().map_err(failed)?.len().to_le_bytes());
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => hasher.update(&buffer[..read]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Copies the tokenizer's files, and those that tell sentence-transformers how to use it, into `dir`, which is
    /// made if need be. Neither weights nor `config.json` are copied. Each file appears whole or not at all.
    ///
    /// # Errors
    /// [`FeatureError::Io`] if a file cannot be read or written.
    pub fn copy_tokenizer_to(&self, dir: impl AsRef<Path>) -> Result<(), FeatureError> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|source| FeatureError::Io {
            action: "make",
            path: dir.to_path_buf(),
            source,
        })?;
        for name in TOKENIZER_FILES {
            let from =
                [self.tokenizer.with_file_name(name), self.dir.join(name)].into_iter().find(|path| path.is_file());
            if let Some(from) = from {
                copy_whole(&from, &dir.join(name))?;
            }
        }
        Ok(())
    }
}

const TOKENIZER_ADVICE: &str = "the tokenizer is read from this file alone; make it in Python with \
    `AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(…)`";

const GGUF_TOKENIZER_ADVICE: &str = "the tokenizer inside a llama.cpp file is not read; put the `tokenizer.json` of the model it was \
    made of beside it (and `1_Pooling/config.json`, `modules.json` where that model has them)";

#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    do_lower_case: Option<bool>,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Architecture {
    model_type: Option<String>,
    max_position_embeddings: Option<usize>,
    n_positions: Option<usize>,
    pad_token_id: Option<Value>,
    vocab_size: Option<usize>,
}

#[derive(Default, Deserialize)]
struct Boundaries {
    eos_token: Option<Value>,
    bos_token: Option<Value>,
    eos_token_id: Option<Value>,
    bos_token_id: Option<Value>,
}

#[cfg(test)]
mod tests;
