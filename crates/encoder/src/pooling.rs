//! How the vectors of a sequence's tokens become one.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::EncoderError;
use crate::family::ModelConfig;
use crate::file;

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
    /// The last token, the only one that has seen all others in a causal model.
    LastToken,
    /// The sum of all tokens over the root of their number.
    MeanSqrtLength,
    /// The mean with the weights 1, 2, 3, …: later tokens, which have seen more in a causal model, count for more
    /// (Muennighoff 2022, "SGPT").
    WeightedMean,
}

impl Pooling {
    /// All of them, in the order of sentence-transformers.
    pub const ALL: [Self; 6] =
        [Self::Cls, Self::Max, Self::Mean, Self::MeanSqrtLength, Self::WeightedMean, Self::LastToken];

    /// The name in sentence-transformers' files: `cls`, `max`, `mean`, `mean_sqrt_len_tokens`, `weightedmean` or `lasttoken`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::MeanSqrtLength => "mean_sqrt_len_tokens",
            Self::WeightedMean => "weightedmean",
            Self::LastToken => "lasttoken",
        }
    }

    /// The switch of the old spelling.
    fn switch(self) -> &'static str {
        match self {
            Self::Cls => "pooling_mode_cls_token",
            Self::Max => "pooling_mode_max_tokens",
            Self::Mean => "pooling_mode_mean_tokens",
            Self::MeanSqrtLength => "pooling_mode_mean_sqrt_len_tokens",
            Self::WeightedMean => "pooling_mode_weightedmean_tokens",
            Self::LastToken => "pooling_mode_lasttoken",
        }
    }

    /// What a model without a pooling configuration is pooled by: the last token where each sees only what is before it, else the mean.
    pub(crate) fn usual(config: &ModelConfig) -> Self {
        if config.is_causal() { Self::LastToken } else { Self::Mean }
    }

    /// Reads `1_Pooling/config.json`, in its old spelling (`"pooling_mode_mean_tokens": true`) or the new one
    /// (`"pooling_mode": "mean"`).
    ///
    /// # Errors
    /// [`EncoderError::Read`] if there is no such file, [`EncoderError::Config`] unless it names exactly one of the
    /// modes of this type.
    pub fn read(path: &Path) -> Result<Self, EncoderError> {
        let text = file::text(path)?;
        Self::parse(&text).map_err(|reason| EncoderError::Config { path: path.to_owned(), reason })
    }

    /// Beside the mode, whether the tokens of a prompt count (`include_prompt`), and the width of the token vectors if it is given.
    pub(crate) fn details(path: &Path) -> Result<(bool, Option<usize>), EncoderError> {
        let invalid = |reason: String| EncoderError::Config { path: path.to_owned(), reason };
        let text = file::text(path)?;
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
                .filter(|(name, _)| name.starts_with("pooling_mode_"))
                .map(|(switch, _)| {
                    Self::ALL.iter().find(|mode| mode.switch() == switch).map_or(&**switch, |mode| mode.name())
                })
                .collect(),
            Some(other) => {
                return Err(format!("pooling_mode is {other}; expected a string such as \"mean\""));
            }
        };
        let known = match modes.as_slice() {
            [name] => Self::ALL.into_iter().find(|mode| mode.name() == *name),
            _ => None,
        };
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("the pooling mode is [{}]; supported: one of {names}", modes.join(", "))
        })
    }

    /// The contents of `1_Pooling/config.json`, in the spelling that every version of sentence-transformers reads.
    pub(crate) fn to_json(self, width: usize) -> Value {
        let mut json = json!({ "word_embedding_dimension": width });
        for mode in Self::ALL {
            json[mode.switch()] = json!(self == mode);
        }
        json
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
            (r#"{"pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": false}"#, Pooling::LastToken),
            (r#"{"pooling_mode": "lasttoken", "include_prompt": true}"#, Pooling::LastToken),
            (r#"{"pooling_mode_mean_sqrt_len_tokens": true}"#, Pooling::MeanSqrtLength),
            (r#"{"pooling_mode": "mean_sqrt_len_tokens"}"#, Pooling::MeanSqrtLength),
            (r#"{"pooling_mode_weightedmean_tokens": true}"#, Pooling::WeightedMean),
            (r#"{"pooling_mode": "weightedmean"}"#, Pooling::WeightedMean),
        ] {
            assert_eq!(Pooling::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for pooling in Pooling::ALL {
            assert_eq!(Pooling::parse(&pooling.to_json(8).to_string()), Ok(pooling));
        }
    }

    #[test]
    fn other_modes_are_refused_by_name() {
        for (text, part) in [
            (r#"{"pooling_mode": "median"}"#, "median"),
            (r#"{"pooling_mode_median_tokens": true}"#, "pooling_mode_median_tokens"),
            (r#"{"pooling_mode": ["mean", "lasttoken"]}"#, "mean, lasttoken"),
            (r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#, "cls, mean"),
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
