//! Tokenizing with a small tokenizer, and with the real one of all-MiniLM-L6-v2 where it is at hand.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::path::{Path, PathBuf};

use paretune_features::{FeatureError, ModelFiles, TextTokenizer};
use proptest::prelude::*;

/// A copy of the tiny model, with a weights file and one edit of `tokenizer.json` or `config.json`.
fn tiny(file: &str, edit: impl FnOnce(&mut serde_json::Value)) -> (tempfile::TempDir, ModelFiles) {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny");
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    for name in ["config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"]
    {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("model.safetensors"), "weights").unwrap();
    let path = dir.path().join(file);
    let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut json);
    std::fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    let files = ModelFiles::local(dir.path()).unwrap();
    (dir, files)
}

fn unchanged() -> (tempfile::TempDir, ModelFiles) {
    tiny("config.json", |_| {})
}

#[test]
fn words_are_cut_into_known_pieces() {
    let (_dir, files) = unchanged();
    let tokenizer = TextTokenizer::load(&files, None).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.max_length()), (62, Some(24)));
    // [CLS] 2, [SEP] 3, [UNK] 1; accents go, `worlds` is `world` and `##s`;
    // `loved` would need `##d`, which is no piece of the vocabulary, so it is unknown as a whole.
    let cases: &[(&str, &[u32])] = &[
        ("", &[2, 3]),
        ("Toy Story (1995)", &[2, 37, 38, 7, 45, 8, 3]),
        ("Wárs  of the\tWORLDS.", &[2, 41, 52, 34, 36, 43, 52, 5, 3]),
        ("Zorro loved it", &[2, 1, 1, 28, 3]),
        ("a'b", &[2, 12, 9, 48, 3]),
    ];
    let texts: Vec<&str> = cases.iter().map(|(text, _)| *text).collect();
    let tokenized = tokenizer.encode(&texts).unwrap();
    for (index, (text, ids)) in cases.iter().enumerate() {
        assert_eq!(tokenized.sequence(index), *ids, "{text:?}");
    }
    assert_eq!(tokenized.truncated(), 0);
}

