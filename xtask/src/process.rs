//! Running other programs.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Builds the `paretune` binary in release mode and runs it; its exit code is passed on.
pub(crate) fn paretune(command: &str, args: Vec<OsString>) -> anyhow::Result<u8> {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--release", "--package", "paretune", "--", command]).args(args);
    let status = cargo.status().context("cannot start cargo")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs `cargo` in the workspace's root, told to the user, and fails unless it succeeds.
pub(crate) fn run_cargo(args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(args).envs(env.iter().copied()).current_dir(root());
    run(command)
}

/// Runs a command, told to the user, and fails unless it succeeds.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let line = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Whether a program answers to `--version`.
pub(crate) fn exists(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}
