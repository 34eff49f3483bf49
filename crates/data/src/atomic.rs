//! Files that are whole or absent: written beside, synced, renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::DataError;

/// A file in the making. Dropped before [`Replacement::commit`], it vanishes and the old file stays as it was.
#[derive(Debug)]
pub(crate) struct Replacement {
    target: PathBuf,
    beside: PathBuf,
    /// `None` once committed.
    writer: Option<BufWriter<File>>,
}

impl Replacement {
    /// Opens a hidden file beside `target`, making the folders above it.
    pub(crate) fn new(target: &Path) -> Result<Self, DataError> {
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(DataError::io("create the folder", folder))?;
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let beside = target.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let file = File::create(&beside).map_err(DataError::io("create", &beside))?;
        Ok(Self { target: target.to_owned(), beside, writer: Some(BufWriter::new(file)) })
    }

    /// Where the file will be.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Syncs the bytes to disk and gives the file its name.
    pub(crate) fn commit(mut self) -> Result<(), DataError> {
        let failed = |path: &Path| DataError::io("write", path);
        if let Some(writer) = self.writer.take() {
            let synced = writer
                .into_inner()
                .map_err(|error| error.into_error())
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&self.beside, &self.target));
            if let Err(error) = synced {
                // The error that is reported is the first one; a leftover is the lesser evil.
                let _ = fs::remove_file(&self.beside);
                return Err(failed(&self.target)(error));
            }
        }
        sync_folder(&self.target);
        Ok(())
    }
}

/// A rename lasts only once the folder of `target` is on disk. Not every system lets a folder be opened.
pub(crate) fn sync_folder(target: &Path) {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.writer {
            Some(writer) => writer.write(bytes),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_file_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/table");
        let mut first = Replacement::new(&path).unwrap();
        first.write_all(b"old").unwrap();
        first.commit().unwrap();

        let mut second = Replacement::new(&path).unwrap();
        second.write_all(b"half of the n").unwrap();
        drop(second);

        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_cannot_be_taken_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        fs::create_dir_all(path.join("not empty")).unwrap();
        let error = Replacement::new(&path).unwrap().commit().unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
