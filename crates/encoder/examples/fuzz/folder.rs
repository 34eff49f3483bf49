//! A model's folder in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// In files that are written, this stands for the path of the folder's neighbour `outside`.
pub(crate) const OUTSIDE: &str = "@outside@";

/// What lies under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// An empty folder where a file is expected.
    Folder,
    /// A symbolic link.
    Link(String),
}

/// Files by their path below the folder, with `/` between names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) files: BTreeMap<String, Content>,
}

impl Folder {
    /// Reads all files below `dir`, but for the values that fixtures store beside a model.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let mut folder = Self::default();
        folder.read_into(dir, "")?;
        Ok(folder)
    }

    fn read_into(&mut self, dir: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("expected.") {
                continue;
            }
            let path = format!("{prefix}{name}");
            match entry.path().is_dir() {
                true => self.read_into(&entry.path(), &format!("{path}/"))?,
                false => self.put(&path, fs::read(entry.path())?),
            }
        }
        Ok(())
    }

    pub(crate) fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.insert(path.to_owned(), Content::Bytes(bytes));
    }

    pub(crate) fn bytes(&self, path: &str) -> Option<&[u8]> {
        match self.files.get(path) {
            Some(Content::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The paths of all files that have bytes, in their order.
    pub(crate) fn paths(&self) -> Vec<String> {
        let bytes = |(_, content): &(&String, &Content)| matches!(content, Content::Bytes(_));
        self.files.iter().filter(bytes).map(|(path, _)| path.clone()).collect()
    }

    /// The paths of all files that have bytes and end so.
    pub(crate) fn ending(&self, end: &str) -> Vec<String> {
        self.paths().into_iter().filter(|path| path.ends_with(end)).collect()
    }

    /// Writes the folder to `dir`, in the place of what is there.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::create_dir_all(dir)?;
        let outside = dir.with_file_name("outside");
        for (path, content) in &self.files {
            let path = dir.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            match content {
                Content::Bytes(bytes) => fs::write(&path, elsewhere(bytes, &outside))?,
                Content::Folder => fs::create_dir_all(&path)?,
                Content::Link(target) => link(target, &path)?,
            }
        }
        Ok(())
    }
}

/// The bytes with the neighbour's path put in; only texts have a place for it.
fn elsewhere(bytes: &[u8], outside: &Path) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(OUTSIDE) => text.replace(OUTSIDE, &outside.display().to_string()).into_bytes(),
        _ => bytes.to_vec(),
    }
}

#[cfg(unix)]
fn link(target: &str, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Where links need rights, a folder in the file's place is as unexpected.
#[cfg(not(unix))]
fn link(_: &str, path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}
