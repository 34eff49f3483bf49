//! `cargo xtask test`: everything that must hold before a change is done.

use crate::process::{exists, run_cargo};

pub(crate) fn run() -> anyhow::Result<()> {
    run_cargo(&["fmt", "--all", "--check"], &[])?;
    run_cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[])?;
    // The core of the optimizers promises to build without Candle.
    run_cargo(&["clippy", "--package", "paretune-optim", "--no-default-features", "--", "--deny", "warnings"], &[])?;
    if exists("cargo", &["nextest", "--version"]) {
        run_cargo(&["nextest", "run", "--workspace", "--no-fail-fast"], &[])?;
        run_cargo(&["test", "--workspace", "--doc"], &[])?;
    } else {
        run_cargo(&["test", "--workspace", "--no-fail-fast"], &[])?;
    }
    run_cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "--deny warnings")])?;
    println!("all of it passed: format, lints, tests, documentation");
    Ok(())
}
