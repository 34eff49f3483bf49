//! Every family of language models through the whole program: a fine-tuning on tables, and what is done with the run.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod pretrained;
mod program;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use paretune_data::Dataset;
use paretune_encoder::{Encoder, LoadOptions, ModelConfig};
use paretune_features::{ModelFiles, TextTokenizer};
use program::Scratch;
use serde_json::Value;

const STEPS: usize = 60;
const TRAINING: &str = "--epochs 10 --baselines untrained --set training.batch=64 --set training.checkpoint_every=30 \
    --set training.backbone_learning_rate=0.002 --set model.max_length=24 --set evaluation.users=10 --set evaluation.rows=200";

/// One test for each family, so that a failure has its name.
macro_rules! families {
    ($($test:ident: $family:literal, $pooling:literal;)*) => {
        const FAMILIES: &[&str] = &[$($family),*];
        $(#[test] fn $test() { is_tuned_and_used($family, $pooling); })*
    };
}

families! {
    bert: "bert", "mean";
    roberta: "roberta", "mean";
    xlm_roberta: "xlm-roberta", "mean";
    camembert: "camembert", "mean";
    distilbert: "distilbert", "mean";
    mpnet: "mpnet", "mean";
    modernbert: "modernbert", "mean";
    gpt2: "gpt2", "lasttoken";
    llama: "llama", "lasttoken";
    mistral: "mistral", "lasttoken";
    qwen2: "qwen2", "lasttoken";
    qwen3: "qwen3", "lasttoken";
    gemma: "gemma", "lasttoken";
}

#[test]
fn no_family_is_left_out() {
    let supported: Vec<&str> = ModelConfig::supported().collect();
    for family in &supported {
        assert!(FAMILIES.contains(family), "{family} has no test");
    }
    assert_eq!(supported.len(), FAMILIES.len());
}

fn is_tuned_and_used(family: &str, pooling: &str) {
    let scratch = Scratch::empty();
    scratch.run("simulate --items 80 --users 40 --out data").ok();
    let items = Dataset::read(&scratch.path("data")).unwrap().items;
    let texts: Vec<String> = items.text.values().flatten().flatten().cloned().collect();
    pretrained::write(family, &texts, &scratch.path("pretrained"));

    scratch
        .run(&format!("finetune --dataset data --name tuned --model ./pretrained --max-steps {STEPS} {TRAINING}"))
        .ok();
    run_is_complete(&scratch, pooling);
    loss_falls(&scratch);
    every_weight_moves(&scratch);
    run_is_used(&scratch);
    vectors_stay(&scratch, &texts);
    adapter_stands_alone(&scratch, &texts);
    biases_are_trained_or_missed(&scratch, family);
}

fn run_is_complete(scratch: &Scratch, pooling: &str) {
    for file in [
        "config.toml",
        "data/events.parquet",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/modules.json",
        "model/sentence_bert_config.json",
        "model/recommender.json",
        "model/recommender.safetensors",
        "metrics.jsonl",
        "report.html",
    ] {
        assert!(scratch.exists(&format!("runs/tuned/{file}")), "{file} is missing");
    }
    let switch = match pooling {
        "mean" => "pooling_mode_mean_tokens",
        _ => "pooling_mode_lasttoken",
    };
    assert_eq!(scratch.json("runs/tuned/model/1_Pooling/config.json")[switch], true);
    let metrics = scratch.json("runs/tuned/metrics.json");
    assert_eq!(metrics["steps"], STEPS);
    for section in ["objectives", "ranking", "list"] {
        numbers(&metrics[section], &mut |number| assert!(number.is_finite(), "{section}: {metrics}"));
        assert!(metrics[section].as_object().is_some_and(|section| !section.is_empty()));
    }
}

/// Calls `check` with every leaf, where `null` is not a number.
fn numbers(value: &Value, check: &mut dyn FnMut(f64)) {
    match value {
        Value::Object(fields) => fields.values().for_each(|value| numbers(value, check)),
        Value::Array(values) => values.iter().for_each(|value| numbers(value, check)),
        leaf => check(leaf.as_f64().unwrap_or(f64::NAN)),
    }
}

fn loss_falls(scratch: &Scratch) {
    let log = scratch.text("runs/tuned/metrics.jsonl");
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let losses: Vec<BTreeMap<String, f64>> = events
        .filter(|event| event["event"] == "step")
        .map(|event| serde_json::from_value(event["losses"].clone()).unwrap())
        .collect();
    assert_eq!(losses.len(), STEPS);
    let mean = |steps: &[BTreeMap<String, f64>]| {
        let all: Vec<f64> = steps.iter().map(|losses| losses.values().sum()).collect();
        assert!(all.iter().all(|loss| loss.is_finite()), "{all:?}");
        all.iter().sum::<f64>() / all.len() as f64
    };
    let (before, after) = (mean(&losses[..10]), mean(&losses[STEPS - 20..]));
    assert!(after < 0.97 * before, "the loss went from {before} to {after}");
}

/// The backbone learns, not only the towers: Adam moves every matrix further than weight decay alone would.
fn every_weight_moves(scratch: &Scratch) {
    let tensors = |folder: &str| {
        candle_core::safetensors::load(scratch.path(folder).join("model.safetensors"), &Device::Cpu).unwrap()
    };
    let (before, after) = (tensors("pretrained"), tensors("runs/tuned/model"));
    assert_eq!(before.len(), after.len());
    let norm = |tensor: &Tensor| f64::from(tensor.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
    for (name, old) in &before {
        let moved = norm(&(&after[name] - old).unwrap());
        let least = if old.dims().len() > 1 { 0.01 * norm(old) } else { 0.0 };
        assert!(moved.is_finite() && moved > least, "{name} moved by {moved} of {}", norm(old));
    }
}

fn run_is_used(scratch: &Scratch) {
    let again: Value = serde_json::from_str(&scratch.run("evaluate --json --run runs/tuned").ok()).unwrap();
    let first = scratch.json("runs/tuned/metrics.json");
    for section in ["objectives", "cold", "ranking", "list"] {
        assert_eq!(first[section], again[section], "{section}");
    }
    let text = "Hand-thrown stoneware mug, glazed über-blue 釉";
    let out = scratch.run(&format!("recommend --json --user user-00003 --top 80 --item-text \"{text}\"")).ok();
    let picks: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert!(picks.iter().any(|pick| pick["title"] == text), "{out}");
    assert!(picks.len() > 10, "{out}");
    picks.iter().for_each(|pick| numbers(&pick["scores"], &mut |score| assert!(score.is_finite(), "{pick}")));
}

/// What the program embeds with the run's model, the library embeds too, and so does a copy that was saved again.
fn vectors_stay(scratch: &Scratch, texts: &[String]) {
    let mut texts: Vec<&str> = texts.iter().take(20).map(String::as_str).collect();
    texts.push("");
    scratch.write("texts.txt", texts.join("\n") + "\n");
    scratch.run("embed --model ./runs/tuned/model --input texts.txt --output vectors.safetensors").ok();
    let stored = candle_core::safetensors::load(scratch.path("vectors.safetensors"), &Device::Cpu).unwrap();
    let stored = &stored["embeddings"];

    let files = ModelFiles::local(scratch.path("runs/tuned/model")).unwrap();
    let encoder = Encoder::load(&files, &LoadOptions::default()).unwrap();
    let own = vectors(&files, &encoder, &texts);
    assert_eq!(stored.dims(), [texts.len(), encoder.hidden_size()]);
    assert_eq!(stored.flatten_all().unwrap().to_vec1::<f32>().unwrap(), own);
    assert!(own.iter().all(|number| number.is_finite()));
    let first = &own[..encoder.hidden_size()];
    assert!(own.chunks_exact(encoder.hidden_size()).any(|vector| vector != first), "all texts have one vector");

    encoder.save(&scratch.path("again"), &files).unwrap();
    let files = ModelFiles::local(scratch.path("again")).unwrap();
    assert_eq!(vectors(&files, &Encoder::load(&files, &LoadOptions::default()).unwrap(), &texts), own);
}

fn vectors(files: &ModelFiles, encoder: &Encoder, texts: &[impl AsRef<str> + Sync]) -> Vec<f32> {
    let tokens = TextTokenizer::load(files, None).unwrap().encode(texts).unwrap();
    encoder.embed(&tokens, 8192, None).unwrap()
}

/// Where a family has no biases, that is said instead of training nothing.
fn biases_are_trained_or_missed(scratch: &Scratch, family: &str) {
    let line = "finetune --dataset data --name biases --model ./pretrained --tune biases --max-steps 1 --baselines none \
        --set model.max_length=24 --set evaluation.users=2 --set evaluation.rows=20";
    match ["modernbert", "llama", "mistral", "qwen3", "gemma"].contains(&family) {
        true => scratch.run(line).wrong(&["model.tune = biases", family, "lora"]),
        false => drop(scratch.run(line).ok()),
    }
}

/// An adapter trains where the model's own weights are frozen; on the pretrained model it gives the run's vectors.
fn adapter_stands_alone(scratch: &Scratch, texts: &[String]) {
    let quick =
        "--max-steps 8 --baselines none --set model.max_length=24 --set evaluation.users=2 --set evaluation.rows=20";
    scratch
        .run(&format!("finetune --dataset data --name adapted --model ./pretrained --tune lora --lora-rank 2 {quick}"))
        .ok();
    let texts = &texts[..20];
    let load = |folder: &str| {
        let files = ModelFiles::local(scratch.path(folder)).unwrap();
        let encoder = Encoder::load(&files, &LoadOptions::default()).unwrap();
        (files, encoder)
    };
    let (merged_files, merged) = load("runs/adapted/model");
    let (files, mut encoder) = load("pretrained");
    let before = vectors(&files, &encoder, texts);
    encoder.load_adapter("run", &scratch.path("runs/adapted/model/adapter")).unwrap();
    let after = vectors(&files, &encoder, texts);
    let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs()));
    let (moved, off) = (largest(&before, &after), largest(&after, &vectors(&merged_files, &merged, texts)));
    assert!(moved > 1e-4, "the adapter moved vectors by {moved}");
    assert!(off <= 1e-5, "with its adapter the pretrained model is off by {off} from the run's");
}
