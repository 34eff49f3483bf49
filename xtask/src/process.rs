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

/// Builds the `paretune` binary in release mode, with what the device that is asked for needs, and runs it; its exit code is passed on.
pub(crate) fn paretune(command: &str, args: Vec<OsString>) -> anyhow::Result<u8> {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--release", "--package", "paretune"]);
    let values =
        args.iter().zip(args.iter().skip(1)).filter(|(name, _)| *name == "--device").map(|(_, value)| value.to_str());
    let joined = args.iter().map(|arg| arg.to_str()?.strip_prefix("--device="));
    if let Some(feature) = values.chain(joined).flatten().find_map(feature) {
        cargo.args(["--features", feature]);
    }
    cargo.args(["--", command]).args(args);
    let status = cargo.status().context("cannot start cargo")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The Cargo feature that a device needs: `cuda` of `cuda:1`.
pub(crate) fn feature(device: &str) -> Option<&'static str> {
    let kind = device.split(':').next()?;
    ["cuda", "metal"].into_iter().find(|feature| *feature == kind)
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

#[cfg(test)]
mod tests {
    use super::feature;

    #[test]
    fn gpus_need_a_feature() {
        for (device, needed) in [
            ("cuda", Some("cuda")),
            ("cuda:3", Some("cuda")),
            ("metal:0", Some("metal")),
            ("cpu", None),
            ("auto", None),
            ("cudax", None),
        ] {
            assert_eq!(feature(device), needed, "{device}");
        }
    }
}
