//! Tables and tokens, ready to be turned into batches.

use std::sync::Arc;

use paretune_data::{
    Behaviour, BehaviourConfig, DataError, Dataset, FeatureSpec, Histories, Items, Log, Searches, Split, Transforms,
};
use paretune_features::{Template, TextTokenizer, Tokenized};
use serde::{Deserialize, Serialize};

use crate::features::FeatureRows;
use crate::{RecommenderError, Summary, Totals};

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
    /// Whether requests come with what the user searched for, from the events' column `query`.
    #[serde(default)]
    pub search: bool,
    /// Features of columns, fitted on the training rows; none leaves behaviour features alone.
    #[serde(default)]
    pub features: Vec<FeatureSpec>,
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
    pub tokens: Arc<Tokenized>,
    /// What users searched for, and its tokens.
    pub(crate) searches: Option<(Searches, Tokenized)>,
    /// The configuration it was built with.
    pub config: CorpusConfig,
    /// What is known of the whole log, of which this may be a part.
    summary: Arc<Summary>,
    /// Features of columns, if there are any.
    pub(crate) features: Option<FeatureRows>,
}

impl Corpus {
    /// Renders and tokenizes every item and fits the behaviour features and those of the configuration on the training rows.
    ///
    /// # Errors
    /// A feedback column that does not exist, a template that names no field of the items, no column of queries where they are to be read, a
    /// feature that cannot be made, a tokenizer failure.
    pub fn new(
        dataset: Dataset,
        split: Split,
        tokenizer: &TextTokenizer,
        config: CorpusConfig,
    ) -> Result<Self, RecommenderError> {
        let tokens = Arc::new(Self::tokenize(&dataset.items, tokenizer, &config.template)?);
        let histories = Histories::new(&dataset, &split, &config.engaged)?;
        let behaviour = Behaviour::fit(
            &dataset,
            &split,
            BehaviourConfig { engaged: config.engaged.clone(), feedback: config.feedback.clone() },
        )?;
        let searches = match config.search {
            true => {
                let searches = Searches::new(&dataset, &split)?;
                let tokens = tokenizer.encode(searches.texts())?;
                Some((searches, tokens))
            }
            false => None,
        };
        let mut totals = Totals::new(&config, dataset.items.len());
        totals.add(&dataset.events, &split)?;
        let summary = Arc::new(totals.finish());
        let transforms = match config.features.as_slice() {
            [] => None,
            specs => Some(Arc::new(Transforms::fit(&dataset, &split, &histories, specs)?)),
        };
        let features = transforms.map(|transforms| FeatureRows::new(transforms, &dataset, &split)).transpose()?;
        Ok(Self { dataset, split, histories, behaviour, tokens, searches, config, summary, features })
    }

    /// The same with features that were fitted before, in place of its own: those of a saved model
    /// ([`Recommender::saved_features`](crate::Recommender::saved_features)), which must never be fitted again.
    ///
    /// # Errors
    /// When the split was made for another log.
    pub fn with_transforms(mut self, transforms: Arc<Transforms>) -> Result<Self, RecommenderError> {
        self.config.features = transforms.specs().to_vec();
        self.features = Some(FeatureRows::new(transforms, &self.dataset, &self.split)?);
        Ok(self)
    }

    /// The fitted features, if there are any.
    pub fn transforms(&self) -> Option<&Arc<Transforms>> {
        self.features.as_ref().map(|features| &features.transforms)
    }

    /// Renders and tokenizes every item.
    ///
    /// # Errors
    /// A template that names no field of the items, a tokenizer failure.
    pub fn tokenize(items: &Items, tokenizer: &TextTokenizer, template: &str) -> Result<Tokenized, RecommenderError> {
        let template = Template::parse(template)?;
        let texts: Vec<String> =
            (0..items.len() as u32).map(|item| template.render(|field| items.field(item, field))).collect();
        Ok(tokenizer.encode(&texts)?)
    }

    /// A part of a log that is too large for memory, of which `summary` knows the whole. There are no behaviour features: they would take
    /// the past of every item at every moment. `tokens` may be empty where items are known by their ids.
    ///
    /// # Errors
    /// A summary of another catalogue.
    pub fn of_log(
        (name, items): (&str, Items),
        log: Log,
        tokens: Arc<Tokenized>,
        summary: Arc<Summary>,
        config: CorpusConfig,
    ) -> Result<Self, RecommenderError> {
        if summary.engagement.len() != items.len() {
            let fault =
                format!("has {} entries, but the log was counted for {} items", items.len(), summary.engagement.len());
            let (dataset, table, column) = (name.to_owned(), "items", "item_id".to_owned());
            return Err(DataError::Inconsistent { dataset, table, column, fault }.into());
        }
        let Log { users, events, split, histories } = log;
        let columns = BehaviourConfig { engaged: config.engaged.clone(), feedback: config.feedback.clone() };
        Ok(Self {
            dataset: Dataset { name: name.to_owned(), items, users, events },
            split,
            histories,
            behaviour: Behaviour::silent(columns),
            tokens,
            searches: None,
            config,
            summary,
            features: None,
        })
    }

    /// Puts another part of the log in the place of this one.
    pub fn turn_to(&mut self, log: Log) {
        let Log { users, events, split, histories } = log;
        (self.dataset.users, self.dataset.events) = (users, events);
        (self.split, self.histories) = (split, histories);
    }

    /// What is known of the whole log.
    pub fn summary(&self) -> &Arc<Summary> {
        &self.summary
    }

    /// Whether the log holds nothing but engagement: without sampled negatives there is nothing to tell apart.
    pub fn only_positives(&self) -> bool {
        self.summary.only_positives
    }

    /// Whether each item occurs in a training row.
    pub fn met_in_training(&self) -> Vec<bool> {
        self.summary.met.clone()
    }

    /// Number of values that describe one event of a history: observed and value for each feedback column, a time and a place.
    pub fn event_width(&self) -> usize {
        2 * self.config.feedback.len() + 2
    }

    /// Which of them is the place.
    pub(crate) fn place_column(&self) -> usize {
        2 * self.config.feedback.len() + 1
    }

    /// Number of values that describe the user and the context of a request.
    pub fn user_width(&self) -> usize {
        let numbers = self.features.as_ref().map_or(0, |features| features.widths.user_numbers);
        self.behaviour.user_names().len() + self.behaviour.context_names().len() + numbers
    }

    /// Number of values that describe an item at a moment.
    pub fn item_width(&self) -> usize {
        let numbers = self.features.as_ref().map_or(0, |features| features.widths.item_numbers);
        self.behaviour.item_names().len() + numbers
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
