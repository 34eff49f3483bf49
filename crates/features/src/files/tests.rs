use super::*;

/// A folder with these files; a name that the tiny model has gets its contents, another gets its own name.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny");
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, fs::read(tiny.join(name)).unwrap_or_else(|_| name.as_bytes().to_vec())).unwrap();
    }
    dir
}

const WHOLE: &[&str] = &[
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "model.safetensors",
];

#[test]
fn a_whole_model_is_found() {
    let dir = folder(WHOLE);
    let files = ModelFiles::local(dir.path()).unwrap();
    assert_eq!(files.weights, [dir.path().join("model.safetensors")]);
    assert_eq!(files.pooling, Some(dir.path().join("1_Pooling/config.json")));
    assert_eq!(files.module_kinds(), ["Transformer", "Pooling", "Normalize"]);
    assert!(files.normalizes());
}

#[test]
fn a_plain_transformer_has_no_modules() {
    let dir = folder(&["config.json", "tokenizer.json", "model.safetensors"]);
    let files = ModelFiles::local(dir.path()).unwrap();
    assert_eq!((files.pooling.as_ref(), files.modules.as_ref(), files.normalizes()), (None, None, false));
    assert_eq!(files.max_length(), Some(32), "only config.json gives a limit");
}

#[test]
fn the_smallest_limit_counts() {
    let dir = folder(WHOLE);
    let length = || ModelFiles::local(dir.path()).unwrap().max_length();
    assert_eq!(length(), Some(24));
    fs::write(dir.path().join("sentence_bert_config.json"), r#"{"max_seq_length": 512}"#).unwrap();
    assert_eq!(length(), Some(32));
    fs::write(dir.path().join("sentence_bert_config.json"), r#"{"max_seq_length": null}"#).unwrap();
    assert_eq!(length(), Some(28));
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"model_max_length": 1e30}"#).unwrap();
    assert_eq!(length(), Some(32));
}

#[test]
fn positions_are_counted_as_each_family_does() {
    let dir = folder(&["config.json", "tokenizer.json", "model.safetensors"]);
    // transformers 5.23: RobertaModel and its kin fail at the 513th of 514 positions, MPNetModel too; GPT2Model takes 1024.
    for (config, length) in [
        (r#"{"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}"#, 512),
        (r#"{"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}"#, 512),
        (r#"{"model_type": "xlm-roberta", "max_position_embeddings": 514}"#, 512),
        (r#"{"model_type": "camembert", "max_position_embeddings": 514, "pad_token_id": 0}"#, 513),
        (r#"{"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 1}"#, 512),
        (r#"{"model_type": "gpt2", "n_positions": 1024}"#, 1024),
        (r#"{"model_type": "llama", "max_position_embeddings": 2048, "pad_token_id": -1}"#, 2048),
        (r#"{"model_type": "roberta", "max_position_embeddings": 1}"#, 0),
    ] {
        fs::write(dir.path().join("config.json"), config).unwrap();
        assert_eq!(ModelFiles::local(dir.path()).unwrap().max_length(), Some(length), "{config}");
    }
}

#[test]
fn what_is_missing_is_named_with_advice() {
    for (missing, advice) in
        [("config.json", "layout"), ("tokenizer.json", "AutoTokenizer"), ("model.safetensors", "weights")]
    {
        let names: Vec<&str> = WHOLE.iter().copied().filter(|name| *name != missing).collect();
        let dir = folder(&names);
        let message = ModelFiles::local(dir.path()).unwrap_err().to_string();
        for part in [missing, advice, &dir.path().display().to_string()] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
    let error = ModelFiles::local("/no/such/model").unwrap_err();
    assert!(matches!(error, FeatureError::NoDirectory { .. }), "{error:?}");
}

#[test]
fn pooling_that_is_announced_must_be_there() {
    let names: Vec<&str> = WHOLE.iter().copied().filter(|name| !name.starts_with("1_")).collect();
    let error = ModelFiles::local(folder(&names).path()).unwrap_err();
    assert!(matches!(&error, FeatureError::MissingFile { file, .. } if file == "1_Pooling/config.json"), "{error:?}");
}

#[test]
fn pickles_are_not_read() {
    let error = ModelFiles::local(folder(&["config.json", "tokenizer.json", "pytorch_model.bin"]).path()).unwrap_err();
    assert!(matches!(&error, FeatureError::UnsafeWeights { file, .. } if file == "pytorch_model.bin"), "{error:?}");
}

#[test]
fn damaged_small_files_are_named() {
    for name in ["modules.json", "sentence_bert_config.json"] {
        let dir = folder(WHOLE);
        fs::write(dir.path().join(name), "[{").unwrap();
        let error = ModelFiles::local(dir.path()).unwrap_err();
        assert!(matches!(&error, FeatureError::Malformed { path, .. } if path.ends_with(name)), "{error:?}");
    }
}

#[test]
fn shards_follow_their_index() {
    let dir = folder(&["config.json", "tokenizer.json", "model-1.safetensors", "model-2.safetensors"]);
    let index = |map: &str| {
        fs::write(dir.path().join("model.safetensors.index.json"), format!(r#"{{"weight_map": {map}}}"#)).unwrap();
        ModelFiles::local(dir.path()).map(|files| files.weights)
    };
    let both =
        index(r#"{"b": "model-1.safetensors", "a": "model-2.safetensors", "c": "model-1.safetensors"}"#).unwrap();
    assert_eq!(both, [dir.path().join("model-1.safetensors"), dir.path().join("model-2.safetensors")]);

    let missing = index(r#"{"a": "model-3.safetensors"}"#).unwrap_err();
    assert!(matches!(&missing, FeatureError::MissingFile { file, .. } if file == "model-3.safetensors"), "{missing:?}");
    assert!(index("{}").unwrap_err().to_string().contains("no shard"));
    assert!(index(r#"{"a": "../model-1.safetensors"}"#).unwrap_err().to_string().contains("leads out"));
}

#[test]
fn parts_have_a_folder_and_weights_of_their_own() {
    let dir = folder(WHOLE);
    let files = ModelFiles::local(dir.path()).unwrap();
    let parts = files.parts().unwrap();
    assert_eq!(parts[1], ModelPart { kind: "Pooling".into(), dir: dir.path().join("1_Pooling") });
    assert_eq!(parts[0].weights().unwrap(), files.weights);
    assert!(matches!(parts[1].weights(), Err(FeatureError::MissingFile { .. })));
    fs::write(dir.path().join("1_Pooling/pytorch_model.bin"), "").unwrap();
    assert!(matches!(parts[1].weights(), Err(FeatureError::UnsafeWeights { .. })));
    fs::write(files.modules.clone().unwrap(), r#"[{"path": "../x", "type": "a.Dense"}]"#).unwrap();
    assert!(matches!(files.parts(), Err(FeatureError::Malformed { .. })));
}

#[test]
fn shard_names_that_lead_away_are_refused() {
    let dir = folder(&["config.json", "tokenizer.json"]);
    for shard in ["../x.safetensors", "/etc/passwd", "a/../../x", "..", "a/b/../../../x"] {
        let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
        fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        let error = ModelFiles::local(dir.path()).unwrap_err();
        assert!(matches!(&error, FeatureError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(shard) && error.to_string().contains("index.json"), "{error}");
    }
    // A folder is no shard.
    for shard in ["", "."] {
        let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
        fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        assert!(matches!(ModelFiles::local(dir.path()), Err(FeatureError::MissingFile { .. })));
    }
}

#[test]
fn the_hash_follows_the_contents_not_the_place() {
    let hash = |dir: &tempfile::TempDir| ModelFiles::local(dir.path()).unwrap().hash().unwrap();
    let (one, two) = (folder(WHOLE), folder(WHOLE));
    assert_eq!(hash(&one), hash(&two));
    assert!(hash(&one).len() == 16 && hash(&one).bytes().all(|byte| byte.is_ascii_hexdigit()));
    fs::write(two.path().join("model.safetensors"), "other weights").unwrap();
    assert_ne!(hash(&one), hash(&two));

    let three = folder(WHOLE);
    let modules = r#"[{"path": "", "type": "m.Transformer"}, {"path": "2_Dense", "type": "m.Dense"}]"#;
    fs::write(three.path().join("modules.json"), modules).unwrap();
    fs::create_dir(three.path().join("2_Dense")).unwrap();
    fs::write(three.path().join("2_Dense/model.safetensors"), "weights").unwrap();
    let before = hash(&three);
    fs::write(three.path().join("2_Dense/model.safetensors"), "other weights").unwrap();
    assert_ne!(before, hash(&three), "a dense layer changes the vectors");

    let before = hash(&three);
    let scaled = modules.replace("]", r#", {"path": "3_Normalize", "type": "m.Normalize"}]"#);
    fs::write(three.path().join("modules.json"), scaled).unwrap();
    assert_ne!(before, hash(&three), "scaling changes the vectors");
}

#[test]
fn the_tokenizer_is_copied_without_weights() {
    let (from, to) = (folder(WHOLE), tempfile::tempdir().unwrap());
    let files = ModelFiles::local(from.path()).unwrap();
    let target = to.path().join("new/model");
    files.copy_tokenizer_to(&target).unwrap();
    let mut names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let expected = ["sentence_bert_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names, expected);
    assert_eq!(fs::read(target.join("tokenizer.json")).unwrap(), fs::read(&files.tokenizer).unwrap());

    // Into its own folder: nothing is lost.
    files.copy_tokenizer_to(from.path()).unwrap();
    assert_eq!(ModelFiles::local(from.path()).unwrap(), files);

    let file = to.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(files.copy_tokenizer_to(&file).unwrap_err(), FeatureError::Io { .. }));
}

#[test]
fn a_llama_cpp_file_is_a_model_with_a_tokenizer_beside_it() {
    let dir = folder(&["tokenizer.json", "model-Q8_0.gguf"]);
    let path = dir.path().join("model-Q8_0.gguf");
    let files = ModelFiles::local(dir.path()).unwrap();
    assert_eq!((files.weights.as_slice(), files.gguf()), ([path.clone()].as_slice(), Some(path.as_path())));
    assert_eq!(ModelFiles::local(&path).unwrap(), files);
    assert_eq!(files.max_length(), None, "this one is no real file");

    // Without a config.json there is a hash all the same, and it follows the file.
    let hash = files.hash().unwrap();
    fs::write(&path, "other").unwrap();
    assert_ne!(files.hash().unwrap(), hash);

    // Two are one too many for the folder, but each can be named; beside safetensors they are passed over.
    fs::write(dir.path().join("model-F16.gguf"), "").unwrap();
    let message = ModelFiles::local(dir.path()).unwrap_err().to_string();
    assert!(message.contains("2 llama.cpp files") && message.contains("model-F16.gguf"), "{message}");
    assert_eq!(ModelFiles::local(&path).unwrap(), files);
    for name in ["config.json", "model.safetensors"] {
        fs::write(dir.path().join(name), "{}").unwrap();
    }
    assert_eq!(ModelFiles::local(dir.path()).unwrap().gguf(), None);
    assert_eq!(ModelFiles::local(&path).unwrap().gguf(), Some(path.as_path()));

    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let message = ModelFiles::local(&path).unwrap_err().to_string();
    assert!(message.contains("`tokenizer.json`") && message.contains("beside it"), "{message}");
    let message = ModelFiles::local(dir.path().join("none.gguf")).unwrap_err().to_string();
    assert!(message.contains("none.gguf") && message.contains("check the path"), "{message}");
}
