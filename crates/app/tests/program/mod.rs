//! Runs the program as a user would: in a folder of its own, from arguments to exit code and files.

// Every test crate has its own copy of this module and uses a part of it.
#![allow(dead_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// Settings that make a training short enough for a test.
pub(crate) const QUICK: &str = "--model builtin --max-steps 6 --set training.batch=64 --set training.checkpoint_every=2 \
    --set model.max_length=16 --set evaluation.users=10 --set evaluation.rows=200";

/// A folder in which the program runs.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder that holds a small simulated marketplace in `data/`.
    pub(crate) fn with_data() -> Self {
        let scratch = Self::empty();
        scratch.run("simulate --items 120 --users 60 --out data").ok();
        scratch
    }

    /// A folder with data and a finished run, `runs/first`.
    pub(crate) fn with_run() -> Self {
        let scratch = Self::with_data();
        scratch.run(&format!("finetune --dataset data --name first --baselines untrained,popularity {QUICK}")).ok();
        scratch
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Copies a folder of this scratch folder.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        copy_folder(&self.path(from), &self.path(to));
    }

    /// Cuts a file to its first half.
    pub(crate) fn truncate(&self, name: &str) {
        let bytes = self.bytes(name);
        self.write(name, &bytes[..bytes.len() / 2]);
    }

    /// The program with these arguments, untouched by the settings of whoever runs the tests.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paretune"));
        command.args(words(arguments));
        self.settle(&mut command);
        command
    }

    /// Gives any program this folder and none of our own settings.
    pub(crate) fn settle(&self, command: &mut Command) {
        for name in ["RUST_BACKTRACE", "PARETUNE_LOG", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.path("hf")).current_dir(self.0.path()).stdin(Stdio::null());
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &str) -> Done {
        Done::of(&mut self.command(arguments))
    }
}

/// How the program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) line: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            line: format!("{command:?}"),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It must have succeeded; gives its standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// It must have failed with this code and one readable line that says all of `parts`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let lines: Vec<&str> = self.err.lines().filter(|line| !line.trim().is_empty()).collect();
        let errors: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{self:#?}");
        assert_eq!(lines.last(), errors.last(), "something follows the message: {self:#?}");
        assert!(!self.err.contains("panicked") && !self.err.contains("internal error"), "{self:#?}");
        for part in parts {
            assert!(errors[0].contains(part), "`{part}` is not said: {self:#?}");
        }
    }

    /// The input was wrong, and the message says how.
    #[track_caller]
    pub(crate) fn wrong(self, parts: &[&str]) {
        self.failed(2, parts);
    }
}

/// Splits a command line at blanks; double quotes keep a word together.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted, mut word) = (Vec::new(), false, None::<String>);
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of a real data set, or `None` with a message where it is not on this machine.
pub(crate) fn real_data(name: &str) -> Option<PathBuf> {
    let folder = root().join("../shared/data").join(name);
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(fs::canonicalize(folder).unwrap())
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
