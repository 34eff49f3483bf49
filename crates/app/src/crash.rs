//! Panics: a defect of the program is told in one line, and one that a library catches on purpose is not told at all.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process::ExitCode,
    sync::Mutex,
};

/// What the last panic said. The hook runs before anybody knows whether the panic will be caught.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// How the standard library's printing macros begin when the reader has gone or the disk is full.
const PRINTING: &str = "failed printing to stdout: ";

/// What a shell reports of a program that was writing when its reader left.
const BROKEN_PIPE: u8 = 128 + 13;

/// Runs the program and turns a panic into an exit code.
pub(crate) fn guard(program: impl FnOnce() -> ExitCode) -> ExitCode {
    panic::set_hook(Box::new(remember));
    // Nothing of the program is used again after a panic.
    panic::catch_unwind(AssertUnwindSafe(program)).unwrap_or_else(|_| {
        let said = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take().unwrap_or_default();
        match said.strip_prefix(PRINTING) {
            Some(reason) if reason.starts_with("Broken pipe") => ExitCode::from(BROKEN_PIPE),
            Some(reason) => {
                eprintln!("error: cannot write to standard output: {}", reason.lines().next().unwrap_or_default());
                ExitCode::FAILURE
            }
            None => {
                eprintln!("internal error: {said}\nThis is a defect of Paretune; please report it with the command that led here.");
                ExitCode::FAILURE
            }
        }
    })
}

fn remember(info: &PanicHookInfo<'_>) {
    let mut said = info.payload_as_str().unwrap_or("panic without a message").to_owned();
    if let Some(place) = info.location() {
        said.push_str(&format!("\n  at {place}"));
    }
    // Only where RUST_BACKTRACE asks for it.
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        said.push_str(&format!("\n{trace}"));
    }
    *LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(said);
}
