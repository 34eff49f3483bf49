//! Values of columns, as numbers and as names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::NewItem;

/// Numbers beyond this count as this, so that no sum of squares overflows.
const LARGEST: f64 = 1e100;

/// One value that is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Text(Cow<'a, str>),
    Number(f64),
}

impl<'a> Cell<'a> {
    /// A text; one of nothing but blanks is missing.
    pub(crate) fn text(text: &'a str) -> Option<Self> {
        (!text.trim().is_empty()).then_some(Self::Text(Cow::Borrowed(text)))
    }

    /// A number; one that is not finite is missing.
    pub(crate) fn number(number: f64) -> Option<Self> {
        // Adding zero turns −0 into 0: they are one value, and must not be two names.
        number.is_finite().then_some(Self::Number(number.clamp(-LARGEST, LARGEST) + 0.0))
    }

    /// The value as a number; `None` for a text that is none.
    pub(crate) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => match text.trim().parse().ok().and_then(Cell::number) {
                Some(Cell::Number(number)) => Some(number),
                _ => None,
            },
        }
    }

    /// The value as a name: the text, or the shortest form of the number.
    pub(crate) fn as_name(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text.as_ref()),
            Self::Number(number) => Cow::Owned(number.to_string()),
        }
    }
}

/// What is known of a user or an item outside the tables: values by column. Whatever is not given is missing.
///
/// ```
/// use paretune_data::{NewItem, NewRow};
///
/// let user = NewRow::default().text("region", "north").number("age", 31.0);
/// let item = NewRow::from(NewItem { price: Some(9.5), ..NewItem::default() }).text("colour", "red");
/// # let _ = (user, item);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewRow<'a> {
    cells: BTreeMap<&'a str, Cell<'a>>,
}

impl<'a> NewRow<'a> {
    /// Gives a column a text. An empty one counts as missing.
    #[must_use]
    pub fn text(mut self, column: &'a str, value: &'a str) -> Self {
        self.set(column, Cell::text(value));
        self
    }

    /// Gives a column a number. One that is not finite counts as missing.
    #[must_use]
    pub fn number(mut self, column: &'a str, value: f64) -> Self {
        self.set(column, Cell::number(value));
        self
    }

    fn set(&mut self, column: &'a str, cell: Option<Cell<'a>>) {
        match cell {
            Some(cell) => self.cells.insert(column, cell),
            None => self.cells.remove(column),
        };
    }

    pub(super) fn get(&self, column: &str) -> Option<Cell<'a>> {
        self.cells.get(column).cloned()
    }
}

impl<'a> From<NewItem<'a>> for NewRow<'a> {
    fn from(item: NewItem<'a>) -> Self {
        let mut row = Self::default();
        row.set("provider", item.provider.and_then(Cell::text));
        row.set("category", item.category.and_then(Cell::text));
        row.set("price", item.price.and_then(Cell::number));
        row
    }
}
