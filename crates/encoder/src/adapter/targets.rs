//! Which linear layers an adapter changes.

use crate::family::Architecture;

/// A test for names of linear layers.
pub(super) type Matcher = Box<dyn Fn(&str) -> bool>;

/// Linear layers by name, as `target_modules` of a `peft` configuration chooses them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Targets {
    /// Queries and values; the one matrix for queries, keys and values in models that have one.
    #[default]
    QueriesAndValues,
    /// Every linear layer of the transformer layers.
    All,
    /// Those whose name is one of these or ends with a dot and one of these: `query`, `attention.output.dense`.
    Names(Vec<String>),
    /// Those whose whole name matches a regular expression: `encoder\.layer\.[45]\..*\.(query|value)`.
    Pattern(String),
}

impl Targets {
    /// Those with these names.
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::Names(names.into_iter().map(Into::into).collect())
    }

    /// Names for a configuration file; none for a pattern.
    pub(super) fn spelled(&self, architecture: &Architecture) -> Option<Vec<String>> {
        let names = &architecture.names;
        let last = |stem: &&str| stem.rsplit('.').next().unwrap_or(stem).to_owned();
        match self {
            Self::QueriesAndValues => Some(match names.qkv {
                [one] => vec![last(one)],
                parts => parts.iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, stem)| last(stem)).collect(),
            }),
            // Whole stems: `output.dense` alone would also be the end of `attention.output.dense`, which is meant here anyway.
            Self::All => {
                let all = names.qkv.iter().chain([&names.out]).chain(names.wide).chain([&names.narrow]);
                Some(all.map(|stem| (*stem).to_owned()).collect())
            }
            Self::Names(names) => Some(names.clone()),
            Self::Pattern(_) => None,
        }
    }

    /// A test for whole names of linear layers.
    pub(super) fn matcher(&self, architecture: &Architecture) -> Result<Matcher, String> {
        if let Self::Pattern(pattern) = self {
            return whole(pattern);
        }
        let names = self.spelled(architecture).unwrap_or_default();
        Ok(Box::new(move |stem| names.iter().any(|name| is_end(stem, name))))
    }
}

/// Whether `name` is all of `stem`, or its end after a dot.
pub(super) fn is_end(stem: &str, name: &str) -> bool {
    stem.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A test whether a whole name matches.
pub(super) fn whole(pattern: &str) -> Result<Matcher, String> {
    let invalid = |error: fancy_regex::Error| format!("`{pattern}` is not a regular expression: {error}");
    let pattern = fancy_regex::Regex::new(&format!("^(?:{pattern})$")).map_err(invalid)?;
    Ok(Box::new(move |name| pattern.is_match(name).unwrap_or(false)))
}
