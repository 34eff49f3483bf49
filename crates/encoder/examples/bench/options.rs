//! The command line, and lines of results.

use std::error::Error;

use candle_core::Device;
use paretune_encoder::{Arithmetic, DeviceChoice, EncoderError, Kernels, LoadOptions, device_name};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Figures,
    Scaling,
    Cache,
    Profile,
    Curve,
    Agreement,
    Compare,
}

pub(crate) struct Options {
    pub(crate) model: String,
    pub(crate) titles: Option<String>,
    pub(crate) batch: usize,
    pub(crate) length: usize,
    pub(crate) threads: usize,
    /// Figures and arithmetics to keep to; empty for all.
    pub(crate) only: Vec<String>,
    /// Where figures are measured; on the CPU, with its kernels, if nobody says.
    pub(crate) device: Option<DeviceChoice>,
    pub(crate) json: bool,
    pub(crate) mode: Mode,
}

impl Options {
    pub(crate) fn parse() -> Result<Self, Box<dyn Error>> {
        let builtin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/builtin");
        let mut options = Self {
            model: builtin.into(),
            titles: None,
            batch: 32,
            length: 64,
            threads: 0,
            only: Vec::new(),
            device: None,
            json: false,
            mode: Mode::Figures,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--model" => options.model = value()?,
                "--titles" => options.titles = Some(value()?),
                "--batch" => options.batch = value()?.parse()?,
                "--len" => options.length = value()?.parse()?,
                "--threads" => options.threads = value()?.parse()?,
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--device" => options.device = Some(value()?.parse()?),
                "--compare" => options.mode = Mode::Compare,
                "--json" => options.json = true,
                "--scaling" => options.mode = Mode::Scaling,
                "--cache" => options.mode = Mode::Cache,
                "--profile" => options.mode = Mode::Profile,
                "--curve" => options.mode = Mode::Curve,
                "--agreement" => options.mode = Mode::Agreement,
                other => {
                    let known = "--model, --titles, --batch, --len, --threads, --only, --scaling, --cache, --profile, --curve, --agreement, --device, --compare, --json";
                    return Err(format!("unknown `{other}`; there are {known}").into());
                }
            }
        }
        Ok(options)
    }

    /// The device that is asked for.
    pub(crate) fn opened(&self) -> Result<Device, EncoderError> {
        self.device.unwrap_or(DeviceChoice::Cpu).open()
    }

    /// How the encoder is loaded to be measured: on a device that is asked for, with the network that devices run.
    pub(crate) fn load(&self, arithmetic: Arithmetic) -> Result<LoadOptions, EncoderError> {
        let kernels = if self.device.is_some() { Kernels::Composed } else { Kernels::Fused };
        Ok(LoadOptions { arithmetic, kernels, device: self.opened()?, ..LoadOptions::default() })
    }

    /// Whether an arithmetic can be measured there; if not, says so.
    pub(crate) fn can(&self, arithmetic: Arithmetic) -> bool {
        let can = match self.device {
            None => arithmetic.is_available(),
            Some(_) => arithmetic != Arithmetic::Int8,
        };
        if !can {
            let who = if self.device.is_some() { "the network of other devices" } else { "this processor" };
            eprintln!("skipped {arithmetic}: {who} does not have it");
        }
        can
    }

    /// The name of a figure's line.
    pub(crate) fn peer(&self, arithmetic: Arithmetic) -> Result<String, EncoderError> {
        Ok(match self.device {
            None => format!("paretune-{arithmetic}"),
            Some(_) => format!("paretune-{arithmetic}-{}", device_name(&self.opened()?)),
        })
    }

    /// The lines of `--titles`, which `mode` cannot do without.
    pub(crate) fn texts(&self, mode: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let path = self.titles.as_ref().ok_or_else(|| format!("{mode} needs --titles FILE"))?;
        let file = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let texts: Vec<String> = file.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        if texts.is_empty() { Err(format!("{path} has no text").into()) } else { Ok(texts) }
    }

    /// Whether a figure, or an arithmetic, is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let kinds: [&[&str]; 2] = [&["forward", "train_step", "embed"], &["f32", "bf16", "int8"]];
        // A kind of which nothing is named is wanted whole.
        let kind = kinds.into_iter().find(|kind| kind.contains(&name)).unwrap_or(&[]);
        let named: Vec<&String> = self.only.iter().filter(|only| kind.contains(&only.as_str())).collect();
        named.is_empty() || named.into_iter().any(|only| only == name)
    }

    pub(crate) fn say(&self, figure: &str, peer: &str, seconds: f64, rows: usize) {
        let (ms, rate, threads) = (seconds * 1e3, rows as f64 / seconds, rayon::current_num_threads());
        let peak = peak_mib();
        if self.json {
            let line = serde_json::json!({
                "figure": figure, "peer": peer, "ms": (ms * 100.0).round() / 100.0,
                "rows_per_s": (rate * 10.0).round() / 10.0, "threads": threads, "peak_mib": peak.map(f64::round),
            });
            println!("{line}");
        } else {
            let peak = peak.map_or(String::new(), |peak| format!("{peak:>9.0} MiB peak so far"));
            println!("{figure:<12}{peer:<16}{ms:>12.1} ms{rate:>12.1} rows/s{threads:>4} threads{peak}");
        }
    }
}

/// The most memory this process has held, where the system tells.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

/// The median seconds of `runs` runs after three to warm up.
pub(crate) fn median_seconds(
    runs: usize,
    mut work: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    for _ in 0..3 {
        work()?;
    }
    let mut times = Vec::new();
    for _ in 0..runs {
        let start = std::time::Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
