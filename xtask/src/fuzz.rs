//! `cargo xtask fuzz`: damaged models at random, loaded by a program whose memory and time are bounded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::process::{cargo, root};

/// Of findings that look alike, only so many are kept.
const KEPT_OF_A_KIND: usize = 3;

const DETAILS: &str = "\
Each case is a model of the corpus after one to eight mutations: bytes changed, cut off, added or taken from other files; values of JSON \
replaced by hostile ones (out of range, of other types, nested deeply, leading out of the folder); headers of safetensors and llama.cpp files that \
lie; tensors missing, renamed, of other shapes and types; sizes changed in configuration and weights alike; files missing, swapped, of \
other models, links, or cut into shards. Loading must give vectors, or an error that names a file of the folder. A panic, an abort, more \
memory or time than allowed, or reading outside of the folder is a finding.

A finding is kept in target/fuzz/loaders/findings/SEED-CASE: the damaged model, the mutations that made it (case.json), and what happened \
(finding.txt). The command ends with code 1 if there are any.

    cargo xtask fuzz --seconds 600 --seed 7
    cargo xtask fuzz --seed 7 --first 1234 --runs 1
    cargo xtask fuzz --replay target/fuzz/loaders/findings/7-1234";

/// Which loaders, for how long, and within which bounds.
#[derive(Debug, clap::Args)]
#[command(after_long_help = DETAILS)]
pub(crate) struct Args {
    /// What to fuzz; there are only the loaders of models, tokenizers and adapters.
    #[arg(default_value = "loaders", value_parser = ["loaders"])]
    what: String,
    /// Stop after so many seconds [default: 60, unless --runs is given].
    #[arg(long)]
    seconds: Option<u64>,
    /// Stop after so many cases.
    #[arg(long)]
    runs: Option<u64>,
    /// Cases are made of the seed and their number: the same seed makes the same ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of the first case.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// A folder of folders of models to damage, instead of the fixtures of the encoder crate; an adapter lies in `adapter` of its model.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Loads the model of a finding again.
    #[arg(long, value_name = "FINDING", conflicts_with_all = ["seconds", "runs", "seed", "first", "corpus"])]
    replay: Option<PathBuf>,
    /// MiB of address space that loading may take.
    #[arg(long, default_value_t = 2048)]
    memory: u64,
    /// Seconds that a case may take.
    #[arg(long, default_value_t = 20)]
    timeout: u64,
}

/// How a run of the program ended.
enum End {
    /// All cases done, or time over.
    Done,
    /// What was found at which case.
    Finding(u64, String),
}

/// What was seen so far.
#[derive(Default)]
struct Tally {
    cases: u64,
    tokenizers: u64,
    models: u64,
    adapters: u64,
    /// How often something of a kind was found.
    kinds: BTreeMap<String, usize>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let program = build()?;
    let home = root().join("target/fuzz").join(&args.what);
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    // Findings name paths in this folder, so that they can be replayed; two runs at once would load each other's models.
    let lock = File::create(home.join("lock")).context("cannot make the lock")?;
    if lock.try_lock().is_err() {
        bail!("another `cargo xtask fuzz` is running in {}", home.display());
    }
    let work = home.join("work");
    if let Some(finding) = &args.replay {
        return replay(args, &program, &work, finding);
    }
    let seconds = args.seconds.or(if args.runs.is_some() { None } else { Some(60) });
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut tally = Tally::default();
    let mut next = args.first;
    let end = args.runs.map(|runs| args.first.saturating_add(runs));
    while end.is_none_or(|end| next < end) && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let mut command = bounded(&program, args.memory);
        command.args(["--seed", &args.seed.to_string(), "--first", &next.to_string()]);
        if let Some(end) = end {
            command.args(["--runs", &(end - next).to_string()]);
        }
        if let Some(corpus) = &args.corpus {
            command.arg("--corpus").arg(corpus);
        }
        match watch(command.arg("--work").arg(&work), args, deadline, &mut tally)? {
            End::Done => break,
            End::Finding(case, what) => {
                next = case + 1;
                let seen = tally.kinds.entry(kind(&what)).or_default();
                *seen += 1;
                if *seen <= KEPT_OF_A_KIND {
                    let place = home.join("findings").join(format!("{}-{case}", args.seed));
                    keep(&work, &place, &what)?;
                    println!("case {case}: {what}\n  kept in {}", place.display());
                }
            }
        }
    }
    let Tally { cases, tokenizers, models, adapters, kinds } = tally;
    println!(
        "{cases} cases of seed {}: {tokenizers} tokenizers, {models} models and {adapters} adapters were loaded in spite \
         of the damage, the others refused",
        args.seed
    );
    for (kind, times) in &kinds {
        println!("found {times} x {kind}");
    }
    Ok(u8::from(!kinds.is_empty()))
}

/// Builds the program with checks of overflow, as the tests are built.
fn build() -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command.args([
        "build",
        "--package",
        "paretune-encoder",
        "--example",
        "fuzz",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let output = command.current_dir(root()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the program that loads models cannot be built");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    programs.next_back().context("cargo named no program")
}

/// The program with a bound on its address space, which the shell sets: where there is none, as on Windows, memory has no bound.
fn bounded(program: &Path, mib: u64) -> Command {
    let mut command = if cfg!(unix) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {}; exec \"$0\" \"$@\"", mib.saturating_mul(1024))]).arg(program);
        shell
    } else {
        Command::new(program)
    };
    // Threads take address space too.
    command.env("RAYON_NUM_THREADS", "2").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the program and hears what it says until it ends, finds something, or takes too long.
