//! `pretrain` and `distill`: models that learn from texts alone, and other commands that take them.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;

use program::{Scratch, root};

/// Titles of one kind, so that hidden words can be told.
fn with_titles() -> Scratch {
    let kinds = ["horror", "comedy", "drama", "western", "romance"];
    let things = ["night", "train", "house", "river", "letter", "garden", "winter"];
    let title = |at: usize| {
        let (thing, kind) = (things[at % things.len()], kinds[at / 7 % kinds.len()]);
        format!("the {thing} of {} ({}), a {kind}", things[at * 3 / 5 % things.len()], 1950 + at % 60)
    };
    let scratch = Scratch::empty();
    scratch.write("titles.txt", (0..400).map(title).collect::<Vec<_>>().join("\n"));
    scratch
}

/// The number after `key` in the line that begins with `when`, the `nth` of them.
fn told(out: &str, when: &str, nth: usize, key: &str) -> f64 {
    let line = out.lines().filter(|line| line.trim_start().starts_with(when)).nth(nth).expect("the line is there");
    let (_, rest) = line.split_once(key).expect("the key is there");
    rest.split([',', ' ']).find(|word| !word.is_empty()).unwrap().parse().unwrap()
}

#[test]
fn a_pretrained_model_is_better_at_its_texts_and_serves_other_commands() {
    let scratch = with_titles();
    let line = "pretrain --texts titles.txt --steps 40 --batch 32 --max-length 24";
    let out = scratch.run(&format!("{line} --out tuned")).ok();
    let (before, after) = (told(&out, "before", 0, "loss"), told(&out, "after", 0, "loss"));
    assert!(after < 0.8 * before && out.contains("fresh head"), "{out}");
    let (before, after) = (told(&out, "before", 1, "uniformity"), told(&out, "after", 1, "uniformity"));
    assert!(after < before, "{out}");

    let report = scratch.json("tuned/pretrain.json");
    let stages = report["stages"].as_array().unwrap();
    assert_eq!(stages.iter().map(|stage| &stage["objective"]).collect::<Vec<_>>(), ["mlm", "simcse"]);
    for stage in stages {
        let curve = stage["curve"].as_array().unwrap();
        assert!(curve.len() == 40 && curve.iter().all(|step| step["loss"].as_f64().unwrap() > 0.0), "{curve:?}");
        assert!(stage["before"] != stage["after"]);
    }

    // The same seed gives the same bytes, another one others.
    scratch.run(&format!("{line} --out again")).ok();
    assert!(scratch.bytes("tuned/model.safetensors") == scratch.bytes("again/model.safetensors"));
    scratch.run(&format!("{line} --seed 2 --out other")).ok();
    assert!(scratch.bytes("tuned/model.safetensors") != scratch.bytes("other/model.safetensors"));

    // Its head stays with it, and other commands take it.
    let out = scratch.run("pretrain --model tuned --texts titles.txt --objective mlm --steps 1 --out more").ok();
    assert!(!out.contains("fresh head"), "{out}");
    scratch.run("embed --model tuned --input titles.txt --output vectors.npy").ok();
    scratch.run("embed --input titles.txt --output plain.npy").ok();
    assert_ne!(scratch.bytes("vectors.npy"), scratch.bytes("plain.npy"));
    let left = fs::read_dir(scratch.path("")).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("writing")), "{left:?}");
}

#[test]
fn what_cannot_be_pretrained_is_said() {
    let scratch = with_titles();
    scratch.write("few.txt", "one title\nanother title\n");
    scratch.write("taken/file", "");
    scratch.run("pretrain --texts titles.txt --out taken").wrong(&["taken exists already"]);
    scratch.run("pretrain --texts few.txt --out out").wrong(&["too few"]);
    scratch.run("pretrain --texts none.txt --out out").wrong(&["none.txt"]);
    scratch.run("pretrain --texts titles.txt --dropout 0 --objective simcse --out out").wrong(&["dropout"]);
    scratch.run("pretrain --texts titles.txt --mask 2 --out out").wrong(&["mask"]);
    assert!(!scratch.exists("out"));
}

#[test]
fn a_student_follows_its_teacher_on_titles_it_never_saw() {
    let scratch = with_titles();
    let teacher = format!("--teacher {} --texts titles.txt", root().join("models/builtin").display());
    let size = "--layers 1 --hidden 64 --intermediate 64 --vocabulary 3000 --epochs 12 --invent 600";
    let out = scratch.run(&format!("distill {teacher} --out student {size}")).ok();
    assert!(out.contains("600 of them invented") && out.contains("3000 word pieces, 1 layers of width 64"), "{out}");
    let rows = |out: &str| {
        out.lines()
            .filter(|line| line.contains("pairs of") && !line.ends_with(':'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&out).len(), 2);
    let spearman: f64 =
        rows(&out)[1].trim().trim_start_matches("all of them").split_whitespace().next().unwrap().parse().unwrap();
    assert!(spearman > 0.8, "{out}");

    // Measuring alone says the same, and a model agrees with itself.
    let measured = scratch.run(&format!("distill {teacher} --measure student")).ok();
    assert_eq!(rows(&measured), rows(&out));
    let own = scratch.run(&format!("distill {teacher} --measure builtin")).ok();
    assert!(rows(&own).iter().all(|row| row.contains("1.0000")), "{own}");
    scratch.run("embed --model student --input titles.txt --output vectors.npy").ok();
}
