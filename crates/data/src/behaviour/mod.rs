//! Behaviour and context features: what was known of an item, of a user and of the moment when an event happened.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset, Part, Split, consistency};

mod columns;
mod context;
mod ledger;
mod normalise;
mod snapshot;
mod summary;
#[cfg(test)]
mod tests;

use columns::UserColumns;
use ledger::{Ledger, Source};
use normalise::{Feature, Normaliser};
pub use snapshot::BehaviourSnapshot;

/// Train rows the normaliser is measured on, at most.
const NORMALISER_SAMPLE: usize = 20_000;
/// Recency and age are counted in days where clocks are seconds.
const DAY: f64 = 86_400.0;

/// Which columns the features are made of.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct BehaviourConfig {
    /// The feedback column whose positive values count as engagement, such as `click`.
    pub engaged: String,
    /// Feedback columns to average, such as `rating`.
    pub feedback: Vec<String>,
}

/// What is known of an item that is not in the data set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NewItem<'a> {
    /// Who offers it.
    pub provider: Option<&'a str>,
    /// Its category.
    pub category: Option<&'a str>,
    /// Its price, in the currency of the data set.
    pub price: Option<f64>,
}

/// Features of items, users and moments with a cut-off: as of any clock, from train rows with a strictly smaller clock alone.
///
/// Values are finite, have mean 0 and deviation 1 over the train rows (flags stay 0 or 1) and are clipped to ±5; what is missing is 0,
/// with a flag beside it. One query costs a few binary searches.
///
/// ```
/// use paretune_data::{Behaviour, BehaviourConfig, Split, SplitStrategy, simulator};
///
/// let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
/// let (dataset, _truth) = simulator::Simulation::new(config).run()?;
/// let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
/// let columns = BehaviourConfig { engaged: "click".into(), feedback: vec!["rating".into()] };
/// let behaviour = Behaviour::fit(&dataset, &split, columns)?;
///
/// let mut features = Vec::new();
/// behaviour.item(3, split.boundary(), &mut features);
/// assert_eq!(features.len(), behaviour.item_names().len());
/// # Ok::<(), paretune_data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Behaviour {
    config: BehaviourConfig,
    all: Ledger,
    items: Ledger,
    users: Ledger,
    item_count: usize,
    user_count: usize,
    groups: Vec<Group>,
    /// Price of each item, where the catalogue has prices.
    prices: Option<Vec<Option<f64>>>,
    /// When each item appeared, where the catalogue says so and clocks are times.
    created: Option<Vec<Option<i64>>>,
    user_columns: UserColumns,
    item_scale: Normaliser,
    user_scale: Normaliser,
    item_names: Vec<String>,
    user_names: Vec<String>,
    real_times: bool,
    end: i64,
    /// Whether there are no features at all.
    silent: bool,
}

/// Items that share a provider, or a category.
#[derive(Clone, Debug)]
struct Group {
    /// `provider` or `category`.
    field: &'static str,
    known: BTreeMap<String, u32>,
    of_item: Vec<Option<u32>>,
    ledger: Ledger,
}

impl Group {
    fn named(&self, item: &NewItem<'_>) -> Option<u32> {
        let name = match self.field {
            "provider" => item.provider,
            _ => item.category,
        };
        self.known.get(name?).copied()
    }
}

impl Behaviour {
    /// No features, of anybody or anything: for a log too large to be counted as of every moment.
    pub fn silent(config: BehaviourConfig) -> Self {
        Self {
            config,
            all: Ledger::default(),
            items: Ledger::default(),
            users: Ledger::default(),
            item_count: 0,
            user_count: 0,
            groups: Vec::new(),
            prices: None,
            created: None,
            user_columns: UserColumns::default(),
            item_scale: Normaliser::default(),
            user_scale: Normaliser::default(),
            item_names: Vec::new(),
            user_names: Vec::new(),
            real_times: false,
            end: 0,
            silent: true,
        }
    }

