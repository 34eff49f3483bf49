//! Features in the model: what columns of users and items, moments and crosses of all of them add to what histories and texts say.
//!
//! ```text
//! user, context: numbers, rows of categories ─▶ network ─▶ added to the user's vector ──┐
//! item:          numbers, rows of categories ─▶ network ─▶ added to the item's vector ──┤
//! both of them, behaviour features, rows of crosses ─▶ network ─▶ joint [samples, dim] ─┴─ Shared
//! ```
//!
//! The two sides enter the vectors, so that rankings by a product, histories and graphs know them too. Only task towers see a user and
//! an item at once: the joint vector stands beside `[u; i; u∘i; position]` in what they read. It is concatenated, not added: `u` and `i` lie in
//! the space in which products compare them, while the joint vector says what no product of the two can.

mod config;
mod cross;
mod network;
mod rows;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use paretune_data::{NewRow, Side, Transforms};

use crate::{Batch, Recommender, RecommenderError};
use network::{Network, Start};
use tables::Tables;

pub use config::{Arrangement, FeatureConfig, FeatureNetwork};
pub(crate) use rows::{FeatureRows, FeatureWidths};

/// What a model knows of features: the fitted ones, the rows of its catalogue, tables and networks.
pub(crate) struct Features {
    transforms: Arc<Transforms>,
    widths: FeatureWidths,
    /// Items `× item_numbers`, and `× item`.
    catalogue: ItemRows,
    users: Tables,
    items: Tables,
    pairs: Tables,
    user_side: Option<Network>,
    item_side: Option<Network>,
    joint: Option<Joint>,
    device: Device,
}

/// Numbers and indices of some items, row by row.
#[derive(Clone)]
pub(crate) struct ItemRows {
    count: usize,
    numbers: Vec<f32>,
    pub(crate) categories: Vec<u32>,
}

/// The network of the task towers.
struct Joint {
    network: Network,
    /// Whether it reads all there is; else crosses of several sides alone, because the sides reach the towers already.
    whole: bool,
}

/// The widths that features meet in a model.
#[derive(Clone, Copy)]
pub(crate) struct FeatureSizes {
    /// Of users and items, and of the joint vector.
    pub(crate) dim: usize,
    /// Number of items in the tables.
    pub(crate) items: usize,
    /// All numbers of a request and of a sample, those of behaviour among them.
    pub(crate) user_features: usize,
    pub(crate) item_features: usize,
    /// Whether there are task towers.
    pub(crate) towers: bool,
}

impl Features {
    pub(crate) fn new(
        config: &FeatureConfig,
        transforms: Arc<Transforms>,
        sizes: FeatureSizes,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        config.check()?;
        let widths = FeatureWidths::of(&transforms);
        let tables = |tables: Vec<_>, n: u64| Tables::new(&tables, config.dim, seed.wrapping_add(10_000 * n), device);
        let mut of_requests = transforms.categorical_of(Side::User);
        of_requests.extend(transforms.categorical_of(Side::EventContext));
        let users = tables(of_requests, 1)?;
        let items = tables(transforms.categorical_of(Side::Item), 2)?;
        // Crosses of user and item are for who sees both.
        let of_pairs = if sizes.towers { transforms.categorical_of_pair() } else { Vec::new() };
        let pairs = tables(of_pairs, 3)?;
        let network = |inputs: usize, start, n: u64| -> Result<Option<Network>, RecommenderError> {
            let seed = seed.wrapping_add(100_000 * n);
            let network = |inputs| Network::new(config, inputs, sizes.dim, start, seed, device);
            (inputs > 0).then(|| network(inputs)).transpose()
        };
        let whole = config.kind != FeatureNetwork::Linear;
        let read = match (sizes.towers, whole) {
            (false, _) => 0,
            (true, false) => pairs.width(),
            (true, true) => {
                let numbers = sizes.user_features + sizes.item_features;
                numbers + users.width() + items.width() + pairs.width()
            }
        };
        Ok(Self {
            catalogue: ItemRows::of(&transforms, sizes.items),
            user_side: network(widths.user_numbers + users.width(), Start::Small, 1)?,
            item_side: network(widths.item_numbers + items.width(), Start::Small, 2)?,
            joint: network(read, Start::Usual, 3)?.map(|network| Joint { network, whole }),
            users,
            items,
            pairs,
            widths,
            transforms,
            device: device.clone(),
        })
    }

    pub(crate) fn transforms(&self) -> &Arc<Transforms> {
        &self.transforms
    }

    /// Whether samples have a joint vector.
    pub(crate) fn joins(&self) -> bool {
        self.joint.is_some()
    }

