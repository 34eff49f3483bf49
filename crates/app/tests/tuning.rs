//! Training less than the whole text encoder.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use program::{QUICK, Scratch};

fn tensors(scratch: &Scratch, file: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(scratch.path(file), &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The encoder's tensors that a run has changed, and all of them.
fn changed(scratch: &Scratch, run: &str, start: &HashMap<String, Tensor>) -> Vec<String> {
    let end = tensors(scratch, &format!("runs/{run}/model/model.safetensors"));
    assert_eq!(end.len(), start.len());
    let moved = |name: &&String| numbers(&end[*name]) != numbers(&start[*name]);
    let mut names: Vec<String> = start.keys().filter(moved).cloned().collect();
    names.sort();
    names
}

/// The built-in encoder as it is before training.
fn start(scratch: &Scratch) -> HashMap<String, Tensor> {
    scratch.run(&format!("finetune --dataset data --name start --baselines none {QUICK} --train-layers 0")).ok();
    tensors(scratch, "runs/start/model/model.safetensors")
}

#[test]
fn what_is_frozen_stays_as_it_was() {
    let scratch = Scratch::with_data();
    let start = start(&scratch);
    let last =
        start.keys().filter_map(|name| name.strip_prefix("encoder.layer.")?.split('.').next()?.parse().ok()).max();
    let last: usize = last.unwrap();
    type Check = fn(&str) -> bool;
    let cases: [(&str, Check); 4] = [
        ("lora", |name| name.ends_with("query.weight") || name.ends_with("value.weight")),
        ("ia3", |name| {
            ["key.weight", "key.bias", "value.weight", "value.bias", "output.dense.weight"]
                .iter()
                .any(|end| name.ends_with(end))
        }),
        ("biases", |name| name.starts_with("encoder.layer.") && name.ends_with(".bias")),
        ("full", |name| !name.starts_with("pooler.")),
    ];
    for (tune, may_change) in cases {
        let command = format!("finetune --dataset data --name {tune} --baselines none {QUICK} --tune {tune}");
        let out = scratch.run(&command).ok();
        assert_eq!(out.contains("text encoder: "), tune != "full", "{out}");
        let changed = changed(&scratch, tune, &start);
        assert!(!changed.is_empty(), "{tune}");
        let wrong: Vec<&String> = changed.iter().filter(|name| !may_change(name)).collect();
        assert!(wrong.is_empty(), "{tune}: {wrong:?}");
        assert_eq!(scratch.exists(&format!("runs/{tune}/model/adapter")), tune == "lora" || tune == "ia3");
        scratch.run(&format!("evaluate --run runs/{tune}")).ok();
    }
    let command = format!("finetune --dataset data --name top --baselines none {QUICK} --tune lora --train-layers 1");
    scratch.run(&command).ok();
    let prefix = format!("encoder.layer.{last}.");
    assert!(changed(&scratch, "top", &start).iter().all(|name| name.starts_with(&prefix)));
}

#[test]
fn a_run_goes_on_with_an_adapter() {
    let scratch = Scratch::with_data();
    let tune = |name: &str, more: &str| {
        scratch.run(&format!("finetune --dataset data --name {name} --baselines none {QUICK} --tune lora {more}")).ok();
        tensors(&scratch, &format!("runs/{name}/model/adapter/adapter_model.safetensors"))
    };
    let first = tune("first", "--lora-rank 3");
    assert!(first.keys().all(|key| key.starts_with("base_model.model.encoder.layer.")), "{:?}", first.keys());
    let factor = first.keys().find(|key| key.ends_with("lora_A.weight")).unwrap();
    assert_eq!(first[factor].dim(0).unwrap(), 3);
    let second = tune("second", "--adapter runs/first/model/adapter --set training.backbone_learning_rate=1e-9");
    for (key, tensor) in &first {
        let off = numbers(tensor).iter().zip(numbers(&second[key])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-6, "{key}: {off}");
    }
    let config = scratch.json("runs/first/model/adapter/adapter_config.json");
    assert_eq!((config["peft_type"].as_str(), config["r"].as_u64()), (Some("LORA"), Some(3)));
}
