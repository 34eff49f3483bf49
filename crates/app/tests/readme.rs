//! Every command that the README shows works, in the order in which it shows them.
//!
//! `cargo xtask COMMAND` becomes the program itself with settings that make it short. Comments at the head of a block say what it
//! needs: `# needs ../shared/data` skips it where that is absent; `# needs the Hub` runs it against a Hub that does not answer,
//! which it must say.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;

use program::{Done, Scratch, real_data, root, words};

/// Training for a moment only: what is trained is not looked at here.
const SHORT: &str = "--max-steps 1 --baselines none --set model.max_length=3 --set training.batch=64 --set evaluation.users=4 \
    --set evaluation.rows=200";

/// Commands that train.
const TRAINING: [&str; 3] = ["finetune", "front", "compare"];

/// Chores that are only checked for being there: running them from a test would build the workspace inside itself.
const CHORES: [&str; 3] = ["test", "bench", "fixtures"];

/// The commands that `cargo xtask` knows, as its source declares them.
fn known_to_xtask() -> Vec<String> {
    let source = fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
    let (_, declared) = source.split_once("enum Chore {").expect("xtask declares its chores in `enum Chore`");
    let (declared, _) = declared.split_once("\n}").unwrap();
    let names = declared.lines().map(str::trim).filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    names.map(|line| line.split(['(', ',', ' ']).next().unwrap_or(line).to_lowercase()).collect()
}

/// The `sh` blocks of a Markdown file: comments at the head, and commands without their comments.
fn blocks(markdown: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let mut blocks = Vec::new();
    for part in markdown.split("```sh\n").skip(1) {
        let (block, _) = part.split_once("```").expect("the block ends");
        let joined = block.replace("\\\n", " ");
        let (comments, commands): (Vec<&str>, Vec<&str>) =
            joined.lines().map(str::trim).filter(|line| !line.is_empty()).partition(|line| line.starts_with('#'));
        let commands = commands.iter().map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned()).collect();
        blocks.push((comments.into_iter().map(str::to_owned).collect(), commands));
    }
    blocks
}

/// What to run for a command of the README: nothing for a chore, else the program's arguments.
fn translate(command: &str, known: &[String]) -> Result<Option<String>, String> {
    let parts = words(command);
    let (Some("cargo"), Some("xtask"), Some(name)) =
        (parts.first().map(String::as_str), parts.get(1).map(String::as_str), parts.get(2))
    else {
        return Err(format!("the README shows `{command}`, which this test does not know how to run"));
    };
    if !known.contains(name) {
        return Err(format!("the README shows `{command}`, but xtask knows only {}", known.join(", ")));
    }
    if CHORES.contains(&name.as_str()) {
        return Ok(None);
    }
    let mut arguments = command.split_once("xtask").map(|(_, rest)| rest.trim().to_owned()).unwrap_or_default();
    // A resumed run keeps its settings.
    if TRAINING.contains(&name.as_str()) && !arguments.contains("--resume") {
        let short =
            if arguments.contains("--max-steps") { SHORT.replace("--max-steps 1", "") } else { SHORT.to_owned() };
        arguments = format!("{arguments} {short}");
    }
    Ok(Some(arguments))
}

#[test]
fn every_command_of_the_readme_works() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let known = known_to_xtask();
    let scratch = Scratch::empty();
    let mut ran = 0;
    for (comments, commands) in blocks(&readme) {
        let needs = |what: &str| comments.iter().any(|comment| comment.contains(&format!("needs {what}")));
        let data = needs("../shared/data").then(|| real_data(""));
        if let Some(None) = data {
            continue;
        }
        for command in commands {
            let Some(mut arguments) = translate(&command, &known).unwrap_or_else(|problem| panic!("{problem}")) else {
                continue;
            };
            if let Some(Some(folder)) = &data {
                arguments = arguments.replace("../shared/data", &folder.display().to_string());
            }
            eprintln!("$ {command}");
            let mut program = scratch.command(&arguments);
            if needs("the Hub") {
                Done::of(program.env("HF_ENDPOINT", "http://127.0.0.1:1")).wrong(&["cannot reach the Hub"]);
            } else {
                let out = Done::of(&mut program).ok();
                assert!(!out.trim().is_empty(), "`{command}` says nothing");
            }
            ran += 1;
        }
    }
    assert!(ran >= 5, "the README shows hardly a command");
}

#[test]
fn a_command_that_nobody_knows_is_noticed() {
    let known = known_to_xtask();
    assert!(
        ["finetune", "recommend", "test", "bench"].iter().all(|name| known.contains(&(*name).to_owned())),
        "{known:?}"
    );
    assert!(translate("cargo xtask finetun", &known).is_err());
    assert!(translate("make all", &known).is_err());
    assert_eq!(translate("cargo xtask test", &known), Ok(None));
    let run = translate("cargo xtask finetune --balance mgda", &known).unwrap().unwrap();
    assert!(run.starts_with("finetune --balance mgda --max-steps 1"), "{run}");
    assert_eq!(translate("cargo xtask evaluate --run x", &known), Ok(Some("evaluate --run x".into())));
}

#[test]
fn contributors_are_told_of_chores_that_exist() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let known = known_to_xtask();
    for (_, commands) in blocks(&text) {
        for command in commands.iter().filter(|command| command.starts_with("cargo xtask")) {
            translate(command, &known)
                .unwrap_or_else(|problem| panic!("{}", problem.replace("README", "CONTRIBUTING")));
        }
    }
}
