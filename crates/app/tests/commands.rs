//! The other commands: `front`, `import`, `completions`, and the help of all.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch, real_data};
use serde_json::Value;

const COMMANDS: [&str; 11] = [
    "finetune",
    "import",
    "evaluate",
    "recommend",
    "front",
    "compare",
    "simulate",
    "distill",
    "pretrain",
    "embed",
    "completions",
];

#[test]
fn a_front_marks_what_no_other_balance_beats() {
    let scratch = Scratch::with_data();
    let out = scratch
        .run(&format!("front --points 4 --objectives click,satisfaction --dataset data --name trade {QUICK}"))
        .ok();
    assert!(out.contains("of 4 balances are on the front; hypervolume "), "{out}");
    let file = scratch.json("runs/trade/front.json");
    let front = &file["front"];
    let numbers = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>();
    let up: Vec<bool> = front["maximise"].as_array().unwrap().iter().map(|up| up.as_bool().unwrap()).collect();
    let points = front["points"].as_array().unwrap();
    assert_eq!(points.len(), 4);
    let metrics: Vec<Vec<f64>> = points.iter().map(|point| numbers(&point["metrics"])).collect();
    // By the definition: somebody is at least as good in everything and better in something.
    let beats = |a: &[f64], b: &[f64]| {
        let gain: Vec<f64> = a.iter().zip(b).zip(&up).map(|((a, b), up)| if *up { a - b } else { b - a }).collect();
        gain.iter().all(|gain| *gain >= 0.0) && gain.iter().any(|gain| *gain > 0.0)
    };
    for (point, own) in points.iter().zip(&metrics) {
        let beaten = metrics.iter().any(|other| beats(other, own));
        assert_eq!(point["on_front"].as_bool().unwrap(), !beaten, "{point}");
    }
    assert!(front["hypervolume"].as_f64().unwrap() >= 0.0);
    let labels: Vec<&str> = points.iter().map(|point| point["label"].as_str().unwrap()).collect();
    assert_eq!(labels[..3], ["equal", "click alone", "satisfaction alone"]);
    let report = scratch.text("runs/trade/report.html");
    assert!(report.contains("satisfaction alone") && report.contains("<svg"));

    // A front has no one model to recommend with, and says so.
    scratch.run("recommend --run runs/trade --user user-00001").wrong(&["runs/trade", "front"]);
}

