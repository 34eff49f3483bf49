//! The canonical tables: items, users, events.
//!
//! Ids are strings in files and dense indices (`u32`) in memory. A missing feedback value is `NaN`: not observed, not zero.

use std::collections::BTreeMap;

/// A clean data set in memory.
///
/// Beware of `==`: a missing feedback value is `NaN`, which equals nothing, itself included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dataset {
    /// Short name, for reports.
    pub name: String,
    /// What can be recommended.
    pub items: Items,
    /// Who it is recommended to.
    pub users: Users,
    /// What happened: one row for one user meeting one item.
    pub events: Events,
}

/// The catalogue. Every column has [`Items::len`] entries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Items {
    /// Unique ids, as in the raw data.
    pub ids: Vec<String>,
    /// Text columns by name (title, description, …).
    pub text: BTreeMap<String, Vec<Option<String>>>,
    /// Who offers the item; exposure fairness counts by it.
    pub provider: Option<Vec<Option<String>>>,
    /// One category of the item.
    pub category: Option<Vec<Option<String>>>,
    /// Price in the currency of the data set.
    pub price: Option<Vec<Option<f64>>>,
    /// When the item appeared, in seconds since 1970.
    pub created_at: Option<Vec<Option<i64>>>,
}

impl Items {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The text of one field of one item. The canonical columns `provider` and `category` count as fields too.
    pub fn field(&self, item: u32, name: &str) -> Option<&str> {
        let column = match name {
            "provider" => self.provider.as_ref(),
            "category" => self.category.as_ref(),
            _ => None,
        };
        self.text.get(name).or(column)?.get(item as usize)?.as_deref()
    }
}

/// The users. Every column has [`Users::len`] entries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Users {
    /// Unique ids, as in the raw data.
    pub ids: Vec<String>,
    /// Any further columns, by name.
    pub columns: BTreeMap<String, UserColumn>,
}

impl Users {
    /// Number of users.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Users {
    /// Appends a user of whom nothing but the id is known.
    pub(crate) fn push_unknown(&mut self, id: String) {
        self.ids.push(id);
        for column in self.columns.values_mut() {
            match column {
                UserColumn::Categorical(values) => values.push(None),
                UserColumn::Numeric(values) => values.push(None),
            }
        }
    }
}

/// A column that describes users.
#[derive(Debug, Clone, PartialEq)]
pub enum UserColumn {
    /// A name out of a set.
    Categorical(Vec<Option<String>>),
    /// A number.
    Numeric(Vec<Option<f64>>),
}

impl UserColumn {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Self::Categorical(values) => values.len(),
            Self::Numeric(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The log. Every column has [`Events::len`] entries; rows are sorted by user, then time where there is time, then as they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Events {
    /// Index into [`Users`].
    pub user: Vec<u32>,
    /// Index into [`Items`].
    pub item: Vec<u32>,
    /// Seconds since 1970, or a position in a sequence. `None` where the data set has no times.
    pub timestamp: Option<Vec<i64>>,
    /// Rows shown together share a request.
    pub request: Option<Vec<u32>>,
    /// Place in the list that was shown, from 1; 0 where unknown.
    pub position: Option<Vec<u16>>,
    /// Probability with which the logging policy showed this item there; `NaN` where unknown.
    pub propensity: Option<Vec<f32>>,
    /// What the user searched for.
    pub query: Option<Vec<Option<String>>>,
    /// Feedback columns by name (`click`, `conversion`, `rating`, `dwell_seconds`, …); `NaN` = not observed.
    pub feedback: BTreeMap<String, Vec<f32>>,
}

impl Events {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.user.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.user.is_empty()
    }

    /// Puts the rows in their order: by user, then time where there is time, then as they came.
    pub(crate) fn sort(&mut self) {
        let key = |row: usize| (self.user[row], self.timestamp.as_ref().map(|times| times[row]));
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|row| key(*row));
        if order.iter().enumerate().all(|(new, old)| new == *old) {
            return;
        }
        self.take(&order);
    }

    /// Leaves these rows, in this order.
    pub(crate) fn take(&mut self, order: &[usize]) {
        reorder(&mut self.user, order);
        reorder(&mut self.item, order);
        self.timestamp.iter_mut().for_each(|column| reorder(column, order));
        self.request.iter_mut().for_each(|column| reorder(column, order));
        self.position.iter_mut().for_each(|column| reorder(column, order));
        self.propensity.iter_mut().for_each(|column| reorder(column, order));
        self.query.iter_mut().for_each(|column| reorder(column, order));
        self.feedback.values_mut().for_each(|column| reorder(column, order));
    }
}

fn reorder<T: Clone>(column: &mut Vec<T>, order: &[usize]) {
    *column = order.iter().map(|row| column[*row].clone()).collect();
}
