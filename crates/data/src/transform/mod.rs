//! Features that the configuration describes: fitted on training rows, saved with the model, applied in the same way ever after.

use crate::{DataError, Dataset, Histories, Split};

mod category;
mod cell;
mod column;
mod encoders;
mod fields;
mod fit;
mod hash;
mod moment;
mod numeric;
mod past;
mod quantile;
mod saved;
mod spec;
#[cfg(test)]
mod tests;

use saved::State;

pub(crate) use cell::Cell;
pub use cell::NewRow;
pub(crate) use column::{Column, item_columns, user_columns};
pub use moment::Moment;
pub use spec::{FeatureKind, FeatureSpec, Levels, Normalise, Side};

/// A table of embeddings, and how many indices in a row point into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CategoryTable {
    /// Name of the feature.
    pub name: String,
    /// Rows of the table; every index is smaller. Row 0 is that of a missing value.
    pub rows: u32,
    /// Indices that share the table: 1, but for a `recent` feature, which has one for each of its items.
    pub slots: u32,
}

/// Fitted features: numbers, and indices into tables of embeddings, for any user, item and moment.
///
/// A row of features is made of parts, in this order:
///
/// | part | made by | numbers | indices |
/// | --- | --- | --- | --- |
/// | user | [`user`](Self::user), [`user_with`](Self::user_with), [`new_user`](Self::new_user) | numeric | categories and buckets, crosses of them, recent |
/// | item | [`item`](Self::item), [`new_item`](Self::new_item) | numeric | categories and buckets, crosses of them |
/// | context | [`context`](Self::context) | numeric | categories and buckets, crosses of them |
/// | pair | [`pair`](Self::pair) | | crosses of several of the parts above |
///
/// The item part depends on nothing but the item, so a catalogue is computed once. Every number stands beside a flag that is 1 where it is
/// missing; numbers are finite. Nothing but training rows is fitted on, each counting once: users and items weigh as much as they have
/// training rows. What stands in the tables of users and items is taken as known at any time; [`leaks`](crate::leaks) asks whether that
/// can be. The same file gives the same bits everywhere.
///
/// ```
/// use paretune_data::{FeatureSpec, Histories, Split, SplitStrategy, Transforms, simulator};
///
/// let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
/// let (dataset, _truth) = simulator::Simulation::new(config).run()?;
/// let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
/// let histories = Histories::new(&dataset, &split, "click")?;
///
/// #[derive(serde::Deserialize)]
/// struct Config { features: Vec<FeatureSpec> }
/// let config: Config = toml::from_str(r#"
///     [[features]]
///     name = "price"
///     kind = "numeric"
///     of = "item"
///     column = "price"
///     normalise = "log"
///
///     [[features]]
///     name = "region"
///     kind = "category"
///     of = "user"
///     column = "region"
///     vocabulary = 100
///
///     [[features]]
///     name = "tastes"
///     kind = "recent"
///     column = "category"
///     last = 5
/// "#).expect("well-formed features");
/// let transforms = Transforms::fit(&dataset, &split, &histories, &config.features)?;
/// assert_eq!(transforms.numeric_names(), ["price", "price.missing"]);
///
/// let (mut numeric, mut categories) = (Vec::new(), Vec::new());
/// transforms.apply(0, 3, split.boundary(), &mut numeric, &mut categories);
/// assert_eq!((numeric.len(), categories.len()), (2, 1 + 5));
/// # Ok::<(), paretune_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Transforms {
    state: State,
}

impl Transforms {
    /// Fits features to the training rows. `histories` say what `recent` features look back on, with their training rows alone.
    ///
    /// # Errors
    /// A feature reads feedback of the event being scored ([`DataError::ForbiddenFeature`]) or a column that there is not, or cannot be made of it
    /// ([`DataError::Feature`]); or the split was made for another log.
    pub fn fit(
        dataset: &Dataset,
        split: &Split,
        histories: &Histories,
        specs: &[FeatureSpec],
    ) -> Result<Self, DataError> {
        Ok(Self { state: fit::fit(dataset, split, histories, specs)? })
    }

