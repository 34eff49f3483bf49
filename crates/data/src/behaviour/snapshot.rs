//! The features as they stand at the end of the train rows, small enough to be saved beside a model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::normalise::Normaliser;
use super::{Behaviour, BehaviourConfig, NewItem, context, static_block};

/// Features of every item and user as of [`end`](Self::end), without the log: what a served model scores with.
///
/// [`item`](Self::item) and [`user`](Self::user) give bit for bit what [`Behaviour::item`] and [`Behaviour::user`] give at that clock.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct BehaviourSnapshot {
    config: BehaviourConfig,
    item_names: Vec<String>,
    user_names: Vec<String>,
    /// One row of `item_names.len()` features for each item.
    items: Vec<f32>,
    /// One row of `user_names.len()` features for each user.
    users: Vec<f32>,
    new_user: Vec<f32>,
    new_item: Vec<f32>,
    groups: Vec<GroupTable>,
    item_scale: Normaliser,
    has_price: bool,
    has_age: bool,
    real_times: bool,
    end: i64,
}

/// Features an item takes from its provider, or its category.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct GroupTable {
    field: String,
    /// Index of the first of its features.
    first: usize,
    known: BTreeMap<String, Vec<f32>>,
}

impl BehaviourSnapshot {
    pub(super) fn of(behaviour: &Behaviour) -> Self {
        let end = behaviour.end;
        let (mut items, mut users) = (Vec::new(), Vec::new());
        for item in 0..behaviour.item_count as u32 {
            behaviour.item(item, end, &mut items);
        }
        for user in 0..behaviour.user_count as u32 {
            behaviour.user(user, end, &mut users);
        }
        let (mut new_user, mut new_item) = (Vec::new(), Vec::new());
        behaviour.new_user(&mut new_user);
        behaviour.new_item(&NewItem::default(), &mut new_item);

        let mut block = Vec::new();
        behaviour.item_block(None, end, &mut block);
        let mut first = block.len();
        let mut groups = Vec::new();
        for group in &behaviour.groups {
            let mut known = BTreeMap::new();
            for (name, &member) in &group.known {
                block.clear();
                behaviour.group_block(group, Some(member), end, &mut block);
                let mut features = Vec::with_capacity(block.len());
                behaviour.item_scale.apply(first, &block, &mut features);
                known.insert(name.clone(), features);
            }
            groups.push(GroupTable { field: group.field.to_owned(), first, known });
            block.clear();
            behaviour.group_block(group, None, end, &mut block);
            first += block.len();
        }
        Self {
            config: behaviour.config.clone(),
            item_names: behaviour.item_names.clone(),
            user_names: behaviour.user_names.clone(),
            items,
            users,
            new_user,
            new_item,
            groups,
            item_scale: behaviour.item_scale.clone(),
            has_price: behaviour.prices.is_some(),
            has_age: behaviour.created.is_some(),
            real_times: behaviour.real_times,
            end,
        }
    }

    /// Names of what [`item`](Self::item) and [`new_item`](Self::new_item) write.
    pub fn item_names(&self) -> &[String] {
        &self.item_names
    }

    /// Names of what [`user`](Self::user) and [`new_user`](Self::new_user) write.
    pub fn user_names(&self) -> &[String] {
        &self.user_names
    }

    /// Names of what [`context`](Self::context) writes.
    pub fn context_names(&self) -> &'static [&'static str] {
        context::names(self.real_times)
    }

    /// The columns the features were fitted with.
    pub fn config(&self) -> &BehaviourConfig {
        &self.config
    }

    /// The moment it shows: one past the largest clock of the train rows.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Appends the features of an item; those of an unknown one if there is no such index.
    pub fn item(&self, item: u32, out: &mut Vec<f32>) {
        let width = self.item_names.len();
        out.extend_from_slice(row(&self.items, width, item).unwrap_or(&self.new_item));
    }

    /// Appends the features of a user; those of somebody unseen if there is no such index.
    pub fn user(&self, user: u32, out: &mut Vec<f32>) {
        let width = self.user_names.len();
        out.extend_from_slice(row(&self.users, width, user).unwrap_or(&self.new_user));
    }

    /// Appends the features of a moment; nothing where clocks are no times.
    pub fn context(&self, clock: i64, out: &mut Vec<f32>) {
        context::write(self.real_times, clock, out);
    }

    /// Appends the features of somebody unseen.
    pub fn new_user(&self, out: &mut Vec<f32>) {
        out.extend_from_slice(&self.new_user);
    }

    /// Appends the features of an item that appears just now.
    pub fn new_item(&self, item: &NewItem<'_>, out: &mut Vec<f32>) {
        let start = out.len();
        out.extend_from_slice(&self.new_item);
        let out = &mut out[start..];
        for group in &self.groups {
            let name = match group.field.as_str() {
                "provider" => item.provider,
                _ => item.category,
            };
            if let Some(features) = name.and_then(|name| group.known.get(name))
                && let Some(place) = out.get_mut(group.first..group.first + features.len())
            {
                place.copy_from_slice(features);
            }
        }
        let mut raw = Vec::new();
        let price = self.has_price.then_some(item.price);
        static_block(price, self.has_age.then_some(Some(0.0)), &mut raw);
        let mut features = Vec::with_capacity(raw.len());
        let first = out.len() - raw.len().min(out.len());
        self.item_scale.apply(first, &raw, &mut features);
        if let Some(place) = out.get_mut(first..) {
            place.copy_from_slice(&features);
        }
    }
}

fn row(table: &[f32], width: usize, index: u32) -> Option<&[f32]> {
    let start = (index as usize).checked_mul(width)?;
    table.get(start..start.checked_add(width)?)
}
