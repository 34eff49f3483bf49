//! Fetching models from a server that answers as the Hub does.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod hub_server;

use std::path::{Path, PathBuf};

use hub_server::{Broken, Hub, HubServer, MODEL, NEW, OLD, Place, fetch, hub, model, nowhere};
use paretune_features::{FeatureError, FetchOptions, ModelFiles, TextTokenizer};

fn weights(files: &ModelFiles) -> String {
    std::fs::read_to_string(&files.weights[0]).unwrap()
}

#[test]
fn a_model_is_fetched_whole_and_nothing_else() {
    let place = Place::new(hub());
    let files = place.fetch(MODEL).unwrap();
    assert_eq!(weights(&files), "the new weights");
    assert!(files.pooling.as_ref().is_some_and(|path| path.is_file()));
    assert!(files.normalizes());
    assert_eq!(files.max_length(), Some(24));
    assert_eq!(TextTokenizer::load(&files, None).unwrap().encode(&["toy story"]).unwrap().sequence(0), [2, 37, 38, 3]);

    let requests = place.server.requests();
    let unwanted: Vec<_> = requests.iter().filter(|r| r.path.contains("pytorch") || r.path.contains("onnx")).collect();
    assert!(unwanted.is_empty(), "{unwanted:?}");
    assert!(requests.iter().any(|r| r.path.starts_with("/storage/")), "the redirect to the storage was not followed");
}

#[test]
fn a_second_time_takes_the_cache() {
    let mut place = Place::new(hub());
    let first = place.fetch(MODEL).unwrap();
    place.server.requests();
    assert_eq!(place.fetch(MODEL).unwrap(), first);
    let again = place.server.requests();
    assert!(again.iter().all(|request| request.path.starts_with("/api/")), "files were asked for again: {again:?}");

    let offline = FetchOptions { offline: true, ..place.options() };
    assert_eq!(fetch(MODEL, &offline).unwrap(), first);
    assert_eq!(place.server.requests().len(), 0, "offline mode opened a connection");

    // The Hub is gone: the copy will do, and so it will for a revision that was never asked for by branch.
    let options = place.options();
    place.server = HubServer::start(Hub::default());
    assert_eq!(fetch(MODEL, &options).unwrap(), first);
    assert_eq!(fetch(&format!("{MODEL}@{NEW}"), &options).unwrap(), first);
}

#[test]
fn a_revision_pins_the_files() {
    let place = Place::new(hub());
    for revision in [OLD, "v1", "refs/pr/3"] {
        let files = place.fetch(&format!("{MODEL}@{revision}")).unwrap();
        assert_eq!(weights(&files), "old weights", "{revision}");
    }
    assert_eq!(weights(&place.fetch(MODEL).unwrap()), "the new weights");

    // The branch moves on; the pinned commit does not.
    place.server.change(|hub| {
        hub.commits.insert("a".repeat(40), model("newest weights"));
        hub.refs.insert("main".into(), "a".repeat(40));
    });
    assert_eq!(weights(&place.fetch(MODEL).unwrap()), "newest weights");
    assert_eq!(weights(&place.fetch(&format!("{MODEL}@{OLD}")).unwrap()), "old weights");
}

#[test]
fn shards_are_listed_in_their_order() {
    let mut hub = hub();
    for files in hub.commits.values_mut() {
        files.remove("model.safetensors");
        let index =
            r#"{"weight_map": {"z": "model-00001-of-00002.safetensors", "a": "model-00002-of-00002.safetensors"}}"#;
        files.insert("model.safetensors.index.json".into(), index.into());
        for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
            files.insert(shard.into(), shard.into());
        }
    }
    let files = Place::new(hub).fetch(MODEL).unwrap();
    let names: Vec<PathBuf> = files.weights.iter().map(|path| path.file_name().unwrap().into()).collect();
    assert_eq!(names, [Path::new("model-00001-of-00002.safetensors"), Path::new("model-00002-of-00002.safetensors")]);
}

#[test]
fn the_token_is_sent_and_its_lack_explained() {
    let place = Place::new(Hub { token: Some("hf_right".into()), ..hub() });
    let with = |token: Option<&str>| fetch(MODEL, &FetchOptions { token: token.map(str::to_owned), ..place.options() });

    for (token, hint) in [(None, "set HF_TOKEN"), (Some("hf_wrong"), "token is not valid")] {
        match with(token).unwrap_err() {
            error @ FeatureError::HubDenied { status: 401, .. } => {
                let message = error.to_string();
                assert!(message.contains(MODEL) && message.contains(hint), "{message}");
                assert!(!message.contains("hf_wrong"), "the token stands in the message");
            }
            other => panic!("{other}"),
        }
    }
    place.server.requests();
    assert_eq!(weights(&with(Some("hf_right")).unwrap()), "the new weights");
    let asked = place.server.requests();
    let without: Vec<_> = asked
        .iter()
        .filter(|r| !r.path.starts_with("/storage/") && r.authorization.as_deref() != Some("Bearer hf_right"))
        .collect();
    assert!(!asked.is_empty() && without.is_empty(), "{without:?}");
}

