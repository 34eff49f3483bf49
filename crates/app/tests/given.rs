//! Vectors made elsewhere and relations from files, from the command that writes the vectors to a model that is asked again.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};
use serde_json::Value;

/// A marketplace, and the vectors of its titles in two formats.
fn with_vectors() -> Scratch {
    let scratch = Scratch::with_data();
    for (output, column) in [("images.safetensors", "title"), ("sounds.parquet", "description")] {
        let line = format!("embed --input data/items.parquet --column {column} --id-column item_id --output {output}");
        scratch.run(&line).ok();
    }
    scratch
}

const IMAGES: &str = "[[model.vectors]]\nname = \"image\"\nfile = \"images.safetensors\"\n";
const SOUNDS: &str = "[[model.vectors]]\nname = \"sound\"\nfile = \"sounds.parquet\"\nunit = true\n";

fn metrics(scratch: &Scratch, run: &str) -> Value {
    let mut metrics = scratch.json(&format!("runs/{run}/metrics.json"));
    metrics.as_object_mut().unwrap().remove("seconds");
    metrics
}

#[test]
fn vectors_of_another_model_are_trained_with_and_found_again() {
    let scratch = with_vectors();
    for (name, items, fusion, files) in [
        ("ids-gate", "ids", "gate", IMAGES.to_owned()),
        ("ids-sum", "ids", "sum", IMAGES.to_owned()),
        ("hybrid-gate", "hybrid", "gate", format!("{IMAGES}{SOUNDS}")),
        ("alone", "vectors", "sum", IMAGES.to_owned()),
    ] {
        scratch.write("vectors.toml", &files);
        let line = format!(
            "finetune --dataset data --config vectors.toml --items {items} --set model.fusion={fusion} --baselines popularity,ids {QUICK}"
        );
        let out = scratch.run(&format!("{line} --name {name}")).ok();
        assert!(out.contains("images.safetensors (`image`): 120 of 120 items have a vector of 192 numbers."), "{out}");
        let first = metrics(&scratch, name);
        for method in ["model", "popularity", "ids"] {
            assert!(first["objectives"]["click"]["auc"][method].is_number(), "{name}: {first}");
        }
        assert!(scratch.text(&format!("runs/{name}/report.html")).contains("image"));
        // Asked again, it says the same.
        let again: Value =
            serde_json::from_str(&scratch.run(&format!("evaluate --run runs/{name} --json")).ok()).unwrap();
        assert_eq!(
            again["objectives"]["click"]["auc"]["model"], first["objectives"]["click"]["auc"]["model"],
            "{name}"
        );
        assert_eq!(again["ranking"]["ndcg@10"]["model"], first["ranking"]["ndcg@10"]["model"], "{name}");
        scratch.run(&format!("recommend --run runs/{name} --history item-00007,item-00021 --top 3")).ok();
        // The configuration that was written makes the same run.
        scratch.run(&format!("finetune --config runs/{name}/config.toml --name {name}-again")).ok();
        assert_eq!(metrics(&scratch, &format!("{name}-again")), first);
        let file = "model/recommender.safetensors";
        assert!(scratch.bytes(&format!("runs/{name}/{file}")) == scratch.bytes(&format!("runs/{name}-again/{file}")));
    }
    assert_ne!(metrics(&scratch, "ids-gate")["objectives"], metrics(&scratch, "ids-sum")["objectives"]);

    // The same numbers in another format are the same vectors; others are none.
    let config = scratch.text("runs/ids-gate/config.toml");
    scratch.run("embed --input data/items.parquet --id-column item_id --output images.parquet").ok();
    scratch.write("runs/ids-gate/config.toml", config.replace("images.safetensors", "images.parquet"));
    scratch.run("evaluate --run runs/ids-gate").ok();
    scratch
        .run("embed --input data/items.parquet --column description --id-column item_id --output images.parquet")
        .ok();
    scratch.run("evaluate --run runs/ids-gate").wrong(&["images.parquet (`image`)", "changed since", "bring back"]);
    std::fs::remove_file(scratch.path("images.parquet")).unwrap();
    scratch.run("evaluate --run runs/ids-gate").wrong(&["images.parquet"]);
    scratch.run("recommend --run runs/ids-gate --history item-00007").wrong(&["images.parquet"]);
}

