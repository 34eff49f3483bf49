//! Objectives of biased logs, from the configuration file to tables, saved models and refusals.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};

const DATA: &str =
    "[data]\nengaged = \"click\"\ntemplate = \"{title}\"\nsplit = { strategy = \"time\", valid = 0.15, test = 0.15 }\n";

fn objectives(click: &str, rating: &str) -> String {
    format!(
        "[[objectives]]\nname = \"click\"\nkind = \"binary\"\ncolumn = \"click\"\n{click}\n\n\
         [[objectives]]\nname = \"conversion\"\nkind = \"conditional\"\ncolumn = \"conversion\"\ngiven = \"click\"\n\n\
         [[objectives]]\nname = \"satisfaction\"\nkind = \"regression\"\ncolumn = \"rating\"\n{rating}\n\n{DATA}"
    )
}

#[test]
fn a_run_shows_propensities_and_examination_and_is_measured_again() {
    let scratch = Scratch::with_data();
    let robust = "debias = { method = \"doubly-robust\", propensity = \"model\", clip = 20.0 }";
    scratch.write("biased.toml", objectives("examination = 10", robust));
    let line =
        format!("finetune --dataset data --config biased.toml --name biased --items ids --baselines none {QUICK}");
    let out = scratch.run(&line).ok();
    for part in
        ["Examination by position", "Propensities", "Balance of what was observed", "effective labels", "log position"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    let report = scratch.text("runs/biased/report.html");
    assert!(report.contains("Examination by position") && report.contains("weights cut"));
    // What was saved is what is loaded: the same figures.
    let metrics = scratch.json("runs/biased/metrics.json");
    let again = scratch.run("evaluate --run runs/biased --json").ok();
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    for (objective, metric) in [("click", "auc"), ("satisfaction", "rmse")] {
        let of = |file: &serde_json::Value| file["objectives"][objective][metric]["model"].clone();
        assert!(of(&metrics).is_number(), "{metrics}");
        assert_eq!(of(&again), of(&metrics));
    }
    let config = scratch.text("runs/biased/config.toml");
    assert!(config.contains("examination = 10") && config.contains("doubly-robust"), "{config}");
}

#[test]
fn every_source_of_propensities_is_trained_by_name() {
    let scratch = Scratch::with_data();
    for (name, click, rating) in [
        (
            "logged",
            "{ method = \"snips\", propensity = \"column\" }",
            "{ method = \"snips\", propensity = \"popularity\" }",
        ),
        (
            "seen",
            "{ method = \"clipped\", propensity = \"position\", eta = 0.5 }",
            "{ method = \"ips\", propensity = \"model\" }",
        ),
        (
            "imputed",
            "{ method = \"doubly-robust\", propensity = \"column\", clip = 10 }",
            "{ method = \"doubly-robust\", propensity = \"popularity\" }",
        ),
    ] {
        scratch.write("biased.toml", objectives(&format!("debias = {click}"), &format!("debias = {rating}")));
        let line =
            "finetune --dataset data --config biased.toml --items ids --baselines none --set training.negatives=1";
        scratch.run(&format!("{line} --name {name} {QUICK}")).ok();
        let metrics = scratch.json(&format!("runs/{name}/metrics.json"));
        assert!(metrics["objectives"]["click"]["auc"]["model"].is_number(), "{name}: {metrics}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let scratch = Scratch::with_data();
    let refused = |click: &str, parts: &[&str]| {
        scratch.write("biased.toml", objectives(click, ""));
        let line = "finetune --dataset data --config biased.toml --items ids --baselines none --name no";
        scratch.run(&format!("{line} {QUICK}")).wrong(parts);
    };
    refused("debias = { method = \"ips\", propensity = \"position\" }", &["\"click\"", "eta"]);
    refused("debias = { method = \"ips\", propensity = \"luck\" }", &["`luck`", "`popularity`"]);
    refused("debias = { method = \"ips\", propensity = \"model\" }", &["\"click\"", "no label is"]);
    refused("debias = { method = \"ips\", propensity = \"column\", column = \"odds\" }", &["`odds`", "conversion"]);
    refused("debias = { method = \"doubly-robust\", propensity = \"column\" }", &["training.negatives"]);
    refused("examination = 1", &["examination = 1"]);
}
