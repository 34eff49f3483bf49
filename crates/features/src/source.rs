//! Where a model comes from: a directory or the Hub.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{FeatureError, FetchOptions, ModelFiles, gguf, hub};

/// A model named by a user.
///
/// ```
/// use paretune_features::ModelSource;
///
/// let pinned: ModelSource = "sentence-transformers/all-MiniLM-L6-v2@c9745ed".parse()?;
/// assert!(matches!(&pinned, ModelSource::Hub { repo, revision: Some(revision) }
///     if repo == "sentence-transformers/all-MiniLM-L6-v2" && revision == "c9745ed"));
/// assert!(matches!("./my-model".parse()?, ModelSource::Local(_)));
/// # Ok::<(), paretune_features::FeatureError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A model on the Hugging Face Hub, or on a mirror of it.
    Hub {
        /// `org/name`.
        repo: String,
        /// Branch, tag or commit; `main` if not given. Only a full commit (40 digits) always means the same files.
        revision: Option<String>,
    },
    /// A directory in the layout of the Hub, or a llama.cpp file (`.gguf`) with its `tokenizer.json` beside it.
    Local(PathBuf),
}

impl ModelSource {
    /// Makes sure that the model's files are on this machine, and says where.
    ///
    /// A Hub model is downloaded into the cache that Python's `huggingface_hub` uses too; files that are there
    /// already are not fetched again. If the Hub cannot be reached, the cached copy is taken.
    ///
    /// # Errors
    /// For a directory those of [`ModelFiles::local`]; for the Hub also [`FeatureError::HubUnreachable`],
    /// [`FeatureError::HubDenied`], [`FeatureError::HubNotFound`], [`FeatureError::NotCached`],
    /// [`FeatureError::Interrupted`], [`FeatureError::Incomplete`] and [`FeatureError::HubFailed`].
    pub fn fetch(&self, options: &FetchOptions) -> Result<ModelFiles, FeatureError> {
        match self {
            Self::Local(dir) => ModelFiles::local(dir),
            Self::Hub { repo, revision } => hub::fetch(repo, revision.as_deref(), options),
        }
    }
}

impl FromStr for ModelSource {
    type Err = FeatureError;

    /// An existing directory, a path that starts with `.` or `/`, or one that ends in `.gguf`, is local; `org/name` or `org/name@revision` is a
    /// model on the Hub.
    fn from_str(name: &str) -> Result<Self, FeatureError> {
        let refuse = |reason: &str| FeatureError::ModelName { name: name.to_owned(), reason: reason.to_owned() };
        if name.is_empty() {
            return Err(refuse("the name is empty"));
        }
        let path = Path::new(name);
        if name.starts_with(['.', '/']) || path.is_absolute() || path.is_dir() || gguf::is_named(path) {
            return Ok(Self::Local(path.to_path_buf()));
        }
        let (repo, revision) = match name.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (name, None),
        };
        let plain = |part: &str, others: &str| {
            !part.is_empty()
                && !part.contains("..")
                && part.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
        };
        match repo.split_once('/') {
            Some((owner, model)) if plain(owner, "-_.") && plain(model, "-_.") => {}
            Some(_) => {
                return Err(refuse("a Hub name is `org/name` in letters, digits, `-`, `_` and `.`"));
            }
            None => {
                return Err(refuse("there is no such directory, and a Hub name has an organisation before a `/`"));
            }
        }
        if revision.is_some_and(|revision| !plain(revision, "-_./")) {
            return Err(refuse("the revision after `@` must be a branch, a tag or a commit"));
        }
        Ok(Self::Hub { repo: repo.to_owned(), revision: revision.map(str::to_owned) })
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repo, revision: None } => f.write_str(repo),
            Self::Hub { repo, revision: Some(revision) } => write!(f, "{repo}@{revision}"),
            Self::Local(dir) => write!(f, "{}", dir.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        for local in
            [".", "./x", "../x/y", "/nowhere/at/all", "models/x-Q4_K_M.gguf", "x.GGUF", dir.path().to_str().unwrap()]
        {
            assert_eq!(local.parse::<ModelSource>().unwrap(), ModelSource::Local(local.into()), "{local}");
        }
        for (name, revision) in
            [("org/name", None), ("o-r.g/na_me.v2", None), ("a/b", Some("refs/pr/3")), ("org/name-GGUF", None)]
        {
            let text = revision.map_or(name.to_owned(), |revision| format!("{name}@{revision}"));
            let parsed: ModelSource = text.parse().unwrap();
            assert_eq!(parsed, ModelSource::Hub { repo: name.into(), revision: revision.map(str::to_owned) });
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_the_name() {
        for wrong in ["", "no-such-directory", "a/b/c", "a b/c", "org/", "a/b@", "a/b@x y", "a/..", "http://x/y"] {
            let message = wrong.parse::<ModelSource>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{wrong}`")) && message.contains("org/name"), "{message}");
        }
    }
}
