//! Tables and tokens, ready to be turned into batches.

use paretune_data::{Behaviour, BehaviourConfig, Dataset, Histories, Part, Split};
use paretune_features::{Template, TextTokenizer, Tokenized};
use serde::{Deserialize, Serialize};

use crate::RecommenderError;

/// What of the tables the model reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// Feedback column whose positive value puts an event into its user's history.
    pub engaged: String,
    /// Feedback columns that describe the events of a history, in this order.
    pub feedback: Vec<String>,
    /// How many past events the user tower sees.
    pub history: usize,
    /// How the user model reads histories, from [`UserKind::reading`](crate::UserKind::reading).
    #[serde(default)]
    pub reading: Reading,
    /// How an item's fields become its text.
    pub template: String,
}

/// How a user model reads histories: what requests of one user can share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// A history for each request, its events described by how long ago they were and by their rank.
    #[default]
    Each,
    /// One sequence for all requests of a user, each of which reads it up to its own moment. Events are described by the time since the
    /// one before and by their place, which do not depend on who asks when.
    Prefixes,
    /// As [`Self::Prefixes`] describes events; in training, events of a sequence are hidden and asked for.
    Cloze,
}

/// A data set with its split, its histories, its behaviour features and the tokens of its item texts.
pub struct Corpus {
    /// The tables.
    pub dataset: Dataset,
    /// Which rows train, and the clock.
    pub split: Split,
    /// What each user engaged with, by the clock.
    pub histories: Histories,
    /// Features with a cut-off time.
    pub behaviour: Behaviour,
    /// Item texts as tokens, one sequence an item.
    pub tokens: Tokenized,
    /// The configuration it was built with.
    pub config: CorpusConfig,
    /// Mean and standard deviation of each feedback column over the training rows.
    pub(crate) feedback: Vec<(f32, f32)>,
    /// Mean log position over the training rows that have one.
    pub(crate) log_position: f32,
    /// One past the last clock of the log: the present.
    pub(crate) end: i64,
}

impl Corpus {
    /// Renders and tokenizes every item and fits the behaviour features on the training rows.
    ///
    /// # Errors
    /// A feedback column that does not exist, a template that names no field of the items, a tokenizer failure.
    pub fn new(
        dataset: Dataset,
        split: Split,
        tokenizer: &TextTokenizer,
        config: CorpusConfig,
    ) -> Result<Self, RecommenderError> {
        let template = Template::parse(&config.template)?;
        let texts: Vec<String> = (0..dataset.items.len() as u32)
            .map(|item| template.render(|field| dataset.items.field(item, field)))
            .collect();
        let tokens = tokenizer.encode(&texts)?;
        let histories = Histories::new(&dataset, &split, &config.engaged)?;
        let behaviour = Behaviour::fit(
            &dataset,
            &split,
            BehaviourConfig { engaged: config.engaged.clone(), feedback: config.feedback.clone() },
        )?;
        let train = split.rows(Part::Train);
        let feedback = config.feedback.iter().map(|name| moments(dataset.events.feedback.get(name), &train)).collect();
        let log_position = mean_log_position(&dataset, &train);
        let end = split.end();
        Ok(Self { dataset, split, histories, behaviour, tokens, config, feedback, log_position, end })
    }

    /// Whether the log holds nothing but engagement: without sampled negatives there is nothing to tell apart.
    pub fn only_positives(&self) -> bool {
        let column = self.dataset.events.feedback.get(&self.config.engaged);
        column.is_some_and(|column| column.iter().all(|value| *value > 0.0 || value.is_nan()))
    }

    /// How often each item was engaged with in training.
    pub fn engagements(&self) -> Vec<u32> {
        let events = &self.dataset.events;
        let mut counts = vec![0; self.dataset.items.len()];
        let column = events.feedback.get(&self.config.engaged);
        for row in self.split.rows(Part::Train) {
            if column.is_some_and(|column| column[row as usize] > 0.0) {
                counts[events.item[row as usize] as usize] += 1;
            }
        }
        counts
    }

    /// Whether each item occurs in a training row.
    pub fn met_in_training(&self) -> Vec<bool> {
        let mut met = vec![false; self.dataset.items.len()];
        for row in self.split.rows(Part::Train) {
            met[self.dataset.events.item[row as usize] as usize] = true;
        }
        met
    }

    /// Number of values that describe one event of a history: observed and value for each feedback column, a time and a place.
    pub fn event_width(&self) -> usize {
        2 * self.config.feedback.len() + 2
    }

    /// Number of values that describe the user and the context of a request.
    pub fn user_width(&self) -> usize {
        self.behaviour.user_names().len() + self.behaviour.context_names().len()
    }

    /// Number of values that describe an item at a moment.
    pub fn item_width(&self) -> usize {
        self.behaviour.item_names().len()
    }

    /// Index of a user by id.
    ///
    /// # Errors
    /// An id that is not in the table.
    pub fn user(&self, id: &str) -> Result<u32, RecommenderError> {
        find("user", &self.dataset.users.ids, id)
    }

    /// Index of an item by id.
    ///
    /// # Errors
    /// An id that is not in the table.
    pub fn item(&self, id: &str) -> Result<u32, RecommenderError> {
        find("item", &self.dataset.items.ids, id)
    }

    /// What to call an item in front of people: its title, else its first text, else its id.
    pub fn title(&self, item: u32) -> &str {
        let items = &self.dataset.items;
        ["title", "name", "text"]
            .into_iter()
            .chain(items.text.keys().map(String::as_str))
            .find_map(|field| items.field(item, field).filter(|text| !text.is_empty()))
            .or_else(|| items.ids.get(item as usize).map(String::as_str))
            .unwrap_or("")
    }
}

fn find(kind: &'static str, ids: &[String], id: &str) -> Result<u32, RecommenderError> {
    ids.iter().position(|known| known == id).map(|at| at as u32).ok_or_else(|| RecommenderError::Unknown {
        kind,
        id: id.into(),
        known: ids.len(),
        examples: ids.iter().take(3).cloned().collect::<Vec<_>>().join(", "),
    })
}

fn mean_log_position(dataset: &Dataset, rows: &[u32]) -> f32 {
    let Some(positions) = &dataset.events.position else { return 0.0 };
    let known: Vec<f64> =
        rows.iter().map(|&row| positions[row as usize]).filter(|&p| p > 0).map(|p| f64::from(p).ln()).collect();
    (known.iter().sum::<f64>() / known.len().max(1) as f64) as f32
}

fn moments(column: Option<&Vec<f32>>, rows: &[u32]) -> (f32, f32) {
    let (mut n, mut sum, mut squares) = (0.0f64, 0.0f64, 0.0f64);
    for value in rows.iter().filter_map(|&row| column?.get(row as usize)).filter(|value| value.is_finite()) {
        n += 1.0;
        sum += f64::from(*value);
        squares += f64::from(*value).powi(2);
    }
    let mean = sum / n.max(1.0);
    let deviation = (squares / n.max(1.0) - mean * mean).max(0.0).sqrt();
    (mean as f32, if deviation > 1e-6 { deviation as f32 } else { 1.0 })
}