#[test]
fn what_is_wrong_with_vectors_is_said_before_training() {
    let scratch = with_vectors();
    let refused = |config: &str, settings: &str, says: &[&str]| {
        scratch.write("wrong.toml", config);
        scratch.run(&format!("finetune --dataset data --config wrong.toml --name no {settings} {QUICK}")).wrong(says);
        assert!(!scratch.exists("runs/no"), "a run whose input was wrong leaves nothing behind");
    };
    refused("", "--items vectors", &["items = \"vectors\"", "[[model.vectors]]"]);
    refused("", "--set model.fusion=gate", &["model.fusion = \"gate\"", "one thing only"]);
    refused("", "--set model.fusion=mean", &["unknown variant `mean`"]);
    refused(&format!("{IMAGES}{IMAGES}"), "", &["`image`", "name of its own"]);
    refused(&IMAGES.replace("images.safetensors", "nowhere.npy"), "", &["nowhere.npy"]);
    refused(&IMAGES.replace("file =", "fille ="), "", &["fille"]);
    refused(&SOUNDS.replace("unit = true", "id_column = \"sku\""), "", &["sounds.parquet", "no column `sku`", "`id`"]);
    scratch.run("embed --input data/items.parquet --output images.safetensors").ok();
    refused(IMAGES, "", &["images.safetensors.ids.jsonl is not there", "--id-column"]);
}

#[test]
fn relations_from_files_are_part_of_the_graph() {
    let scratch = Scratch::with_data();
    let pairs: String = (1..=40).map(|item| format!("item-{item:05}\titem-{:05}\n", item + 40)).collect();
    let brands: String = (1..=60).map(|item| format!("item-{item:05}|brand {}\n", item % 7)).collect();
    scratch.write("pairs.tsv", format!("head\ttail\n{pairs}item-00001\tgone\n"));
    scratch.write("brands.txt", &brands);
    let graph = "[model.graph]\nlayers = 2\nco_engaged = 5\n\n[[model.graph.relations]]\nname = \"bought together\"\nfile = \"pairs.tsv\"\n\
        weight = 0.5\n\n[[model.graph.relations]]\nname = \"brand\"\nweight = 0.25\nto = \"attributes\"\nhead = \"sku\"\ntail = \"maker\"\n\
        file = { path = \"brands.txt\", format = \"csv\", delimiter = \"|\", columns = [\"sku\", \"maker\"] }\n";
    scratch.write("graph.toml", graph);
    scratch.write("plain.toml", "[model.graph]\nlayers = 2\n");
    let line = |config: &str, name: &str| {
        format!(
            "finetune --dataset data --config {config}.toml --items ids --user graph --baselines popularity --name {name} {QUICK}"
        )
    };
    let out = scratch.run(&line("graph", "graph")).ok();
    let said = "pairs.tsv (`bought together`): 40 rows are edges of the graph; 1 row names an item that this data set does not have";
    assert!(out.contains(said) && out.contains("brands.txt (`brand`): 60 rows are edges of the graph."), "{out}");
    scratch.run(&line("plain", "plain")).ok();
    let (first, plain) = (metrics(&scratch, "graph"), metrics(&scratch, "plain"));
    assert_ne!(first["objectives"], plain["objectives"]);
    let again: Value = serde_json::from_str(&scratch.run("evaluate --run runs/graph --json").ok()).unwrap();
    assert_eq!(again["objectives"]["click"]["auc"]["model"], first["objectives"]["click"]["auc"]["model"]);
    scratch.run("finetune --config runs/graph/config.toml --name again").ok();
    assert_eq!(metrics(&scratch, "again"), first);

    // Another file than that of the training makes another graph: the model would not be the same.
    scratch.write("pairs.tsv", format!("head\ttail\n{pairs}"));
    scratch.run("evaluate --run runs/graph").wrong(&["pairs.tsv (`bought together`)", "changed since"]);
    scratch.write("pairs.tsv", format!("head\ttail\n{pairs}item-00001\n"));
    scratch.run(&line("graph", "broken")).wrong(&["pairs.tsv, line 42", "1 fields instead of 2"]);
    assert!(!scratch.exists("runs/broken"));
}
