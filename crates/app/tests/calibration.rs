//! Calibrated probabilities and what objectives listen to, from the command line to the files.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};
use serde_json::Value;

const FILE: &str = "model/calibration.json";

fn platt(calibration: &Value, objective: &str, p: f64) -> f64 {
    let own = &calibration["objectives"][objective]["all"];
    assert_eq!(own["name"], "platt");
    let (slope, offset) = (own["slope"].as_f64().unwrap(), own["offset"].as_f64().unwrap());
    1.0 / (1.0 + (-(slope * (p / (1.0 - p)).ln() + offset)).exp())
}

#[test]
fn probabilities_are_calibrated_everywhere_they_are_shown() {
    let scratch = Scratch::with_data();
    let settings = format!("--dataset data --baselines untrained {QUICK} --set training.learning_rate=1e-2");
    scratch.run(&format!("finetune --name plain {settings}")).ok();
    let out = scratch.run(&format!("finetune --name first --set calibration=platt {settings}")).ok();
    assert!(out.contains("calibrated") && out.contains("ece ↓"), "{out}");
    assert!(!scratch.exists(&format!("runs/plain/{FILE}")));

    // What the model is and what it predicts is the same with and without.
    for file in ["model/recommender.safetensors", "metrics.jsonl"] {
        assert!(scratch.bytes(&format!("runs/plain/{file}")) == scratch.bytes(&format!("runs/first/{file}")), "{file}");
    }
    let (plain, first) = (scratch.json("runs/plain/metrics.json"), scratch.json("runs/first/metrics.json"));
    for objective in ["click", "conversion"] {
        for metric in ["auc", "log_loss", "ece"] {
            let own = &first["objectives"][objective][metric];
            assert_eq!(plain["objectives"][objective][metric]["model"], own["model"], "{objective} {metric}");
            assert!(own["calibrated"].as_f64().is_some(), "{objective} {metric}: {own}");
        }
    }
    let click = &first["objectives"]["click"]["auc"];
    assert_eq!(click["calibrated"], click["model"]);
    assert!(first["objectives"]["satisfaction"]["rmse"]["calibrated"].is_null());
    assert_eq!(plain["ranking"], first["ranking"]);
    let report = scratch.text("runs/first/report.html");
    assert!(report.contains("Are probabilities frequencies?") && report.contains("class=\"diagonal\""));

    // Made again and evaluated again, it is the same.
    scratch.run("finetune --config runs/first/config.toml --name again").ok();
    assert!(scratch.bytes(&format!("runs/first/{FILE}")) == scratch.bytes(&format!("runs/again/{FILE}")));
    let evaluated: Value = serde_json::from_str(&scratch.run("evaluate --json --run runs/first").ok()).unwrap();
    assert_eq!(evaluated["objectives"], first["objectives"]);

    // What is recommended stays, what is predicted for it is calibrated.
    let picks = |run: &str| -> Vec<Value> {
        let out = scratch.run(&format!("recommend --json --run runs/{run} --user user-00003 --top 30")).ok();
        serde_json::from_str(&out).unwrap()
    };
    let calibration = scratch.json(&format!("runs/first/{FILE}"));
    for (before, after) in picks("plain").iter().zip(picks("first")) {
        assert_eq!(before["item"], after["item"]);
        let score = |pick: &Value, objective: &str| pick["scores"][objective].as_f64().unwrap();
        let click = platt(&calibration, "click", score(before, "click"));
        assert!((score(&after, "click") - click).abs() < 1e-5, "{before} {after}");
        let bounded = platt(&calibration, "conversion", score(before, "conversion")).min(click);
        assert!((score(&after, "conversion") - bounded).abs() < 1e-5, "{before} {after}");
        assert!(score(&after, "conversion") <= score(&after, "click"));
        assert_eq!(before["scores"]["dwell"], after["scores"]["dwell"]);
    }
}

#[test]
fn calibration_that_cannot_be_is_refused() {
    let scratch = Scratch::with_data();
    let settings = format!("--dataset data --baselines none {QUICK}");
    scratch
        .run(&format!("finetune --objectives satisfaction --set calibration=platt {settings}"))
        .wrong(&["calibration", "binary"]);
    scratch.run(&format!("finetune --set calibration=temperature {settings}")).wrong(&["temperature", "isotonic"]);
    let by = "--set calibration.method=platt --set calibration.by=colour";
    scratch.run(&format!("finetune {by} {settings}")).wrong(&["calibration.by = \"colour\"", "category"]);
    scratch.run(&format!("finetune --name sliced {} {settings}", by.replace("colour", "category"))).ok();
    assert_eq!(scratch.json(&format!("runs/sliced/{FILE}"))["by"], "category");
}

#[test]
fn what_objectives_listen_to_is_told() {
    let scratch = Scratch::with_data();
    let settings = format!("--dataset data --baselines none {QUICK}");
    let out = scratch.run(&format!("finetune --name gated --tasks mmoe {settings}")).ok();
    for said in ["What objectives listen to", "What weighs most for an objective", "shared 4"] {
        assert!(out.contains(said), "`{said}` is not in {out}");
        assert!(scratch.text("runs/gated/report.html").contains(said));
    }
    let gates = scratch.json("runs/gated/metrics.json")["gates"].as_array().unwrap().clone();
    assert_eq!(gates.len(), 4);
    for gate in &gates {
        for part in ["weights", "chosen"] {
            let values = gate[part].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
            assert!((values.sum::<f64>() - 1.0).abs() < 1e-5, "{gate}");
        }
    }
    let again: Value = serde_json::from_str(&scratch.run("evaluate --json --run runs/gated").ok()).unwrap();
    assert_eq!(again["gates"], Value::from(gates));
    let out = scratch.run(&format!("finetune --name plain {settings}")).ok();
    assert!(!out.contains("listen to") && scratch.json("runs/plain/metrics.json")["gates"].is_null());
}
