//! A run that is killed and resumed ends with the same bytes as one that was not.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use std::{
    fs,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use program::{Done, QUICK, Scratch};
use serde_json::Value;

/// When to kill the process.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// This file or folder of the run is there.
    Exists(&'static str),
    /// `metrics.jsonl` has this many lines.
    Lines(usize),
}

impl Moment {
    fn has_come(self, scratch: &Scratch, run: &str) -> bool {
        match self {
            Self::Exists(name) => scratch.exists(&format!("runs/{run}/{name}")),
            Self::Lines(count) => {
                let log = fs::read_to_string(scratch.path(&format!("runs/{run}/metrics.jsonl"))).unwrap_or_default();
                log.lines().count() >= count
            }
        }
    }
}

/// Starts the program and kills it at a moment; `false` if it was done before.
fn killed(scratch: &Scratch, run: &str, arguments: &str, moment: Moment) -> bool {
    let mut child = scratch.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !moment.has_come(scratch, run) {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{arguments}: {status}");
            return false;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{moment:?} never came");
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    !scratch.exists(&format!("runs/{run}/metrics.json"))
}

fn results(scratch: &Scratch, run: &str) -> (Vec<Vec<u8>>, Value) {
    let files = [
        "config.toml",
        "metrics.jsonl",
        "model/model.safetensors",
        "model/recommender.safetensors",
        "model/recommender.json",
    ];
    let mut metrics = scratch.json(&format!("runs/{run}/metrics.json"));
    metrics.as_object_mut().unwrap().remove("seconds");
    (files.iter().map(|file| scratch.bytes(&format!("runs/{run}/{file}"))).collect(), metrics)
}

/// Kills a run at each of the moments in turn, resumes it after each, and compares its end with a run that was left alone.
#[track_caller]
fn check(settings: &str, kills: &[&[Moment]], least: usize) {
    let scratch = Scratch::with_data();
    let start = |name: &str| format!("finetune --dataset data --name {name} {QUICK} {settings}");
    scratch.run(&start("whole")).ok();
    let whole = results(&scratch, "whole");
    let mut hits = 0;
    for (number, moments) in kills.iter().enumerate() {
        let name = format!("cut-{number}");
        let mut command = start(&name);
        for &moment in *moments {
            hits += usize::from(killed(&scratch, &name, &command, moment));
            command = format!("finetune --name {name} --resume");
        }
        // The threads may be others than before.
        Done::of(scratch.command(&command).env("RAYON_NUM_THREADS", "1")).ok();
        let resumed = results(&scratch, &name);
        assert_eq!(whole.1, resumed.1, "metrics after {moments:?}");
        assert!(whole.0 == resumed.0, "some file differs after {moments:?}");
    }
    assert!(hits >= least, "only {hits} processes were killed in time");
}

#[test]
fn killed_before_and_between_checkpoints() {
    let kills: [&[Moment]; 4] = [
        &[Moment::Exists("config.toml")],
        &[Moment::Lines(2)],
        &[Moment::Exists("checkpoints/model/step-00000002")],
        &[Moment::Exists("checkpoints/model/.writing-00000004"), Moment::Lines(7)],
    ];
    check("--baselines none", &kills, 2);
}

#[test]
fn killed_while_baselines_train_and_while_the_model_is_saved() {
    let kills: [&[Moment]; 2] = [
        &[
            Moment::Exists("checkpoints/alone-click/step-00000002"),
            Moment::Exists("checkpoints/alone-conversion/step-00000002"),
        ],
        &[Moment::Exists("model")],
    ];
    check("--objectives click,conversion --baselines untrained,single-objective", &kills, 1);
}

#[test]
fn killed_with_balancing_that_remembers_and_gradients_that_accumulate() {
    let kills: [&[Moment]; 2] =
        [&[Moment::Exists("checkpoints/model/step-00000002")], &[Moment::Exists("checkpoints/model/step-00000004")]];
    check("--balance uncertainty --set training.accumulate=2 --set training.validations=8 --baselines none", &kills, 1);
}

#[test]
fn killed_with_another_optimizer_averaged_weights_and_sharpness() {
    let kills: [&[Moment]; 2] =
        [&[Moment::Exists("checkpoints/model/step-00000002")], &[Moment::Exists("checkpoints/model/step-00000004")]];
    let settings = "--balance mgda --set training.optimizer=lamb --set training.schedule=one-cycle --set training.ema=0.9 \
        --set training.sam.rho=0.1 --set training.sam.adaptive=true --baselines none";
    check(settings, &kills, 1);
}

#[test]
fn killed_while_an_adapter_learns_and_layers_wake() {
    let kills: [&[Moment]; 2] =
        [&[Moment::Exists("checkpoints/model/step-00000002")], &[Moment::Exists("checkpoints/model/step-00000004")]];
    let settings = "--tune lora --lora-rank 2 --set model.lora.dropout=0.1 --set training.unfreeze=0.7 \
        --set training.layer_decay=0.8 --baselines none";
    check(settings, &kills, 1);
}

#[test]
fn a_torn_log_and_a_half_written_checkpoint_are_put_right() {
    let scratch = Scratch::with_data();
    scratch.run(&format!("finetune --dataset data --name whole --baselines none {QUICK}")).ok();
    scratch.copy("runs/whole", "runs/torn");
    // As if the process had died in step 5, while it wrote a line and a checkpoint.
    for gone in ["metrics.json", "report.html"] {
        fs::remove_file(scratch.path(&format!("runs/torn/{gone}"))).unwrap();
    }
    fs::remove_dir_all(scratch.path("runs/torn/model")).unwrap();
    fs::remove_dir_all(scratch.path("runs/torn/checkpoints/model/step-00000006")).unwrap();
    scratch.copy("runs/torn/checkpoints/model/step-00000004", "runs/torn/checkpoints/model/.writing-00000006");
    scratch.truncate("runs/torn/checkpoints/model/.writing-00000006/model.safetensors");
    let log = scratch.text("runs/torn/metrics.jsonl");
    let at = log.find("\"step\":5").unwrap();
    scratch.write("runs/torn/metrics.jsonl", &log[..at + 20]);
    scratch.run("finetune --name torn --resume").ok();
    assert!(results(&scratch, "whole") == results(&scratch, "torn"));
}

#[test]
fn a_finished_run_says_so_and_stays_as_it_is() {
    let scratch = Scratch::with_run();
    let before = results(&scratch, "first");
    let out = scratch.run("finetune --resume").ok();
    assert!(out.contains("finished already"), "{out}");
    assert!(before == results(&scratch, "first"));
}

#[test]
fn settings_beside_resume_are_not_swallowed_silently() {
    let scratch = Scratch::with_run();
    let done = scratch.run("finetune --resume --max-steps 99");
    assert!(done.err.contains("keeps the configuration"), "{done:?}");
    done.ok();
}

#[test]
fn killed_while_a_sequence_model_learns_from_texts_ids_and_a_graph() {
    let kills: [&[Moment]; 2] =
        [&[Moment::Exists("checkpoints/model/step-00000002")], &[Moment::Exists("checkpoints/model/step-00000004")]];
    let settings =
        "--user sasrec --items hybrid --set model.graph.drop_edges=0.2 --set training.encode_every=2 --baselines none";
    check(settings, &kills, 1);
}
