//! What is uploaded to the Hub, and under which name.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::{FeatureError, FetchOptions, hub};

/// The name of a repository on the Hub, `ORG/NAME`.
///
/// ```
/// use paretune_features::RepoName;
///
/// let name: RepoName = "my-team/shop-encoder".parse()?;
/// assert_eq!((name.owner(), name.name()), ("my-team", "shop-encoder"));
/// assert!("shop-encoder".parse::<RepoName>().is_err());
/// # Ok::<(), paretune_features::FeatureError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoName {
    owner: String,
    name: String,
}

impl RepoName {
    /// The user or organisation.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name within it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl FromStr for RepoName {
    type Err = FeatureError;

    /// The Hub's own rules: letters, digits, `-`, `_` and `.`, none of the three at an end or `-` and `.` twice in a row, at most 96
    /// characters, and not like a folder of git.
    fn from_str(text: &str) -> Result<Self, FeatureError> {
        let refuse = |reason: &str| FeatureError::RepoName { name: text.to_owned(), reason: reason.to_owned() };
        let Some((owner, name)) = text.split_once('/') else {
            return Err(refuse("it has no user or organisation before a `/`"));
        };
        for part in [owner, name] {
            if part.is_empty() || part.contains('/') {
                return Err(refuse("it must have exactly two parts"));
            }
            if !part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
                return Err(refuse("only letters, digits, `-`, `_` and `.` are allowed"));
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return Err(refuse("no part may begin or end with `-` or `.`"));
            }
            if part.contains("--") || part.contains("..") {
                return Err(refuse("`--` and `..` are not allowed"));
            }
        }
        if text.len() > 96 {
            return Err(refuse("it is longer than 96 characters"));
        }
        if name.ends_with(".git") || name.ends_with(".ipynb") {
            return Err(refuse("it may not end with `.git` or `.ipynb`"));
        }
        Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
    }
}

/// A file to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadFile {
    /// Its path in the repository, with `/`.
    pub path: String,
    /// Where it lies on this machine.
    pub source: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The files of a model, to be uploaded to the Hub in one commit: all of them are there afterwards, or none.
///
/// ```no_run
/// use paretune_features::{FetchOptions, Upload};
///
/// let upload = Upload::folder("my-team/shop-encoder".parse()?, "export", "First version")?.private(true);
/// let done = upload.send(&FetchOptions::default())?;
/// println!("{}", done.url);
/// # Ok::<(), paretune_features::FeatureError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub(crate) repo: RepoName,
    pub(crate) branch: String,
    pub(crate) private: bool,
    pub(crate) message: String,
    pub(crate) files: Vec<UploadFile>,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The model's page.
    pub url: String,
    /// The commit, as far as the Hub says it: a name under which exactly these files can be fetched.
    pub commit: Option<String>,
    /// Whether the repository was made for it.
    pub created: bool,
}

impl Upload {
    /// All files below a folder, in the order of their paths; to the branch `main` of a public repository, which is made if need be.
    ///
    /// # Errors
    /// [`FeatureError::Io`] if the folder cannot be read; [`FeatureError::UploadRefused`] if it holds no file, or one whose name is not
    /// text.
    pub fn folder(repo: RepoName, dir: impl AsRef<Path>, message: impl Into<String>) -> Result<Self, FeatureError> {
        let dir = dir.as_ref();
        let refuse = |reason: String| FeatureError::UploadRefused { repo: repo.to_string(), reason };
        let mut files = Vec::new();
        for source in below(dir)? {
            let relative = source.strip_prefix(dir).unwrap_or(&source);
            let parts = relative.components().map(|part| match part {
                Component::Normal(name) => name.to_str(),
                _ => None,
            });
            let Some(parts) = parts.collect::<Option<Vec<&str>>>() else {
                return Err(refuse(format!("the name of {} is not text; rename it", source.display())));
            };
            let failed = |error| FeatureError::Io { action: "read", path: source.clone(), source: error };
            let bytes = std::fs::metadata(&source).map_err(failed)?.len();
            files.push(UploadFile { path: parts.join("/"), source, bytes });
        }
        if files.is_empty() {
            return Err(refuse(format!("{} holds no file", dir.display())));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { repo, branch: "main".to_owned(), private: false, message: message.into(), files })
    }

    /// To another branch than `main`, which is made from `main` if need be.
    #[must_use]
    pub fn branch(self, branch: impl Into<String>) -> Self {
        Self { branch: branch.into(), ..self }
    }

    /// Whether the repository is made as a private one. One that exists keeps what it is: it is then an error if it is public.
    #[must_use]
    pub fn private(self, private: bool) -> Self {
        Self { private, ..self }
    }

    /// The files, in the order of their paths.
    pub fn files(&self) -> &[UploadFile] {
        &self.files
    }

    /// Makes the repository if it does not exist, and commits the files to it. Files of the same names are replaced, others stay.
    ///
    /// `options` gives the Hub's address, the token, which is needed, and whether progress is shown; its cache is not used.
    ///
    /// # Errors
    /// [`FeatureError::UploadRefused`] for what the user can mend: no token, one that is not valid or may not write there, a branch name
    /// that is none, a public repository where a private one was asked for. [`FeatureError::UploadFailed`] for what failed on the way; it
    /// says what is on the Hub then. [`FeatureError::Endpoint`] if the address is none.
    pub fn send(&self, options: &FetchOptions) -> Result<Uploaded, FeatureError> {
        hub::upload(self, options)
    }
}

/// All files below a folder, links followed.
fn below(dir: &Path) -> Result<Vec<PathBuf>, FeatureError> {
    let failed = |path: &Path, source| FeatureError::Io { action: "read", path: path.to_owned(), source };
    let (mut files, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
            let path = entry.map_err(|error| failed(&folder, error))?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_the_hub_does() {
        for name in ["a/b", "my-team/shop_encoder.v2", "0/1", "_a/b_"] {
            assert_eq!(name.parse::<RepoName>().unwrap().to_string(), name);
        }
        for wrong in [
            "",
            "model",
            "/model",
            "org/",
            "a/b/c",
            "a b/c",
            "org/mo del",
            "org/ä",
            "-a/b",
            "a/b-",
            "a/.b",
            "a/b..c",
            "a/b--c",
            "a/b.git",
            "https://huggingface.co/a/b",
            &format!("a/{}", "b".repeat(95)),
        ] {
            let message = wrong.parse::<RepoName>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{wrong}`")) && message.contains("ORG/NAME"), "{message}");
        }
    }

    #[test]
    fn a_folder_is_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let repo = || "org/name".parse::<RepoName>().unwrap();
        assert!(matches!(Upload::folder(repo(), dir.path(), "m"), Err(FeatureError::UploadRefused { .. })));
        std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
        for (name, text) in [("z.json", "12345"), ("1_Pooling/config.json", "{}"), ("README.md", "")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let upload = Upload::folder(repo(), dir.path(), "m").unwrap();
        let files: Vec<_> = upload.files().iter().map(|file| (file.path.as_str(), file.bytes)).collect();
        assert_eq!(files, [("1_Pooling/config.json", 2), ("README.md", 0), ("z.json", 5)]);
        assert!(matches!(Upload::folder(repo(), "/no/such/folder", "m"), Err(FeatureError::Io { .. })));
    }
}
