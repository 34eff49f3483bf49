//! The models that mutations begin with.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;

use super::folder::{Content, Folder};
use super::tokenizers;

/// The folders of fixtures that hold a model, or llama.cpp files, and the adapter that comes with it; one line adds a model.
const MODELS: [(&str, Option<&str>); 46] = [
    ("tiny", None),
    ("sentence/dense", None),
    ("sentence/old", None),
    ("sentence/sharded", None),
    ("backbones/bert-headed", None),
    ("backbones/bert-old", None),
    ("backbones/distilbert", None),
    ("backbones/distilbert-headed", None),
    ("backbones/gemma", None),
    ("backbones/gpt2", None),
    ("backbones/gpt2-bidirectional", None),
    ("backbones/gpt2-headed", None),
    ("backbones/gpt2-old", None),
    ("backbones/llama", None),
    ("backbones/llama3-rope", None),
    ("backbones/mistral", None),
    ("backbones/modernbert", None),
    ("backbones/modernbert-headed", None),
    ("backbones/mpnet", None),
    ("backbones/qwen2", None),
    ("backbones/qwen2-bidirectional", None),
    ("backbones/qwen3", None),
    ("backbones/qwen3-headed", None),
    ("backbones/roberta", None),
    ("backbones/roberta-headed", None),
    ("backbones/xlm-roberta", None),
    ("gguf/bert-q5_1.gguf", None),
    ("gguf/gemma-f16.gguf", None),
    ("gguf/gpt2-f16.gguf", None),
    ("gguf/llama-f16.gguf", None),
    ("gguf/llama-q8_0.gguf", None),
    ("gguf/llama3-f16.gguf", None),
    ("gguf/mistral-f16.gguf", None),
    ("gguf/qwen2-q5_0.gguf", None),
    ("gguf/qwen3-q4_0.gguf", None),
    ("gguf/xlmr-f16.gguf", None),
    ("tiny", Some("lora-bert")),
    ("tiny", Some("rslora-bert")),
    ("tiny", Some("lora-bias-bert")),
    ("tiny", Some("lora-pattern-bert")),
    ("tiny", Some("lora-pooler-bert")),
    ("tiny", Some("ia3-bert")),
    ("backbones/qwen3", Some("lora-qwen3")),
    ("backbones/qwen3-headed", Some("lora-qwen3-headed")),
    ("backbones/gpt2", Some("lora-gpt2")),
    ("backbones/modernbert", Some("lora-modernbert")),
];

/// Where a model's adapter lies.
pub(crate) const ADAPTER: &str = "adapter/";

/// A model of the corpus.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) folder: Folder,
}

/// All models, and the fields of their JSON files.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) models: Vec<Model>,
    /// Keys with the values they have somewhere.
    pub(crate) fields: Vec<(String, Value)>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

impl Corpus {
    /// The fixtures of this crate.
    pub(crate) fn fixtures() -> io::Result<Self> {
        let mut models = Vec::new();
        let tokenizer = fs::read(fixtures().join("tiny/tokenizer.json"))?;
        for (place, adapter) in MODELS {
            let mut folder = match place.ends_with(".gguf") {
                true => Folder {
                    files: [("model.gguf".to_owned(), Content::Bytes(fs::read(fixtures().join(place))?))].into(),
                },
                false => Folder::read(&fixtures().join(place))?,
            };
            if ["backbones/", "gguf/"].iter().any(|start| place.starts_with(start)) {
                folder.put("tokenizer.json", cut_vocabulary(&tokenizer, 40)?);
            }
            let mut name = place.to_owned();
            if let Some(adapter) = adapter {
                for (path, content) in Folder::read(&fixtures().join("adapters").join(adapter))?.files {
                    folder.files.insert(format!("{ADAPTER}{path}"), content);
                }
                name = format!("{place} with {adapter}");
            }
            // The spelling of older versions, as a model of its own.
            if let Some(older) = folder.files.remove("config-4.json") {
                let mut folder = folder.clone();
                folder.files.insert("config.json".to_owned(), older);
                models.push(Model { name: format!("{name} of older versions"), folder });
            }
            models.push(Model { name, folder });
        }
        let tiny = Folder::read(&fixtures().join("tiny"))?;
        for (kind, json) in tokenizers::kinds(&serde_json::from_slice(&tokenizer)?) {
            let mut folder = tiny.clone();
            folder.put("tokenizer.json", serde_json::to_vec(&json)?);
            models.push(Model { name: format!("tiny of {kind}"), folder });
        }
        Ok(Self::of(models))
    }

    /// The models in the folders of `dir`, sorted by name.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let mut models = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                models.push(Model { name, folder: Folder::read(&path)? });
            }
        }
        models.sort_by(|left, right| left.name.cmp(&right.name));
        match models.is_empty() {
            true => Err(io::Error::other(format!("{} has no folder that could be a model", dir.display()))),
            false => Ok(Self::of(models)),
        }
    }

    fn of(models: Vec<Model>) -> Self {
        let mut fields = Vec::new();
        for model in &models {
            for path in model.folder.ending("config.json") {
                let parsed = model.folder.bytes(&path).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
                if let Some(Value::Object(object)) = parsed {
                    fields.extend(object.into_iter().filter(|field| !fields.contains(field)).collect::<Vec<_>>());
                }
            }
        }
        Self { models, fields }
    }
}

/// A tokenizer without the words that a model of `rows` word vectors does not have.
fn cut_vocabulary(tokenizer: &[u8], rows: u64) -> io::Result<Vec<u8>> {
    let mut json: Value = serde_json::from_slice(tokenizer)?;
    if let Some(words) = json.pointer_mut("/model/vocab").and_then(Value::as_object_mut) {
        words.retain(|_, id| id.as_u64().is_some_and(|id| id < rows));
    }
    Ok(serde_json::to_vec(&json)?)
}
