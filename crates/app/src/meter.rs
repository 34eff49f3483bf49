//! Progress of anything that is counted: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    cell::Cell,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::seconds;

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Counts towards a total.
pub(crate) struct Meter {
    what: String,
    bar: ProgressBar,
    terminal: bool,
    started: Instant,
    last: Cell<Instant>,
    total: Cell<u64>,
}

impl Meter {
    /// Shows nothing before the first [`Meter::set`].
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{msg} {bar:28} {pos}/{len} {per_sec} {elapsed}<{eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        let now = Instant::now();
        Self { what: what.into(), bar, terminal, started: now, last: Cell::new(now), total: Cell::new(total) }
    }

    /// So many are done.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
        if !self.terminal && self.last.get().elapsed() >= EVERY {
            self.last.set(Instant::now());
            let total = self.total.get().max(done).max(1);
            let left = self.started.elapsed().as_secs_f64() / done.max(1) as f64 * (total - done) as f64;
            eprintln!("{} {done}/{total}, {} left", self.what, seconds(left));
        }
    }

    /// So many are done of a total that may have changed.
    pub(crate) fn set_of(&self, done: u64, total: u64) {
        self.total.set(total);
        self.bar.set_length(total);
        self.set(done);
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
