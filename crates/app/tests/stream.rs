//! A log that is read shard by shard, from the command line to recommendations.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;

use program::{QUICK, Scratch};

/// A ranking by what users did before.
const RANKING: &str = "[[objectives]]\nname = \"click\"\nkind = \"ranking\"\ncolumn = \"click\"\n\n\
    [data]\nengaged = \"click\"\ntemplate = \"{title}\"\nsplit = { strategy = \"time\", valid = 0.15, test = 0.15 }\n\n\
    [model]\nitems = \"ids\"\nuser = { kind = \"sasrec\", features = false }\n";

/// The files `events/*.parquet` in place of one.
fn in_a_folder(scratch: &Scratch, tables: &str) {
    let tables = scratch.path(tables);
    fs::create_dir(tables.join("events")).unwrap();
    fs::rename(tables.join("events.parquet"), tables.join("events/2026-01.parquet")).unwrap();
}

#[test]
fn a_streamed_run_is_trained_measured_resumed_and_asked() {
    let scratch = Scratch::with_data();
    scratch.write("ranking.toml", RANKING);
    let line = format!("--dataset data --config ranking.toml --baselines popularity {QUICK}");
    scratch.run(&format!("finetune {line} --name memory")).ok();
    in_a_folder(&scratch, "data");
    let stream = "--stream --set data.shards=4 --set data.sample=40";
    let out = scratch.run(&format!("finetune {line} {stream} --name shards")).ok();
    assert!(out.contains("4 shards"), "{out}");
    let metrics = scratch.json("runs/shards/metrics.json");
    assert!(metrics["ranking"]["ndcg@10"]["model"].is_number(), "{metrics}");
    assert!(metrics["ranking"]["ndcg@10"]["popularity"].is_number(), "{metrics}");
    assert!(!scratch.path("runs/shards/data").exists());
    let shards = fs::read_dir(scratch.path("runs/shards/shards")).unwrap().count();
    assert_eq!(shards, 4 + 2, "four shards, items and the list of them");

    // One shard and everybody in the sample: the same model as in memory, and the same figures.
    let whole = "--stream --set data.shards=1 --set data.sample=1000000";
    scratch.run(&format!("finetune {line} {whole} --name one")).ok();
    let (memory, one) = (scratch.json("runs/memory/metrics.json"), scratch.json("runs/one/metrics.json"));
    assert_eq!(one["ranking"], memory["ranking"]);
    assert_eq!(one["objectives"], memory["objectives"]);

    let again = scratch.run("evaluate --run runs/shards --json").ok();
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["ranking"]["ndcg@10"]["model"], metrics["ranking"]["ndcg@10"]["model"]);
    // Of the sample or not, a user is found.
    let known = |run: &str| {
        let out = scratch.run(&format!("recommend --run runs/{run} --user user-00003 --top 3 --json")).ok();
        let picks: serde_json::Value = serde_json::from_str(&out).unwrap();
        picks.as_array().unwrap().iter().map(|pick| pick["item"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(known("one"), known("memory"));
    assert_eq!(known("shards").len(), 3);
    let resumed = scratch.run("finetune --resume --name shards").ok();
    assert!(resumed.contains("finished already"), "{resumed}");
}

#[test]
fn what_a_stream_cannot_do_is_refused_with_the_reason() {
    let scratch = Scratch::with_data();
    scratch.write("ranking.toml", RANKING);
    let refused = |settings: &str, parts: &[&str]| {
        let line =
            format!("finetune --dataset data --config ranking.toml --stream --baselines none {settings} {QUICK}");
        scratch.run(&line).wrong(parts);
        assert!(!scratch.path("runs/data-1").exists(), "a run that could not begin leaves nothing");
    };
    refused("--refit", &["refit", "data.stream"]);
    refused("--set model.graph.attributes=0.5", &["with a graph", "model.graph"]);
    refused("--set data.train_share=0.5", &["data.train_share", "data.stream"]);
    refused("--baselines ease", &["baseline ease", "all events at once"]);
    refused("--user factors", &["\"factors\"", "such as sasrec"]);
    refused("--set model.user.features=true", &["model.user.features = false"]);
    refused("--set model.search=true", &["reads queries", "model.search = false"]);
    refused("--set data.shards=0", &["0 shards; ask for 1 to 512"]);
    let line = "finetune --stream --baselines none";
    scratch.run(&format!("{line} {QUICK}")).wrong(&["which objectives", "docs/scale.md"]);
    let line = format!("{line} --config ranking.toml");
    scratch.run(&format!("{line} {QUICK}")).wrong(&["a folder of canonical Parquet tables", "marketplace"]);
    scratch.write("random.toml", RANKING.replace("\"time\"", "\"random\""));
    let line = "finetune --dataset data --config random.toml --stream --baselines none";
    scratch.run(&format!("{line} {QUICK}")).wrong(&["\"random\" shuffles the whole log"]);
    let line = "finetune --dataset data --config features.toml --stream --baselines none";
    scratch.write(
        "features.toml",
        format!("{RANKING}\n[[features]]\nname = \"price\"\nkind = \"numeric\"\nof = \"item\"\ncolumn = \"price\"\n"),
    );
    scratch.run(&format!("{line} {QUICK}")).wrong(&["features of columns", "leave [[features]] out"]);
    let clicks = RANKING.replace("kind = \"ranking\"", "kind = \"binary\"");
    scratch.write("clicks.toml", clicks);
    scratch
        .run(&format!("finetune --dataset data --config clicks.toml --stream --baselines none {QUICK}"))
        .wrong(&["objective `click`", "kind = \"ranking\""]);
}
