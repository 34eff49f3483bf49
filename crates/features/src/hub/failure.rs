//! What an error of the Hub's client means to a user.

use std::error::Error;

use hf_hub::HFError;

use super::Hub;
use crate::FeatureError;

impl Hub {
    pub(super) fn unreachable(&self, reason: String) -> FeatureError {
        FeatureError::HubUnreachable { repo: self.name.clone(), endpoint: self.endpoint.clone(), reason }
    }

    pub(super) fn failure(&self, error: HFError) -> FeatureError {
        let failed = |reason: String| FeatureError::HubFailed {
            repo: self.name.clone(),
            endpoint: self.endpoint.clone(),
            reason,
        };
        match error {
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } | HFError::EntryNotFound { .. } => {
                self.not_found()
            }
            HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::RateLimited { context, .. }
            | HFError::Http { context } => match context.status.as_u16() {
                404 => self.not_found(),
                status @ (401 | 403) => self.denied(status),
                429 => failed("too many requests".to_owned()),
                status => {
                    let said = context.server_message.map(|said| format!(" ({said})")).unwrap_or_default();
                    failed(format!("it answered with status {status}{said}"))
                }
            },
            HFError::Request { source, .. } if source.is_connect() || source.is_timeout() => {
                self.unreachable(innermost(&source))
            }
            // A body that ends too early counts as undecodable too; only a complete one can be malformed.
            HFError::Request { source, .. } if causes(&source).any(|cause| cause.is::<serde_json::Error>()) => {
                failed(format!("its answer cannot be read ({})", innermost(&source)))
            }
            HFError::Request { source, .. } => {
                FeatureError::Interrupted { repo: self.name.clone(), reason: innermost(&source) }
            }
            HFError::Io(source) => FeatureError::Io { action: "write to the cache", path: self.cache.clone(), source },
            HFError::CacheLockTimeout { path } => {
                failed(format!("another process holds {}, probably to fetch the same model", path.display()))
            }
            other => failed(other.to_string()),
        }
    }

    fn not_found(&self) -> FeatureError {
        FeatureError::HubNotFound { repo: self.name.clone(), endpoint: self.endpoint.clone() }
    }

    fn denied(&self, status: u16) -> FeatureError {
        let advice = match (self.token_given, status) {
            (true, 401) => "the token is not valid, or the model does not exist; check HF_TOKEN and the name",
            (true, _) => "the token does not open it; accept the model's terms on its page, or ask its owner",
            (false, _) => {
                "it is private or gated, or the name is misspelt; check the name, and set HF_TOKEN to a token that may read it"
            }
        };
        FeatureError::HubDenied {
            repo: self.name.clone(),
            endpoint: self.endpoint.clone(),
            status,
            advice: advice.to_owned(),
        }
    }
}

/// An error, what caused it, what caused that, and so on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// The cause of the causes: "connection refused" rather than "error sending request".
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
