//! What goals of lists look at.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use paretune_objectives::{Goal, Objectives};

use super::ItemGroups;
use crate::{Corpus, Recommender, RecommenderError};

/// What the goals of a set of objectives look at of the catalogue. Training does not change it.
#[derive(Debug, Clone)]
pub struct ListFacts {
    /// `[items, width]`, rows of length one or zero: where items are near each other, they are alike.
    pub(super) vectors: Option<Tensor>,
    /// Groups of the objective at a position.
    pub(super) groups: BTreeMap<usize, ItemGroups>,
    /// `ln(1 + n) / ln(1 + max n)` of the engagements `n` in training.
    pub(super) popularity: Vec<f32>,
}

impl ListFacts {
    /// From the tables and, for diversity, vectors `[items, width]` that say how alike items are: those of the text encoder before training,
    /// or any others. Without vectors two items are alike where they share their category.
    ///
    /// # Errors
    /// Diversity with neither vectors nor categories, groups of which the items know nothing, not one vector for each item.
    pub fn new(
        corpus: &Corpus,
        objectives: &Objectives,
        vectors: Option<&Tensor>,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let items = corpus.dataset.items.len();
        let goals = || objectives.iter().enumerate().filter_map(|(k, objective)| Some((k, objective.goal.as_ref()?)));
        let mut groups = BTreeMap::new();
        for (k, goal) in goals().filter(|(_, goal)| goal.name == Goal::Exposure) {
            groups.insert(k, ItemGroups::new(corpus, goal)?);
        }
        let vectors = match goals().any(|(_, goal)| goal.name == Goal::Diversity) {
            true => Some(match vectors {
                Some(vectors) => unit(&vectors.to_device(device)?.to_dtype(DType::F32)?)?,
                None => by_category(corpus, device)?,
            }),
            false => None,
        };
        if let Some(found) = vectors.as_ref().map(|vectors| vectors.dims()[0]).filter(|found| *found != items) {
            let problem = format!("items, but {found} have a vector to compare them by");
            return Err(RecommenderError::Shape { field: "items", value: items, problem });
        }
        let counts = corpus.summary().engagement();
        let most = f64::from(counts.iter().copied().max().unwrap_or(0).max(1)).ln_1p();
        let popularity = counts.iter().map(|&count| (f64::from(count).ln_1p() / most) as f32).collect();
        Ok(Self { vectors, groups, popularity })
    }

    /// The vectors `[items, width]` by which items are compared, rows of length one or zero; where diversity is no goal there are none.
    pub fn vectors(&self) -> Option<&Tensor> {
        self.vectors.as_ref()
    }
}

/// Rows of length one; a row of zeros stays.
fn unit(rows: &Tensor) -> Result<Tensor, RecommenderError> {
    let lengths = (rows.sqr()?.sum_keepdim(1)? + 1e-24)?.sqrt()?;
    Ok(rows.broadcast_div(&lengths)?.detach())
}

/// One column for each category: items of one category are the same, others have nothing in common.
fn by_category(corpus: &Corpus, device: &Device) -> Result<Tensor, RecommenderError> {
    let missing = || RecommenderError::NoLikeness { dataset: corpus.dataset.name.clone() };
    let column = corpus.dataset.items.category.as_ref().ok_or_else(missing)?;
    let numbers: BTreeMap<&str, usize> = column.iter().flatten().map(|name| (name.as_str(), 0)).collect();
    let numbers: BTreeMap<&str, usize> = numbers.into_keys().zip(0..).collect();
    if numbers.is_empty() {
        return Err(missing());
    }
    let width = numbers.len();
    let mut values = vec![0f32; column.len() * width];
    for (item, name) in column.iter().enumerate() {
        if let Some(number) = name.as_deref().and_then(|name| numbers.get(name)) {
            values[item * width + number] = 1.0;
        }
    }
    Ok(Tensor::from_vec(values, (column.len(), width), device)?)
}

impl Recommender {
    /// The same model, to be trained for goals of lists too. They are no part of its files.
    pub fn with_list_facts(mut self, facts: ListFacts) -> Self {
        self.list_facts = Some(facts);
        self
    }

    /// What its goals of lists look at, where that was said.
    pub fn list_facts(&self) -> Option<&ListFacts> {
        self.list_facts.as_ref()
    }
}
