//! Uploading a model: the repository, the branch, then everything in one commit.

use hf_hub::repository::CommitOperation;
use hf_hub::{HFError, RepoTypeModel};

use super::failure::innermost;
use super::progress::Reporter;
use super::{Hub, reach};
use crate::{FeatureError, FetchOptions, Upload, Uploaded};

/// Sends an upload.
pub(crate) fn upload(upload: &Upload, options: &FetchOptions) -> Result<Uploaded, FeatureError> {
    let repo = upload.repo.to_string();
    let refuse = |reason: &str| FeatureError::UploadRefused { repo: repo.clone(), reason: reason.to_owned() };
    if options.offline {
        return Err(refuse("nothing is sent while offline; unset HF_HUB_OFFLINE"));
    }
    if options.token.is_none() {
        return Err(refuse(
            "there is no token; make one that may write at https://huggingface.co/settings/tokens and set HF_TOKEN to it",
        ));
    }
    if !is_branch(&upload.branch) {
        return Err(refuse(&format!("`{}` cannot be the name of a branch", upload.branch)));
    }
    let hub = Hub::open(&repo, None, options)?;
    let mut sending = Sending { url: format!("{}/{repo}", hub.endpoint), hub, upload, stage: Stage::Nothing };
    match sending.run() {
        Ok(done) => Ok(done),
        Err(failure) => Err(sending.describe(failure)),
    }
}

/// Whether git and the Hub take it as the name of a branch, and it is one: not a commit, and not the branch of a pull request.
fn is_branch(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
            && !part.ends_with(".lock")
            && !part.contains("..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let commit = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    !commit && !name.starts_with("refs/") && name.split('/').all(plain)
}

/// How far an upload came: what is on the Hub when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No request was answered yet.
    Nothing,
    /// The repository is there; whether it was made for this upload.
    Repository { created: bool },
    /// The commit was asked for: its answer may have been lost.
    Commit { created: bool },
}

enum Failure {
    /// What the user can mend.
    Refused(String),
    Failed(String),
    Endpoint,
}

struct Sending<'a> {
    hub: Hub,
    upload: &'a Upload,
    url: String,
    stage: Stage,
}

impl Sending<'_> {
    fn run(&mut self) -> Result<Uploaded, Failure> {
        match reach::attempt(&self.hub.endpoint) {
            Ok(()) => {}
            Err(reach::Refusal::NoAddress) => return Err(Failure::Endpoint),
            Err(reach::Refusal::NoConnection(reason)) => {
                return Err(Failure::Failed(format!("no connection ({reason}); check the network or HF_ENDPOINT")));
            }
        }
        let created = self.repository()?;
        self.stage = Stage::Repository { created };
        if self.upload.branch != "main" {
            self.branch()?;
        }
        let progress = self.hub.progress.then(|| Reporter::sending(&self.upload.repo.to_string()));
        let add = |file: &crate::UploadFile| CommitOperation::add_file(&file.path, &file.source);
        self.stage = Stage::Commit { created };
        let commit = self
            .hub
            .model
            .create_commit()
            .operations(self.upload.files.iter().map(add).collect())
            .commit_message(&self.upload.message)
            .revision(&self.upload.branch)
            .maybe_progress(progress)
            .send();
        let commit = commit.map_err(|error| self.mean(error))?;
        Ok(Uploaded { url: self.url.clone(), commit: commit.commit_oid, created })
    }

    /// Makes the repository if there is none; whether there was none.
    fn repository(&self) -> Result<bool, Failure> {
        let name = self.upload.repo.to_string();
        let made = self
            .hub
            .client
            .create_repository()
            .repo_id(&name)
            .repo_type(RepoTypeModel)
            .private(self.upload.private)
            .send();
        let refusal = match made {
            Ok(_) => return Ok(true),
            Err(HFError::Conflict { .. }) => None,
            // Who may write to a repository need not be allowed to make one beside it.
            Err(error @ HFError::Forbidden { .. }) => Some(error),
            Err(error) => return Err(self.mean(error)),
        };
        let info = match self.hub.model.info().send() {
            Ok(info) => info,
            Err(error) => return Err(self.mean(refusal.unwrap_or(error))),
        };
        if self.upload.private && info.private != Some(true) {
            return Err(Failure::Refused(
                "it exists already and is public, and --private would not hide it; make it private on its page, or take another name".into(),
            ));
        }
        Ok(false)
    }

    fn branch(&self) -> Result<(), Failure> {
        match self.hub.model.create_branch().branch(&self.upload.branch).send() {
            Ok(()) | Err(HFError::Conflict { .. }) => Ok(()),
            Err(error) => Err(self.mean(error)),
        }
    }

    /// What an error of the Hub's client means here.
    fn mean(&self, error: HFError) -> Failure {
        let owner = self.upload.repo.owner();
        match error {
            HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Conflict { context }
            | HFError::RateLimited { context, .. }
            | HFError::Http { context } => {
                let said = context.server_message.map(|said| format!(" ({})", said.trim())).unwrap_or_default();
                match context.status.as_u16() {
                    401 => Failure::Refused(format!("the token is not valid{said}; check HF_TOKEN")),
                    403 => Failure::Refused(format!(
                        "the token may not write there{said}; take one with the right to write to `{owner}`"
                    )),
                    404 => Failure::Refused(format!(
                        "`{owner}` is not known{said}; check the name, and who the token belongs to"
                    )),
                    409 | 412 => Failure::Failed(format!("it was changed by somebody else at the same time{said}")),
                    429 => Failure::Failed(format!("too many requests{said}")),
                    status @ 400..=499 => Failure::Refused(format!("the Hub does not take it: status {status}{said}")),
                    status => Failure::Failed(format!("the Hub answered with status {status}{said}")),
                }
            }
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => Failure::Refused(format!(
                "the Hub says that it does not exist; check the name, and that the token may write to `{owner}`"
            )),
            HFError::Request { source, .. } => Failure::Failed(innermost(&source)),
            other => Failure::Failed(innermost(&other)),
        }
    }

    fn describe(&self, failure: Failure) -> FeatureError {
        let (repo, endpoint) = (self.upload.repo.to_string(), self.hub.endpoint.clone());
        let url = &self.url;
        let left = match self.stage {
            Stage::Nothing => "Nothing was sent; run again".to_owned(),
            Stage::Repository { created: true } => format!("{url} was made and is empty; run again to fill it"),
            Stage::Repository { created: false } => format!("No file of {url} was changed; run again"),
            Stage::Commit { created } => {
                let before = if created { "empty" } else { "as it was" };
                format!(
                    "A commit holds all files or none: {url} is {before}, unless only the last answer was lost; look there and run again"
                )
            }
        };
        match failure {
            Failure::Endpoint => FeatureError::Endpoint { endpoint },
            Failure::Failed(reason) => FeatureError::UploadFailed { repo, endpoint, reason, left },
            Failure::Refused(reason) => {
                let made = matches!(self.stage, Stage::Repository { created: true } | Stage::Commit { created: true });
                let reason = if made { format!("{reason}. {url} was made and is empty") } else { reason };
                FeatureError::UploadRefused { repo, reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_branch;

    #[test]
    fn branches_are_told_from_other_names() {
        for name in ["main", "v2", "feature/new-data", "a_b.c"] {
            assert!(is_branch(name), "{name}");
        }
        for wrong in
            ["", "/", "a//b", "a b", "..", "-x", "x.lock", "refs/pr/1", "00112233445566778899aabbccddeeff00112233"]
        {
            assert!(!is_branch(wrong), "{wrong}");
        }
    }
}
