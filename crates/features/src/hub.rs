//! Fetching a model from the Hugging Face Hub: the only place of the project that opens a connection for a model. Uploading one is
//! in `upload`.

mod failure;
mod progress;
mod reach;
mod select;
mod upload;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync, RepoTypeModel};

use crate::{FeatureError, FetchOptions, ModelFiles};
use progress::Reporter;

pub(crate) use upload::upload;

/// Failed requests are sent again so often, with pauses of at most 0.2, 0.4 and 0.8 s.
const RETRIES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A file of the model on the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RemoteFile {
    path: String,
    bytes: u64,
}

/// Brings the files of `repo` into the cache.
pub(crate) fn fetch(repo: &str, revision: Option<&str>, options: &FetchOptions) -> Result<ModelFiles, FeatureError> {
    let hub = Hub::open(repo, revision, options)?;
    if options.offline {
        return hub.cached().map_err(|reason| hub.not_cached(reason));
    }
    match hub.download() {
        // A copy that is here is better than no model; what is newer on the Hub cannot be known now.
        Err(error @ FeatureError::HubUnreachable { .. }) => {
            let files = hub.cached().map_err(|_| error)?;
            if options.progress {
                eprintln!("The Hub at {} cannot be reached; using {} from the cache.", hub.endpoint, hub.name);
            }
            Ok(files)
        }
        other => other,
    }
}

struct Hub {
    client: HFClientSync,
    model: HFRepositorySync<RepoTypeModel>,
    /// The model as the user names it, for messages.
    name: String,
    revision: String,
    endpoint: String,
    cache: PathBuf,
    token_given: bool,
    progress: bool,
}

impl Hub {
    fn open(repo: &str, revision: Option<&str>, options: &FetchOptions) -> Result<Self, FeatureError> {
        let endpoint = options.endpoint.as_deref().unwrap_or("https://huggingface.co").trim_end_matches('/').to_owned();
        let not_one = |_: HFError| FeatureError::Endpoint { endpoint: endpoint.clone() };

        let mut builder = HFClient::builder()
            .endpoint(&endpoint)
            .user_agent(concat!("paretune/", env!("CARGO_PKG_VERSION")))
            .retry_max_attempts(RETRIES)
            .retry_base_delay(FIRST_PAUSE);
        if let Some(cache) = &options.cache {
            builder = builder.cache_dir(cache);
        }
        if let Some(token) = &options.token {
            builder = builder.token(token);
        }
        let client = builder.build().map_err(not_one)?;
        let cache = client.cache_dir().to_path_buf();
        let client = HFClientSync::from_inner(client).map_err(not_one)?;

        let (owner, model) = hf_hub::split_id(repo);
        Ok(Self {
            model: client.model(owner, model),
            client,
            name: revision.map_or_else(|| repo.to_owned(), |revision| format!("{repo}@{revision}")),
            revision: revision.unwrap_or("main").to_owned(),
            endpoint,
            cache,
            token_given: options.token.is_some(),
            progress: options.progress,
        })
    }

    /// The model as the cache has it, or what is missing there.
    fn cached(&self) -> Result<ModelFiles, String> {
        let snapshot = self.model.snapshot_download().revision(&self.revision).local_files_only(true).send();
        let dir = snapshot.map_err(|_| format!("no revision `{}`", self.revision))?;
        ModelFiles::local(dir).map_err(|error| match error {
            FeatureError::MissingFile { file, .. } => format!("no `{file}`"),
            other => other.to_string(),
        })
    }

    fn not_cached(&self, reason: String) -> FeatureError {
        FeatureError::NotCached { repo: self.name.clone(), cache: self.cache.clone(), reason }
    }

    fn download(&self) -> Result<ModelFiles, FeatureError> {
        self.reachable()?;
        let listed = self.model.list_tree().revision(&self.revision).recursive(true).send();
        let files: Vec<RemoteFile> = listed
            .map_err(|error| self.failure(error))?
            .into_iter()
            .filter_map(|entry| match entry {
                RepoTreeEntry::File { path, size, .. } => Some(RemoteFile { path, bytes: size }),
                RepoTreeEntry::Directory { .. } => None,
            })
            .collect();
        let wanted = select::wanted(&self.name, &files)?;

        let mut dir = self.snapshot(&wanted)?;
        // A file that was cut short, now or by an earlier run, is fetched once more.
        if remove_incomplete(&dir, &wanted).is_some() {
            dir = self.snapshot(&wanted)?;
            if let Some((file, found)) = remove_incomplete(&dir, &wanted) {
                let (repo, file, expected) = (self.name.clone(), file.path.clone(), file.bytes);
                return Err(FeatureError::Incomplete { repo, file, expected, found });
            }
        }
        ModelFiles::local(dir)
    }

    fn snapshot(&self, wanted: &[RemoteFile]) -> Result<PathBuf, FeatureError> {
        let reporter = self.progress.then(|| Reporter::fetching(&self.name));
        let sent = self
            .model
            .snapshot_download()
            .revision(&self.revision)
            .allow_patterns(wanted.iter().map(|file| file.path.clone()).collect())
            .maybe_progress(reporter)
            .send();
        sent.map_err(|error| self.failure(error))
    }

    /// Asks for a connection first: without this a network that swallows packets would hold the run for minutes.
    fn reachable(&self) -> Result<(), FeatureError> {
        match reach::attempt(&self.endpoint) {
            Ok(()) => Ok(()),
            Err(reach::Refusal::NoAddress) => Err(FeatureError::Endpoint { endpoint: self.endpoint.clone() }),
            Err(reach::Refusal::NoConnection(reason)) => Err(self.unreachable(reason)),
        }
    }
}

/// Takes files of a wrong size out of the cache; answers with the first of them and its size.
fn remove_incomplete<'a>(dir: &Path, wanted: &'a [RemoteFile]) -> Option<(&'a RemoteFile, u64)> {
    let mut first = None;
    for file in wanted {
        let path = dir.join(&file.path);
        let found = fs::metadata(&path).map_or(0, |data| data.len());
        if found != file.bytes {
            // The snapshot holds a link to the contents: both go, or the wrong contents would be found again.
            if let Ok(contents) = path.canonicalize() {
                let _ = fs::remove_file(contents);
            }
            let _ = fs::remove_file(&path);
            first = first.or(Some((file, found)));
        }
    }
    first
}
