//! What is true of the marketplace and no model is told: latent tastes and the probabilities they lead to.

use super::logging::RATED_CLICKS;
use super::topic::{Topic, dot};

/// What is true of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemTruth {
    /// How good it is; about standard normal over the catalogue.
    pub quality: f64,
    /// How much more its text promises than it holds: 0 for honest items, else 0.6 to 1.
    pub bait: f64,
    /// Log price relative to its category, about standard normal. Grows with quality.
    pub dearness: f64,
    /// How much the logging policy favours it, as a log weight: large for items of large providers.
    pub exposure: f64,
    /// Its place in the space of tastes, of about unit length.
    pub topic: Topic,
}

/// What is true of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct UserTruth {
    /// The direction of their taste; longer = pickier.
    pub taste: Topic,
    /// How much dear items put them off.
    pub price_sensitivity: f64,
    /// How much bait draws them, 0 to 1.2.
    pub bait_susceptibility: f64,
    /// Stars they give beyond what others would.
    pub leniency: f64,
}

/// The truth behind a simulated log, by item and user index.
///
/// With match m = taste · topic, quality q, bait b, dearness d, and the user's price sensitivity s and bait susceptibility k:
///
/// | outcome | formula |
/// | --- | --- |
/// | click, when examined | σ(−2.0 + 1.2 m + 2.6 k b + 0.15 q − 0.2 s d) |
/// | conversion, given a click | σ(−2.6 + 0.6 m + 0.45 q − 1.5 s d − 1.3 b) |
/// | mean rating | 3.3 + 0.6 q + 0.35 m − 1.1 b + leniency, kept in 1 to 5 |
/// | median dwell, seconds | exp(3.4 + 0.35 m + 0.15 q − 1.2 b) |
///
/// A function asked of an item or a user there is not answers `NaN`.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// By item index.
    pub items: Vec<ItemTruth>,
    /// By user index.
    pub users: Vec<UserTruth>,
    /// η of the position bias.
    pub position_bias: f64,
}

impl Truth {
    /// Probability that the user clicks the item at position 1.
    pub fn click(&self, user: u32, item: u32) -> f64 {
        self.pair(user, item, |u, i, m| {
            logistic(
                -2.0 + 1.2 * m + 2.6 * u.bait_susceptibility * i.bait + 0.15 * i.quality
                    - 0.2 * u.price_sensitivity * i.dearness,
            )
        })
    }

    /// Probability that a place is looked at: 1 / position^η, positions from 1.
    pub fn examination(&self, position: u16) -> f64 {
        f64::from(position.max(1)).powf(-self.position_bias)
    }

    /// Probability of a conversion once clicked.
    pub fn conversion(&self, user: u32, item: u32) -> f64 {
        self.pair(user, item, |u, i, m| {
            logistic(-2.6 + 0.6 * m + 0.45 * i.quality - 1.5 * u.price_sensitivity * i.dearness - 1.3 * i.bait)
        })
    }

    /// Mean rating in stars, before noise and rounding to half stars.
    pub fn rating(&self, user: u32, item: u32) -> f64 {
        self.pair(user, item, |u, i, m| (3.3 + 0.6 * i.quality + 0.35 * m - 1.1 * i.bait + u.leniency).clamp(1.0, 5.0))
    }

    /// Median dwell after a click, in seconds.
    pub fn dwell(&self, user: u32, item: u32) -> f64 {
        self.pair(user, item, |_, i, m| (3.4 + 0.35 * m + 0.15 * i.quality - 1.2 * i.bait).exp())
    }

    /// Probability that a clicked item is rated: always after a conversion, sometimes without.
    pub fn rated(&self, user: u32, item: u32) -> f64 {
        let converted = self.conversion(user, item);
        converted + (1.0 - converted) * RATED_CLICKS
    }

    fn pair(&self, user: u32, item: u32, value: impl FnOnce(&UserTruth, &ItemTruth, f64) -> f64) -> f64 {
        match (self.users.get(user as usize), self.items.get(item as usize)) {
            (Some(user), Some(item)) => value(user, item, dot(&user.taste, &item.topic)),
            _ => f64::NAN,
        }
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
