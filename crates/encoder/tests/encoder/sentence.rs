//! Whole models against sentence-transformers, and what is saved against what was read.

use std::cell::RefCell;
use std::path::Path;

use candle_core::Device;
use paretune_encoder::{
    Arithmetic, BertConfig, EncodeOptions, Encoder, EncoderError, Pooling, Precision, Prompt, SentenceEncoder,
    SentenceOptions, Similarity, Vectors,
};
use paretune_features::ModelFiles;
use serde_json::Value;

use super::{fixtures, tiny_files, with_threads};

pub(crate) const MODELS: [&str; 3] = ["dense", "sharded", "old"];

pub(crate) fn files(name: &str) -> ModelFiles {
    ModelFiles::local(fixtures().join("sentence").join(name)).unwrap()
}

pub(crate) fn load(files: &ModelFiles) -> Result<SentenceEncoder, EncoderError> {
    SentenceEncoder::load(files, &SentenceOptions::default())
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("sentence/expected.json")).unwrap()).unwrap()
}

fn texts() -> Vec<String> {
    serde_json::from_value(expected()["texts"].clone()).unwrap()
}

/// The largest difference from what sentence-transformers computes.
fn off(found: &Vectors, model: &str, what: &str) -> f32 {
    let expected: Vec<Vec<f32>> = serde_json::from_value(expected()[model][what].clone()).unwrap();
    assert_eq!((found.len(), found.width()), (expected.len(), expected[0].len()), "{model} {what}");
    let differences = found.as_slice().iter().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, off| if off.is_nan() { f32::INFINITY } else { worst.max(off) })
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    for name in MODELS {
        let model = load(&files(name)).unwrap();
        let (queries, documents) = (model.encode_query(&texts()).unwrap(), model.encode_document(&texts()).unwrap());
        let shorter = SentenceOptions { truncate_dim: Some(5), normalize: true, ..SentenceOptions::default() };
        let cut = SentenceEncoder::load(&files(name), &shorter).unwrap();
        for (what, found) in [
            ("encode", model.encode(&texts()).unwrap()),
            ("cut", cut.encode(&texts()).unwrap()),
            ("similarity", model.similarity(&queries, &documents).unwrap()),
            ("query", queries),
            ("document", documents),
        ] {
            let off = off(&found, name, what);
            assert!(off < 1e-5, "{name} {what}: {off}");
        }
    }
}

#[test]
fn a_model_says_what_it_is() {
    let model = load(&files("dense")).unwrap();
    assert_eq!((model.width(), model.normalizes(), model.similarity_measure()), (12, true, Similarity::Dot));
    assert_eq!(model.tokenizer().max_length(), Some(24));
    assert_eq!(model.encoder().pooling(), Pooling::Mean);
    let old = load(&files("old")).unwrap();
    assert_eq!((old.width(), old.normalizes(), old.similarity_measure()), (16, false, Similarity::Euclidean));
    assert!(format!("{old:?}").contains("old"));
}

#[test]
fn what_is_saved_gives_the_same_vectors() {
    let dir = tempfile::tempdir().unwrap();
    for name in MODELS {
        let model = load(&files(name)).unwrap();
        let target = dir.path().join(name);
        model.save(&target).unwrap();
        let again = load(&ModelFiles::local(&target).unwrap()).unwrap();
        for prompt in [Prompt::Default, Prompt::Named("query")] {
            let options = EncodeOptions { prompt, ..EncodeOptions::default() };
            let vectors = model.encode_with(&texts(), &options).unwrap();
            assert_eq!(again.encode_with(&texts(), &options).unwrap(), vectors, "{name}");
        }
        let kinds = |dir: &Path| ModelFiles::local(dir).unwrap().module_kinds();
        assert_eq!(kinds(&target), kinds(&fixtures().join("sentence").join(name)));
        assert_eq!(again.similarity_measure(), model.similarity_measure());

        model.save_as(&target, Precision::Bf16).unwrap();
        let vectors = load(&ModelFiles::local(&target).unwrap()).unwrap().encode(&texts()).unwrap();
        let off = off(&vectors, name, "encode");
        assert!(off < if name == "sharded" { 1e-5 } else { 0.1 }, "{name}: {off}");
    }
}