#[test]
fn unknown_models_and_revisions_are_named() {
    let place = Place::new(hub());
    for name in ["org/no-such-model".to_owned(), format!("{MODEL}@v9")] {
        match place.fetch(&name).unwrap_err() {
            FeatureError::HubNotFound { repo, endpoint } => {
                assert_eq!((repo, endpoint), (name, place.server.endpoint.clone()))
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn an_unreachable_hub_is_said_at_once() {
    let cache = tempfile::tempdir().unwrap();
    let options = FetchOptions {
        cache: Some(cache.path().into()),
        endpoint: Some(nowhere()),
        token: None,
        offline: false,
        progress: false,
    };
    let error = fetch(MODEL, &options).unwrap_err();
    assert!(matches!(error, FeatureError::HubUnreachable { .. }), "{error:?}");
    let message = error.to_string();
    for part in [MODEL, options.endpoint.as_deref().unwrap(), "refused", "HF_ENDPOINT", "path"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }

    let no_address = FetchOptions { endpoint: Some("huggingface.co".into()), ..options.clone() };
    assert!(matches!(fetch(MODEL, &no_address).unwrap_err(), FeatureError::Endpoint { .. }));
    let offline = FetchOptions { offline: true, ..options };
    let error = fetch(MODEL, &offline).unwrap_err();
    assert!(matches!(error, FeatureError::NotCached { .. }), "{error:?}");
}

#[test]
fn a_broken_download_leaves_no_trace_that_hurts() {
    for (file, broken) in [
        ("model.safetensors", Broken::HalfOfIt),
        ("model.safetensors", Broken::Shorter),
        ("tokenizer.json", Broken::HalfOfIt),
        ("1_Pooling/config.json", Broken::ErrorPage(403)),
        ("config.json", Broken::ErrorPage(418)),
    ] {
        let place = Place::new(hub());
        place.server.change(|hub| _ = hub.broken.insert(file.into(), broken));
        let error = place.fetch(MODEL).unwrap_err();
        match (broken, &error) {
            (Broken::HalfOfIt, FeatureError::Interrupted { .. }) => {}
            (_, FeatureError::Incomplete { file: named, expected, found, .. }) => {
                assert_eq!(named, file);
                assert_ne!(expected, found);
            }
            (_, other) => panic!("{file}: {other:?}"),
        }
        assert!(error.to_string().contains("run again"), "{error}");

        place.server.change(|hub| hub.broken.clear());
        assert_eq!(weights(&place.fetch(MODEL).unwrap()), "the new weights", "{file}");
    }
}

#[test]
fn pickles_are_refused_before_anything_is_fetched() {
    let mut hub = hub();
    hub.commits.values_mut().for_each(|files| _ = files.remove("model.safetensors"));
    let place = Place::new(hub);
    let error = place.fetch(MODEL).unwrap_err();
    assert!(matches!(&error, FeatureError::UnsafeWeights { file, .. } if file == "pytorch_model.bin"), "{error:?}");
    assert!(error.to_string().contains("safetensors"), "{error}");
    assert!(place.server.requests().iter().all(|request| request.path.starts_with("/api/")));
}

#[test]
fn something_else_at_the_address_is_recognized() {
    let place =
        Place::new(Hub { everything: Some((200, "<html>Welcome to the hotel!</html>".into())), ..Hub::default() });
    let error = place.fetch(MODEL).unwrap_err();
    assert!(matches!(error, FeatureError::HubFailed { .. }), "{error:?}");

    // A server in trouble is asked again before it is given up.
    place.server.change(|hub| hub.everything = Some((503, "busy".into())));
    place.server.requests();
    let error = place.fetch(MODEL).unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(place.server.requests().len(), 4);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let place = Place::new(hub());
    let file = place.cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = fetch(MODEL, &FetchOptions { cache: Some(file.clone()), ..place.options() }).unwrap_err();
    assert!(matches!(&error, FeatureError::Io { path, .. } if *path == file), "{error:?}");
}
