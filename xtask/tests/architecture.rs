//! What `docs/architecture.md` says always holds, checked against manifests and sources.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Crates of the workspace that a crate may depend on.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("data", &[][..]),
        ("features", &[]),
        ("encoder", &["features"]),
        ("objectives", &[]),
        ("optim", &[]),
        ("eval", &[]),
        ("recommender", &["data", "encoder", "features", "objectives"]),
        ("train", &["data", "encoder", "eval", "features", "objectives", "optim", "recommender"]),
        ("app", &["data", "encoder", "eval", "features", "objectives", "optim", "recommender", "train"]),
    ])
}

/// Dependencies that only the named crates may have.
const RESERVED: [(&str, &[&str]); 7] = [
    ("anyhow", &["app"]),
    ("clap", &["app"]),
    ("hf-hub", &["features"]),
    ("tokenizers", &["features"]),
    ("parquet", &["data"]),
    ("minijinja", &["eval"]),
    ("candle-core", &["encoder", "objectives", "optim", "recommender", "train", "app"]),
];

/// Names under `[dependencies]` of a crate.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or("");
    section
        .split("\n[")
        .next()
        .unwrap_or("")
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Source files of every crate but their tests, with the code that is neither comment nor test module.
fn code() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for name in allowed().keys() {
        sources(&root().join("crates").join(name).join("src"), &mut files);
    }
    files.retain(|path| !path.components().any(|part| part.as_os_str() == "tests") && !path.ends_with("tests.rs"));
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
            let lines = body.lines().filter(|line| !line.trim_start().starts_with("//"));
            (path, lines.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

#[test]
fn every_crate_is_on_the_map() {
    let folders: BTreeSet<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, allowed().keys().map(|name| (*name).to_owned()).collect());
}

#[test]
fn arrows_point_downwards() {
    for (name, may) in allowed() {
        for dependency in dependencies(name) {
            let Some(internal) = dependency.strip_prefix("paretune-") else { continue };
            assert!(may.contains(&internal), "crates/{name} must not depend on crates/{internal}");
        }
    }
}

#[test]
fn reserved_dependencies_stay_where_they_belong() {
    for name in allowed().keys() {
        let dependencies = dependencies(name);
        assert!(!dependencies.is_empty(), "read no dependencies of crates/{name}");
        for (dependency, owners) in RESERVED {
            assert!(
                !dependencies.contains(dependency) || owners.contains(name),
                "crates/{name} must not depend on {dependency}; that belongs to {owners:?}"
            );
        }
    }
}

#[test]
fn unsafe_code_is_in_the_kernels_only() {
    for (path, text) in code() {
        let kernels = path.components().any(|part| part.as_os_str() == "kernels");
        assert!(kernels || !text.contains("unsafe {"), "{} has an unsafe block", path.display());
    }
}

#[test]
fn only_features_opens_connections_and_nobody_listens() {
    for (path, text) in code() {
        let features = path.starts_with(root().join("crates/features"));
        assert!(features || !text.contains("TcpStream"), "{} opens a connection", path.display());
        assert!(!text.contains("TcpListener"), "{} listens", path.display());
    }
}

#[test]
fn libraries_have_typed_errors() {
    for (path, text) in code() {
        if !path.starts_with(root().join("crates/app")) {
            assert!(
                !text.contains("Box<dyn Error") && !text.contains("Box<dyn std::error::Error"),
                "{}",
                path.display()
            );
        }
    }
}