fn watch(command: &mut Command, args: &Args, deadline: Option<Instant>, tally: &mut Tally) -> anyhow::Result<End> {
    let mut child = command.spawn().context("cannot start the program that loads models")?;
    let lines = lines(&mut child)?;
    let errors = child.stderr.take().map(|pipe| std::thread::spawn(move || last_line(pipe)));
    let limit = Duration::from_secs(args.timeout);
    let mut case = None;
    let end = loop {
        let left = deadline.map_or(limit, |deadline| limit.min(deadline.saturating_duration_since(Instant::now())));
        match lines.recv_timeout(left) {
            Ok(line) => match line.split_once(' ') {
                Some(("make", _)) => case = None,
                Some(("case", number)) => case = Some(number.parse().context("the program names no case")?),
                Some(("ok", reached)) => {
                    tally.count(reached);
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        break Some(End::Done);
                    }
                }
                Some(("finding", what)) => {
                    tally.cases += 1;
                    break Some(End::Finding(case.unwrap_or(args.first), what.to_owned()));
                }
                _ => println!("{line}"),
            },
            // The end of the time allowed for all is not a finding.
            Err(RecvTimeoutError::Timeout) if left < limit => break Some(End::Done),
            Err(RecvTimeoutError::Timeout) => {
                let Some(case) = case else {
                    child.kill().context("cannot stop the program that loads models")?;
                    bail!("the program that loads models did not begin within {} seconds", args.timeout);
                };
                break Some(End::Finding(case, format!("took more than {} seconds", args.timeout)));
            }
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    if end.is_some() {
        // It may have ended by itself already.
        let _ = child.kill();
    }
    let status = child.wait().context("the program that loads models got lost")?;
    let said = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
    match (end, case) {
        (Some(end), _) => Ok(end),
        (None, _) if status.success() => Ok(End::Done),
        (None, Some(case)) if status.code() != Some(1) => {
            tally.cases += 1;
            Ok(End::Finding(case, format!("ended with {status}: {said}")))
        }
        (None, _) => bail!("the program that loads models failed ({status}): {said}"),
    }
}

/// The lines that a program prints, from a thread of their own so that waiting for them can end.
fn lines(child: &mut Child) -> anyhow::Result<Receiver<String>> {
    let pipe = child.stdout.take().context("the program has no output")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// What an abort says before it is over.
fn last_line(pipe: impl std::io::Read) -> String {
    let lines = BufReader::new(pipe).lines().map_while(Result::ok);
    lines.filter(|line| !line.trim().is_empty()).last().unwrap_or_default()
}

impl Tally {
    fn count(&mut self, reached: &str) {
        self.cases += 1;
        let counters = [&mut self.tokenizers, &mut self.models, &mut self.adapters];
        for (counter, done) in counters.into_iter().zip(reached.split(' ')) {
            *counter += u64::from(done == "true");
        }
    }
}

/// A finding without its numbers and names.
fn kind(what: &str) -> String {
    let place = what.rsplit_once(" at ").filter(|_| what.contains("panic")).map_or("", |(_, place)| place);
    let start: String = what.chars().filter(|letter| !letter.is_ascii_digit()).take(60).collect();
    format!("{start} … {place}")
}

/// Copies the damaged model and what made it.
fn keep(work: &Path, place: &Path, what: &str) -> anyhow::Result<()> {
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("cannot replace {}", place.display()))?;
    }
    let copied = copy(&work.join("model"), &place.join("model"))
        .and_then(|()| fs::copy(work.join("case.json"), place.join("case.json")))
        .and_then(|_| fs::write(place.join("finding.txt"), format!("{what}\n")));
    copied.with_context(|| format!("cannot keep the finding in {}", place.display()))
}

/// Copies a folder with its links as links.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, kind) = {
            let entry = entry?;
            (entry.path(), entry.file_type()?)
        };
        let target = to.join(path.file_name().unwrap_or_default());
        if kind.is_dir() {
            copy(&path, &target)?;
        } else if kind.is_symlink() {
            link(&fs::read_link(&path)?, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(target: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// No link is made where links need rights.
#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Loads the model of a finding from where it was found.
fn replay(args: &Args, program: &Path, work: &Path, finding: &Path) -> anyhow::Result<u8> {
    let model = work.join("model");
    if model.exists() {
        fs::remove_dir_all(&model).with_context(|| format!("cannot replace {}", model.display()))?;
    }
    copy(&finding.join("model"), &model)
        .with_context(|| format!("{} is not a finding of `cargo xtask fuzz`", finding.display()))?;
    let mut command = bounded(program, args.memory);
    let mut tally = Tally::default();
    match watch(command.arg("--replay").arg("--work").arg(work), args, None, &mut tally)? {
        End::Done => {
            println!("refused or loaded, as it should be");
            Ok(0)
        }
        End::Finding(_, what) => {
            println!("{what}");
            Ok(1)
        }
    }
}