    /// Appends all features of `user` meeting `item` at a moment (a clock will do): the parts user, item, context and pair.
    ///
    /// `recent` features look back on training rows before the clock. Indices of users and items that there are not stand for
    /// somebody, or something, nothing is known of.
    pub fn apply<'a>(
        &self,
        user: u32,
        item: u32,
        moment: impl Into<Moment<'a>>,
        numeric: &mut Vec<f32>,
        categories: &mut Vec<u32>,
    ) {
        let moment = moment.into();
        let start = categories.len();
        self.user(user, moment.clock, numeric, categories);
        let item_start = categories.len();
        self.item(item, numeric, categories);
        let context_start = categories.len();
        self.context(moment, numeric, categories);
        let parts = categories[start..].to_vec();
        let (users, rest) = parts.split_at(item_start - start);
        let (items, context) = rest.split_at(context_start - item_start);
        self.pair(users, items, context, categories);
    }

    /// Appends the part of a user, whose history is that of the training rows before `clock`.
    pub fn user(&self, user: u32, clock: i64, numeric: &mut Vec<f32>, categories: &mut Vec<u32>) {
        self.user_columns(user, numeric, categories);
        for recent in &self.state.recent {
            recent.write(self.state.past.before(user, clock), categories);
        }
    }

    /// Appends the part of a user with a history that the caller knows: indices of items, newest first, all of them before the moment
    /// that is scored.
    pub fn user_with(&self, user: u32, history: &[u32], numeric: &mut Vec<f32>, categories: &mut Vec<u32>) {
        self.user_columns(user, numeric, categories);
        self.history(history, categories);
    }

    /// Appends the part of somebody who is not in the tables, with the items they engaged with, newest first.
    pub fn new_user(&self, user: &NewRow<'_>, history: &[u32], numeric: &mut Vec<f32>, categories: &mut Vec<u32>) {
        self.state.users.write(|column| user.get(column), numeric, categories);
        self.history(history, categories);
    }

    fn user_columns(&self, user: u32, numeric: &mut Vec<f32>, categories: &mut Vec<u32>) {
        let State { users, user_rows, .. } = &self.state;
        if !user_rows.copy(users, user, numeric, categories) {
            users.write(|_| None, numeric, categories);
        }
    }

    fn history(&self, newest_first: &[u32], categories: &mut Vec<u32>) {
        for recent in &self.state.recent {
            recent.write(newest_first.iter().copied(), categories);
        }
    }

    /// Appends the part of an item.
    pub fn item(&self, item: u32, numeric: &mut Vec<f32>, categories: &mut Vec<u32>) {
        let State { items, item_rows, .. } = &self.state;
        if !item_rows.copy(items, item, numeric, categories) {
            items.write(|_| None, numeric, categories);
        }
    }

    /// Appends the part of an item that is not in the tables.
    pub fn new_item(&self, item: &NewRow<'_>, numeric: &mut Vec<f32>, categories: &mut Vec<u32>) {
        self.state.items.write(|column| item.get(column), numeric, categories);
    }

    /// Appends the part of a moment.
    pub fn context<'a>(&self, moment: impl Into<Moment<'a>>, numeric: &mut Vec<f32>, categories: &mut Vec<u32>) {
        let moment = moment.into();
        self.state.context.write(|column| moment.get(column, self.state.real_times), numeric, categories);
    }

    /// Appends what the other parts, whose indices these are, are crossed into.
    pub fn pair(&self, user: &[u32], item: &[u32], context: &[u32], categories: &mut Vec<u32>) {
        for cross in &self.state.pairs {
            let row = cross.row(|place| {
                let place = place as usize;
                let in_context = place.wrapping_sub(user.len() + item.len());
                let part = user.get(place).or_else(|| item.get(place.wrapping_sub(user.len())));
                part.or_else(|| context.get(in_context)).copied().unwrap_or(category::MISSING)
            });
            categories.push(row);
        }
    }

    /// Names of the numbers that [`apply`](Self::apply) appends.
    pub fn numeric_names(&self) -> Vec<String> {
        [Side::User, Side::Item, Side::EventContext].into_iter().flat_map(|side| self.numeric_names_of(side)).collect()
    }

    /// Names of the numbers of one part.
    pub fn numeric_names_of(&self, side: Side) -> Vec<String> {
        self.side(side).numeric_names().collect()
    }

    /// The tables that the indices of [`apply`](Self::apply) point into, in the order of the indices.
    pub fn categorical(&self) -> Vec<CategoryTable> {
        let sides = [Side::User, Side::Item, Side::EventContext];
        sides.into_iter().flat_map(|side| self.categorical_of(side)).chain(self.categorical_of_pair()).collect()
    }

    /// The tables of one part.
    pub fn categorical_of(&self, side: Side) -> Vec<CategoryTable> {
        let table = |(name, rows): (&str, u32), slots| CategoryTable { name: name.to_owned(), rows, slots };
        let mut tables: Vec<CategoryTable> = self.side(side).tables().map(|of| table(of, 1)).collect();
        if side == Side::User {
            let recent = self.state.recent.iter();
            tables.extend(recent.map(|recent| table((recent.name.as_str(), recent.rows.count()), recent.last)));
        }
        tables
    }

    /// The tables of [`pair`](Self::pair).
    pub fn categorical_of_pair(&self) -> Vec<CategoryTable> {
        let pairs = self.state.pairs.iter();
        pairs.map(|cross| CategoryTable { name: cross.name.clone(), rows: cross.count(), slots: 1 }).collect()
    }

    /// What it was fitted from.
    pub fn specs(&self) -> &[FeatureSpec] {
        &self.state.specs
    }

    fn side(&self, side: Side) -> &encoders::Encoders {
        match side {
            Side::User => &self.state.users,
            Side::Item => &self.state.items,
            Side::EventContext => &self.state.context,
        }
    }
}
