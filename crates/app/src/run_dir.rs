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
}

impl RunDir {
    /// A new one under `output.runs`, or, with `--resume`, the one to go on with.
    pub(crate) fn open(output: &Output, dataset: &str) -> anyhow::Result<Self> {
        let runs = &output.runs;
        if output.resume {
            let path = runs.join(output.name.as_deref().unwrap_or("latest"));
            let path = fs::canonicalize(&path)
                .map_err(|_| wrong_input(format!("{} does not exist: there is no run to go on with", path.display())))?;
            return Ok(Self { path });
        }
        let path = match &output.name {
            Some(name) if name.is_empty() || name == "latest" || name.contains(['/', '\\']) => {
                return Err(wrong_input(format!("--name {name:?} cannot name a run: use a plain folder name other than `latest`")));
            }
            Some(name) => runs.join(name),
            None => {
                let stem = Path::new(dataset).file_stem().and_then(|stem| stem.to_str()).unwrap_or("run");
                (1..).map(|n| runs.join(format!("{stem}-{n}"))).find(|path| !path.exists()).unwrap_or_else(|| runs.join(stem))
            }
        };
        if path.join("config.toml").exists() {
            return Err(wrong_input(format!(
                "{} exists already: take another --name, or --resume to go on with it",
                path.display()
            )));
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let run = Self { path };
        run.point_latest(runs)?;
        Ok(run)
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
        Ok(Self { path: resolved })
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

    /// Makes `runs/latest` point here.
    fn point_latest(&self, runs: &Path) -> anyhow::Result<()> {
        let Some(name) = self.path.file_name() else { return Ok(()) };
        let latest = runs.join("latest");
        #[cfg(unix)]
        {
            let beside = runs.join(".latest");
            let _ = fs::remove_file(&beside);
            std::os::unix::fs::symlink(name, &beside)
                .and_then(|()| fs::rename(&beside, &latest))
                .with_context(|| format!("cannot make {} point at {}", latest.display(), self.path.display()))
        }
        #[cfg(not(unix))]
        {
            // Without symbolic links the newest run is found by its folder alone.
            let _ = (name, latest);
            Ok(())
        }
    }
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
