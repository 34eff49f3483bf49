//! Folders that lie or are damaged: each is refused with the file and the reason, none makes a panic.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use paretune_encoder::{EncodeOptions, Encoder, EncoderError, LoadOptions, Prompt, SentenceEncoder, SentenceOptions};
use paretune_features::{ModelFiles, TextTokenizer};

use proptest::prelude::*;

use super::fixtures;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::write(target, fs::read(path).unwrap()).unwrap();
        }
    }
}

/// A copy of a fixture that may be spoilt.
fn model(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    copy(&fixtures().join("sentence").join(name), &path);
    (dir, path)
}

fn load(dir: &Path) -> Result<SentenceEncoder, EncoderError> {
    SentenceEncoder::load(&ModelFiles::local(dir)?, &SentenceOptions::default())
}

/// What is said of the model where `file` has these contents.
fn refusal(name: &str, file: &str, contents: impl AsRef<[u8]>) -> String {
    let (_guard, dir) = model(name);
    fs::write(dir.join(file), contents).unwrap();
    match load(&dir) {
        Ok(_) => panic!("{name} is loaded whatever {file} says"),
        Err(error) => error.to_string(),
    }
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// What is said of the model where the weights in `file` are changed.
fn refusal_of_weights(name: &str, file: &str, change: impl FnOnce(&mut HashMap<String, Tensor>)) -> String {
    let (_guard, dir) = model(name);
    let mut weights = tensors(&dir.join(file));
    change(&mut weights);
    candle_core::safetensors::save(&weights, dir.join(file)).unwrap();
    load(&dir).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn wrong_json_is_refused_with_the_file() {
    for file in [
        "config.json",
        "tokenizer.json",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
    ] {
        let nested = "[".repeat(100_000);
        for contents in [&b"{"[..], b"", b"[3", b"\xff\xfe", b"null", b"3", nested.as_bytes()] {
            let message = refusal("dense", file, contents);
            assert!(message.contains(file), "{file}: {message}");
        }
    }
    let message = refusal("sharded", "model.safetensors.index.json", "{");
    assert!(message.contains("model.safetensors.index.json"), "{message}");
    let message = refusal("sharded", "3_Normalize/config.json", "{");
    assert!(message.contains("3_Normalize/config.json"), "{message}");
}

#[test]
fn parts_that_are_not_supported_are_named() {
    let modules = |kinds: &[&str]| {
        let paths = ["", "1_Pooling", "2_Dense", "3_Normalize"];
        let parts = kinds.iter().zip(paths).map(|(kind, path)| serde_json::json!({ "path": path, "type": kind }));
        serde_json::Value::Array(parts.collect()).to_string()
    };
    for (kinds, culprit) in [
        (&["m.Transformer", "m.Pooling", "m.CNN"][..], "`CNN`"),
        (&["m.Transformer", "m.Dense"], "`Dense`"),
        (&["m.Transformer"], "`(none)`"),
        (&["m.Router", "m.Pooling"], "`Router`"),
        (&[], "`(none)`"),
    ] {
        let message = refusal("dense", "modules.json", modules(kinds));
        assert!(message.contains(culprit) && message.contains("Dense and Normalize"), "{message}");
        assert!(message.contains("modules.json"), "{message}");
    }
    // Only the whole model computes a dense layer; the trainable part says where to find it.
    let files = ModelFiles::local(fixtures().join("sentence/dense")).unwrap();
    let error = paretune_encoder::Encoder::load(&files, &Default::default()).unwrap_err().to_string();
    assert!(error.contains("`Dense`") && error.contains("SentenceEncoder"), "{error}");
}

#[test]
fn configurations_that_do_not_fit_are_refused_by_field() {
    let dense = |field: &str, value: &str| {
        let text = fs::read_to_string(fixtures().join("sentence/dense/2_Dense/config.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[field] = serde_json::from_str(value).unwrap();
        refusal("dense", "2_Dense/config.json", json.to_string())
    };
    for (field, value, part) in [
        ("in_features", "17", "gives 16"),
        ("in_features", "18446744073709551615", "gives 16"),
        ("out_features", "0", "out_features is 0"),
        ("out_features", "13", "[12], expected [13]"),
        ("out_features", "18446744073709551615", "[12], expected [18446744073709551615]"),
        ("out_features", "-1", "-1"),
        ("activation_function", r#""os.system""#, "`os.system`"),
        ("module_input_name", r#""token_embeddings""#, "token_embeddings"),
        ("use_residual", "true", "use_residual"),
    ] {
        let message = dense(field, value);
        assert!(message.contains(part) && message.contains("2_Dense/"), "{field} {value}: {message}");
    }
    for (file, contents, part) in [
        ("1_Pooling/config.json", r#"{"pooling_mode": "mean", "embedding_dimension": 17}"#, "17"),
        ("1_Pooling/config.json", r#"{"pooling_mode": "median"}"#, "median"),
        ("config_sentence_transformers.json", r#"{"similarity_fn_name": "maxsim"}"#, "maxsim"),
        ("config_sentence_transformers.json", r#"{"default_prompt_name": "x"}"#, "`x`"),
        ("config_sentence_transformers.json", r#"{"truncate_dim": 0}"#, "truncate_dim"),
    ] {
        let message = refusal("dense", file, contents);
        assert!(message.contains(part) && message.contains(file), "{contents}: {message}");
    }
    let message = refusal("sharded", "3_Normalize/config.json", r#"{"module_input_name": "token_embeddings"}"#);
    assert!(message.contains("token_embeddings") && message.contains("3_Normalize/config.json"), "{message}");
}

#[test]
fn sizes_that_lie_are_refused_before_memory_is_taken() {
    let config = |field: &str, value: u64| {
        let text = fs::read_to_string(fixtures().join("sentence/dense/config.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[field] = value.into();
        refusal("dense", "config.json", json.to_string())
    };
    let message = config("num_hidden_layers", u64::MAX);
    assert!(message.contains("num_hidden_layers") && message.contains("config.json"), "{message}");
    let message = config("num_hidden_layers", 4000);
    assert!(message.contains("missing") && message.contains("model.safetensors"), "{message}");
    for (field, value) in [("vocab_size", u64::MAX), ("hidden_size", 1 << 60), ("max_position_embeddings", 1 << 40)] {
        let message = config(field, value);
        assert!(message.contains("config.json") && message.contains(field), "{field}: {message}");
    }
    for (field, value) in [("vocab_size", 1 << 27), ("hidden_size", 1 << 26), ("max_position_embeddings", 1 << 28)] {
        let message = config(field, value);
        assert!(message.contains("model.safetensors") && message.contains("expected"), "{field}: {message}");
    }
    // Fewer word vectors than the tokenizer has words, in file and configuration alike.
    let (_guard, dir) = model("dense");
    let path = dir.join("model.safetensors");
    let mut weights = tensors(&path);
    let words = weights["embeddings.word_embeddings.weight"].narrow(0, 0, 59).unwrap().contiguous().unwrap();
    weights.insert("embeddings.word_embeddings.weight".to_owned(), words);
    candle_core::safetensors::save(&weights, &path).unwrap();
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    fs::write(dir.join("config.json"), text.replace("\"vocab_size\": 60", "\"vocab_size\": 59")).unwrap();
    let message = load(&dir).unwrap_err().to_string();
    assert!(
        message.contains("tokenizer.json") && message.contains("token 59") && message.contains("59 word"),
        "{message}"
    );
}

#[test]
fn weights_that_lie_are_refused_with_file_and_tensor() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    for (name, file, tensor) in [
        ("dense", "model.safetensors", "embeddings.word_embeddings.weight"),
        ("dense", "2_Dense/model.safetensors", "linear.weight"),
        ("dense", "2_Dense/model.safetensors", "linear.bias"),
        ("old", "0_Transformer/model.safetensors", "encoder.layer.0.output.LayerNorm.bias"),
    ] {
        for shape in [&[3, 5][..], &[], &[0], &[16, 12, 1]] {
            let message = refusal_of_weights(name, file, |weights| {
                weights.insert(tensor.to_owned(), zeros(shape));
            });
            assert!(message.contains(file) && message.contains(tensor), "{message}");
        }
        let message = refusal_of_weights(name, file, |weights| {
            weights.remove(tensor);
        });
        assert!(message.contains(file) && message.contains(tensor) && message.contains("missing"), "{message}");
        let message = refusal_of_weights(name, file, |weights| {
            let wide = weights[tensor].to_dtype(DType::F64).unwrap();
            weights.insert(tensor.to_owned(), wide);
        });
        assert!(message.contains(file) && message.contains("F64"), "{message}");
    }
}

#[test]
fn damaged_weights_are_refused_with_the_file() {
    for (name, file) in [
        ("dense", "model.safetensors"),
        ("dense", "2_Dense/model.safetensors"),
        ("sharded", "model-00001-of-00002.safetensors"),
    ] {
        let whole = fs::read(fixtures().join("sentence").join(name).join(file)).unwrap();
        let mut huge = whole.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let header = br#"{"linear.weight":{"dtype":"F32","shape":[4611686018427387904,16],"data_offsets":[0,768]}}"#;
        let mut overflow = (header.len() as u64).to_le_bytes().to_vec();
        overflow.extend(header);
        overflow.extend([0; 768]);
        for contents in
            [&whole[..0], &whole[..7], &whole[..whole.len() / 2], &whole[..whole.len() - 1], &huge, &overflow]
        {
            let message = refusal(name, file, contents);
            assert!(message.contains(file), "{message}");
        }
    }
}

#[test]
fn shards_that_are_not_there_or_lead_away_are_refused() {
    let index = "model.safetensors.index.json";
    for shard in ["../dense/model.safetensors", "/etc/passwd", "a/../../x"] {
        let message = refusal("sharded", index, format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#));
        assert!(message.contains(index) && message.contains(shard), "{message}");
    }
    let message = refusal("sharded", index, r#"{"weight_map": {"a": "model-00003-of-00003.safetensors"}}"#);
    assert!(message.contains("model-00003-of-00003.safetensors"), "{message}");
    // An index that leaves one of the shards out.
    let message = refusal("sharded", index, r#"{"weight_map": {"a": "model-00001-of-00002.safetensors"}}"#);
    assert!(message.contains("missing"), "{message}");
    let message = refusal("dense", "modules.json", r#"[{"path": "../../x", "type": "m.Dense"}]"#);
    assert!(message.contains("modules.json") && message.contains("../../x"), "{message}");
}

#[test]
fn pickles_are_refused_with_what_to_do() {
    for (folder, name) in [("", "dense"), ("2_Dense/", "dense"), ("0_Transformer/", "old")] {
        let (_guard, dir) = model(name);
        let weights = dir.join(folder).join("model.safetensors");
        fs::rename(&weights, weights.with_file_name("pytorch_model.bin")).unwrap();
        let message = load(&dir).unwrap_err().to_string();
        assert!(message.contains("pytorch_model.bin") && message.contains("run any code"), "{message}");
        assert!(message.contains("safe_serialization") && message.contains(folder.trim_end_matches('/')), "{message}");
    }
}

#[test]
fn prompts_that_pooling_would_leave_out_are_refused() {
    let (_guard, dir) = model("dense");
    let pooling = r#"{"embedding_dimension": 16, "pooling_mode": "mean", "include_prompt": false}"#;
    fs::write(dir.join("1_Pooling/config.json"), pooling).unwrap();
    let model = load(&dir).unwrap();
    let message = model.encode_query(&["w7"]).unwrap_err().to_string();
    assert!(message.contains("1_Pooling/config.json") && message.contains("include_prompt"), "{message}");
    assert!(model.encode_with(&["w7"], &EncodeOptions { prompt: Prompt::None, ..EncodeOptions::default() }).is_ok());
}

/// A copy of a transformer with the tokenizer of `tiny`, cut to its vocabulary.
fn backbone(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    copy(&fixtures().join("backbones").join(name), &path);
    let text = fs::read_to_string(fixtures().join("tiny/tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["model"]["vocab"].as_object_mut().unwrap().retain(|_, id| id.as_u64().unwrap() < 40);
    fs::write(path.join("tokenizer.json"), json.to_string()).unwrap();
    (dir, path)
}

#[cfg(unix)]
#[test]
fn devices_in_the_place_of_files_are_not_read() {
    let zeros = |path: &Path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    };
    for file in ["2_Dense/config.json", "2_Dense/model.safetensors", "1_Pooling/config.json", "tokenizer.json"] {
        let (_guard, dir) = model("dense");
        zeros(&dir.join(file));
        let message = load(&dir).unwrap_err().to_string();
        assert!(message.contains(file.split('/').next().unwrap()), "{file}: {message}");
    }
    let (_guard, dir) = model("dense");
    zeros(&dir.join("tokenizer.json"));
    let error = TextTokenizer::load(&ModelFiles::unweighted(&dir), None).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("not a file"), "{error}");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let folder = tempfile::tempdir().unwrap();
        copy(&fixtures().join("adapters/lora-bert"), folder.path());
        zeros(&folder.path().join(file));
        let mut encoder = Encoder::load(&super::tiny_files(), &LoadOptions::default()).unwrap();
        let message = encoder.load_adapter("x", folder.path()).unwrap_err().to_string();
        assert!(message.contains(file) && message.contains("not a file"), "{message}");
    }
}

#[test]
fn adapters_for_no_layer_are_refused_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("adapters/lora-bert"), folder.path());
    let config = r#"{"peft_type": "LORA", "r": 4, "target_modules": ["no_such_layer"]}"#;
    fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    let tensors = HashMap::<String, Tensor>::new();
    candle_core::safetensors::save(&tensors, folder.path().join("adapter_model.safetensors")).unwrap();
    let mut encoder = Encoder::load(&super::tiny_files(), &LoadOptions::default()).unwrap();
    let message = encoder.load_adapter("x", folder.path()).unwrap_err().to_string();
    assert!(message.contains("adapter_config.json") && message.contains("no linear layer"), "{message}");
}

#[test]
fn special_tokens_that_the_model_does_not_have_are_refused() {
    let text = fs::read_to_string(fixtures().join("sentence/dense/tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["post_processor"] = serde_json::json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 60]});
    let message = refusal("dense", "tokenizer.json", json.to_string());
    assert!(message.contains("tokenizer.json") && message.contains("token 60"), "{message}");
    // Two numbers of words: the last one counts, for tokens and for weights.
    let text = fs::read_to_string(fixtures().join("sentence/dense/config.json")).unwrap();
    let message = refusal("dense", "config.json", text.replacen('{', "{\"vocab_size\": 99,", 1).replace("60", "59"));
    assert!(message.contains("model.safetensors") && message.contains("expected [59"), "{message}");
}

#[test]
fn texts_are_cut_at_the_positions_of_every_family() {
    for name in ["gpt2", "roberta", "mpnet", "distilbert", "llama"] {
        let (_guard, dir) = backbone(name);
        let model = load(&dir).unwrap();
        let longest = model.encoder().config().longest();
        assert_eq!(model.tokenizer().max_length(), Some(longest), "{name}");
        assert_eq!(model.encode(&["w7 ".repeat(longest + 9)]).unwrap().len(), 1, "{name}");
        let options = SentenceOptions { max_length: Some(longest + 1), ..SentenceOptions::default() };
        let message = SentenceEncoder::load(&ModelFiles::local(&dir).unwrap(), &options).unwrap_err().to_string();
        assert!(message.contains("positions"), "{message}");
    }
}

#[test]
fn sizes_that_overflow_are_refused() {
    let (_guard, dir) = backbone("gpt2");
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    (json["n_embd"], json["n_inner"]) = (serde_json::json!(1u64 << 62), serde_json::Value::Null);
    fs::write(dir.join("config.json"), json.to_string()).unwrap();
    let message = load(&dir).unwrap_err().to_string();
    assert!(message.contains("config.json") && message.contains("n_embd"), "{message}");

    // No element, and strides beyond all numbers; of a tensor whose shape the model does not prescribe.
    let header = br#"{"pooler.dense.weight":{"dtype":"F32","shape":[0,2,18446744073709551615],"data_offsets":[0,0]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    let message = refusal("dense", "model.safetensors", bytes);
    assert!(message.contains("model.safetensors"), "{message}");
}

const FILES: [&str; 8] = [
    "config.json",
    "tokenizer.json",
    "modules.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "config_sentence_transformers.json",
    "2_Dense/model.safetensors",
    "model.safetensors",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever bytes are changed or cut off: an error or vectors, never a panic.
    #[test]
    fn damage_anywhere_is_no_panic(
        file in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let (_guard, dir) = model("dense");
        let path = dir.join(FILES[file]);
        let mut bytes = fs::read(&path).unwrap();
        // Most of a weights file are numbers, which mean nothing wrong whatever they are: the changes go to its head.
        let length = bytes.len().min(2500);
        for (place, byte) in changes {
            bytes[place.index(length)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length));
        }
        fs::write(&path, bytes).unwrap();
        match load(&dir) {
            Ok(model) => {
                let _ = model.encode(&["w7 w8", "", "w9"]);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