#[test]
fn a_front_of_goals_shows_what_lists_gain_and_cost() {
    let scratch = Scratch::with_data();
    let goals = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/goals/marketplace.toml");
    let line = format!("front --points 3 --dataset data --config {goals} --name goals {QUICK}");
    let out = scratch.run(&line).ok();
    assert!(out.contains("no goal") && out.contains("variety 1"), "{out}");
    let file = scratch.json("runs/goals/front.json");
    let names: Vec<&str> =
        file["front"]["metrics"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let expected =
        ["click ndcg@10", "satisfaction rmse", "variety diversity@10", "breadth coverage@10", "fairness disparity@10"];
    assert_eq!(names, expected);
    assert_eq!(file["front"]["maximise"], serde_json::json!([true, false, true, true, false]));
    for point in file["front"]["points"].as_array().unwrap() {
        let values: Vec<f64> = point["metrics"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(values.iter().all(|value| value.is_finite()) && values[4] <= 1.0, "{point}");
    }
    assert!(scratch.text("runs/goals/report.html").contains("disparity@10"));

    // The same with texts that leave the encoder early.
    let line = format!("front --points 2 --exits 1,2 --dataset data --config {goals} --name exits {QUICK}");
    scratch.run(&line).ok();
    let file = scratch.json("runs/exits/front.json");
    let names = file["front"]["metrics"].as_array().unwrap();
    assert_eq!(names.last().unwrap().as_str(), Some("text layers"));
    assert_eq!(file["front"]["maximise"].as_array().unwrap().last().unwrap().as_bool(), Some(false));
    let layers = |point: &Value| point["metrics"].as_array().unwrap().last().unwrap().as_f64();
    let points = file["front"]["points"].as_array().unwrap();
    assert_eq!(points.iter().map(layers).collect::<Vec<_>>(), [1.0, 1.0, 2.0, 2.0].map(Some));
    assert_eq!(points[2]["label"], "2 layers, no goal");
    scratch
        .run(&format!("front --points 2 --exits 9 --dataset data --config {goals} --name none {QUICK}"))
        .wrong(&["9"]);

    // One model with goals: measured beside what it is compared with, and measured again.
    scratch.run(&format!("finetune --dataset data --config {goals} --name one --baselines popularity {QUICK}")).ok();
    let metrics = scratch.json("runs/one/metrics.json");
    let fairness = &metrics["objectives"]["fairness"]["disparity"];
    assert!(fairness["model"].is_f64() && fairness["popularity"].is_f64(), "{metrics}");
    let again: Value = serde_json::from_str(&scratch.run("evaluate --run runs/one --json").ok()).unwrap();
    assert_eq!(again["objectives"]["fairness"]["disparity"]["model"], fairness["model"]);
    // What says nothing of single items is not shown beside them; a goal alone ranks by what it is about.
    let shown = scratch.run("recommend --run runs/one --user user-00001").ok();
    assert!(shown.contains("satisfaction") && !shown.contains("variety"), "{shown}");
    let json = |weights: &str| -> Value {
        let line = format!("recommend --run runs/one --user user-00001 --json --weights {weights}");
        serde_json::from_str(&scratch.run(&line).ok()).unwrap()
    };
    let by_clicks = json("click=1");
    assert_eq!(json("variety=1"), by_clicks);
    assert!(by_clicks[0]["scores"].get("click").is_some() && by_clicks[0]["scores"].get("variety").is_none());
}

#[test]
fn a_comparison_measures_every_method_by_every_seed_and_goes_on_when_cut_off() {
    let scratch = Scratch::with_data();
    let methods = "weighted-sum,upgrad:refresh=2,graddrop,mgda:normalize=none:gradients=full";
    let line = format!("compare --methods {methods} --seeds 2 --dataset data {QUICK} --name whole");
    let out = scratch.run(&line).ok();
    assert!(out.contains("mgda:normalize=none:gradients=full") && out.contains("hypervolume"), "{out}");
    let trainings = |run: &str| {
        let file = scratch.json(&format!("runs/{run}/compare.json"));
        let mut trainings = file["trainings"].as_array().unwrap().clone();
        for training in &mut trainings {
            assert!(training["seconds_per_step"].as_f64().unwrap() > 0.0 && training["steps"] == 6);
            training.as_object_mut().unwrap().remove("seconds_per_step");
        }
        trainings
    };
    let whole = trainings("whole");
    assert_eq!(whole.len(), 8);
    // Another seed and another method are another model.
    let auc = |k: usize| whole[k]["metrics"]["click"].as_f64().unwrap();
    assert!(auc(0) != auc(1) && auc(0) != auc(4));
    assert!(scratch.text("runs/whole/report.html").contains("upgrad:refresh=2"));
    assert!(
        std::fs::read_dir(scratch.path("runs/whole/checkpoints")).unwrap().next().is_none(),
        "nothing is left over"
    );

    scratch.copy("runs/whole", "runs/cut");
    std::fs::remove_file(scratch.path("runs/cut/compare.json")).unwrap();
    let lines = scratch.text("runs/cut/compare.jsonl");
    scratch.write("runs/cut/compare.jsonl", &lines[..lines.len() - 40]);
    scratch.run("front --name cut --resume").wrong(&["made by `compare`"]);
    scratch.run("compare --name cut --resume").ok();
    assert_eq!(trainings("cut"), whole);
    scratch.run("recommend --run runs/cut --user user-00001").wrong(&["comparison", "finetune"]);
    scratch.run("compare --methods pcgrid --dataset data").wrong(&["pcgrid", "--methods"]);
    scratch.run("compare --methods mgda --balance cagrad --dataset data").wrong(&["--methods", "cagrad:c=0.2"]);
}

#[test]
fn a_comparison_with_a_method_that_cannot_be_trained_trains_nothing() {
    let scratch = Scratch::with_data();
    for (line, why) in [
        ("--methods weighted-sum,pcd:primary=sales", "sales"),
        ("--methods weighted-sum,mgda --conditioning film", "do not steer"),
        ("--methods weighted-sum,graddrop --set training.sam.rho=0.05", "graddrop"),
    ] {
        scratch.run(&format!("compare {line} --dataset data {QUICK}")).wrong(&[why]);
        assert!(!scratch.exists("runs/data-1"), "{line}");
    }
    scratch.run(&format!("front --compare --points 2 --balance mgda --dataset data {QUICK}")).wrong(&["mgda"]);
    assert!(!scratch.exists("runs/data-1"));
}

/// What is not trained has no part in a comparison, and a training of one step is measured as well.
#[test]
fn a_comparison_is_of_what_is_trained() {
    let scratch = Scratch::with_data();
    let quick = QUICK.replace("--max-steps 6", "--max-steps 1");
    let line =
        format!("compare --methods sum,mgda --seeds 1 --weights click=1,dwell=2 --dataset data {quick} --name two");
    scratch.run(&line).ok();
    let file = scratch.json("runs/two/compare.json");
    for training in file["trainings"].as_array().unwrap() {
        let measured: Vec<&String> = training["metrics"].as_object().unwrap().keys().collect();
        assert_eq!(measured, ["click", "dwell"]);
        assert!(training["seconds_per_step"].is_null());
    }
    assert_eq!(scratch.text("runs/two/compare.jsonl").lines().count(), 2);
    scratch.run("compare --name two --resume").ok();
    assert_eq!(scratch.text("runs/two/compare.jsonl").lines().count(), 2);
}

#[test]
fn one_model_gives_a_whole_front_and_serves_it() {
    let scratch = Scratch::with_data();
    let line = "front --points 5 --objectives click,satisfaction --dataset data --conditioning film --name one";
    scratch.run(&format!("{line} {QUICK}")).ok();
    let file = scratch.json("runs/one/front.json");
    let points = file["front"]["points"].as_array().unwrap();
    assert_eq!(points.len(), 5);
    // Each balance has an answer of its own, from one training.
    for (k, point) in points.iter().enumerate() {
        assert!(points[..k].iter().all(|other| other["metrics"] != point["metrics"]), "{points:?}");
    }
    let trained: Vec<String> = std::fs::read_dir(scratch.path("runs/one/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(trained, ["film"]);
    // What this front holds can be served.
    let out = scratch.run("recommend --run runs/one --user user-00001 --weights click=1,satisfaction=3 --json").ok();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&out).unwrap().len(), 10);
    // Cut off before its end, it goes on to the same front.
    scratch.copy("runs/one", "runs/cut");
    std::fs::remove_file(scratch.path("runs/cut/front.json")).unwrap();
    scratch.run("front --name cut --resume").ok();
    assert_eq!(scratch.json("runs/cut/front.json")["front"], file["front"]);
}

#[test]
fn forms_are_compared_on_the_same_balances() {
    let scratch = Scratch::with_data();
    let line = "front --compare --points 3 --objectives click,satisfaction --dataset data --name forms";
    let out = scratch.run(&format!("{line} --conditioned-epochs 3 {QUICK}")).ok();
    assert!(out.contains("Every balance in one model") && out.contains("share of separate"), "{out}");
    let file = scratch.json("runs/forms/front.json");
    let points = file["front"]["points"].as_array().unwrap();
    let labels: Vec<&str> = points.iter().map(|point| point["label"].as_str().unwrap()).collect();
    assert_eq!(
        labels[..4],
        ["separate: equal", "separate: click alone", "separate: satisfaction alone", "film: equal"]
    );
    let forms = file["forms"].as_array().unwrap();
    let of = |key: &str| forms.iter().map(|form| form[key].clone()).collect::<Vec<Value>>();
    assert_eq!(of("form"), ["separate", "film", "hypernetwork"]);
    assert_eq!(of("trainings"), [3, 1, 1]);
    assert_eq!(of("points"), [3, 3, 3]);
    assert!(of("training_seconds").iter().all(|seconds| seconds.as_f64().unwrap() > 0.0));
    let volumes: Vec<f64> = of("hypervolume").iter().map(|volume| volume.as_f64().unwrap()).collect();
    let shares: Vec<f64> = of("share").iter().map(|share| share.as_f64().unwrap()).collect();
    for (share, volume) in shares.iter().zip(&volumes) {
        assert!(
            (share - volume / volumes[0]).abs() < 1e-12 && *volume <= file["front"]["hypervolume"].as_f64().unwrap()
        );
    }
    for (k, form) in forms.iter().enumerate() {
        let own = points[3 * k..3 * k + 3].iter().filter(|point| point["on_front"].as_bool().unwrap()).count();
        assert_eq!(form["on_joint_front"], own);
    }
    assert!(scratch.text("runs/forms/report.html").contains("Every balance in one model"));
    let refused = scratch.run(&format!("{line} --conditioning film"));
    assert!(
        refused.code == Some(2) && refused.err.contains("'--compare' cannot be used with '--conditioning"),
        "{refused:?}"
    );
}

#[test]
fn a_front_that_was_cut_off_goes_on() {
    let scratch = Scratch::with_data();
    let line = "front --points 3 --objectives click,conversion --dataset data --name";
    scratch.run(&format!("{line} whole {QUICK}")).ok();
    scratch.copy("runs/whole", "runs/cut");
    std::fs::remove_file(scratch.path("runs/cut/front.json")).unwrap();
    std::fs::remove_dir_all(scratch.path("runs/cut/checkpoints/balance-2")).unwrap();
    scratch.run("front --name cut --resume").ok();
    let front = |run: &str| scratch.json(&format!("runs/{run}/front.json"))["front"].clone();
    assert_eq!(front("whole"), front("cut"));
}

#[test]
fn raw_files_become_tables_with_a_report() {
    let scratch = Scratch::empty();
    scratch.write("raw/log.csv", "who,what,stars\nann,tea,5\nbob,mug,4\nann,mug,many\nann,tea,5\nbob,tea,2\n");
    let descriptor = "name = \"tiny\"\n[[events]]\nfile = \"log.csv\"\nuser_id = \"who\"\nitem_id = \"what\"\nfeedback.rating = \"stars\"\n";
    scratch.write("tiny.toml", descriptor);
    let line = "import --dataset tiny.toml --from raw --out tables --max-bad-share 0.5";
    let report: Value = serde_json::from_str(&scratch.run(&format!("{line} --json")).ok()).unwrap();
    let file = &report["files"][0];
    assert_eq!(
        (file["read"].as_u64(), file["kept"].as_u64(), file["repeated"].as_u64()),
        (Some(5), Some(3), Some(1)),
        "{report}"
    );
    assert!(scratch.text("tables/quarantine.tsv").contains("bad number"));
    assert!(scratch.exists("tables/events.parquet") && scratch.exists("tables/items.parquet"));
    let out = scratch.run(line).ok();
    assert!(out.contains("log.csv") && out.contains("tables: tables"), "{out}");
}

#[test]
fn steam_is_imported() {
    let Some(folder) = real_data("steam") else { return };
    let scratch = Scratch::empty();
    let out = scratch.run(&format!("import --json --dataset steam --from {} --out tables", folder.display())).ok();
    let report: Value = serde_json::from_str(&out).unwrap();
    let feedback = |name: &str| report["feedback"][name]["observed"].as_u64().unwrap();
    assert!(feedback("conversion") > 100_000 && feedback("dwell_seconds") > 50_000, "{report}");
    assert!(scratch.exists("tables/events.parquet"));
}

#[test]
fn simulating_twice_gives_the_same_bytes() {
    let scratch = Scratch::with_data();
    scratch.run("simulate --items 120 --users 60 --seed 1 --out again").ok();
    scratch.run("simulate --items 120 --users 60 --seed 2 --out other").ok();
    assert!(scratch.bytes("data/events.parquet") == scratch.bytes("again/events.parquet"));
    assert!(scratch.bytes("data/events.parquet") != scratch.bytes("other/events.parquet"));
}

#[test]
fn every_command_explains_itself() {
    let scratch = Scratch::empty();
    let overview = scratch.run("--help").ok();
    assert!(overview.contains("Exit codes"));
    for command in COMMANDS {
        assert!(overview.contains(command), "{command} is not in the overview");
        let help = scratch.run(&format!("{command} --help")).ok();
        assert!(help.contains(&format!("Usage: paretune {command}")), "{help}");
        // Every option says what it is for, beside its name or below it.
        let lines: Vec<&str> = help.lines().chain([""]).collect();
        for pair in lines.windows(2).filter(|pair| pair[0].trim_start().starts_with("--")) {
            let beside = pair[0].trim_start().contains("  ");
            assert!(beside || !pair[1].trim().is_empty(), "{command}: {}", pair[0]);
        }
    }
    assert!(scratch.run("--version").ok().starts_with("paretune 0."));
}

#[test]
fn completions_are_printed_for_shells() {
    let scratch = Scratch::empty();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = scratch.run(&format!("completions {shell}")).ok();
        assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
    }
}