    /// Counts the train rows and measures the normaliser on a seeded sample of them, each as of its own clock.
    ///
    /// # Errors
    /// A column is not there, or the split was made for another log.
    pub fn fit(dataset: &Dataset, split: &Split, columns: BehaviourConfig) -> Result<Self, DataError> {
        consistency::check_with(dataset, split)?;
        let engaged = consistency::feedback(dataset, &columns.engaged)?;
        let sources = columns
            .feedback
            .iter()
            .map(|name| consistency::feedback(dataset, name).map(|values| Source { values }))
            .collect::<Result<Vec<_>, _>>()?;
        let events = &dataset.events;
        let ledger = |entities: usize, entity: &dyn Fn(usize) -> Option<u32>| {
            Ledger::new(dataset, split, engaged, &sources, entities, entity)
        };
        let group = |field: &'static str, names: &Option<Vec<Option<String>>>| {
            let names = names.as_ref()?;
            let mut known: BTreeMap<String, u32> = BTreeMap::new();
            for name in names.iter().flatten() {
                let next = known.len() as u32;
                known.entry(name.clone()).or_insert(next);
            }
            let number = |name: &Option<String>| known.get(name.as_deref()?).copied();
            let of_item: Vec<Option<u32>> = names.iter().map(number).collect();
            let ledger = ledger(known.len(), &|row| of_item[events.item[row] as usize]);
            Some(Group { field, known, of_item, ledger })
        };
        let items = &dataset.items;
        let groups = [group("provider", &items.provider), group("category", &items.category)];
        let train = split.rows(Part::Train);
        let newest = train.iter().map(|&row| split.clock[row as usize]).max();
        let real_times = split.has_real_times();
        let mut fitted = Self {
            all: ledger(1, &|_| Some(0)),
            items: ledger(items.len(), &|row| Some(events.item[row])),
            users: ledger(dataset.users.len(), &|row| Some(events.user[row])),
            item_count: items.len(),
            user_count: dataset.users.len(),
            groups: groups.into_iter().flatten().collect(),
            prices: items.price.clone(),
            created: items.created_at.clone().filter(|_| real_times),
            user_columns: UserColumns::fit(dataset, split),
            item_scale: Normaliser::fit(&[], std::iter::empty::<fn(&mut Vec<f64>)>()),
            user_scale: Normaliser::fit(&[], std::iter::empty::<fn(&mut Vec<f64>)>()),
            item_names: Vec::new(),
            user_names: Vec::new(),
            real_times,
            end: newest.map_or(0, |clock| clock.saturating_add(1)),
            config: columns,
            silent: false,
        };
        fitted.measure(dataset, split, &train);
        Ok(fitted)
    }

    fn measure(&mut self, dataset: &Dataset, split: &Split, train: &[u32]) {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let amount = train.len().min(NORMALISER_SAMPLE);
        let sample = rand::seq::index::sample(&mut rng, train.len(), amount);
        let sample: Vec<usize> = sample.iter().map(|at| train[at] as usize).collect();
        let (item_features, user_features) = (self.item_features(), self.user_features());
        let this = &*self;
        let (item, user) = (&dataset.events.item, &dataset.events.user);
        let samples =
            sample.iter().map(|&row| move |out: &mut Vec<f64>| this.item_raw(item[row], split.clock[row], out));
        let item_scale = Normaliser::fit(&item_features, samples);
        let samples =
            sample.iter().map(|&row| move |out: &mut Vec<f64>| this.user_raw(Some(user[row]), split.clock[row], out));
        self.user_scale = Normaliser::fit(&user_features, samples);
        self.item_scale = item_scale;
        let names = |features: Vec<Feature>| features.into_iter().map(|f| f.name).collect();
        self.item_names = names(item_features);
        self.user_names = names(user_features);
    }

    /// Names of what [`item`](Self::item) writes.
    pub fn item_names(&self) -> &[String] {
        &self.item_names
    }

    /// Names of what [`user`](Self::user) writes.
    pub fn user_names(&self) -> &[String] {
        &self.user_names
    }

    /// Names of what [`context`](Self::context) writes.
    pub fn context_names(&self) -> &'static [&'static str] {
        context::names(self.real_times)
    }

    /// The columns it was fitted with.
    pub fn config(&self) -> &BehaviourConfig {
        &self.config
    }

    /// One past the largest clock of the train rows: the moment a [`snapshot`](Self::snapshot) shows.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Appends the features of an item as of `clock`. An index without item counts as an item nothing is known of.
    pub fn item(&self, item: u32, clock: i64, out: &mut Vec<f32>) {
        if self.silent {
            return;
        }
        let mut raw = Vec::with_capacity(self.item_names.len());
        self.item_raw(item, clock, &mut raw);
        self.item_scale.apply(0, &raw, out);
    }

    /// Appends the features of a user as of `clock`. An index without user counts as somebody unknown.
    pub fn user(&self, user: u32, clock: i64, out: &mut Vec<f32>) {
        if self.silent {
            return;
        }
        let mut raw = Vec::with_capacity(self.user_names.len());
        self.user_raw(Some(user), clock, &mut raw);
        self.user_scale.apply(0, &raw, out);
    }

    /// Appends sine and cosine of the hour of day and the day of week (UTC); nothing where clocks are no times.
    pub fn context(&self, clock: i64, out: &mut Vec<f32>) {
        context::write(self.real_times, clock, out);
    }

    /// Appends the features of somebody unseen, as of the [`end`](Self::end) of the train rows.
    pub fn new_user(&self, out: &mut Vec<f32>) {
        if self.silent {
            return;
        }
        let mut raw = Vec::with_capacity(self.user_names.len());
        self.user_raw(None, self.end, &mut raw);
        self.user_scale.apply(0, &raw, out);
    }

    /// Appends the features of an item that appears just now, at the [`end`](Self::end) of the train rows: nobody has met it, but
    /// its provider, category and price may be known.
    pub fn new_item(&self, item: &NewItem<'_>, out: &mut Vec<f32>) {
        if self.silent {
            return;
        }
        let mut raw = Vec::with_capacity(self.item_names.len());
        self.item_block(None, self.end, &mut raw);
        for group in &self.groups {
            self.group_block(group, group.named(item), self.end, &mut raw);
        }
        let (price, age) = (self.prices.is_some(), self.created.is_some());
        static_block(price.then_some(item.price), age.then_some(Some(0.0)), &mut raw);
        self.item_scale.apply(0, &raw, out);
    }

    /// Everything needed to score at the [`end`](Self::end) of the train rows, without the log.
    pub fn snapshot(&self) -> BehaviourSnapshot {
        BehaviourSnapshot::of(self)
    }

    fn item_features(&self) -> Vec<Feature> {
        let mut features = summary::full_features("item", &self.config.feedback);
        for group in &self.groups {
            features.extend(summary::brief_features(group.field, &self.config.feedback));
        }
        if self.prices.is_some() {
            features.push(Feature::scaled("item.log_price"));
            features.push(Feature::flag("item.price_missing"));
        }
        if self.created.is_some() {
            features.push(Feature::scaled("item.log_age"));
            features.push(Feature::flag("item.age_missing"));
        }
        features
    }

    fn user_features(&self) -> Vec<Feature> {
        let mut features = summary::full_features("user", &self.config.feedback);
        features.extend_from_slice(self.user_columns.features());
        features
    }

    /// Features of an item before they are normalised; only the past of `clock` enters.
    fn item_raw(&self, item: u32, clock: i64, out: &mut Vec<f64>) {
        let at = item as usize;
        self.item_block(Some(item), clock, out);
        for group in &self.groups {
            let member = group.of_item.get(at).copied().flatten();
            self.group_block(group, member, clock, out);
        }
        let price = self.prices.as_ref().map(|p| p.get(at).copied().flatten());
        // An item outside the catalogue is one that appears just now.
        let created = self.created.as_ref().map(|c| c.get(at).copied().unwrap_or(Some(clock)));
        let age = created.map(|created| created.map(|c| clock.saturating_sub(c) as f64 / DAY));
        static_block(price, age, out);
    }

    fn item_block(&self, item: Option<u32>, clock: i64, out: &mut Vec<f64>) {
        let (known, all) = (self.items.before(item, clock), self.all.before(Some(0), clock));
        let columns = self.config.feedback.len();
        summary::full(&known, &all, self.item_count, columns, clock, self.unit(), out);
    }

    fn group_block(&self, group: &Group, member: Option<u32>, clock: i64, out: &mut Vec<f64>) {
        let (known, all) = (group.ledger.before(member, clock), self.all.before(Some(0), clock));
        let columns = self.config.feedback.len();
        summary::brief(&known, &all, group.known.len(), columns, out);
    }

    fn user_raw(&self, user: Option<u32>, clock: i64, out: &mut Vec<f64>) {
        let (known, all) = (self.users.before(user, clock), self.all.before(Some(0), clock));
        let columns = self.config.feedback.len();
        summary::full(&known, &all, self.user_count, columns, clock, self.unit(), out);
        self.user_columns.write(user, out);
    }

    /// Clock units in one unit of recency.
    fn unit(&self) -> f64 {
        if self.real_times { DAY } else { 1.0 }
    }
}

/// What an item is rather than what happened to it: price, and age in days. The outer `None` = the catalogue has no such column.
fn static_block(price: Option<Option<f64>>, age: Option<Option<f64>>, out: &mut Vec<f64>) {
    let mut push = |value: Option<f64>| match value {
        Some(value) => out.extend([value.max(0.0).ln_1p(), 0.0]),
        None => out.extend([f64::NAN, 1.0]),
    };
    if let Some(price) = price {
        push(price.filter(|price| price.is_finite() && *price >= 0.0));
    }
    if let Some(age) = age {
        push(age);
    }
}
