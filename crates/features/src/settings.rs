//! `config_sentence_transformers.json`: what a model wants put before texts, and how its vectors are compared.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::files::{existing, malformed, read_json};
use crate::{FeatureError, ModelFiles};

/// How sentence-transformers is told to use a model: its prompts, and how its vectors are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentenceSettings {
    /// Texts to put before a text, by name. `query` and `document` are always there, empty where the model has none.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt for texts that come without one.
    pub default_prompt_name: Option<String>,
    /// `cosine`, `dot`, `euclidean` or `manhattan`; `None` means cosine.
    pub similarity_fn_name: Option<String>,
    /// How many of the first numbers of a vector are kept.
    pub truncate_dim: Option<usize>,
}

#[derive(Deserialize)]
struct Stored {
    prompts: Option<BTreeMap<String, Option<String>>>,
    default_prompt_name: Option<String>,
    similarity_fn_name: Option<String>,
    truncate_dim: Option<usize>,
}

impl ModelFiles {
    /// Reads `config_sentence_transformers.json`; without one, there are no prompts.
    ///
    /// # Errors
    /// [`FeatureError::Malformed`] if the file cannot be read or its default prompt is not among its prompts.
    pub fn sentence_settings(&self) -> Result<SentenceSettings, FeatureError> {
        let mut settings = SentenceSettings::default();
        for name in ["query", "document"] {
            settings.prompts.insert(name.to_owned(), String::new());
        }
        let Some(path) = existing(&self.dir, "config_sentence_transformers.json") else {
            return Ok(settings);
        };
        let stored: Stored = read_json(&path)?;
        let prompts = stored.prompts.into_iter().flatten();
        settings.prompts.extend(prompts.map(|(name, prompt)| (name, prompt.unwrap_or_default())));
        if let Some(name) = &stored.default_prompt_name
            && !settings.prompts.contains_key(name)
        {
            let known: Vec<&str> = settings.prompts.keys().map(String::as_str).collect();
            let reason = format!("default_prompt_name is `{name}`, but the prompts are {}", known.join(", "));
            return Err(malformed(&path, reason));
        }
        settings.default_prompt_name = stored.default_prompt_name;
        settings.similarity_fn_name = stored.similarity_fn_name;
        settings.truncate_dim = stored.truncate_dim;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<SentenceSettings, FeatureError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config_sentence_transformers.json"), text).unwrap();
        ModelFiles::unweighted(dir.path()).sentence_settings()
    }

    #[test]
    fn prompts_and_similarity_are_read() {
        let read = settings(
            r#"{"__version__": {"pytorch": "2"}, "prompts": {"query": "query: ", "passage": null, "document": ""},
                "default_prompt_name": "passage", "similarity_fn_name": "dot", "truncate_dim": 64}"#,
        )
        .unwrap();
        let prompts: Vec<_> = read.prompts.iter().map(|(name, prompt)| (name.as_str(), prompt.as_str())).collect();
        assert_eq!(prompts, [("document", ""), ("passage", ""), ("query", "query: ")]);
        assert_eq!((read.default_prompt_name.as_deref(), read.truncate_dim), (Some("passage"), Some(64)));
        assert_eq!(read.similarity_fn_name.as_deref(), Some("dot"));
    }

    #[test]
    fn models_without_settings_have_empty_prompts() {
        let none = ModelFiles::unweighted("/no/such/model").sentence_settings().unwrap();
        assert_eq!(none, settings("{}").unwrap());
        assert_eq!(none.prompts.len(), 2);
    }

    #[test]
    fn damaged_settings_are_refused_with_the_file() {
        for (text, part) in [
            ("{", "EOF"),
            (r#"{"prompts": ["a"]}"#, "map"),
            (r#"{"prompts": {"query": 3}}"#, "string"),
            (r#"{"default_prompt_name": "s2p"}"#, "document, query"),
            (r#"{"truncate_dim": -1}"#, "-1"),
        ] {
            let message = settings(text).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("config_sentence_transformers.json"), "{message}");
        }
    }
}
