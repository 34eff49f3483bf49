//! Models in llama.cpp files: values against those of `transformers` on the same dequantized weights (`fixtures/make_gguf.py`),
//! every quantization, and files that lie.

mod hostile;
mod quantized;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::{Device, Tensor};
use paretune_encoder::{
    Encoder, EncoderError, LoadOptions, Pooling, SentenceEncoder, SentenceOptions, Trainable, backward,
};
use paretune_features::{FeatureError, ModelFiles};

use super::{difference, fixtures, largest, numbers, packed, sequences, stored};

const FIXTURES: [(&str, &str, Pooling); 10] = [
    ("llama-q8_0", "llama", Pooling::LastToken),
    ("llama-f16", "llama", Pooling::LastToken),
    ("llama3-f16", "llama", Pooling::LastToken),
    ("qwen3-q4_0", "qwen3", Pooling::LastToken),
    ("qwen2-q5_0", "qwen2", Pooling::LastToken),
    ("mistral-f16", "mistral", Pooling::LastToken),
    ("gemma-f16", "gemma", Pooling::LastToken),
    ("gpt2-f16", "gpt2", Pooling::LastToken),
    ("bert-q5_1", "bert", Pooling::Cls),
    ("xlmr-f16", "bert", Pooling::Mean),
];

fn path(name: &str) -> PathBuf {
    fixtures().join(format!("gguf/{name}.gguf"))
}

fn files(path: &Path) -> ModelFiles {
    ModelFiles { weights: vec![path.to_owned()], ..ModelFiles::unweighted(path.parent().unwrap()) }
}

fn load(path: &Path) -> Result<Encoder, EncoderError> {
    Encoder::load(&files(path), &LoadOptions::default())
}

/// A file's metadata and tensors, to be changed and written again.
struct Contents {
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, QTensor>,
}

impl Contents {
    fn of(name: &str) -> Self {
        let mut file = File::open(path(name)).unwrap();
        let content = Content::read(&mut file).unwrap();
        let names = content.tensor_infos.keys();
        let tensors =
            names.map(|name| (name.clone(), content.tensor(&mut file, name, &Device::Cpu).unwrap())).collect();
        Self { metadata: content.metadata.into_iter().collect(), tensors }
    }

    fn set(&mut self, key: &str, value: Value) -> &mut Self {
        self.metadata.insert(key.to_owned(), value);
        self
    }

    fn write(&self, path: &Path) {
        let metadata: Vec<_> = self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut BufWriter::new(File::create(path).unwrap()), &metadata, &tensors).unwrap();
    }

    fn load(&self) -> Result<Encoder, EncoderError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        self.write(&path);
        load(&path)
    }

    fn refusal(&self) -> String {
        let message = self.load().unwrap_err().to_string();
        assert!(message.contains("model.gguf"), "{message}");
        message
    }
}

fn plain(tensor: &Tensor) -> QTensor {
    QTensor::quantize(tensor, candle_core::quantized::GgmlDType::F32).unwrap()
}

#[test]
fn values_are_those_of_transformers() {
    for (name, model_type, pooling) in FIXTURES {
        let encoder = load(&path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((encoder.config().model_type(), encoder.pooling()), (model_type, pooling), "{name}");
        let expected = stored(&format!("gguf/{name}.safetensors"));
        let hidden = encoder.hidden_states(&packed(&sequences(&expected)), None).unwrap();
        let (off, size) = (difference(&hidden, &expected["hidden"]), largest(&expected["hidden"]));
        assert!(off <= 1e-5 * size.max(1.0), "{name}: hidden states are off by {off} of {size}");
    }
}

#[test]
fn weights_are_trained_or_frozen_like_any_others() {
    for (name, ..) in FIXTURES {
        let encoder = load(&path(name)).unwrap();
        let packed = packed(&sequences(&stored(&format!("gguf/{name}.safetensors"))));
        let gradients = backward(&super::loss(&encoder.hidden_states(&packed, Some(3)).unwrap())).unwrap();
        for (parameter, var) in encoder.parameters() {
            let values = match gradients.rows(&var) {
                Some(table) => numbers(&table.values),
                None => numbers(gradients.get(&var).unwrap_or_else(|| panic!("{name}: {parameter}"))),
            };
            assert!(values.iter().any(|value| *value != 0.0), "{name}: {parameter}");
        }
        let frozen = LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() };
        let frozen = Encoder::load(&files(&path(name)), &frozen).unwrap();
        assert!(frozen.parameters().is_empty(), "{name}");
        let vectors = |encoder: &Encoder| numbers(&encoder.encode(&packed, None).unwrap());
        assert_eq!(vectors(&frozen), vectors(&encoder), "{name}");
    }
}

