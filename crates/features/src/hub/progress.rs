//! Progress of a download or an upload on stderr.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler, UploadEvent};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Shows a bar on a terminal and plain lines elsewhere.
pub(super) struct Reporter {
    /// What is done with which model: `Fetching org/name`.
    what: String,
    state: Mutex<State>,
}

struct State {
    meter: Meter,
    bar: Option<ProgressBar>,
}

impl Reporter {
    pub(super) fn fetching(model: &str) -> Self {
        Self::new(format!("Fetching {model}"))
    }

    pub(super) fn sending(model: &str) -> Self {
        Self::new(format!("Sending {model}"))
    }

    fn new(what: String) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            let bar = ProgressBar::no_length().with_message(what.clone());
            // The template is a constant; should it ever be wrong, the standard style still shows the download.
            style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
        });
        Self { what, state: Mutex::new(State { meter: Meter::default(), bar }) }
    }
}

impl ProgressHandler for Reporter {
    fn on_progress(&self, event: &ProgressEvent) {
        let event = match event {
            ProgressEvent::Download(event) => event,
            ProgressEvent::Upload(event) => &as_download(event),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let milestone = state.meter.observe(event);
        let Meter { total, .. } = state.meter;
        if let Some(bar) = &state.bar {
            bar.set_length(total);
            bar.set_position(state.meter.done());
            if matches!(event, DownloadEvent::Complete) {
                bar.finish_and_clear();
            }
        } else if let Some(percent) = milestone {
            eprintln!("{}: {percent} % of {}", self.what, HumanBytes(total));
        }
    }
}

/// The meter counts either way; small files of an upload go with the commit, and are done when it is.
fn as_download(event: &UploadEvent) -> DownloadEvent {
    match event {
        UploadEvent::Start { total_files, total_bytes } => {
            DownloadEvent::Start { total_files: *total_files, total_bytes: *total_bytes }
        }
        UploadEvent::Progress { bytes_completed, total_bytes, .. } => DownloadEvent::AggregateProgress {
            bytes_completed: *bytes_completed,
            total_bytes: *total_bytes,
            bytes_per_sec: None,
        },
        UploadEvent::Committing => DownloadEvent::Progress { files: Vec::new() },
        UploadEvent::Complete => DownloadEvent::Complete,
    }
}

/// How far the download is.
#[derive(Debug, Default)]
struct Meter {
    total: u64,
    files: BTreeMap<String, u64>,
    /// Large files come through another channel, which counts them together.
    batch: u64,
    announced: Option<u64>,
}

impl Meter {
    /// Takes note of an event; a quarter that was passed is returned once, as a percentage.
    fn observe(&mut self, event: &DownloadEvent) -> Option<u64> {
        match event {
            // Each file announces itself again after the whole.
            DownloadEvent::Start { total_bytes, .. } if self.total == 0 => self.total = *total_bytes,
            DownloadEvent::Progress { files } => {
                for file in files {
                    self.files.insert(file.filename.clone(), file.bytes_completed);
                }
            }
            DownloadEvent::AggregateProgress { bytes_completed, .. } => self.batch = *bytes_completed,
            DownloadEvent::Complete => self.batch = self.total,
            DownloadEvent::Start { .. } => {}
        }
        if self.total == 0 {
            return None;
        }
        let percent = 100 * self.done() / self.total / 25 * 25;
        (self.announced.is_none_or(|announced| announced < percent)).then(|| {
            self.announced = Some(percent);
            percent
        })
    }

    /// Bytes that have come. Files may be counted by both channels, hence the bound.
    fn done(&self) -> u64 {
        (self.files.values().sum::<u64>() + self.batch).min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hf_hub::progress::{FileProgress, FileStatus};

    #[test]
    fn quarters_are_announced_once() {
        let mut meter = Meter::default();
        let file = |name: &str, bytes_completed| DownloadEvent::Progress {
            files: vec![FileProgress {
                filename: name.into(),
                bytes_completed,
                total_bytes: 0,
                status: FileStatus::InProgress,
            }],
        };
        let start = |total_bytes| DownloadEvent::Start { total_files: 1, total_bytes };
        assert_eq!(meter.observe(&file("early", 0)), None);
        assert_eq!(meter.observe(&start(100)), Some(0));
        assert_eq!(meter.observe(&start(60)), None);
        assert_eq!(meter.observe(&file("a", 20)), None);
        assert_eq!(meter.observe(&file("b", 10)), Some(25));
        assert_eq!(meter.observe(&file("a", 45)), Some(50));
        assert_eq!(meter.observe(&file("a", 45)), None);
        let batch = DownloadEvent::AggregateProgress { bytes_completed: 70, total_bytes: 70, bytes_per_sec: None };
        assert_eq!(meter.observe(&batch), Some(100));
        assert_eq!(meter.done(), 100);
    }

    #[test]
    fn an_upload_is_done_when_it_is_committed() {
        let mut meter = Meter::default();
        let mut observe = |event: UploadEvent| meter.observe(&as_download(&event));
        assert_eq!(observe(UploadEvent::Start { total_files: 3, total_bytes: 200 }), Some(0));
        assert_eq!(observe(UploadEvent::Committing), None);
        assert_eq!(observe(UploadEvent::Complete), Some(100));
    }
}