    /// Trainable parameters in a fixed order, named `features.…`.
    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = Vec::new();
        for tables in [&self.users, &self.items, &self.pairs] {
            all.extend(tables.parameters());
        }
        let sides = [("features.users", &self.user_side), ("features.items", &self.item_side)];
        all.extend(sides.into_iter().flat_map(|(name, side)| side.iter().flat_map(|side| side.parameters(name))));
        all.extend(self.joint.iter().flat_map(|joint| joint.network.parameters("features.joint")));
        all
    }

    /// `[n, dim]` item vectors with what the features of those items add.
    fn with_items(&self, vectors: Tensor, rows: &ItemRows, dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        let Some(network) = &self.item_side else { return Ok(vectors) };
        let numbers = matrix(&rows.numbers, rows.count, self.widths.item_numbers, &self.device)?;
        let categories = self.items.forward(&rows.categories, rows.count, &self.device)?;
        match side_by_side([numbers, categories])? {
            Some(x) => Ok((vectors + network.forward(&x, dropout.map(|seed| seed ^ 0xfea7_0002))?)?),
            None => Ok(vectors),
        }
    }

    /// `[U, dim]` users with what their features and those of the moment add.
    pub(crate) fn with_users(
        &self,
        users: Tensor,
        batch: &Batch,
        dropout: Option<u64>,
    ) -> Result<Tensor, RecommenderError> {
        let Some(network) = &self.user_side else { return Ok(users) };
        let requests = batch.viewers();
        // Numbers stand behind the behaviour features.
        let width = batch.user_features.len().checked_div(requests).unwrap_or(0);
        let from = width.saturating_sub(self.widths.user_numbers);
        let numbers: Vec<f32> =
            batch.user_features.chunks_exact(width.max(1)).flat_map(|row| row[from..].to_vec()).collect();
        let numbers = matrix(&numbers, requests, self.widths.user_numbers, &self.device)?;
        let categories = self.users.forward(&batch.user_categories, requests, &self.device)?;
        match side_by_side([numbers, categories])? {
            Some(x) => Ok((users + network.forward(&x, dropout.map(|seed| seed ^ 0xfea7_0001))?)?),
            None => Ok(users),
        }
    }

    /// `[U, …]`: what the joint network reads of requests.
    fn of_requests(&self, batch: &Batch) -> Result<Option<Tensor>, RecommenderError> {
        if !self.joint.as_ref().is_some_and(|joint| joint.whole) {
            return Ok(None);
        }
        let requests = batch.viewers();
        let width = batch.user_features.len().checked_div(requests).unwrap_or(0);
        let numbers = matrix(&batch.user_features, requests, width, &self.device)?;
        side_by_side([numbers, self.users.forward(&batch.user_categories, requests, &self.device)?])
    }

    /// `[n, …]`: what it reads of items, whose numbers `[n × item features]` are those of behaviour too.
    fn of_items(&self, numbers: Option<Tensor>, rows: &ItemRows) -> Result<Option<Tensor>, RecommenderError> {
        if !self.joint.as_ref().is_some_and(|joint| joint.whole) {
            return Ok(None);
        }
        side_by_side([numbers, self.items.forward(&rows.categories, rows.count, &self.device)?])
    }

    /// The joint vectors `[n, dim]` of requests and items, both `[n, …]`, and indices `[n × slots]` of their crosses.
    fn join(
        &self,
        users: Option<Tensor>,
        items: Option<Tensor>,
        pairs: &[u32],
        n: usize,
        dropout: Option<u64>,
    ) -> Result<Option<Tensor>, RecommenderError> {
        let Some(joint) = &self.joint else { return Ok(None) };
        let crosses = self.pairs.forward(pairs, n, &self.device)?;
        match side_by_side([users, items, crosses])? {
            Some(x) => Ok(Some(joint.network.forward(&x, dropout.map(|seed| seed ^ 0xfea7_0003))?)),
            None => Ok(None),
        }
    }

    /// The joint vectors `[B, dim]` of a batch's samples.
    pub(crate) fn joint(&self, batch: &Batch, dropout: Option<u64>) -> Result<Option<Tensor>, RecommenderError> {
        if self.joint.is_none() {
            return Ok(None);
        }
        let n = batch.len();
        let requests = Tensor::new(batch.requests.as_slice(), &self.device)?;
        let users = self.of_requests(batch)?.map(|users| users.index_select(&requests, 0)).transpose()?;
        let items: Vec<u32> = batch.slots.iter().map(|slot| batch.items[*slot as usize]).collect();
        let width = batch.item_features.len().checked_div(n).unwrap_or(0);
        let numbers = matrix(&batch.item_features, n, width, &self.device)?;
        let items = self.of_items(numbers, &self.catalogue.pick(&items))?;
        self.join(users, items, &batch.pair_categories, n, dropout)
    }

    /// What scoring needs of a catalogue, whose numbers `[n × item features]` these are.
    pub(crate) fn shelf(&self, numbers: &[f32], rows: ItemRows) -> Result<Shelf, RecommenderError> {
        let width = numbers.len().checked_div(rows.count).unwrap_or(0);
        let x = self.of_items(matrix(numbers, rows.count, width, &self.device)?, &rows)?;
        Ok(Shelf { x: x.map(|x| x.detach()), rows })
    }

    /// For each request of a batch the joint vectors `[n, dim]` with all items of a catalogue, one after the other.
    pub(crate) fn against(
        &self,
        batch: &Batch,
        shelf: &Shelf,
    ) -> Result<impl Fn(usize) -> Result<Option<Tensor>, RecommenderError> + Sync, RecommenderError> {
        let users = self.of_requests(batch)?.map(|users| users.detach());
        let width = self.widths.request();
        let expected = batch.viewers() * width;
        if batch.user_categories.len() != expected {
            return Err(RecommenderError::Categories { found: batch.user_categories.len(), expected });
        }
        let categories = batch.user_categories.clone();
        Ok(move |request: usize| {
            if self.joint.is_none() {
                return Ok(None);
            }
            let mut parts = Vec::new();
            for start in (0..shelf.rows.count).step_by(BLOCK) {
                let count = BLOCK.min(shelf.rows.count - start);
                let user = match &users {
                    Some(users) => {
                        let user = users.narrow(0, request, 1)?;
                        Some(user.broadcast_as((count, user.dim(1)?))?.contiguous()?)
                    }
                    None => None,
                };
                let items = shelf.x.as_ref().map(|x| x.narrow(0, start, count)).transpose()?;
                let (user_part, context) = categories[request * width..][..width].split_at(self.widths.user);
                let mut pairs = Vec::new();
                if self.pairs.slots() > 0 {
                    for item in start..start + count {
                        let item = &shelf.rows.categories[item * self.widths.item..][..self.widths.item];
                        self.transforms.pair(user_part, item, context, &mut pairs);
                    }
                }
                parts.extend(self.join(user, items, &pairs, count, None)?.map(|joint| joint.detach()));
            }
            Ok(match parts.len() {
                0 => None,
                1 => parts.pop(),
                _ => Some(Tensor::cat(&parts, 0)?),
            })
        })
    }

    /// Rows of `count` items of which nothing is known.
    pub(crate) fn unknown_items(&self, count: usize) -> ItemRows {
        let mut rows = ItemRows { count, numbers: Vec::new(), categories: Vec::new() };
        for _ in 0..count {
            self.transforms.new_item(&NewRow::default(), &mut rows.numbers, &mut rows.categories);
        }
        rows
    }

    /// Rows of the whole catalogue.
    pub(crate) fn known_items(&self) -> &ItemRows {
        &self.catalogue
    }
}