#[test]
fn prompts_are_put_before_texts() {
    let model = load(&files("dense")).unwrap();
    let with = |prompt, text: &str| model.encode_with(&[text], &EncodeOptions { prompt, ..EncodeOptions::default() });
    let plain = |text: &str| with(Prompt::None, text).unwrap();
    assert_eq!(with(Prompt::Default, "w7").unwrap(), plain("w23 w24 w7"));
    assert_eq!(with(Prompt::Named("passage"), "w7").unwrap(), plain("w22 w7"));
    assert_eq!(with(Prompt::Text("w30 w31 "), "w7").unwrap(), plain("w30 w31 w7"));
    assert_ne!(plain("w22 w7"), plain("w7"));
    let message = with(Prompt::Named("s2p"), "w7").unwrap_err().to_string();
    assert!(message.contains("`s2p`") && message.contains("cluster, document, passage, query"), "{message}");
}

#[test]
fn the_same_bits_whatever_the_threads_and_progress_is_heard() {
    let model = load(&files("dense")).unwrap();
    let texts: Vec<String> = (0..300).map(|i| "w9 w10 ".repeat(i % 9) + &format!("w{}", 5 + i % 55)).collect();
    let heard = RefCell::new(Vec::new());
    let progress = |done| heard.borrow_mut().push(done);
    let options = EncodeOptions { token_budget: 200, progress: Some(&progress), ..EncodeOptions::default() };
    let vectors = model.encode_with(&texts, &options).unwrap();
    let heard = heard.into_inner();
    assert!(heard.len() > 10 && heard.is_sorted() && heard.last() == Some(&300), "{heard:?}");
    for threads in [1, 3] {
        let model = &model;
        let again = with_threads(threads, || {
            model.encode_with(&texts, &EncodeOptions { token_budget: 200, ..EncodeOptions::default() }).unwrap()
        });
        assert_eq!(again, vectors, "{threads} threads");
    }
    assert!(vectors.iter().all(|row| (row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5));
    let none = model.encode(&[] as &[&str]).unwrap();
    assert_eq!((none.len(), none.width(), none.is_empty()), (0, 12, true));
    assert!(model.similarity(&none, &vectors).unwrap().is_empty());
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (truncate_dim, part) in [(0, "truncate_dim is 0"), (13, "have 12 numbers")] {
        let options = SentenceOptions { truncate_dim: Some(truncate_dim), ..SentenceOptions::default() };
        let message = SentenceEncoder::load(&files("dense"), &options).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let (dense, old) = (load(&files("dense")).unwrap(), load(&files("old")).unwrap());
    let (narrow, wide) = (dense.encode(&["w7"]).unwrap(), old.encode(&["w7"]).unwrap());
    assert!(matches!(dense.similarity(&narrow, &wide), Err(EncoderError::DifferentWidths { left: 12, right: 16 })));
    assert_eq!((narrow.get(0).map(<[f32]>::len), narrow.get(1)), (Some(12), None));
}

#[test]
fn a_trained_encoder_becomes_a_whole_model() {
    let encoder = Encoder::random(BertConfig::tiny(), Pooling::Max, 5, &Device::Cpu).unwrap();
    let tokens = paretune_features::TextTokenizer::load(&tiny_files(), None).unwrap().encode(&["w7 w8", "w9"]).unwrap();
    let expected = encoder.embed(&tokens, 100, None).unwrap();
    let options = SentenceOptions { arithmetic: Arithmetic::F32, ..SentenceOptions::default() };
    let model = SentenceEncoder::from_encoder(encoder, &tiny_files(), &options).unwrap();
    assert_eq!(model.encode(&["w7 w8", "w9"]).unwrap().into_vec(), expected);
    let dir = tempfile::tempdir().unwrap();
    model.save(dir.path()).unwrap();
    let again = SentenceEncoder::from_hub(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(again.encode(&["w7 w8", "w9"]).unwrap().into_vec(), expected);
}
