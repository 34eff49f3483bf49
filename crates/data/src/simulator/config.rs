//! How large the marketplace is, and how its log was made.

use serde::{Deserialize, Serialize};

use super::vocabulary::{PROVIDER_HEADS, PROVIDER_TAILS};
use crate::DataError;

/// Size and seed of a marketplace. The same configuration always gives the same data.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SimulationConfig {
    /// Items in the catalogue.
    pub items: usize,
    /// Users.
    pub users: usize,
    /// Providers, 240 at most (that many names there are).
    pub providers: usize,
    /// Requests of an average user.
    pub requests_per_user: f64,
    /// Items shown for a request.
    pub shown: usize,
    /// Length of the log, in days.
    pub days: u32,
    /// Share of items that promise too much.
    pub bait_share: f64,
    /// Share of items that appear while the log is being written.
    pub late_share: f64,
    /// Probability with which the logging policy fills a place by pure chance.
    pub exploration: f64,
    /// η of the position bias: a place is examined with probability 1/position^η.
    pub position_bias: f64,
    /// Seed of everything.
    pub seed: u64,
}

impl Default for SimulationConfig {
    fn default() -> Self {
        Self {
            items: 3000,
            users: 2000,
            providers: 120,
            requests_per_user: 4.0,
            shown: 10,
            days: 90,
            bait_share: 0.15,
            late_share: 0.15,
            exploration: 0.1,
            position_bias: 0.5,
            seed: 1,
        }
    }
}

impl SimulationConfig {
    /// Refuses what cannot be simulated.
    pub(super) fn check(&self) -> Result<(), DataError> {
        let refuse = |field, value: String, hint| Err(DataError::Simulation { field, value, hint });
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let names = PROVIDER_HEADS.len() * PROVIDER_TAILS.len();
        if !(1..=10_000_000).contains(&self.users) {
            return refuse("users", self.users.to_string(), "1 to 10 million");
        }
        if !(1..=names).contains(&self.providers) {
            return refuse("providers", self.providers.to_string(), "1 to 240");
        }
        if !(1..=1000).contains(&self.shown) {
            return refuse("shown", self.shown.to_string(), "1 to 1000");
        }
        if !(1..=36_500).contains(&self.days) {
            return refuse("days", self.days.to_string(), "1 to 36500");
        }
        if !(0.0..=1000.0).contains(&self.requests_per_user) || self.requests_per_user < 1.0 {
            let value = self.requests_per_user.to_string();
            return refuse("requests_per_user", value, "1 to 1000");
        }
        for (field, value) in [("bait_share", self.bait_share), ("exploration", self.exploration)] {
            if !share(value) {
                return refuse(field, value.to_string(), "0 to 1");
            }
        }
        if !(0.0..=0.9).contains(&self.late_share) {
            return refuse("late_share", self.late_share.to_string(), "0 to 0.9");
        }
        if !(0.0..=10.0).contains(&self.position_bias) {
            return refuse("position_bias", self.position_bias.to_string(), "0 to 10");
        }
        let early = self.early_items();
        if early < self.shown || self.items > 10_000_000 {
            let hint = "at most 10 million, and enough that the items there from the start fill one request";
            return refuse("items", self.items.to_string(), hint);
        }
        Ok(())
    }

    /// Items that are there from the start.
    pub(super) fn early_items(&self) -> usize {
        let late = (self.items as f64 * self.late_share).round() as usize;
        self.items.saturating_sub(late)
    }
}
