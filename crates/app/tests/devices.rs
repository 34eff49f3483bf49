//! Where a model lies is asked for by a flag or by the configuration, and a run is used wherever there is a machine for it.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};

/// A device that no machine has, and a build without its feature cannot ask for.
const NOWHERE: &str = "cuda:99";

#[test]
fn devices_that_are_not_there_are_refused() {
    let scratch = Scratch::with_data();
    let run = |arguments: &str| scratch.run(&format!("finetune --dataset data --baselines none {QUICK} {arguments}"));
    let unknown = run("--device gpu");
    assert_eq!(unknown.code, Some(2));
    for part in ["no device `gpu`", "metal:N", "this build has cpu"] {
        assert!(unknown.err.contains(part), "{}", unknown.err);
    }
    run("--set model.device=tpu").wrong(&["tpu", "cuda:N"]);
    let reason = if cfg!(feature = "cuda") { "does not answer" } else { "--features cuda" };
    run(&format!("--device {NOWHERE}")).wrong(&[NOWHERE, reason]);
    run(&format!("--set model.device={NOWHERE}")).wrong(&[NOWHERE, reason]);
    assert!(!scratch.exists("runs/data-1"), "nothing is left behind");
    scratch.write("texts.txt", "one\ntwo\n");
    let embed = |arguments: &str| scratch.run(&format!("embed --input texts.txt --output v.npy {arguments}"));
    embed(&format!("--device {NOWHERE}")).wrong(&[NOWHERE, reason]);
    embed("--device cpu").ok();
    assert!(scratch.exists("v.npy"));
}

#[test]
fn a_run_moves_to_another_device() {
    let scratch = Scratch::with_run();
    let config = scratch.text("runs/first/config.toml");
    assert!(config.contains("device = \"auto\""), "{config}");
    scratch.run("evaluate --run runs/first --device cpu").ok();
    let recommend = "recommend --run runs/first --user user-00001 --json";
    let before = scratch.run(&format!("{recommend} --device cpu")).ok();

    // As if it had been made on a machine with more GPUs than any.
    scratch.write("runs/first/config.toml", config.replace("device = \"auto\"", &format!("device = \"{NOWHERE}\"")));
    let moved = scratch.run(recommend);
    assert!(moved.err.contains(NOWHERE) && moved.err.contains("--device"), "{}", moved.err);
    if !cfg!(any(feature = "cuda", feature = "metal")) {
        assert_eq!(moved.ok(), before);
    }
    scratch.run(&format!("evaluate --run runs/first --device {NOWHERE}")).wrong(&[NOWHERE]);

    // Going on with it there is no other run: nothing is said of settings that are not looked at.
    std::fs::remove_file(scratch.path("runs/first/metrics.json")).unwrap();
    let resumed = scratch.run("finetune --name first --resume --device cpu");
    assert!(!resumed.err.contains("not looked at"), "{}", resumed.err);
    resumed.ok();
    assert!(scratch.text("runs/first/config.toml").contains("device = \"cpu\""));
    assert!(scratch.text("runs/first/report.html").contains("Device"));
}
