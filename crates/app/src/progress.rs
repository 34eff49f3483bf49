//! What the user sees while a model trains: a bar on a terminal, plain lines elsewhere, JSON lines on request, and the run's
//! `metrics.jsonl` in any case.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use paretune_train::{Observer, TrainEvent};

use crate::run_dir::write_atomically;

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// A bar, or lines where there is no terminal.
    People,
    /// JSON lines on standard output.
    Json,
}

/// Shows one training run.
pub(crate) struct Progress {
    show: Show,
    label: String,
    bar: ProgressBar,
    terminal: bool,
    log: Option<BufWriter<File>>,
    started: Instant,
    last_line: Instant,
    /// Steps that were done before.
    pub(crate) first_step: usize,
    samples: usize,
    /// The curves, for the report.
    pub(crate) events: Vec<TrainEvent>,
}

impl Progress {
    /// `log` is the run's `metrics.jsonl`; baselines have none. `done` is the step of the checkpoint a resumed run goes on from.
    pub(crate) fn new(show: Show, label: &str, log: Option<&Path>, done: usize) -> anyhow::Result<Self> {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let (log, events) = match log {
            Some(path) => {
                let (file, events) = open_log(path, done).with_context(|| format!("cannot open {}", path.display()))?;
                (Some(BufWriter::new(file)), events)
            }
            None => (None, Vec::new()),
        };
        let now = Instant::now();
        Ok(Self {
            show,
            label: label.into(),
            bar,
            terminal,
            log,
            started: now,
            last_line: now,
            first_step: done,
            samples: 0,
            events,
        })
    }

    fn line(&self, text: &str) {
        match (self.show, self.terminal) {
            (Show::Json, _) => {}
            (Show::People, true) => self.bar.println(text),
            (Show::People, false) => eprintln!("{text}"),
        }
    }

    fn rate(&self) -> f64 {
        self.samples as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }
}

/// Opens the log for appending after dropping what a resumed run will say again.
fn open_log(path: &Path, done: usize) -> anyhow::Result<(File, Vec<TrainEvent>)> {
    let old = if done > 0 { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let mut kept = String::new();
    let mut events = Vec::new();
    for line in old.lines() {
        let Ok(event) = serde_json::from_str::<TrainEvent>(line) else { continue };
        if event.step() <= done && !matches!(event, TrainEvent::End { .. }) {
            kept.push_str(line);
            kept.push('\n');
            events.push(event);
        }
    }
    write_atomically(path, kept.as_bytes())?;
    Ok((OpenOptions::new().append(true).open(path)?, events))
}

impl Observer for Progress {
    fn observe(&mut self, event: &TrainEvent) {
        let resumed_start = matches!(event, TrainEvent::Start { step, .. } if *step > 0);
        if let (Some(log), false, Ok(line)) = (&mut self.log, resumed_start, serde_json::to_string(event)) {
            // A log that cannot be written must not stop the training; the checkpoint that follows will tell of a full disk.
            let _ = writeln!(log, "{line}").and_then(|()| log.flush());
        }
        if let (Show::Json, Ok(line)) = (self.show, serde_json::to_string(event)) {
            println!("{line}");
        }
        match event {
            TrainEvent::Start { step, steps } => {
                self.started = Instant::now();
                if self.show == Show::People && self.terminal {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                    self.bar.set_length(*steps as u64);
                    self.bar.set_position(*step as u64);
                    self.bar.reset_eta();
                    let template = "{prefix} {bar:28} {pos}/{len} {elapsed}<{eta} {msg}";
                    if let Ok(style) = ProgressStyle::with_template(template) {
                        self.bar.set_style(style);
                    }
                    self.bar.set_prefix(self.label.clone());
                }
                if *step > 0 {
                    self.line(&format!("{}: going on after step {step} of {steps}", self.label));
                }
            }
            TrainEvent::Step { step, steps, losses, samples, .. } => {
                self.samples += samples;
                let losses: Vec<String> = losses.iter().map(|(name, loss)| format!("{name} {loss:.4}")).collect();
                let message = format!("{}  {:.0} samples/s", losses.join("  "), self.rate());
                self.bar.set_position(*step as u64);
                self.bar.set_message(message.clone());
                let quiet = self.last_line.elapsed() < Duration::from_secs(5);
                if self.show == Show::People && !self.terminal && !quiet {
                    self.last_line = Instant::now();
                    let done = (*step - self.first_step).max(1) as f64;
                    let left = self.started.elapsed().as_secs_f64() / done * (*steps - *step) as f64;
                    eprintln!("{} {step}/{steps}  {message}  {} left", self.label, seconds(left));
                }
            }
            TrainEvent::Validation { step, metrics, monitor, best } if self.log.is_some() => {
                let values: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
                let mark = if *best { " (best)" } else { "" };
                self.line(&format!("validation at step {step}: {monitor:.4}{mark}  {}", values.join("  ")));
            }
            TrainEvent::End { step, stopped_early } => {
                self.bar.finish_and_clear();
                let early = if *stopped_early { ", stopped early" } else { "" };
                if *step > self.first_step {
                    let took = seconds(self.started.elapsed().as_secs_f64());
                    self.line(&format!("{}: {step} steps in {took}, {:.0} samples/s{early}", self.label, self.rate()));
                }
            }
            TrainEvent::Validation { .. } | TrainEvent::Checkpoint { .. } => {}
        }
        if self.log.is_some() {
            self.events.push(event.clone());
        }
    }
}

/// A duration for people.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.1} s"),
        v if v < 120.0 => format!("{v:.0} s"),
        v => format!("{:.0} min", v / 60.0),
    }
}
