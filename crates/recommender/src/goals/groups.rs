//! Groups of items and what is their due.

use std::collections::BTreeMap;

use paretune_objectives::{Groups, ListGoal, Target};

use crate::{Corpus, RecommenderError};

/// Who offers the items, or what they are, and which share of the exposure each group ought to have.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemGroups {
    /// `[items]`: number of the item's group; `None` where it is not known.
    pub of: Vec<Option<u32>>,
    /// Names of the groups, ascending.
    pub names: Vec<String>,
    /// Share of the exposure that is each group's due; they sum to 1.
    pub due: Vec<f64>,
}

impl ItemGroups {
    /// The groups that a goal of exposure names.
    ///
    /// # Errors
    /// Items that have no such column, or nothing in it.
    pub fn new(corpus: &Corpus, goal: &ListGoal) -> Result<Self, RecommenderError> {
        let items = &corpus.dataset.items;
        let column = match goal.groups {
            Groups::Provider => items.provider.as_ref(),
            Groups::Category => items.category.as_ref(),
        };
        let missing =
            || RecommenderError::NoGroups { dataset: corpus.dataset.name.clone(), column: goal.groups.name() };
        let column = column.ok_or_else(missing)?;
        let engaged = corpus.summary().engagement();
        let mut groups: BTreeMap<&str, f64> = BTreeMap::new();
        for (item, name) in column.iter().enumerate() {
            let Some(name) = name else { continue };
            *groups.entry(name).or_default() += match goal.target {
                Target::Equal | Target::Items => 1.0,
                Target::Engagements => f64::from(engaged.get(item).copied().unwrap_or(0)),
            };
        }
        if goal.target == Target::Equal {
            groups.values_mut().for_each(|share| *share = 1.0);
        }
        let total: f64 = groups.values().sum();
        if total <= 0.0 {
            return Err(missing());
        }
        let numbers: BTreeMap<&str, u32> = groups.keys().copied().zip(0..).collect();
        Ok(Self {
            of: column.iter().map(|name| numbers.get(name.as_deref()?).copied()).collect(),
            names: groups.keys().map(|name| (*name).to_owned()).collect(),
            due: groups.values().map(|share| share / total).collect(),
        })
    }
}
