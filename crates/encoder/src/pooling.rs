//! How the vectors of a sequence's tokens become one.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::EncoderError;

/// How token vectors become the vector of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// The mean of all tokens.
    #[default]
    Mean,
    /// The first token, which BERT reserves for this.
    Cls,
    /// The largest value of each column.
    Max,
}

impl Pooling {
    /// Reads `1_Pooling/config.json`, in its old spelling (`"pooling_mode_mean_tokens": true`) or the new one
    /// (`"pooling_mode": "mean"`).
    ///
    /// # Errors
    /// [`EncoderError::Read`] if there is no such file, [`EncoderError::Config`] unless it names exactly one of the
    /// modes of this type.
    pub fn read(path: &Path) -> Result<Self, EncoderError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| EncoderError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| EncoderError::Config { path: path.to_owned(), reason })
    }

    /// Beside the mode, whether the tokens of a prompt count (`include_prompt`), and the width of the token vectors if it is given.
    pub(crate) fn details(path: &Path) -> Result<(bool, Option<usize>), EncoderError> {
        let invalid = |reason: String| EncoderError::Config { path: path.to_owned(), reason };
        let text =
            std::fs::read_to_string(path).map_err(|source| EncoderError::Read { path: path.to_owned(), source })?;
        let details: Details =
            serde_json::from_str(&text).map_err(|error| invalid(format!("not valid JSON: {error}")))?;
        let width = details.embedding_dimension.or(details.word_embedding_dimension);
        Ok((details.include_prompt.unwrap_or(true), width))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("not valid JSON: {error}"))?;
        let fields = value.as_object().ok_or("expected a JSON object")?;
        let modes: Vec<&str> = match fields.get("pooling_mode") {
            Some(Value::String(mode)) => vec![mode],
            Some(Value::Array(modes)) => modes.iter().filter_map(Value::as_str).collect(),
            Some(Value::Null) | None => fields
                .iter()
                .filter(|(_, on)| **on == Value::Bool(true))
                .filter_map(|(name, _)| name.strip_prefix("pooling_mode_"))
                .map(|name| name.trim_end_matches("_tokens").trim_end_matches("_token"))
                .collect(),
            Some(other) => {
                return Err(format!("pooling_mode is {other}; expected a string such as \"mean\""));
            }
        };
        match modes.as_slice() {
            ["mean"] => Ok(Self::Mean),
            ["cls"] => Ok(Self::Cls),
            ["max"] => Ok(Self::Max),
            other => Err(format!("the pooling mode is [{}]; supported: one of mean, cls, max", other.join(", "))),
        }
    }

    /// The contents of `1_Pooling/config.json`, in the spelling that every version of sentence-transformers reads.
    pub(crate) fn to_json(self, width: usize) -> Value {
        json!({
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": self == Self::Cls,
            "pooling_mode_mean_tokens": self == Self::Mean,
            "pooling_mode_max_tokens": self == Self::Max,
            "pooling_mode_mean_sqrt_len_tokens": false,
        })
    }
}

#[derive(Deserialize)]
struct Details {
    include_prompt: Option<bool>,
    embedding_dimension: Option<usize>,
    word_embedding_dimension: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        for (text, expected) in [
            (r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}"#, Pooling::Mean),
            (r#"{"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": true}"#, Pooling::Cls),
            (r#"{"pooling_mode_max_tokens": true, "include_prompt": true}"#, Pooling::Max),
            (r#"{"embedding_dimension": 3, "pooling_mode": "cls"}"#, Pooling::Cls),
            (r#"{"pooling_mode": ["max"]}"#, Pooling::Max),
        ] {
            assert_eq!(Pooling::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Max] {
            assert_eq!(Pooling::parse(&pooling.to_json(8).to_string()), Ok(pooling));
        }
    }

    #[test]
    fn other_modes_are_refused_by_name() {
        for (text, part) in [
            (r#"{"pooling_mode": "lasttoken"}"#, "lasttoken"),
            (r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#, "cls, mean"),
            (r#"{"pooling_mode_mean_sqrt_len_tokens": true}"#, "mean_sqrt_len"),
            (r#"{}"#, "supported"),
            (r#"[]"#, "object"),
            (r#"{"pooling_mode": 3}"#, "3"),
            ("{", "JSON"),
        ] {
            let message = Pooling::parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
