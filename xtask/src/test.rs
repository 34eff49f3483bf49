//! `cargo xtask test`: everything that must hold before a change is done.

use crate::process::{exists, run_cargo};

/// Where property tests take the seed of their cases from.
const SEED: &str = "PROPTEST_RNG_SEED";

pub(crate) fn run() -> anyhow::Result<()> {
    run_cargo(&["fmt", "--all", "--check"], &[])?;
    run_cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[])?;
    // The core of the optimizers promises to build without Candle.
    run_cargo(&["clippy", "--package", "paretune-optim", "--no-default-features", "--", "--deny", "warnings"], &[])?;
    // What passed once passes again: property tests draw the same cases everywhere, unless others are asked for.
    let seed = std::env::var(SEED).unwrap_or_else(|_| "1".to_owned());
    let drawn = [(SEED, seed.as_str())];
    if exists("cargo", &["nextest", "--version"]) {
        run_cargo(&["nextest", "run", "--workspace", "--no-fail-fast"], &drawn)?;
        run_cargo(&["test", "--workspace", "--doc"], &drawn)?;
    } else {
        run_cargo(&["test", "--workspace", "--no-fail-fast"], &drawn)?;
    }
    run_cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "--deny warnings")])?;
    println!("all of it passed: format, lints, tests, documentation");
    Ok(())
}
