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
    started: Cell<Instant>,
    /// What was done before the clock started.
    before: Cell<u64>,
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
        Self {
            what: what.into(),
            bar,
            terminal,
            started: Cell::new(now),
            before: Cell::new(0),
            last: Cell::new(now),
            total: Cell::new(total),
        }
    }

    /// Measures the pace and shows nothing.
    pub(crate) fn hidden(total: u64) -> Self {
        let meter = Self::new("", total);
        meter.bar.set_draw_target(ProgressDrawTarget::hidden());
        Self { terminal: true, ..meter }
    }

    /// So many were done before: the clock starts now, so that they count in neither rate nor time left.
    pub(crate) fn start_at(&self, done: u64) {
        self.before.set(done);
        self.started.set(Instant::now());
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// How many a second since the clock started, and the seconds that are left at this rate.
    pub(crate) fn pace(&self, done: u64) -> (f64, f64) {
        let rate = done.saturating_sub(self.before.get()) as f64 / self.started.get().elapsed().as_secs_f64().max(1e-9);
        (rate, self.total.get().saturating_sub(done) as f64 / rate.max(1e-9))
    }

    /// So many are done.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
        if !self.terminal && self.last.get().elapsed() >= EVERY {
            self.last.set(Instant::now());
            let total = self.total.get().max(done).max(1);
            let (rate, left) = self.pace(done);
            eprintln!("{} {done}/{total}, {rate:.0}/s, {} left", self.what, seconds(left));
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
