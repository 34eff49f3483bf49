//! Features of requests and samples, as batches hold them.

use std::collections::BTreeMap;
use std::sync::Arc;

use paretune_data::{
    CategoryTable, DataError, Dataset, FeatureKind, Moment, NewRow, Searches, Side, Split, Transforms,
};

/// Fitted features with what a batch needs to ask them: one code path for training, evaluation and serving.
pub(crate) struct FeatureRows {
    pub(crate) transforms: Arc<Transforms>,
    pub(crate) widths: FeatureWidths,
    /// Items that a `recent` feature looks back on, at most.
    pub(crate) recent: usize,
    /// What requests searched for, where a feature asks.
    searches: Option<Searches>,
}

/// Numbers and indices of each part of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeatureWidths {
    /// Numbers of user and moment.
    pub(crate) user_numbers: usize,
    /// Numbers of an item.
    pub(crate) item_numbers: usize,
    /// Indices of a user.
    pub(crate) user: usize,
    /// Indices of a moment, which stand behind those of the user.
    pub(crate) context: usize,
    /// Indices of an item.
    pub(crate) item: usize,
}

impl FeatureWidths {
    pub(crate) fn of(transforms: &Transforms) -> Self {
        let numbers = |side| transforms.numeric_names_of(side).len();
        let indices = |side| slots(&transforms.categorical_of(side));
        Self {
            user_numbers: numbers(Side::User) + numbers(Side::EventContext),
            item_numbers: numbers(Side::Item),
            user: indices(Side::User),
            context: indices(Side::EventContext),
            item: indices(Side::Item),
        }
    }

    /// Indices of a request.
    pub(crate) fn request(&self) -> usize {
        self.user + self.context
    }
}

fn slots(tables: &[CategoryTable]) -> usize {
    tables.iter().map(|table| table.slots as usize).sum()
}

impl FeatureRows {
    pub(crate) fn new(transforms: Arc<Transforms>, dataset: &Dataset, split: &Split) -> Result<Self, DataError> {
        let last = |kind: &FeatureKind| match kind {
            FeatureKind::Recent { last, .. } => Some(*last as usize),
            _ => None,
        };
        let recent = transforms.specs().iter().filter_map(|spec| last(&spec.kind)).max().unwrap_or(0);
        let asked = transforms.specs().iter().any(|spec| spec.column() == Some((Side::EventContext, "query")));
        let searches = match asked && dataset.events.query.is_some() {
            true => Some(Searches::new(dataset, split)?),
            false => None,
        };
        Ok(Self { widths: FeatureWidths::of(&transforms), recent, searches, transforms })
    }

    /// Appends what is known of a user of the tables at a moment, with the items they engaged with before, newest first.
    pub(crate) fn user(
        &self,
        user: u32,
        clock: i64,
        history: &[u32],
        numbers: &mut Vec<f32>,
        categories: &mut Vec<u32>,
    ) {
        self.transforms.user_with(user, history, numbers, categories);
        let searches = self.searches.as_ref();
        let query = searches.and_then(|all| Some(all.texts().get(all.at(user, clock)? as usize)?.as_str()));
        self.transforms.context(Moment { clock, query }, numbers, categories);
    }

    /// Appends what is known of somebody who is not in the tables.
    pub(crate) fn new_user(
        &self,
        columns: &BTreeMap<String, String>,
        moment: Moment<'_>,
        history: &[u32],
        numbers: &mut Vec<f32>,
        categories: &mut Vec<u32>,
    ) {
        let row = columns.iter().fold(NewRow::default(), |row, (column, value)| row.text(column, value));
        self.transforms.new_user(&row, history, numbers, categories);
        self.transforms.context(moment, numbers, categories);
    }

    /// Appends an item's numbers.
    pub(crate) fn item_numbers(&self, item: u32, numbers: &mut Vec<f32>) {
        self.transforms.item(item, numbers, &mut Vec::new());
    }

    /// Appends the numbers of an item of which nothing is known.
    pub(crate) fn new_item_numbers(&self, numbers: &mut Vec<f32>) {
        self.transforms.new_item(&NewRow::default(), numbers, &mut Vec::new());
    }

    /// Appends an item's numbers, and what its categories are crossed into with those of a request.
    pub(crate) fn item(&self, item: u32, request: &[u32], numbers: &mut Vec<f32>, pairs: &mut Vec<u32>) {
        let mut categories = Vec::with_capacity(self.widths.item);
        self.transforms.item(item, numbers, &mut categories);
        let (user, context) = request.split_at(self.widths.user.min(request.len()));
        self.transforms.pair(user, &categories, context, pairs);
    }
}
