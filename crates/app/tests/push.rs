//! `push`: a run's encoder on a server that answers as the Hub does.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

#[path = "../../features/tests/hub_server/mod.rs"]
mod hub_server;
mod program;

use std::collections::BTreeMap;
use std::fs;

use hub_server::{Files, Hub, HubServer, MODEL};
use paretune_encoder::{SentenceEncoder, SentenceOptions};
use paretune_features::ModelFiles;
use program::{Done, Scratch};
use serde_json::Value;

const TOKEN: &str = "hf_may_write";

fn server() -> HubServer {
    HubServer::start(Hub { token: Some(TOKEN.into()), ..Hub::default() })
}

/// Runs `push` of the first run with a token against a server.
fn push(scratch: &Scratch, server: &HubServer, options: &str) -> Done {
    let mut command = scratch.command(&format!("push --run runs/first --to {MODEL} {options}"));
    Done::of(command.env("HF_TOKEN", TOKEN).env("HF_ENDPOINT", &server.endpoint))
}

fn on_the_hub(server: &HubServer, branch: &str) -> Files {
    let mut files = Files::new();
    server.change(|hub| files = hub.commits[&hub.refs[branch]].clone());
    files.remove(".gitattributes");
    files
}

fn in_folder(scratch: &Scratch, folder: &str) -> Files {
    let mut files = BTreeMap::new();
    let mut folders = vec![scratch.path(folder)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(scratch.path(folder)).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn a_runs_encoder_arrives_and_is_used_from_there() {
    let (scratch, server) = (Scratch::with_run(), server());
    let out = push(&scratch, &server, "--out sent --with-run --message \"The first\" --private").ok();
    assert!(out.contains(&format!("uploaded to {}/{MODEL} (made now), commit ", server.endpoint)), "{out}");
    let sent = in_folder(&scratch, "sent");
    assert!(on_the_hub(&server, "main") == sent, "what arrived is not what was written");
    server.change(|hub| assert_eq!((&hub.messages[..], hub.private), (&["The first".to_owned()][..], true)));
    for name in
        ["README.md", "model.safetensors", "modules.json", "tokenizer.json", "recommender/recommender.safetensors"]
    {
        assert!(sent.contains_key(name), "{name} is not among {:?}", sent.keys());
    }
    for (name, bytes) in &sent {
        let path = scratch.path("").to_str().unwrap().trim_end_matches('/').to_owned();
        assert!(!String::from_utf8_lossy(bytes).contains(&path), "{name} tells of a folder of this machine");
    }
    let item = &paretune_data::Dataset::read(&scratch.path("data")).unwrap().items;
    let title = item.field(0, "title").unwrap();
    assert!(!String::from_utf8_lossy(&sent["README.md"]).contains(title), "the card holds a row of the data");

    // The vectors are those of the run.
    let load = |folder: &str| {
        let files = ModelFiles::local(scratch.path(folder)).unwrap();
        SentenceEncoder::load(&files, &SentenceOptions::default()).unwrap()
    };
    let texts = ["a mug", "", "a very large tea pot"];
    assert_eq!(load("sent").encode(&texts).unwrap(), load("runs/first/model").encode(&texts).unwrap());

    // The card has what was measured.
    let card = String::from_utf8(sent["README.md"].clone()).unwrap();
    let (yaml, text) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    let yaml: Value = serde_yaml_ng::from_str(yaml).unwrap();
    assert_eq!((&yaml["license"], &yaml["model-index"][0]["name"]), (&"apache-2.0".into(), &"tiny-bert".into()));
    let metrics = scratch.json("runs/first/metrics.json");
    let auc = &metrics["objectives"]["click"]["auc"];
    let (model, untrained) = (auc["model"].as_f64().unwrap(), auc["untrained"].as_f64().unwrap());
    let row = text.lines().find(|line| line.starts_with("| click | auc")).unwrap();
    assert!(row.contains(&format!("{model:.4}")) && row.contains(&format!("{untrained:.4}")), "{row}");
    assert!(text.contains("120 items, 60 users"), "{text}");

    // Whoever has the data makes a run of it, which recommends the same.
    scratch.copy("runs/first/data", "theirs/data");
    scratch.copy("sent", "theirs/model");
    for name in ["recommender.safetensors", "recommender.json"] {
        scratch.write(&format!("theirs/model/{name}"), &sent[&format!("recommender/{name}")]);
    }
    scratch.write("theirs/config.toml", &sent["recommender/config.toml"]);
    let user = paretune_data::Dataset::read(&scratch.path("data")).unwrap().users.ids[0].clone();
    let recommend = |run: &str| scratch.run(&format!("recommend --run {run} --user {user} --json")).ok();
    assert_eq!(recommend("theirs"), recommend("runs/first"));
}

#[test]
fn again_to_a_branch_and_as_json() {
    let (scratch, server) = (Scratch::with_run(), server());
    push(&scratch, &server, "").ok();
    let first = on_the_hub(&server, "main");
    assert!(!first.keys().any(|name| name.contains("recommender")), "{:?}", first.keys());
    let said =
        push(&scratch, &server, "--branch next --with-run --json --license mit --language en,de --base-model a/b");
    assert!(said.err.is_empty(), "{said:?}");
    let said: Value = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!((&said["sent"], &said["created"]), (&true.into(), &false.into()));
    assert!(on_the_hub(&server, "main") == first, "main changed");
    let next = on_the_hub(&server, "next");
    assert_eq!(said["files"].as_array().unwrap().len(), next.len());
    let card = String::from_utf8_lossy(&next["README.md"]).into_owned();
    assert!(
        card.contains("license: \"mit\"") && card.contains("- \"de\"") && card.contains("base_model: \"a/b\""),
        "{card}"
    );
}

#[test]
fn a_dry_run_sends_nothing_and_needs_no_token() {
    let (scratch, server) = (Scratch::with_run(), server());
    let line = format!("push --run runs/first --to {MODEL} --dry-run");
    let out = Done::of(scratch.command(&format!("{line} --out kept")).env("HF_ENDPOINT", &server.endpoint)).ok();
    for (name, bytes) in in_folder(&scratch, "kept") {
        let line = out.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        assert!(line.ends_with(&format!(" {} bytes", bytes.len())), "{line}");
    }
    assert!(out.contains("nothing was sent; what would be is in kept"), "{out}");
    assert!(scratch.run(&line).ok().contains("nothing was sent"));
    assert_eq!(server.requests().len(), 0);
    // The card is the same whenever it is made.
    scratch.run(&format!("{line} --out again")).ok();
    assert!(in_folder(&scratch, "kept") == in_folder(&scratch, "again"));
}

#[test]
fn mistakes_are_told_in_one_line() {
    let (scratch, server) = (Scratch::with_run(), server());
    let wrong = |arguments: &str, parts: &[&str]| {
        let mut command = scratch.command(&format!("push {arguments}"));
        Done::of(command.env("HF_ENDPOINT", &server.endpoint).env("HF_TOKEN", TOKEN)).wrong(parts);
    };
    wrong("--run runs/first --to model", &["`model`", "ORG/NAME"]);
    wrong("--run runs/first --to a/b/c", &["`a/b/c`", "exactly two parts"]);
    wrong("--run nowhere --to a/b", &["nowhere", "no run directory"]);
    wrong("--run runs/first --to a/b --out runs/first", &["runs/first", "--out"]);
    wrong(&format!("--run runs/first --to {MODEL} --branch refs/pr/1"), &["refs/pr/1", "branch"]);
    wrong("--run runs/first --to others/model", &["others/model", "may not write", "`others`"]);
    let mut without = scratch.command(&format!("push --run runs/first --to {MODEL}"));
    server.requests();
    Done::of(without.env("HF_ENDPOINT", &server.endpoint)).wrong(&[MODEL, "no token", "HF_TOKEN"]);
    assert_eq!(server.requests().len(), 0);
    let mut bad = scratch.command(&format!("push --run runs/first --to {MODEL}"));
    Done::of(bad.env("HF_ENDPOINT", &server.endpoint).env("HF_TOKEN", "hf_wrong")).wrong(&["token is not valid"]);

    let metrics = scratch.bytes("runs/first/metrics.json");
    fs::remove_file(scratch.path("runs/first/metrics.json")).unwrap();
    wrong("--run runs/first --to a/b", &["metrics.json", "--resume"]);
    scratch.write("runs/first/metrics.json", "{");
    wrong("--run runs/first --to a/b", &["metrics.json", "EOF"]);
    scratch.write("runs/first/metrics.json", metrics);
    let config = scratch.text("runs/first/config.toml");
    scratch.write("runs/first/config.toml", config.replace("items = \"text\"", "items = \"ids\""));
    wrong("--run runs/first --to a/b", &["no text encoder"]);
    scratch.write("runs/first/config.toml", config);
    scratch.truncate("runs/first/model/model.safetensors");
    wrong("--run runs/first --to a/b", &["model.safetensors"]);
    server.change(|hub| assert!(hub.messages.is_empty()));
}

#[test]
fn a_hub_in_trouble_is_no_mistake_of_the_user() {
    let (scratch, server) = (Scratch::with_run(), server());
    for (at, parts) in [("/commit/", &["503", "all files or none"][..]), ("/cas/v1/shards", &["all files or none"])] {
        server.change(|hub| hub.fails = BTreeMap::from([(at.to_owned(), (503, "busy".to_owned()))]));
        let mut command = scratch.command(&format!("push --run runs/first --to {MODEL}"));
        command.env("HF_TOKEN", TOKEN).env("HF_ENDPOINT", &server.endpoint);
        // How long the client of the storage tries again.
        command.env("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "1").env("HF_XET_CLIENT_RETRY_BASE_DELAY", "50ms");
        Done::of(&mut command).failed(1, parts);
        server.change(|hub| assert!(hub.messages.is_empty()));
    }
    server.change(|hub| hub.fails.clear());
    push(&scratch, &server, "").ok();
}
