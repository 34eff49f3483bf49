//! Models as files: what is written is read, and broken files are refused with a reason.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use paretune_encoder::{BertConfig, Encoder, EncoderError, LoadOptions, ModelConfig, Pooling, Precision};
use paretune_features::ModelFiles;

use super::{fixtures, numbers, packed, tiny_files};

fn load(files: &ModelFiles) -> Result<Encoder, EncoderError> {
    Encoder::load(files, &LoadOptions::default())
}

fn tensors() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixtures().join("tiny/model.safetensors"), &Device::Cpu).unwrap()
}

/// The tiny model with other weights, in as many files as there are maps.
fn with_weights(dir: &Path, shards: &[HashMap<String, Tensor>]) -> ModelFiles {
    let paths = (0..shards.len()).map(|shard| dir.join(format!("weights-{shard}.safetensors")));
    let weights: Vec<_> = paths.collect();
    for (path, tensors) in weights.iter().zip(shards) {
        candle_core::safetensors::save(tensors, path).unwrap();
    }
    ModelFiles { weights, ..tiny_files() }
}

fn vectors(encoder: &Encoder) -> Vec<f32> {
    numbers(&encoder.encode(&packed(&[vec![2, 8, 9, 3], vec![2, 44, 3]]), None).unwrap())
}

#[test]
fn what_is_saved_is_loaded_bit_by_bit() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("deep/model");
    let encoder = Encoder::random(BertConfig::tiny(), Pooling::Cls, 8, &Device::Cpu).unwrap();
    encoder.save(&target, &tiny_files()).unwrap();
    let files = ModelFiles::local(&target).unwrap();
    let again = load(&files).unwrap();
    assert_eq!(again.pooling(), Pooling::Cls);
    assert_eq!(vectors(&again), vectors(&encoder));
    for (name, tensor) in encoder.tensors().unwrap() {
        assert_eq!(numbers(&tensor), numbers(&again.tensors().unwrap()[&name]), "{name}");
    }
    assert_eq!(files.max_length(), Some(32));
    assert_eq!(files.module_kinds(), ["Transformer", "Pooling"]);
    // Saving over an older model leaves no parts behind.
    again.save(&target, &files).unwrap();
    let names = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.ends_with(".part")));
}

#[test]
fn half_precision_takes_half_the_space_and_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let encoder = load(&tiny_files()).unwrap();
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    for (precision, tolerance) in [(Precision::F16, 1e-3), (Precision::Bf16, 1e-2)] {
        encoder.save_as(dir.path(), &tiny_files(), precision).unwrap();
        assert!(
            size(&dir.path().join("model.safetensors")) < size(&fixtures().join("tiny/model.safetensors")) * 6 / 10
        );
        let again = load(&ModelFiles::local(dir.path()).unwrap()).unwrap();
        for (name, tensor) in encoder.tensors().unwrap() {
            let off = super::difference(&tensor, &again.tensors().unwrap()[&name]);
            assert!(off <= tolerance * super::largest(&tensor), "{name}: {off}");
        }
    }
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(config["pad_token_id"], 0);
}

#[test]
fn names_with_a_prefix_old_names_and_shards_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let expected = vectors(&load(&tiny_files()).unwrap());
    let old = |name: &str| {
        format!(
            "bert.{}",
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        )
    };
    let mut shards = [HashMap::new(), HashMap::new()];
    for (name, tensor) in tensors() {
        shards[usize::from(name.contains("layer.1"))].insert(old(&name), tensor);
    }
    let pooler = Tensor::ones((32, 32), DType::F32, &Device::Cpu).unwrap();
    shards[0].insert("bert.pooler.dense.weight".to_owned(), pooler.clone());
    shards[0].insert("cls.predictions.bias".to_owned(), pooler.clone());
    shards[1].insert("bert.embeddings.position_ids".to_owned(), Tensor::arange(0i64, 32, &Device::Cpu).unwrap());
    let encoder = load(&with_weights(dir.path(), &shards)).unwrap();
    assert_eq!(vectors(&encoder), expected);
    assert!(encoder.parameters().iter().all(|(name, _)| !name.contains("pooler")));
    // Other tools use the pooler: it is kept for them, the head is not.
    assert!(encoder.tensors().unwrap().contains_key("pooler.dense.weight"));
    assert_eq!(encoder.tensors().unwrap().len(), encoder.parameters().len() + 1);
}

