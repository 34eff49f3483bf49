//! From a run to tables that hold what its model says, and from those to a student.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use paretune_data::Dataset;
use program::{QUICK, Scratch};
use serde_json::Value;

const CONFIG: &str = r#"
[[objectives]]
name = "click"
kind = "binary"
column = "click"

[[objectives]]
name = "conversion"
kind = "conditional"
given = "click"
column = "conversion"

[[objectives]]
name = "satisfaction"
kind = "regression"
column = "rating"
"#;

fn mean(values: &[f32]) -> f64 {
    let known: Vec<f64> = values.iter().filter(|value| !value.is_nan()).map(|value| f64::from(*value)).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

#[test]
fn a_run_teaches_and_a_student_listens() {
    let scratch = Scratch::with_data();
    scratch.write("teacher.toml", format!("calibration = \"platt\"\n{CONFIG}"));
    let longer = QUICK.replace("--max-steps 6", "--max-steps 60");
    let run = format!("finetune --dataset data --config teacher.toml --name teacher --baselines none {longer}");
    scratch.run(&format!("{run} --set training.learning_rate=0.01")).ok();
    let out = scratch.run("teach --run runs/teacher --out taught").ok();
    for part in ["teacher_click", "teacher_satisfaction", "was trained on", "--config taught/student.toml"] {
        assert!(out.contains(part), "{part}: {out}");
    }

    let after = Dataset::read(&scratch.path("taught")).unwrap();
    let said = |name: &str| after.events.feedback[&format!("teacher_{name}")].clone();
    let (click, both, stars) = (said("click"), said("conversion"), said("satisfaction"));
    let mut rest = after.clone();
    rest.events.feedback.retain(|name, _| !name.starts_with("teacher_"));
    rest.write(&scratch.path("plain")).unwrap();
    for table in ["items", "users", "events"] {
        let bytes = |folder: &str| scratch.bytes(&format!("{folder}/{table}.parquet"));
        assert!(bytes("plain") == bytes("runs/teacher/data"), "nothing else has changed in {table}");
    }
    let asked = click.iter().filter(|p| !p.is_nan()).count();
    assert!(asked > click.len() / 2 && asked < click.len(), "the rows of training: {asked} of {}", click.len());
    assert!(click.iter().zip(&both).all(|(click, both)| click.is_nan() == both.is_nan()));
    assert!(
        click.iter().zip(&both).filter(|(p, _)| !p.is_nan()).all(|(p, both)| (0.0..=*p).contains(both) && *p < 1.0)
    );
    // It knows more than nothing: what was clicked was likelier to be, and stars are near those that were given.
    let labels = &after.events.feedback["click"];
    let ahead = |said: &[f32]| -> f64 {
        let of = |label: f32| -> Vec<f32> {
            labels.iter().zip(said).filter(|(own, _)| **own == label).map(|(_, said)| *said).collect()
        };
        mean(&of(1.0)) - mean(&of(0.0))
    };
    let next: Vec<f32> = click[1..].iter().chain(&click[..1]).copied().collect();
    assert!(ahead(&click) > 0.002 && ahead(&click) > 2.0 * ahead(&next), "{} {}", ahead(&click), ahead(&next));
    let gap = mean(&stars) - mean(&after.events.feedback["rating"]);
    assert!(gap.abs() < 1.0, "{gap}");

    // In numbers, and the same bytes each time.
    let json = scratch.run("teach --run runs/teacher --out again --prefix t_ --json").ok();
    let taught: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&taught[0]["column"], &taught[0]["events"]), (&Value::from("t_click"), &Value::from(asked)));
    assert!((taught[0]["said"].as_f64().unwrap() - mean(&click)).abs() < 1e-6, "{taught}");
    scratch.run("teach --run runs/teacher --out third").ok();
    assert_eq!(scratch.bytes("third/events.parquet"), scratch.bytes("taught/events.parquet"));

    // The student's configuration is whole, but for what is the student's own to say.
    let student = "finetune --config taught/student.toml --items ids --baselines none --name student";
    scratch.run(&format!("{student} {}", QUICK.replace("--model builtin", ""))).ok();
    let config = scratch.text("runs/student/config.toml");
    assert_eq!(config.matches("[objectives.distill]").count(), 3, "{config}");
    assert!(config.contains("dataset = \"./taught\"") && config.contains("given = \"click\""), "{config}");
    let clicks =
        |run: &str| scratch.json(&format!("runs/{run}/metrics.json"))["objectives"]["click"]["auc"]["model"].clone();
    assert!(clicks("student").is_f64() && clicks("student") != clicks("teacher"));

    // What cannot be.
    scratch.run("teach --run runs/teacher --out taught").wrong(&["taught", "tables already", "--out"]);
    scratch.run("teach --run runs/student --out fourth").wrong(&["teacher_click", "--prefix"]);
    assert!(!scratch.exists("fourth"));
    scratch.run("teach --run runs/nobody --out fourth").wrong(&["runs/nobody"]);
}

/// What the log says of validation and test must not reach a student by way of its teacher, whatever the split.
#[test]
fn nothing_of_validation_and_test_is_taught() {
    let scratch = Scratch::with_data();
    scratch.write("teacher.toml", CONFIG);
    let split = "--set \"data.split={strategy='random', valid=0.2, test=0.2, seed=3}\"";
    let line = format!("finetune --dataset data --config teacher.toml --name teacher --baselines none {split} {QUICK}");
    scratch.run(&line).ok();
    scratch.run("teach --run runs/teacher --out before").ok();
    let taught = |folder: &str| Dataset::read(&scratch.path(folder)).unwrap().events.feedback["teacher_click"].clone();
    let before = taught("before");

    // Everybody clicked on everything that was not trained on.
    let kept = scratch.path("runs/teacher/data");
    let mut dataset = Dataset::read(&kept).unwrap();
    let clicks = dataset.events.feedback.get_mut("click").unwrap();
    let mut changed = 0;
    for (click, _) in clicks.iter_mut().zip(&before).filter(|(click, said)| said.is_nan() && **click != 1.0) {
        *click = 1.0;
        changed += 1;
    }
    assert!(changed > 500, "{changed}");
    dataset.write(&kept).unwrap();
    scratch.run("teach --run runs/teacher --out after").ok();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert!(bits(taught("after")) == bits(before));
}

#[test]
fn what_was_not_trained_or_would_be_split_elsewhere_is_not_taught() {
    let scratch = Scratch::with_data();
    scratch.write("teacher.toml", CONFIG);
    let line = format!("finetune --dataset data --config teacher.toml --baselines none {QUICK}");
    scratch.run(&format!("{line} --name one --weights satisfaction=1")).ok();
    let out = scratch.run("teach --run runs/one --out taught").ok();
    assert!(out.contains("teacher_satisfaction") && !out.contains("teacher_click"), "{out}");
    scratch.run(&format!("{line} --name tenth --set data.train_share=0.5")).ok();
    scratch.run("teach --run runs/tenth --out other").wrong(&["runs/tenth", "data.train_share = 0.5"]);
}

#[test]
fn a_ranking_teaches_nobody() {
    let scratch = Scratch::with_data();
    scratch.write("clicks.toml", "[[objectives]]\nname = \"click\"\nkind = \"ranking\"\ncolumn = \"click\"\n");
    scratch.run(&format!("finetune --dataset data --config clicks.toml --name ranks --baselines none {QUICK}")).ok();
    scratch.run("teach --run runs/ranks --out taught").wrong(&["no label that a student could learn"]);
}
