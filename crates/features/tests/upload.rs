//! Uploading models to a server that answers as the Hub does.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod hub_server;

use std::path::Path;
use std::process::Command;

use hub_server::{Files, Hub, MODEL, Place, fetch, hub, nowhere};
use paretune_features::{FeatureError, FetchOptions, Upload, Uploaded};

const TOKEN: &str = "hf_may_write";

/// A folder with one file of each kind: text, nothing at all, bytes that are not text, in a folder.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    for (name, contents) in [
        ("README.md", "---\nlicense: apache-2.0\n---\n# Größe\r\n".as_bytes()),
        ("1_Pooling/config.json", b"{}"),
        ("empty.txt", b""),
        ("vocab.bin", &bytes),
    ] {
        std::fs::write(dir.path().join(name), contents).unwrap();
    }
    dir
}

fn with_token() -> Hub {
    Hub { token: Some(TOKEN.into()), ..Hub::default() }
}

fn options(place: &Place) -> FetchOptions {
    FetchOptions { token: Some(TOKEN.into()), ..place.options() }
}

fn upload(dir: &Path) -> Upload {
    Upload::folder(MODEL.parse().unwrap(), dir, "First version").unwrap()
}

fn send(place: &Place, dir: &Path) -> Result<Uploaded, FeatureError> {
    upload(dir).send(&options(place))
}

/// What a branch of the server holds, but for the file that the Hub makes itself.
fn on_the_hub(place: &Place, branch: &str) -> Files {
    let mut files = Files::new();
    place.server.change(|hub| files = hub.commits[&hub.refs[branch]].clone());
    files.remove(".gitattributes");
    files
}

fn in_folder(dir: &Path) -> Files {
    upload(dir).files().iter().map(|file| (file.path.clone(), std::fs::read(&file.source).unwrap())).collect()
}

/// No commit was made.
fn nothing_committed(place: &Place) {
    place.server.change(|hub| assert!(hub.messages.is_empty(), "{:?}", hub.messages));
}

#[test]
fn what_arrives_is_what_was_sent_in_one_commit() {
    let (place, dir) = (Place::new(with_token()), folder());
    let done = upload(dir.path()).private(true).send(&options(&place)).unwrap();
    assert_eq!(done.url, format!("{}/{MODEL}", place.server.endpoint));
    assert!(done.created);
    assert_eq!(on_the_hub(&place, "main"), in_folder(dir.path()));
    place.server.change(|hub| {
        assert_eq!((hub.private, &hub.messages), (true, &vec!["First version".to_owned()]));
        assert_eq!(hub.refs["main"], done.commit.unwrap());
    });
    let requests = place.server.requests();
    let bearer = format!("Bearer {TOKEN}");
    assert!(requests.iter().all(|request| request.authorization.as_ref() == Some(&bearer)), "{requests:?}");

    // Again, with a file changed and one gone: what is not sent stays.
    std::fs::write(dir.path().join("README.md"), "new").unwrap();
    std::fs::remove_file(dir.path().join("empty.txt")).unwrap();
    let again = upload(dir.path()).send(&options(&place)).unwrap();
    assert!(!again.created);
    let mut expected = in_folder(dir.path());
    expected.insert("empty.txt".into(), Vec::new());
    assert_eq!(on_the_hub(&place, "main"), expected);
}

#[test]
fn another_branch_leaves_main_alone() {
    let (place, dir) = (Place::new(with_token()), folder());
    for _ in 0..2 {
        upload(dir.path()).branch("try/one").send(&options(&place)).unwrap();
        assert_eq!(on_the_hub(&place, "try/one"), in_folder(dir.path()));
        assert_eq!(on_the_hub(&place, "main"), Files::new());
    }
    let error = upload(dir.path()).branch("refs/pr/1").send(&options(&place)).unwrap_err();
    assert!(matches!(error, FeatureError::UploadRefused { .. }), "{error:?}");
}

