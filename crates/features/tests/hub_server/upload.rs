//! What the Hub answers to whoever uploads a model.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Files, Hub, MODEL, xet};

/// The answer to a request that makes or changes a repository; `None` if it is another.
pub(super) fn answer(hub: &mut Hub, method: &str, path: &str, endpoint: &str, body: &[u8]) -> Option<Answer> {
    let parsed = || serde_json::from_slice::<Value>(body).unwrap();
    let api = format!("/api/models/{MODEL}");
    let exists = !hub.refs.is_empty();
    Some(match (method, path) {
        ("POST", "/api/repos/create") => create(hub, &parsed(), endpoint),
        ("POST", path) if path == format!("/{MODEL}.git/info/lfs/objects/batch") => {
            let asked = parsed();
            assert!(asked["transfers"].as_array().unwrap().contains(&json!("xet")));
            reply(200, &json!({"transfer": "xet", "objects": asked["objects"]}))
        }
        ("GET", path) if path == api => match exists {
            true => reply(200, &json!({"id": MODEL, "private": hub.private, "sha": hub.refs["main"]})),
            false => missing("RepoNotFound"),
        },
        (_, path) => {
            let rest = path.strip_prefix(&api)?.strip_prefix('/')?;
            let (what, revision) = rest.split_once('/')?;
            if !["branch", "preupload", "commit", "xet-write-token"].contains(&what) {
                return None;
            }
            if !exists {
                return Some(missing("RepoNotFound"));
            }
            if what == "branch" {
                return Some(branch(hub, revision));
            }
            let Some(head) = hub.refs.get(revision).cloned() else {
                return Some(missing("RevisionNotFound"));
            };
            match what {
                "preupload" => preupload(&parsed()),
                "commit" => commit(hub, revision, &head, body, endpoint),
                _ => reply(
                    200,
                    &json!({"casUrl": format!("{endpoint}/cas"), "accessToken": xet::TOKEN, "exp": 4_000_000_000_u64}),
                ),
            }
        }
    })
}

fn reply(status: u16, body: &Value) -> Answer {
    Answer::new(status, body.to_string()).with("Content-Type", "application/json")
}

fn missing(code: &str) -> Answer {
    reply(404, &json!({"error": "Repository not found"})).with("X-Error-Code", code)
}

fn create(hub: &mut Hub, asked: &Value, endpoint: &str) -> Answer {
    let (owner, name) = MODEL.split_once('/').unwrap();
    assert_eq!(asked["type"], "model");
    if asked["organization"] != owner {
        let namespace = &asked["organization"];
        return reply(
            403,
            &json!({"error": format!("You don't have the rights to create a model under the namespace {namespace}")}),
        );
    }
    assert_eq!(asked["name"], name, "the server holds one model");
    if !hub.refs.is_empty() {
        return reply(409, &json!({"error": "You already created this model repo"}));
    }
    hub.private = asked["private"] == true;
    let first = "0".repeat(40);
    let attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n".to_vec();
    hub.commits.insert(first.clone(), Files::from([(".gitattributes".to_owned(), attributes)]));
    hub.refs.insert("main".to_owned(), first);
    reply(200, &json!({"url": format!("{endpoint}/{MODEL}"), "name": MODEL}))
}

fn branch(hub: &mut Hub, name: &str) -> Answer {
    if hub.refs.contains_key(name) {
        return reply(409, &json!({"error": "Reference already exists"}));
    }
    hub.refs.insert(name.to_owned(), hub.refs["main"].clone());
    Answer::new(200, "")
}

fn preupload(asked: &Value) -> Answer {
    let mode = |file: &Value| {
        let large = file["size"].as_u64().unwrap() > 10 << 20;
        let lfs = large || file["path"].as_str().unwrap().ends_with(".safetensors");
        json!({"path": file["path"], "uploadMode": if lfs { "lfs" } else { "regular" }, "shouldIgnore": false})
    };
    let files: Vec<Value> = asked["files"].as_array().unwrap().iter().map(mode).collect();
    reply(200, &json!({"files": files}))
}

/// Applies all lines or none.
fn commit(hub: &mut Hub, branch: &str, head: &str, body: &[u8], endpoint: &str) -> Answer {
    let (mut files, mut message) = (hub.commits[head].clone(), None);
    for line in std::str::from_utf8(body).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let value = &line["value"];
        let path = || value["path"].as_str().unwrap().to_owned();
        match line["key"].as_str().unwrap() {
            "header" => message = Some(value["summary"].as_str().unwrap().to_owned()),
            "file" => {
                assert_eq!(value["encoding"], "base64");
                files.insert(path(), decode(value["content"].as_str().unwrap()));
            }
            "lfsFile" => {
                let Some(contents) = hub.stored.files.get(value["oid"].as_str().unwrap()) else {
                    return reply(400, &json!({"error": format!("{} was never uploaded", path())}));
                };
                assert_eq!((&value["algo"], &value["size"]), (&json!("sha256"), &json!(contents.len())));
                files.insert(path(), contents.clone());
            }
            other => panic!("`{other}` is not expected in a commit"),
        }
    }
    hub.messages.push(message.expect("a commit begins with its header"));
    let id = format!("{:040x}", 0xc000 + hub.messages.len());
    hub.commits.insert(id.clone(), files);
    hub.refs.insert(branch.to_owned(), id.clone());
    reply(200, &json!({"commitUrl": format!("{endpoint}/{MODEL}/commit/{id}"), "commitOid": id}))
}

fn decode(base64: &str) -> Vec<u8> {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let places: BTreeMap<char, u32> = alphabet.chars().zip(0..).collect();
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for c in base64.chars().filter(|c| *c != '=') {
        bits = bits << 6 | places[&c];
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
