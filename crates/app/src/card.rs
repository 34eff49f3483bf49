//! The model card of an uploaded run: what the Hub shows of it, and what a reader has to know before using it.
//!
//! It holds counts and measurements, never a row of the data, and no path of this machine.

mod front_matter;
mod text;

use std::collections::BTreeMap;

use paretune_features::RepoName;
use serde::Deserialize;

use crate::config::RunConfig;

/// Metric → method → value.
type Rows = BTreeMap<String, BTreeMap<String, f64>>;

/// What a run measured, as its `metrics.json` holds it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Measured {
    pub(crate) dataset: String,
    /// Objective → metric → method → value.
    pub(crate) objectives: BTreeMap<String, Rows>,
    #[serde(default)]
    pub(crate) cold: BTreeMap<String, Rows>,
    #[serde(default)]
    pub(crate) shown: Rows,
    #[serde(default)]
    pub(crate) ranking: Rows,
    #[serde(default)]
    pub(crate) list: Rows,
    pub(crate) steps: usize,
    pub(crate) test_rows: usize,
    pub(crate) ranked_users: usize,
}

/// The encoder that is uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Its `model_type`.
    pub(crate) family: String,
    pub(crate) layers: usize,
    pub(crate) parameters: usize,
    pub(crate) width: usize,
    /// As sentence-transformers calls it.
    pub(crate) pooling: String,
    pub(crate) normalizes: bool,
    pub(crate) max_length: Option<usize>,
}

/// Rows of the tables that the run was made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) items: usize,
    pub(crate) users: usize,
    pub(crate) events: usize,
}

/// What the run started from.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    /// As a reader knows it.
    pub(crate) name: String,
    /// Its name on the Hub, if it is there.
    pub(crate) hub: Option<String>,
}

/// Everything that the card says.
pub(crate) struct Card<'a> {
    pub(crate) repo: &'a RepoName,
    /// Without paths of this machine.
    pub(crate) config: &'a RunConfig,
    pub(crate) measured: &'a Measured,
    pub(crate) base: Base,
    pub(crate) shape: Shape,
    pub(crate) counts: Counts,
    /// Identifiers of the Hub, such as `apache-2.0`.
    pub(crate) license: Option<String>,
    pub(crate) languages: Vec<String>,
    /// Data sets of the Hub.
    pub(crate) datasets: Vec<String>,
    /// Whether the whole recommender lies beside the encoder.
    pub(crate) with_run: bool,
}

impl Card<'_> {
    /// The text of `README.md`.
    pub(crate) fn render(&self) -> anyhow::Result<String> {
        Ok(format!("{}\n{}", front_matter::of(self), text::of(self)?))
    }
}

/// Words as they can stand in a line of Markdown, in a table too.
fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "'").replace('*', "\\*")
}

/// Words as code, in a table too.
fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // A backslash before a bar would undo the bar's own.
    format!("`{}`", text.replace('`', "'").replace("\\|", "\\ |").replace('|', "\\|"))
}

#[cfg(test)]
mod tests;