#[test]
fn broken_weights_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixtures().join("tiny/model.safetensors")).unwrap();
    let path = dir.path().join("model.safetensors");
    let files = ModelFiles { weights: vec![path.clone()], ..tiny_files() };
    for length in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = load(&files).unwrap_err();
        assert!(matches!(error, EncoderError::BrokenWeights { .. }), "{length} bytes: {error}");
        assert!(error.to_string().contains("model.safetensors"));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(load(&files).unwrap_err(), EncoderError::Read { .. }));

    let mut few = tensors();
    few.retain(|name, _| !name.contains("layer.1.output.dense"));
    match load(&with_weights(dir.path(), &[few])).unwrap_err() {
        EncoderError::MissingTensors { missing, .. } => {
            assert_eq!(missing, ["encoder.layer.1.output.dense.weight", "encoder.layer.1.output.dense.bias"]);
        }
        other => panic!("{other}"),
    }

    let (name, other) =
        ("embeddings.word_embeddings.weight", Tensor::ones((61, 32), DType::F32, &Device::Cpu).unwrap());
    let mut wrong = tensors();
    wrong.insert(name.to_owned(), other);
    let message = load(&with_weights(dir.path(), &[wrong.clone()])).unwrap_err().to_string();
    assert!(message.contains(name) && message.contains("[61, 32]") && message.contains("[60, 32]"), "{message}");

    wrong.insert(name.to_owned(), tensors()[name].to_dtype(DType::F64).unwrap());
    let message = load(&with_weights(dir.path(), &[wrong])).unwrap_err().to_string();
    assert!(message.contains("F64") && message.contains("BF16"), "{message}");
}

#[test]
fn configurations_that_cannot_be_built_are_refused_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    for (json, part) in [
        ("{", "JSON"),
        (r#"{"model_type": "t5"}"#, "`t5`; supported: bert, roberta"),
        ("{}", "supported: bert"),
        (r#"{"model_type": "bert", "hidden_act": "mish"}"#, "supported: gelu"),
        (r#"{"model_type": "bert", "hidden_size": 30, "num_attention_heads": 4}"#, "not divisible"),
        (r#"{"model_type": "bert", "num_attention_heads": 0}"#, "num_attention_heads is 0"),
        (r#"{"model_type": "bert", "hidden_size": "wide"}"#, "wide"),
        (r#"{"model_type": "bert", "hidden_dropout_prob": 1.5}"#, "hidden_dropout_prob"),
        (r#"{"model_type": "bert", "layer_norm_eps": 0}"#, "layer_norm_eps"),
        (r#"{"model_type": "bert", "position_embedding_type": "relative_key"}"#, "absolute"),
    ] {
        std::fs::write(&path, json).unwrap();
        let message = ModelConfig::read(&path).unwrap_err().to_string();
        assert!(message.contains(part), "{json}: {message}");
        assert!(message.contains("config.json"), "{json}: {message}");
    }
    let invalid = BertConfig { num_attention_heads: 5, ..BertConfig::tiny() };
    let error = Encoder::random(invalid, Pooling::Mean, 1, &Device::Cpu).unwrap_err();
    assert!(matches!(error, EncoderError::InvalidConfig { .. }));
}

#[test]
fn parts_that_would_change_the_vectors_are_not_left_out_silently() {
    let dir = tempfile::tempdir().unwrap();
    let modules = dir.path().join("modules.json");
    std::fs::write(
        &modules,
        r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
            {"idx":1,"name":"1","path":"2_Dense","type":"sentence_transformers.models.Dense"}]"#,
    )
    .unwrap();
    let error = load(&ModelFiles { modules: Some(modules), ..tiny_files() }).unwrap_err();
    assert!(matches!(&error, EncoderError::UnsupportedPart { kind, .. } if kind == "Dense"), "{error}");
}
