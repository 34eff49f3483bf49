//! `push`: a run's text encoder to the Hub, with a model card.

mod export;

use std::{fs, path::Path};

use anyhow::Context;
use paretune_features::{FetchOptions, RepoName, Upload, Uploaded};
use serde_json::json;

use crate::{cli, failure::wrong_input, run_dir::RunDir};

pub(super) fn run(args: &cli::Push) -> anyhow::Result<()> {
    let repo: RepoName = args.to.parse()?;
    let run = RunDir::existing(&args.run)?;
    let options = FetchOptions { progress: !args.json, ..FetchOptions::default() };
    let scratch;
    let folder = match &args.out {
        Some(out) => {
            if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) || out.is_file() {
                return Err(wrong_input(format!("{} is there already: give another --out", out.display())));
            }
            out.as_path()
        }
        None => {
            scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
            scratch.path()
        }
    };
    let notes = export::write(args, &repo, &run, folder)?;
    let message = args.message.clone().unwrap_or_else(|| format!("Upload with Paretune {}", env!("CARGO_PKG_VERSION")));
    let mut upload = Upload::folder(repo, folder, message)?.private(args.private);
    if let Some(branch) = &args.branch {
        upload = upload.branch(branch);
    }
    if !args.json {
        list(&upload);
        notes.iter().for_each(|note| println!("note: {note}"));
    }
    let done = if args.dry_run { None } else { Some(upload.send(&options)?) };
    tell(args, &upload, done.as_ref(), &notes);
    Ok(())
}

fn list(upload: &Upload) {
    let width = upload.files().iter().map(|file| file.path.len()).max().unwrap_or_default();
    for file in upload.files() {
        println!("{:width$}  {:>13} bytes", file.path, file.bytes);
    }
    let bytes: u64 = upload.files().iter().map(|file| file.bytes).sum();
    println!("{} files, {bytes} bytes", upload.files().len());
}

fn tell(args: &cli::Push, upload: &Upload, done: Option<&Uploaded>, notes: &[String]) {
    if args.json {
        let files: Vec<_> = upload.files().iter().map(|file| json!({"path": file.path, "bytes": file.bytes})).collect();
        println!(
            "{}",
            json!({"files": files, "notes": notes, "sent": done.is_some(), "url": done.map(|done| &done.url),
                   "commit": done.and_then(|done| done.commit.as_ref()), "created": done.map(|done| done.created)})
        );
        return;
    }
    let Some(done) = done else {
        match &args.out {
            Some(out) => println!("nothing was sent; what would be is in {}", out.display()),
            None => println!("nothing was sent; --out DIR keeps what would be"),
        }
        return;
    };
    let made = if done.created { " (made now)" } else { "" };
    let commit = done.commit.as_ref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    println!("uploaded to {}{made}{commit}", done.url);
}

/// The last part of a path: what may be told of it.
fn last_part(path: &Path) -> String {
    path.file_name().map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned())
}
