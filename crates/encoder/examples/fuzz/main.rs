//! Damages models at random and loads them. `cargo xtask fuzz` starts this program, bounds its memory and its time, and keeps what it
//! finds; the tests of this crate run its first cases.
//!
//! A line `make NUMBER` is printed before a case is made, `case NUMBER` before it is loaded, and after it `ok` with how far the loaders came. A finding is printed and ends the
//! program with code 3, with the damaged model where it was loaded from: `model` in the folder given by `--work`, beside a folder
//! `outside` that nothing may read.

pub(crate) mod check;
pub(crate) mod corpus;
pub(crate) mod folder;
pub(crate) mod mutation;
mod tokenizers;
pub(crate) mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::{fs, io};

use check::{Finding, Reached};
use corpus::Corpus;
use mutation::Case;
use watch::Outside;

/// Where a case is loaded from.
pub(crate) struct Bench {
    corpus: Corpus,
    outside: Outside,
    dir: PathBuf,
}

impl Bench {
    /// Makes ready to load cases in the folder `work`.
    pub(crate) fn new(corpus: Corpus, work: &Path) -> io::Result<Self> {
        let outside = Outside::write(&corpus.models[0], work)?;
        Ok(Self { corpus, outside, dir: work.join("model") })
    }

    /// Whether it is noticed when a loader reads outside of the model's folder.
    pub(crate) fn watches(&self) -> bool {
        self.outside.works()
    }

    /// The case of this number, written to the folder.
    pub(crate) fn prepare(&self, seed: u64, number: u64) -> io::Result<Case> {
        let case = mutation::case(&self.corpus, seed, number);
        case.folder.write(&self.dir)?;
        Ok(case)
    }

    /// Loads what is in the folder.
    pub(crate) fn check(&self) -> Result<Reached, Finding> {
        self.check_with(check::check)
    }

    pub(crate) fn check_with(&self, load: impl FnOnce(&Path) -> Result<Reached, Finding>) -> Result<Reached, Finding> {
        let reached = load(&self.dir)?;
        match self.outside.read().filter(|_| self.watches()) {
            None => Ok(reached),
            Some(path) => {
                let path = path.display().to_string();
                self.outside.forget().map_err(|error| error.to_string())?;
                Err(format!("read outside of the model's folder: {path}"))
            }
        }
    }
}

#[derive(Debug, Default)]
struct Options {
    seed: u64,
    first: u64,
    runs: Option<u64>,
    work: PathBuf,
    corpus: Option<PathBuf>,
    replay: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        if arg == "--replay" {
            options.replay = true;
            continue;
        }
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        let number = || value.parse().map_err(|error| format!("{arg} {value}: {error}"));
        match arg.as_str() {
            "--seed" => options.seed = number()?,
            "--first" => options.first = number()?,
            "--runs" => options.runs = Some(number()?),
            "--work" => options.work = value.into(),
            "--corpus" => options.corpus = Some(value.into()),
            other => return Err(format!("no option {other}; this program is for `cargo xtask fuzz`")),
        }
    }
    match options.work.as_os_str().is_empty() {
        true => Err("--work is missing; this program is for `cargo xtask fuzz`".to_owned()),
        false => Ok(options),
    }
}

/// Where the last panic was: what unwinding hands on has lost it.
static PANIC: Mutex<String> = Mutex::new(String::new());

fn remember_panics() {
    std::panic::set_hook(Box::new(|info| {
        if let (Ok(mut last), Some(location)) = (PANIC.lock(), info.location()) {
            *last = format!(" at {location}");
        }
        eprintln!("{}", info.to_string().replace('\n', " "));
    }));
}

fn one(bench: &Bench) -> Result<Reached, Finding> {
    bench.check().map_err(|finding| match PANIC.lock() {
        Ok(place) if finding.contains("panic") => format!("{finding}{place}"),
        _ => finding,
    })
}

fn run(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    remember_panics();
    fs::create_dir_all(&options.work)?;
    let corpus = match &options.corpus {
        Some(dir) => Corpus::read(dir)?,
        None => Corpus::fixtures()?,
    };
    let bench = Bench::new(corpus, &options.work)?;
    let mut out = io::stdout().lock();
    if !bench.watches() {
        writeln!(
            out,
            "note this file system does not tell what is read: reading outside of the folder goes unnoticed"
        )?;
    }
    let last = if options.replay { Some(1) } else { options.runs };
    for number in (0..).take_while(|number| last.is_none_or(|last| *number < last)).map(|number| options.first + number)
    {
        if !options.replay {
            writeln!(out, "make {number}")?;
            out.flush()?;
            let case = bench.prepare(options.seed, number)?;
            let story = serde_json::json!({
                "seed": options.seed, "case": number, "model": case.model, "mutations": case.mutations,
            });
            fs::write(options.work.join("case.json"), serde_json::to_string_pretty(&story)?)?;
        }
        writeln!(out, "case {number}")?;
        out.flush()?;
        match one(&bench) {
            Ok(reached) => writeln!(out, "ok {} {} {}", reached.tokenizer, reached.model, reached.adapter)?,
            Err(finding) => {
                writeln!(out, "finding {}", finding.replace('\n', " "))?;
                out.flush()?;
                return Ok(ExitCode::from(3));
            }
        }
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let done = options(std::env::args().skip(1)).map_err(Into::into).and_then(|options| run(&options));
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
