//! Small models with random weights, one of every family: the sizes of the encoder's fixtures, a tokenizer of the kind that the family's
//! published models have, and a vocabulary made of the texts at hand.

use std::{fs, path::Path};

use candle_core::Device;
use paretune_encoder::{Encoder, ModelConfig, Pooling};
use paretune_features::ModelFiles;
use serde_json::{Map, Value, json};

mod tokenizer;

use tokenizer::{Kind, Made};

/// How a family is built.
struct Recipe {
    /// Folder of the encoder's fixtures whose sizes are taken.
    sizes: &'static str,
    tokenizer: Kind,
}

fn recipe(family: &str) -> Recipe {
    let (sizes, tokenizer) = match family {
        "bert" => ("bert-headed", Kind::WordPiece { special: ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] }),
        "distilbert" => ("distilbert", Kind::WordPiece { special: ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] }),
        "mpnet" => ("mpnet", Kind::WordPiece { special: ["<s>", "<pad>", "</s>", "[UNK]"] }),
        "roberta" => ("roberta", Kind::ByteLevel { begin: Some("<s>"), end: "</s>", adds_end: true }),
        "camembert" => ("roberta", Kind::Unigram),
        "xlm-roberta" => ("xlm-roberta", Kind::Unigram),
        "modernbert" => ("modernbert", Kind::ByteLevel { begin: Some("[CLS]"), end: "[SEP]", adds_end: true }),
        "gpt2" => ("gpt2", Kind::ByteLevel { begin: None, end: "<|endoftext|>", adds_end: false }),
        "qwen2" => ("qwen2", Kind::ByteLevel { begin: None, end: "<|endoftext|>", adds_end: false }),
        "qwen3" => ("qwen3", Kind::ByteLevel { begin: None, end: "<|endoftext|>", adds_end: true }),
        "llama" => ("llama", Kind::Pieces),
        "mistral" => ("mistral", Kind::Pieces),
        "gemma" => ("gemma", Kind::Pieces),
        other => panic!("no recipe for the family {other}: add one"),
    };
    Recipe { sizes, tokenizer }
}

/// Writes a model of `family` to `dir`, with a vocabulary for `texts`.
pub(crate) fn write(family: &str, texts: &[String], dir: &Path) {
    let Recipe { sizes, tokenizer } = recipe(family);
    let Made { json: tokenizer, tokens, end, begin } = tokenizer::make(tokenizer, texts);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../encoder/fixtures/backbones").join(sizes);
    let mut config: Map<String, Value> =
        serde_json::from_slice(&fs::read(fixture.join("config.json")).unwrap()).unwrap();
    config.insert("model_type".to_owned(), json!(family));
    config.insert("vocab_size".to_owned(), json!(tokens));
    config.insert("bos_token_id".to_owned(), json!(begin));
    config.insert("eos_token_id".to_owned(), json!(end));

    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = ModelConfig::from_json(config).unwrap_or_else(|error| panic!("{family}: {error}"));
    // As the program chooses where a model does not say.
    let pooling = if config.is_causal() { Pooling::LastToken } else { Pooling::Mean };
    let encoder = Encoder::random(config, pooling, 5, &Device::Cpu).unwrap();
    encoder.save(dir, &ModelFiles::unweighted(dir)).unwrap();
    // A published checkpoint of a transformer alone says nothing of vectors of texts.
    for file in ["modules.json", "sentence_bert_config.json"] {
        fs::remove_file(dir.join(file)).unwrap();
    }
    fs::remove_dir_all(dir.join("1_Pooling")).unwrap();
}