#[test]
fn lower_case_is_made_where_the_model_asks_for_it() {
    // A normalizer that keeps case, alone or in a sequence, and whatever the model says of lower case.
    for (normalizer, lower, ids) in [
        (serde_json::json!(null), Some(true), &[2, 37, 38, 3][..]),
        (serde_json::json!({"type": "NFC"}), Some(true), &[2, 37, 38, 3]),
        (serde_json::json!({"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}), Some(true), &[2, 37, 38, 3]),
        (serde_json::json!({"type": "NFC"}), Some(false), &[2, 1, 38, 3]),
        (serde_json::json!({"type": "NFC"}), None, &[2, 1, 38, 3]),
    ] {
        let (dir, files) = tiny("tokenizer.json", |json| json["normalizer"] = normalizer.clone());
        let config = serde_json::json!({ "max_seq_length": 24, "do_lower_case": lower });
        std::fs::write(dir.path().join("sentence_bert_config.json"), config.to_string()).unwrap();
        let tokenized = TextTokenizer::load(&files, None).unwrap().encode(&["TOY story"]).unwrap();
        assert_eq!(tokenized.sequence(0), ids, "{normalizer} {lower:?}");
    }
}

#[test]
fn tokenizers_at_which_the_library_panics_are_refused() {
    let (dir, files) = unchanged();
    let path = dir.path().join("tokenizer.json");
    for contents in [r#"{"version": "1.0", "decoder": {"#, r#"{"version": "1.0", "decoder": tru}"#] {
        std::fs::write(&path, contents).unwrap();
        let error = TextTokenizer::load(&files, None).unwrap_err();
        assert!(matches!(&error, FeatureError::Malformed { path: named, .. } if *named == path), "{error}");
    }
    let (_dir, files) = tiny("tokenizer.json", |json| {
        json["normalizer"] = serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
    });
    let error = TextTokenizer::load(&files, None).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

#[test]
fn texts_are_cut_at_the_length_asked_for_and_counted() {
    let (_dir, files) = unchanged();
    let texts = ["toy story", "toy story of love", "love love love love love", "toy"];
    let tokenized = TextTokenizer::load(&files, Some(5)).unwrap().encode(&texts).unwrap();
    assert_eq!(tokenized.truncated(), 2);
    assert_eq!(tokenized.sequence(1), [2, 37, 38, 34, 3]);
    assert_eq!(tokenized.sequence(2), [2, 30, 30, 30, 3]);
    assert_eq!(tokenized.sequence(3), [2, 37, 3]);
    // The file itself pads and cuts at 8; neither must be left.
    let long = TextTokenizer::load(&files, None).unwrap().encode(&["love ".repeat(15)]).unwrap();
    assert_eq!((long.length(0), long.truncated()), (17, 0));
}

#[test]
fn lengths_that_the_model_cannot_take_are_refused() {
    let (_dir, files) = unchanged();
    assert_eq!(TextTokenizer::load(&files, Some(32)).unwrap().max_length(), Some(32));
    for (asked, reason) in [(33, "32 positions"), (2, "no room"), (0, "no room")] {
        let error = TextTokenizer::load(&files, Some(asked)).unwrap_err();
        assert!(matches!(error, FeatureError::MaxLength { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_tokenizer_of_another_model_is_recognized() {
    let (_dir, files) = tiny("config.json", |config| config["vocab_size"] = 61.into());
    let error = TextTokenizer::load(&files, None).unwrap_err();
    assert!(matches!(error, FeatureError::VocabularyMismatch { highest: 61, rows: 61, .. }), "{error:?}");
}

#[test]
fn files_that_are_no_tokenizer_are_refused() {
    let (_dir, files) = tiny("tokenizer.json", |json| json["model"] = "WordPiece".into());
    let error = TextTokenizer::load(&files, None).unwrap_err();
    assert!(matches!(&error, FeatureError::Malformed { path, .. } if *path == files.tokenizer), "{error:?}");

    let (_dir, files) = tiny("tokenizer.json", |json| json["post_processor"] = serde_json::Value::Null);
    let error = TextTokenizer::load(&files, None).unwrap_err();
    assert!(error.to_string().contains("post_processor"), "{error}");

    std::fs::write(&files.tokenizer, &b"{\"version\": \"1.0\", \"trunc"[..]).unwrap();
    assert!(matches!(TextTokenizer::load(&files, None).unwrap_err(), FeatureError::Malformed { .. }));
}

#[test]
fn without_special_tokens_an_empty_text_is_the_token_that_ends_texts() {
    let bare = |json: &mut serde_json::Value| json["post_processor"] = serde_json::Value::Null;
    let ids = |settings: &str, config: serde_json::Value| {
        let (dir, files) = tiny("tokenizer.json", bare);
        std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&files.config).unwrap()).unwrap();
        json.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        std::fs::write(&files.config, json.to_string()).unwrap();
        let tokenized = TextTokenizer::load(&files, Some(2))?.encode(&["", "toy story of", " "])?;
        assert_eq!((tokenized.sequence(1), tokenized.truncated()), (&[37, 38][..], 1));
        assert_eq!(tokenized.sequence(0), tokenized.sequence(2));
        Ok::<Vec<u32>, FeatureError>(tokenized.sequence(0).to_vec())
    };
    // Just as long as the limit, and longer at either end.
    for (direction, expected) in [("Right", [[37, 38], [37, 38]]), ("Left", [[37, 38], [38, 34]])] {
        let (_dir, files) = tiny("tokenizer.json", |json| {
            bare(json);
            json["truncation"]["direction"] = direction.into();
        });
        std::fs::write(files.tokenizer.with_file_name("tokenizer_config.json"), r#"{"eos_token": "[SEP]"}"#).unwrap();
        let tokenized = TextTokenizer::load(&files, Some(2)).unwrap().encode(&["toy story", "toy story of"]).unwrap();
        assert_eq!([tokenized.sequence(0), tokenized.sequence(1)], [expected[0], expected[1]], "{direction}");
        assert_eq!(tokenized.truncated(), 1, "{direction}");
    }
    use serde_json::json;
    let settings = r#"{"bos_token": "[CLS]", "eos_token": {"content": "[SEP]", "special": true}}"#;
    assert_eq!(ids(settings, json!({"eos_token_id": 4})).unwrap(), [3]);
    assert_eq!(ids(r#"{"bos_token": "[CLS]", "eos_token": null}"#, json!({})).unwrap(), [2]);
    assert_eq!(ids(r#"{"eos_token": "no such"}"#, json!({"eos_token_id": [4, 3]})).unwrap(), [4]);
    assert_eq!(ids("{}", json!({"bos_token_id": 2, "eos_token_id": null})).unwrap(), [2]);
    for (settings, config) in
        [("{}", json!({"eos_token_id": 4_000_000})), ("{", json!({})), ("{}", json!({"bos_token_id": []}))]
    {
        let message = ids(settings, config).unwrap_err().to_string();
        assert!(message.contains("eos_token_id"), "{message}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (_dir, files) = unchanged();
    let tokenizer = TextTokenizer::load(&files, Some(8)).unwrap();
    let words = ["toy", "story", "love", "war", "of", "the", "world", "Zorro"];
    let texts: Vec<String> =
        (0..500).map(|i: usize| (0..i % 9).map(|j| words[(i * 7 + j * j) % 8]).collect::<Vec<_>>().join(" ")).collect();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| tokenizer.encode(&texts)).unwrap()
    };
    let one = with(1);
    assert_eq!(one, with(3));
    for index in [0, 63, 64, 128, 499] {
        assert_eq!(one.sequence(index), tokenizer.encode(&[&texts[index]]).unwrap().sequence(0), "text {index}");
    }
}

fn minilm() -> Option<PathBuf> {
    let named = std::env::var_os("PARETUNE_MINILM").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/models/all-MiniLM-L6-v2");
    named.into_iter().chain([usual]).find(|dir| dir.is_dir())
}

#[test]
fn the_real_tokenizer_agrees_with_transformers() {
    let Some(dir) = minilm() else {
        eprintln!("skipped: no all-MiniLM-L6-v2 in target/models, nor named by PARETUNE_MINILM");
        return;
    };
    let files = ModelFiles::local(dir).unwrap();
    assert_eq!(files.max_length(), Some(256));
    assert!(files.normalizes());

    let stored: serde_json::Value = serde_json::from_str(include_str!("../fixtures/minilm_ids.json")).unwrap();
    let tokenizer = TextTokenizer::load(&files, stored["max_length"].as_u64().map(|length| length as usize)).unwrap();
    let cases = stored["cases"].as_array().unwrap();
    let texts: Vec<&str> = cases.iter().map(|case| case["text"].as_str().unwrap()).collect();
    let tokenized = tokenizer.encode(&texts).unwrap();
    for (index, case) in cases.iter().enumerate() {
        let ids: Vec<u32> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenized.sequence(index), ids, "{:?}", texts[index]);
    }
    assert_eq!(tokenized.truncated(), cases.iter().filter(|case| case["cut"] == true).count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_is_tokenized_within_the_length(texts in prop::collection::vec(".{0,40}", 0..8)) {
        let (_dir, files) = unchanged();
        let tokenizer = TextTokenizer::load(&files, Some(6)).unwrap();
        let tokenized = tokenizer.encode(&texts).unwrap();
        prop_assert_eq!(tokenized.len(), texts.len());
        for index in 0..texts.len() {
            let ids = tokenized.sequence(index);
            prop_assert!((2..=6).contains(&ids.len()) && ids[0] == 2 && ids.ends_with(&[3]), "{:?}", ids);
            prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        }
    }
}
