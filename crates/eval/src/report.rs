//! The report of a run: one HTML file that needs nothing else, and tables for the terminal.
//!
//! Build a [`Report`] from plain values, then [`render`](Report::render) or [`save`](Report::save) it. All text is escaped, so
//! item titles and user ids can be passed as they are. Everything here implements serde's traits: a report can be stored as
//! JSON and rendered again later.

mod chart;
mod front;
mod page;
mod reliability;
mod scale;
mod scatter;
mod svg;
mod table;
mod view;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use chart::{Chart, Series};
pub use front::{FrontPoint, FrontSection};
pub use reliability::Reliability;
pub use table::{Cell, Table};

use crate::EvalError;

/// All that the page shows, in the order in which it shows it. Empty parts are left out.
///
/// ```
/// use paretune_eval::report::{Chart, Report, Series};
///
/// let losses = Chart::new("Loss", "step", "nats")
///     .series(Series::new("click", vec![(1.0, 0.69), (2.0, 0.52), (3.0, 0.47)]));
/// let page = Report::new("MovieLens & MiniLM").fact("seed", "7").curve(losses).render()?;
/// assert!(page.contains("MovieLens &amp; MiniLM"));
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// What the run found, in sentences.
    #[serde(default)]
    pub summary: Vec<String>,
    /// Name and value: data set, model, seconds, seed, …
    #[serde(default)]
    pub facts: Vec<(String, String)>,
    /// What a reader has to know to trust the numbers ("negatives were sampled").
    #[serde(default)]
    pub notes: Vec<String>,
    /// Tables of results.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// The trade-offs between objectives.
    #[serde(default)]
    pub front: Option<FrontSection>,
    /// Predicted probabilities against frequencies, a diagram for each objective.
    #[serde(default)]
    pub reliability: Vec<Reliability>,
    /// Losses and validation metrics over the training.
    #[serde(default)]
    pub curves: Vec<Chart>,
    /// Recommendations for a few users.
    #[serde(default)]
    pub examples: Vec<Example>,
    /// Tables about the data: what was read, dropped and split.
    #[serde(default)]
    pub cleaning: Vec<Table>,
    /// The resolved configuration, as text.
    #[serde(default)]
    pub config: Option<String>,
}

/// What one user had, and what the model recommends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The user's id.
    pub user: String,
    /// Titles of the user's last items, newest first.
    pub history: Vec<String>,
    /// Best first.
    pub recommendations: Vec<Recommendation>,
}

/// One recommended item.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The item's title.
    pub title: String,
    /// Objective and score. Bars are drawn relative to the largest score of the objective in the list.
    pub scores: Vec<(String, f64)>,
    /// Whether the user chose the item in the held-out part of the data.
    #[serde(default)]
    pub hit: bool,
}

impl Report {
    /// A report with only a heading.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds a sentence to the summary.
    #[must_use]
    pub fn summary(mut self, sentence: impl Into<String>) -> Self {
        self.summary.push(sentence.into());
        self
    }

    /// Adds a fact about the run.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.facts.push((name.into(), value.to_string()));
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a table of results.
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.tables.push(table);
        self
    }

    /// Sets the Pareto front.
    #[must_use]
    pub fn front(mut self, front: FrontSection) -> Self {
        self.front = Some(front);
        self
    }

    /// Adds a reliability diagram.
    #[must_use]
    pub fn reliability(mut self, diagram: Reliability) -> Self {
        self.reliability.push(diagram);
        self
    }

    /// Adds a chart of the training.
    #[must_use]
    pub fn curve(mut self, chart: Chart) -> Self {
        self.curves.push(chart);
        self
    }

    /// Adds a user's recommendations.
    #[must_use]
    pub fn example(mut self, example: Example) -> Self {
        self.examples.push(example);
        self
    }

    /// Adds a table about the data.
    #[must_use]
    pub fn cleaning(mut self, table: Table) -> Self {
        self.cleaning.push(table);
        self
    }

    /// Sets the configuration to show.
    #[must_use]
    pub fn config(mut self, config: impl Into<String>) -> Self {
        self.config = Some(config.into());
        self
    }

    /// The page: one HTML document with its style and its charts inside, without scripts or links to anything outside.
    ///
    /// # Errors
    /// [`EvalError::Template`] if the template cannot be filled.
    pub fn render(&self) -> Result<String, EvalError> {
        page::render(self)
    }

    /// Renders the page to a file, which is replaced in one step or not at all.
    ///
    /// # Errors
    /// As [`render`](Self::render); [`EvalError::Write`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), EvalError> {
        page::save(path.as_ref(), &self.render()?)
    }
}

#[cfg(test)]
mod tests;
