//! The main job, from a folder of tables to a run directory.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::BTreeSet;

use program::{QUICK, Scratch};
use serde_json::Value;

/// What a run makes of the same configuration must be the same bytes.
const SAME: [&str; 4] =
    ["model/model.safetensors", "model/recommender.safetensors", "model/recommender.json", "metrics.jsonl"];

fn without_seconds(mut metrics: Value) -> Value {
    assert!(metrics["seconds"].as_f64().unwrap() > 0.0);
    metrics.as_object_mut().unwrap().remove("seconds");
    metrics
}

#[test]
fn a_run_directory_has_all_its_parts() {
    let scratch = Scratch::with_data();
    let out = scratch.run(&format!("finetune --dataset data {QUICK}")).ok();
    for said in [
        "run: runs/data-1",
        "click: auc ",
        "conversion: auc ",
        "satisfaction: rmse ",
        "dwell: ",
        "report: runs/data-1/report.html",
    ] {
        assert!(out.contains(said), "`{said}` is not in {out}");
    }
    assert_eq!(std::fs::read_link(scratch.path("runs/latest")).unwrap().to_str(), Some("data-1"));
    for file in [
        "config.toml",
        "data/items.parquet",
        "data/users.parquet",
        "data/events.parquet",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/modules.json",
        "model/1_Pooling/config.json",
        "model/recommender.json",
        "model/recommender.safetensors",
        "checkpoints/model",
        "metrics.json",
        "metrics.jsonl",
        "report.html",
    ] {
        assert!(scratch.exists(&format!("runs/latest/{file}")), "{file} is missing");
    }
    let left: Vec<_> = walk(&scratch.path("runs")).into_iter().filter(|name| name.contains("writing")).collect();
    assert!(left.is_empty(), "{left:?}");

    let metrics = scratch.json("runs/latest/metrics.json");
    let methods = |table: &Value| table.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let all = ["item_mean", "model", "popularity", "single_objective", "untrained"].map(str::to_owned);
    for (objective, metric) in [("click", "auc"), ("conversion", "auc"), ("satisfaction", "rmse"), ("dwell", "mae")] {
        let table = &metrics["objectives"][objective][metric];
        assert_eq!(methods(table), BTreeSet::from(all.clone()), "{objective}.{metric}");
        assert!(table.as_object().unwrap().values().all(|value| value.as_f64().unwrap().is_finite()));
    }
    for (section, metric) in
        [("ranking", "ndcg@10"), ("ranking", "recall@20"), ("list", "coverage@10"), ("list", "diversity@10")]
    {
        let table = &metrics[section][metric];
        assert_eq!(methods(table), BTreeSet::from(["model", "popularity", "untrained"].map(str::to_owned)), "{metric}");
    }
    assert_eq!(metrics["seed"], 1);
    assert_eq!(metrics["steps"], 6);
    assert!(metrics["seconds"].as_f64().unwrap() > 0.0);

    let log: Vec<Value> =
        scratch.text("runs/latest/metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds = |kind: &str| log.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((kinds("start"), kinds("step"), kinds("end")), (1, 6, 1));
    assert!(kinds("validation") > 0 && kinds("checkpoint") >= 3);

    let report = scratch.text("runs/latest/report.html");
    for said in ["click", "Training loss", "untrained", "<svg"] {
        assert!(report.contains(said), "the report lacks `{said}`");
    }
    for loads in ["src=\"http", "href=\"http", "url(http", "@import", "<script src", "<link"] {
        assert!(!report.contains(loads), "the report is not self-contained: `{loads}`");
    }
}

#[test]
fn a_runs_configuration_makes_the_same_run_again() {
    let scratch = Scratch::with_run();
    let mut again = scratch.command("finetune --config runs/first/config.toml --name second");
    // Results must not depend on the number of threads either.
    program::Done::of(again.env("RAYON_NUM_THREADS", "1")).ok();
    assert_eq!(scratch.text("runs/first/config.toml"), scratch.text("runs/second/config.toml"));
    for file in SAME {
        assert!(
            scratch.bytes(&format!("runs/first/{file}")) == scratch.bytes(&format!("runs/second/{file}")),
            "{file} differs"
        );
    }
    let metrics = |run: &str| without_seconds(scratch.json(&format!("runs/{run}/metrics.json")));
    assert_eq!(metrics("first"), metrics("second"));

    scratch.run("finetune --config runs/first/config.toml --seed 2 --name third").ok();
    assert!(scratch.bytes("runs/first/model/model.safetensors") != scratch.bytes("runs/third/model/model.safetensors"));
}

#[test]
fn json_output_is_one_object_a_line() {
    let scratch = Scratch::with_data();
    let out = scratch.run(&format!("finetune --json --dataset data --baselines untrained {QUICK}")).ok();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["event"], "start");
    assert_eq!(
        without_seconds(lines.last().unwrap().clone()),
        without_seconds(scratch.json("runs/latest/metrics.json"))
    );
}

#[test]
fn objectives_weights_and_methods_are_what_was_asked_for() {
    let scratch = Scratch::with_data();
    let short = format!("--dataset data --baselines none --max-steps 2 {}", QUICK.replace("--max-steps 6", ""));
    scratch
        .run(&format!("finetune --name a --objectives click,satisfaction --balance mgda --gradients full {short}"))
        .ok();
    let metrics = scratch.json("runs/a/metrics.json");
    let trained: Vec<&String> = metrics["objectives"].as_object().unwrap().keys().collect();
    assert_eq!(trained, ["click", "satisfaction"]);

    scratch
        .run(&format!(
            "finetune --name b --weights click=0.3,conversion=0.7 --balance uncertainty --train-layers 0 {short}"
        ))
        .ok();
    let config: toml::Table = toml::from_str(&scratch.text("runs/b/config.toml")).unwrap();
    let weights: Vec<f64> = config["objectives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|objective| objective["weight"].as_float().unwrap())
        .collect();
    assert_eq!(weights, [0.3, 0.7, 0.0, 0.0]);
    // No layer was trained: the encoder is what it was.
    assert_eq!(tensors(&scratch, "runs/b/pretrained"), tensors(&scratch, "runs/b/model"));
    assert_ne!(tensors(&scratch, "runs/a/pretrained"), tensors(&scratch, "runs/a/model"));

    scratch.run(&format!("finetune --name c --set model.items=ids {short}")).ok();
    scratch.run("recommend --run runs/c --user user-00001").ok();
}

/// The encoder's tensors as 32-bit numbers, whatever they are stored as.
fn tensors(scratch: &Scratch, folder: &str) -> Vec<(String, Vec<f32>)> {
    let file = scratch.path(folder).join("model.safetensors");
    let tensors = candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap();
    let values = |tensor: &candle_core::Tensor| {
        tensor.to_dtype(candle_core::DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let mut all: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(walk(&path));
        }
        found.push(path.display().to_string());
    }
    found
}
