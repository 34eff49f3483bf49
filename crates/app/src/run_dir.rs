//! The run directory: where everything about a run is kept.
//!
//! `config.toml`, `data/`, `model/`, `checkpoints/`, `metrics.json`, `metrics.jsonl`, `report.html`; see `docs/run-directory.md`.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{cli::Output, failure::wrong_input};

/// A run directory.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// For a run that this command has begun: the link `latest`, and where it pointed before.
    begun: Option<(PathBuf, Option<PathBuf>)>,
}

impl RunDir {
    /// A new one under `output.runs`, or, with `--resume`, the one to go on with.
    pub(crate) fn open(output: &Output, dataset: &str) -> anyhow::Result<Self> {
        let runs = &output.runs;
        if output.resume {
            let path = runs.join(output.name.as_deref().unwrap_or("latest"));
            let path = fs::canonicalize(&path).map_err(|_| {
                wrong_input(format!("{} does not exist: there is no run to go on with", path.display()))
            })?;
            return Ok(Self { path, begun: None });
        }
        let path = match &output.name {
            Some(name) if name.is_empty() || name == "latest" || name.contains(['/', '\\']) => {
                return Err(wrong_input(format!(
                    "--name {name:?} cannot name a run: use a plain folder name other than `latest`"
                )));
            }
            Some(name) => runs.join(name),
            None => {
                let stem = Path::new(dataset).file_stem().and_then(|stem| stem.to_str()).unwrap_or("run");
                (1..)
                    .map(|n| runs.join(format!("{stem}-{n}")))
                    .find(|path| !path.exists())
                    .unwrap_or_else(|| runs.join(stem))
            }
        };
        if holds_something(&path) {
            return Err(wrong_input(format!(
                "{} exists already: take another --name, or --resume to go on with it",
                path.display()
            )));
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let latest = runs.join("latest");
        let before = fs::read_link(&latest).ok();
        if let Some(name) = path.file_name() {
            point(&latest, Path::new(name))?;
        }
        Ok(Self { path, begun: Some((latest, before)) })
    }

    /// Takes back a run that could not begin because its input was wrong, so that the name stays free and `latest` useful. What
    /// was trained is never taken away, and neither are the bad rows that a message points to.
    pub(crate) fn take_back(&self) {
        let Some((latest, before)) = &self.begun else { return };
        let trained = fs::read_dir(self.join("checkpoints")).into_iter().flatten().flatten();
        if trained.flat_map(|folder| fs::read_dir(folder.path())).any(|mut states| states.next().is_some())
            || self.join("compare.jsonl").is_file()
        {
            return;
        }
        // Whatever cannot be removed is in nobody's way.
        for folder in ["data", "shards", "pretrained", "checkpoints"] {
            let _ = fs::remove_dir_all(self.join(folder));
        }
        for file in ["config.toml", "command.toml", "cleaning.json", "given.json", "metrics.jsonl"] {
            let _ = fs::remove_file(self.join(file));
        }
        let _ = fs::remove_dir(&self.path);
        let _ = match before {
            Some(target) => point(latest, target),
            None => fs::remove_file(latest).map_err(Into::into),
        };
    }

    /// An existing run, for evaluating and recommending.
    pub(crate) fn existing(path: &Path) -> anyhow::Result<Self> {
        let resolved = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if !resolved.join("config.toml").is_file() {
            return Err(wrong_input(format!(
                "{} is no run directory (it has no config.toml); `cargo xtask finetune` makes one",
                path.display()
            )));
        }
        Ok(Self { path: resolved, begun: None })
    }

    /// A folder for what is not kept.
    pub(crate) fn scratch(path: &Path) -> Self {
        Self { path: path.to_owned(), begun: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file of the run whole or not at all.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        write_atomically(&self.join(name), content.as_ref())
    }
}

/// Whether a folder holds more than the bad rows of an import that failed.
fn holds_something(path: &Path) -> bool {
    fs::read_dir(path).into_iter().flatten().flatten().any(|entry| entry.file_name() != "quarantine.tsv")
}

/// Makes `latest` point at a run beside it.
#[cfg(unix)]
fn point(latest: &Path, run: &Path) -> anyhow::Result<()> {
    let beside = latest.with_file_name(".latest");
    let _ = fs::remove_file(&beside);
    std::os::unix::fs::symlink(run, &beside)
        .and_then(|()| fs::rename(&beside, latest))
        .with_context(|| format!("cannot make {} point at {}", latest.display(), run.display()))
}

/// Without symbolic links the newest run is found by its folder alone.
#[cfg(not(unix))]
fn point(_latest: &Path, _run: &Path) -> anyhow::Result<()> {
    Ok(())
}

/// Writes beside, syncs, renames.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".writing");
    let beside = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display())).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}
