//! Every user model, every source of items and rankings among the objectives, from the command line to recommendations.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};

/// Objectives of which the first is a ranking.
const MIXED: &str = "[[objectives]]\nname = \"click\"\nkind = \"ranking\"\ncolumn = \"click\"\n\n\
    [[objectives]]\nname = \"satisfaction\"\nkind = \"regression\"\ncolumn = \"rating\"\n\n\
    [data]\nengaged = \"click\"\ntemplate = \"{title}\"\nsplit = { strategy = \"time\", valid = 0.15, test = 0.15 }\n";

#[test]
fn every_user_model_is_trained_measured_and_asked() {
    let scratch = Scratch::with_data();
    scratch.write("mixed.toml", MIXED);
    for kind in ["mean", "two-tower", "gru", "lstm", "sasrec", "bert4rec", "graph", "factors"] {
        let graph = if kind == "graph" { "--set model.graph.attributes=0.5" } else { "" };
        let line = format!(
            "finetune --dataset data --config mixed.toml --name {kind} --user {kind} --items hybrid --baselines popularity {graph} {QUICK}"
        );
        scratch.run(&line).ok();
        let metrics = scratch.json(&format!("runs/{kind}/metrics.json"));
        assert!(metrics["ranking"]["ndcg@10"]["model"].is_number(), "{kind}: {metrics}");
        let again = scratch.run(&format!("evaluate --run runs/{kind} --json")).ok();
        let again: serde_json::Value = serde_json::from_str(&again).unwrap();
        assert_eq!(again["ranking"]["ndcg@10"]["model"], metrics["ranking"]["ndcg@10"]["model"], "{kind}");
        assert_eq!(
            again["objectives"]["satisfaction"]["rmse"]["model"],
            metrics["objectives"]["satisfaction"]["rmse"]["model"]
        );
        scratch.run(&format!("recommend --run runs/{kind} --history item-00007,item-00021 --top 3")).ok();
    }
}

#[test]
fn ranking_losses_and_baselines_without_gradients_are_chosen_by_name() {
    let scratch = Scratch::with_data();
    scratch.write("mixed.toml", MIXED);
    for loss in ["bpr", "gbce", "softmax", "in-batch", "listnet"] {
        let line = format!(
            "finetune --dataset data --config mixed.toml --name {loss} --items ids --user sasrec --objectives click \
             --set model.ranking.name={loss} --set training.encode_every=2 --baselines none {QUICK}"
        );
        scratch.run(&line).ok();
    }
    let line = "finetune --dataset data --config mixed.toml --name classic --items ids --baselines item-knn,ease,mf";
    let out = scratch.run(&format!("{line} {QUICK}")).ok();
    assert!(
        out.contains("item knn") && out.contains("ease") && out.contains("how often training met the item"),
        "{out}"
    );
    let refused = |settings: &str, parts: &[&str]| {
        scratch
            .run(&format!("finetune --dataset data --config mixed.toml --baselines none {settings} {QUICK}"))
            .wrong(parts);
    };
    refused("--user transformer", &["unknown variant `transformer`", "`sasrec`"]);
    refused("--user graph", &["model.graph"]);
    refused("--items images", &["unknown variant `images`", "`hybrid`"]);
    refused("--set model.ranking.name=warp", &["unknown variant `warp`"]);
    refused("--set model.ranking.name=bpr --set model.ranking.temperature=0", &["model.ranking.temperature = 0"]);
}

#[test]
fn several_runs_rank_together() {
    let scratch = Scratch::with_data();
    scratch.write("mixed.toml", MIXED);
    for (name, settings) in [("a", "--seed 1"), ("b", "--seed 2"), ("c", "--seed 1 --user gru")] {
        let line =
            format!("finetune --dataset data --config mixed.toml --name {name} --baselines none {settings} {QUICK}");
        scratch.run(&line).ok();
    }
    let json = |runs: &str| -> serde_json::Value {
        serde_json::from_str(&scratch.run(&format!("ensemble --json --runs {runs}")).ok()).unwrap()
    };
    let two = json("runs/a,runs/b");
    let alone = scratch.json("runs/a/metrics.json");
    assert_eq!(two["ranking"]["a"]["ndcg@10"], alone["ranking"]["ndcg@10"]["model"]);
    for how in ["scores", "ranks", "weights"] {
        assert!(two["ranking"][how]["ndcg@10"].is_number(), "{two}");
    }
    // A model with itself is itself, however its opinions are put together.
    let same = json("runs/a,runs/a");
    for how in ["scores", "ranks", "weights"] {
        assert_eq!(same["ranking"][how], same["ranking"]["a"], "{how}");
    }
    // Other user models rank with it, but have no weights in common.
    let out = scratch.run("ensemble --runs runs/a,runs/c").ok();
    assert!(out.contains("Weights were not averaged") && !out.contains(" weights "), "{out}");
    scratch.run("ensemble --runs runs/a,runs/b --soup soup").ok();
    assert!(scratch.exists("soup/recommender.safetensors"));
    scratch.run("ensemble --runs runs/a").wrong(&["at least two runs"]);
    scratch.run("ensemble --runs runs/a,runs/nowhere").wrong(&["no run directory"]);
    scratch
        .run(&format!("finetune --dataset data --name other --baselines none --set data.split.test=0.3 {QUICK}"))
        .ok();
    scratch.run("ensemble --runs runs/a,runs/other").wrong(&["do not fit together"]);
}