#[test]
fn saved_models_are_ordinary_folders_with_the_same_vectors() {
    for (name, model_type, pooling) in FIXTURES {
        let encoder = load(&path(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        encoder.save(dir.path(), &ModelFiles::unweighted(fixtures().join("tiny"))).unwrap();
        let again = ModelFiles::local(dir.path()).unwrap();
        assert_eq!(again.gguf(), None);
        let again = Encoder::load(&again, &LoadOptions::default()).unwrap();
        assert_eq!((again.config().model_type(), again.pooling()), (model_type, pooling), "{name}");
        let packed = packed(&sequences(&stored(&format!("gguf/{name}.safetensors"))));
        let vectors = |encoder: &Encoder| numbers(&encoder.encode(&packed, None).unwrap());
        assert_eq!(vectors(&again), vectors(&encoder), "{name}");
    }
}

/// The tiny BERT of the fixtures under the names of llama.cpp.
fn tiny() -> Contents {
    let weights = candle_core::safetensors::load(fixtures().join("tiny/model.safetensors"), &Device::Cpu).unwrap();
    let parts = [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("encoder.layer", "blk"),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    let rename = |name: &str| parts.iter().fold(name.to_owned(), |name, (hub, own)| name.replace(hub, own));
    let tensors = weights.iter().filter(|(name, _)| !name.starts_with("pooler"));
    let tensors = tensors.map(|(name, tensor)| (rename(name), plain(tensor))).collect();
    let config = std::fs::read_to_string(fixtures().join("tiny/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let number = |field: &str| Value::U32(config[field].as_u64().unwrap() as u32);
    let metadata = [
        ("general.architecture", Value::String("bert".to_owned())),
        ("bert.context_length", number("max_position_embeddings")),
        ("bert.embedding_length", number("hidden_size")),
        ("bert.block_count", number("num_hidden_layers")),
        ("bert.feed_forward_length", number("intermediate_size")),
        ("bert.attention.head_count", number("num_attention_heads")),
        ("bert.attention.layer_norm_epsilon", Value::F32(config["layer_norm_eps"].as_f64().unwrap() as f32)),
    ];
    Contents { metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(), tensors }
}

#[test]
fn a_file_beside_its_tokenizer_is_a_whole_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny-F32.gguf");
    tiny().write(&path);
    std::fs::copy(fixtures().join("tiny/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let long = "w9 ".repeat(100);
    let texts = ["w7 w8", "", &long[..]];
    let vectors = |model: &SentenceEncoder| model.encode(&texts).unwrap().into_vec();
    let model = |files: &ModelFiles| {
        let options = SentenceOptions { normalize: true, max_length: None, ..SentenceOptions::default() };
        SentenceEncoder::load(files, &options).unwrap()
    };
    // From the folder or by name; texts are cut at the length that the file gives.
    let by_name = model(
        &path
            .to_str()
            .unwrap()
            .parse::<paretune_features::ModelSource>()
            .unwrap()
            .fetch(&paretune_features::FetchOptions::default())
            .unwrap(),
    );
    assert_eq!(by_name.tokenizer().max_length(), Some(32));
    assert_eq!(vectors(&by_name), vectors(&model(&ModelFiles::local(dir.path()).unwrap())));

    let original = ModelFiles { sentence_config: None, ..super::tiny_files() };
    let options = SentenceOptions { normalize: true, max_length: Some(32), ..SentenceOptions::default() };
    let original = SentenceEncoder::load(&original, &options).unwrap();
    assert_eq!(vectors(&by_name), vectors(&original));

    // With a pooling configuration, that one counts.
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    std::fs::write(dir.path().join("1_Pooling/config.json"), r#"{"pooling_mode": "max"}"#).unwrap();
    assert_eq!(model(&ModelFiles::local(&path).unwrap()).encoder().pooling(), Pooling::Max);

    // A tokenizer of another model is told by the file's own vocabulary.
    std::fs::copy(self::path("llama-f16"), &path).unwrap();
    let error = SentenceEncoder::load(&ModelFiles::local(&path).unwrap(), &SentenceOptions::default()).unwrap_err();
    let is_mismatch = matches!(&error, EncoderError::Features(FeatureError::VocabularyMismatch { rows: 40, .. }));
    assert!(is_mismatch, "{error}");
}

#[test]
fn frequencies_are_read_with_their_scaling() {
    let scaling = |contents: &Contents| contents.load().unwrap().config().json().get("rope_scaling").cloned();
    let mut qwen = Contents::of("qwen3-q4_0");
    assert_eq!(scaling(&qwen), None);
    qwen.set("qwen3.rope.scaling.type", Value::String("linear".to_owned()))
        .set("qwen3.rope.scaling.factor", Value::F32(4.0));
    assert_eq!(scaling(&qwen).unwrap()["factor"], 4.0);
    let vectors = |contents: &Contents| {
        let packed = packed(&sequences(&stored("gguf/qwen3-q4_0.safetensors")));
        numbers(&contents.load().unwrap().encode(&packed, None).unwrap())
    };
    // Factors of frequencies mean the same as one for all.
    let mut factors = Contents::of("qwen3-q4_0");
    factors.tensors.insert("rope_freqs.weight".to_owned(), plain(&Tensor::full(4.0_f32, 8, &Device::Cpu).unwrap()));
    assert_eq!(vectors(&factors), vectors(&qwen));
    assert_ne!(vectors(&factors), vectors(&Contents::of("qwen3-q4_0")));
}