/// Items whose joint vectors with one request are computed at once: what a pass over a large catalogue holds stays small.
const BLOCK: usize = 16_384;

/// A catalogue as the joint network reads it.
pub(crate) struct Shelf {
    x: Option<Tensor>,
    rows: ItemRows,
}

impl ItemRows {
    fn of(transforms: &Transforms, count: usize) -> Self {
        let mut rows = Self { count, numbers: Vec::new(), categories: Vec::new() };
        for item in 0..count as u32 {
            transforms.item(item, &mut rows.numbers, &mut rows.categories);
        }
        rows
    }

    /// The rows of some items. One that there is not has none, and whoever counts the rows says so.
    fn pick(&self, items: &[u32]) -> Self {
        fn rows<T: Copy>(items: &[u32], all: &[T], width: usize) -> Vec<T> {
            let row = |item: &u32| all.get(*item as usize * width..(*item as usize + 1) * width);
            items.iter().filter_map(row).flatten().copied().collect()
        }
        let widths = [self.numbers.len(), self.categories.len()].map(|all| all / self.count.max(1));
        Self {
            count: items.len(),
            numbers: rows(items, &self.numbers, widths[0]),
            categories: rows(items, &self.categories, widths[1]),
        }
    }
}

impl Recommender {
    /// `[n, dim]` vectors of items, `texts` `[n, width]` being what the encoder says of them, with what their features add.
    pub(crate) fn item_vectors(
        &self,
        items: &[u32],
        texts: Option<&Tensor>,
        dropout: Option<u64>,
    ) -> Result<Tensor, RecommenderError> {
        let vectors = self.items.forward(&self.vectors, items, texts, dropout)?;
        match &self.columns {
            Some(features) => features.with_items(vectors, &features.catalogue.pick(items), dropout),
            None => Ok(vectors),
        }
    }

    /// The same of items that have no id yet and of which only the text is known.
    pub(crate) fn new_item_vectors(&self, texts: &Tensor) -> Result<Tensor, RecommenderError> {
        let vectors = self.items.new_items(texts)?;
        match &self.columns {
            Some(features) => features.with_items(vectors, &features.unknown_items(texts.dim(0)?), None),
            None => Ok(vectors),
        }
    }

    /// The fitted features that the model reads.
    pub fn transforms(&self) -> Option<&Arc<Transforms>> {
        self.columns.as_ref().map(Features::transforms)
    }
}

/// Matrices of as many rows, one beside the other.
fn side_by_side<const N: usize>(parts: [Option<Tensor>; N]) -> Result<Option<Tensor>, RecommenderError> {
    let mut parts: Vec<Tensor> = parts.into_iter().flatten().collect();
    Ok(match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(Tensor::cat(&parts, 1)?),
    })
}

/// `[rows, width]`; `None` of no width.
fn matrix(values: &[f32], rows: usize, width: usize, device: &Device) -> Result<Option<Tensor>, RecommenderError> {
    Ok(match width {
        0 => None,
        _ => Some(Tensor::from_slice(values, (rows, width), device)?),
    })
}
