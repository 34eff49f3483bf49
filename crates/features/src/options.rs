//! How models are fetched.

use std::fmt;
use std::path::PathBuf;

/// Where and how to fetch a model from the Hub, or to upload one to it.
///
/// [`Default`] follows the environment as Python's `huggingface_hub` does: `HF_HUB_CACHE` or `HF_HOME` for the cache,
/// `HF_ENDPOINT`, `HF_TOKEN` (else the login stored on this machine: the file `HF_TOKEN_PATH` or `HF_HOME/token`) and
/// `HF_HUB_OFFLINE`; progress is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// The folder that holds `models--org--name` folders; `None` means the user's own cache.
    pub cache: Option<PathBuf>,
    /// Address of the Hub or a mirror; `None` means `https://huggingface.co`.
    pub endpoint: Option<String>,
    /// Access token; `None` means the one that `HF_TOKEN` or a login stored on this machine gives, if any.
    pub token: Option<String>,
    /// Use only what the cache holds; open no connection.
    pub offline: bool,
    /// Show progress on stderr: a bar on a terminal, a few plain lines elsewhere.
    pub progress: bool,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }
}

impl FetchOptions {
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let folder = |name: &str| given(name).map(PathBuf::from);
        let home = || {
            folder("HF_HOME")
                .or_else(|| folder("XDG_CACHE_HOME").map(|dir| dir.join("huggingface")))
                .or_else(|| folder("HOME").map(|dir| dir.join(".cache/huggingface")))
        };
        Self {
            cache: folder("HF_HUB_CACHE")
                .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
                .or_else(|| home().map(|dir| dir.join("hub"))),
            endpoint: given("HF_ENDPOINT"),
            token: given("HF_TOKEN").or_else(|| {
                // As Python and hf-hub do: for who does not want the stored login to be sent wherever an endpoint points.
                let switched_off = given("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_yes(&value));
                let path = folder("HF_TOKEN_PATH").or_else(|| home().map(|dir| dir.join("token")));
                let stored = path.filter(|_| !switched_off).and_then(|path| std::fs::read_to_string(path).ok());
                stored.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
            }),
            offline: given("HF_HUB_OFFLINE").is_some_and(|value| is_yes(&value)),
            progress: true,
        }
    }
}

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
}

impl fmt::Debug for FetchOptions {
    /// Shows that there is a token, never the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchOptions")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("progress", &self.progress)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> FetchOptions {
        FetchOptions::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_is_read_as_python_reads_it() {
        let cache = |variables: &[(&str, &str)]| from(variables).cache.map(|path| path.display().to_string());
        assert_eq!(cache(&[("HF_HUB_CACHE", "/a"), ("HF_HOME", "/b")]).as_deref(), Some("/a"));
        assert_eq!(cache(&[("HF_HOME", "/b"), ("HOME", "/c")]).as_deref(), Some("/b/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HOME", "/c")]).as_deref(), Some("/c/.cache/huggingface/hub"));
        assert_eq!(cache(&[]), None);

        let options = from(&[("HF_ENDPOINT", "http://mirror"), ("HF_TOKEN", "hf_x")]);
        assert_eq!((options.endpoint.as_deref(), options.token.as_deref()), (Some("http://mirror"), Some("hf_x")));
        assert_eq!(from(&[("HF_TOKEN", " ")]).token, None);
    }

    #[test]
    fn a_stored_login_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (home, other) = (dir.path().to_str().unwrap(), dir.path().join("other"));
        std::fs::write(dir.path().join("token"), "hf_home\n").unwrap();
        std::fs::write(&other, " hf_other").unwrap();
        let token = |variables: &[(&str, &str)]| from(variables).token;
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("hf_home"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "hf_x")]).as_deref(), Some("hf_x"));
        let path = ("HF_TOKEN_PATH", other.to_str().unwrap());
        assert_eq!(token(&[("HF_HOME", home), path]).as_deref(), Some("hf_other"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_HOME", "/no/such/folder")]), None);
    }

    #[test]
    fn offline_takes_the_usual_words() {
        for (value, offline) in [("1", true), ("TRUE", true), ("on", true), ("0", false), ("", false), ("no", false)] {
            assert_eq!(from(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value:?}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let shown = format!("{:?}", from(&[("HF_TOKEN", "hf_secret")]));
        assert!(shown.contains("token") && !shown.contains("secret"), "{shown}");
    }
}