/// Large files go through a storage of their own, whose client keeps notes below `HF_HOME`: another process, with its own.
#[test]
fn large_files_arrive_byte_for_byte() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "in_a_home_of_its_own", "--ignored"]).env("HF_HOME", home.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
#[ignore = "run by large_files_arrive_byte_for_byte"]
fn in_a_home_of_its_own() {
    let (place, dir) = (Place::new(with_token()), folder());
    // More than one piece, one that compresses and one that does not, and the same contents twice.
    let mut state = 1u64;
    let noise = (0..300_000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let noise: Vec<u8> = noise.collect();
    let numbers: Vec<u8> = (0..60_000).flat_map(|n| (n as f32 / 1000.0).to_le_bytes()).collect();
    for (name, contents) in
        [("model.safetensors", &noise), ("other.safetensors", &numbers), ("copy.safetensors", &noise)]
    {
        std::fs::write(dir.path().join(name), contents).unwrap();
    }
    upload(dir.path()).send(&options(&place)).unwrap();
    assert_eq!(on_the_hub(&place, "main"), in_folder(dir.path()));
    let requests = place.server.requests();
    assert!(requests.iter().any(|request| request.path.starts_with("/cas/v1/xorbs")), "they went with the commit");
}

#[test]
fn what_was_uploaded_can_be_fetched() {
    let place = Place::new(with_token());
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny");
    let dir = tempfile::tempdir().unwrap();
    for file in Upload::folder(MODEL.parse().unwrap(), tiny, "").unwrap().files() {
        let target = dir.path().join(&file.path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file.source, target).unwrap();
    }
    // Empty files are never large ones, so that nothing is stored apart.
    std::fs::write(dir.path().join("model.safetensors"), "").unwrap();
    send(&place, dir.path()).unwrap();
    let files = fetch(MODEL, &options(&place)).unwrap();
    for name in ["config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "model.safetensors"] {
        assert_eq!(
            std::fs::read(files.dir.join(name)).unwrap(),
            std::fs::read(dir.path().join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn without_a_token_nothing_is_asked() {
    let (place, dir) = (Place::new(with_token()), folder());
    let without = place.options();
    let offline = FetchOptions { offline: true, ..options(&place) };
    for (options, part) in [(without, "HF_TOKEN"), (offline, "HF_HUB_OFFLINE")] {
        let error = upload(dir.path()).send(&options).unwrap_err();
        assert!(matches!(error, FeatureError::UploadRefused { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(place.server.requests().len(), 0);
}

#[test]
fn what_may_not_be_is_said_and_changes_nothing() {
    let dir = folder();
    let refused = |place: &Place, upload: Upload, token: &str, parts: &[&str]| {
        let error = upload.send(&FetchOptions { token: Some(token.into()), ..place.options() }).unwrap_err();
        assert!(matches!(error, FeatureError::UploadRefused { .. }), "{error:?}");
        let message = error.to_string();
        parts.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not in: {message}"));
        assert!(!message.contains(token), "the token stands in the message");
        nothing_committed(place);
        message
    };
    let place = Place::new(with_token());
    refused(&place, upload(dir.path()), "hf_wrong", &[MODEL, "token is not valid", "HF_TOKEN"]);
    let foreign = Upload::folder("others/model".parse().unwrap(), dir.path(), "m").unwrap();
    refused(&place, foreign, TOKEN, &["others/model", "don't have the rights", "write to `others`"]);

    // It may make a repository, but not write to it.
    let place = Place::new(with_token());
    place.server.change(|hub| _ = hub.fails.insert("/commit/".into(), (403, r#"{"error":"Forbidden"}"#.into())));
    refused(&place, upload(dir.path()), TOKEN, &["may not write", "was made and is empty"]);
    let place = Place::new(with_token());
    let bad = r#"{"error":"Invalid metadata in README.md"}"#;
    place.server.change(|hub| _ = hub.fails.insert("/commit/".into(), (400, bad.into())));
    refused(&place, upload(dir.path()), TOKEN, &["status 400", "Invalid metadata in README.md"]);

    // A public repository does not become private by the way.
    let place = Place::new(Hub { token: Some(TOKEN.into()), ..hub() });
    let message = refused(&place, upload(dir.path()).private(true), TOKEN, &["public", "--private"]);
    assert!(!message.contains("was made"), "{message}");
    place.server.change(|hub| hub.private = true);
    upload(dir.path()).private(true).send(&options(&place)).unwrap();
}

#[test]
fn who_may_not_make_repositories_may_still_write_to_one() {
    let (place, dir) = (Place::new(Hub { token: Some(TOKEN.into()), ..hub() }), folder());
    place.server.change(|hub| _ = hub.fails.insert("/repos/create".into(), (403, "{}".into())));
    let done = send(&place, dir.path()).unwrap();
    assert!(!done.created);
    assert_eq!(on_the_hub(&place, "main")["README.md"], std::fs::read(dir.path().join("README.md")).unwrap());
}

#[test]
fn what_fails_on_the_way_says_what_is_there() {
    let dir = folder();
    for (at, status, parts) in [
        ("/repos/create", 500, &["status 500", "Nothing was sent"][..]),
        ("/branch/", 502, &["status 502", "was made and is empty", "run again"]),
        ("/preupload/", 503, &["status 503", "all files or none"]),
        ("/commit/", 503, &["status 503", "all files or none"]),
        ("/commit/", 409, &["somebody else", "all files or none"]),
        ("/commit/", 429, &["too many requests"]),
    ] {
        let place = Place::new(with_token());
        place.server.change(|hub| _ = hub.fails.insert(at.into(), (status, "<html>sorry</html>".into())));
        let upload = upload(dir.path()).branch("next");
        let error = upload.send(&options(&place)).unwrap_err();
        assert!(matches!(error, FeatureError::UploadFailed { .. }), "{error:?}");
        let message = error.to_string();
        for part in [MODEL, &place.server.endpoint].into_iter().chain(parts.iter().copied()) {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        nothing_committed(&place);

        // It works again: what was begun is gone on with.
        place.server.change(|hub| hub.fails.clear());
        upload.send(&options(&place)).unwrap();
        assert_eq!(on_the_hub(&place, "next"), in_folder(dir.path()), "{at}");
    }
}

#[test]
fn no_hub_at_the_address_is_said_at_once() {
    let (place, dir) = (Place::new(Hub::default()), folder());
    let gone = FetchOptions { endpoint: Some(nowhere()), ..options(&place) };
    let message = upload(dir.path()).send(&gone).unwrap_err().to_string();
    for part in [MODEL, "refused", "HF_ENDPOINT", "Nothing was sent"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    let no_address = FetchOptions { endpoint: Some("huggingface.co".into()), ..options(&place) };
    assert!(matches!(upload(dir.path()).send(&no_address), Err(FeatureError::Endpoint { .. })));
    let place =
        Place::new(Hub { everything: Some((200, "<html>Welcome to the hotel!</html>".into())), ..Hub::default() });
    let error = send(&place, dir.path()).unwrap_err();
    assert!(matches!(error, FeatureError::UploadFailed { .. }), "{error:?}");
}

#[test]
fn a_file_that_goes_away_stops_the_upload() {
    let (place, dir) = (Place::new(with_token()), folder());
    let upload = upload(dir.path());
    std::fs::remove_file(dir.path().join("README.md")).unwrap();
    let error = upload.send(&options(&place)).unwrap_err();
    assert!(matches!(error, FeatureError::UploadFailed { .. }), "{error:?}");
    nothing_committed(&place);
}
