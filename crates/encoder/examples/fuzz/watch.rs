//! A model's folder has a neighbour, and nothing may read it.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::corpus::Model;

/// Files that lie outside of the model's folder and would be good to load.
#[derive(Debug)]
pub(crate) struct Outside {
    files: Vec<PathBuf>,
    works: bool,
}

impl Outside {
    /// Writes the model to the folder `outside` in `dir`.
    pub(crate) fn write(model: &Model, dir: &Path) -> io::Result<Self> {
        let folder = dir.join("outside");
        model.folder.write(&folder)?;
        let mut outside =
            Self { files: model.folder.paths().iter().map(|path| folder.join(path)).collect(), works: true };
        // Whether reading leaves a trace is the file system's choice.
        outside.forget()?;
        if let Some(first) = outside.files.first() {
            fs::read(first)?;
        }
        outside.works = outside.read().is_some();
        outside.forget()?;
        Ok(outside)
    }

    /// Whether the file system tells when a file is read.
    pub(crate) fn works(&self) -> bool {
        self.works
    }

    /// Makes the files look as if they had never been read.
    pub(crate) fn forget(&self) -> io::Result<()> {
        for path in &self.files {
            let file = File::options().write(true).open(path)?;
            file.set_times(FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH))?;
        }
        Ok(())
    }

    /// A file that has been read.
    pub(crate) fn read(&self) -> Option<&Path> {
        let accessed = |path: &&PathBuf| {
            fs::metadata(path).and_then(|file| file.accessed()).is_ok_and(|time| time != SystemTime::UNIX_EPOCH)
        };
        self.files.iter().find(accessed).map(PathBuf::as_path)
    }
}
