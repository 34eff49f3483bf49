//! Fitted features as they are saved beside a model.

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

use super::Transforms;
use super::category::Cross;
use super::encoders::{Encoders, Written};
use super::past::{Past, Recent};
use super::spec::FeatureSpec;

/// Number of the format. It moves whenever the same file would give other features.
pub(super) const FORMAT: u32 = 1;

/// Rows and indices of one model, at most, over all parts: more cannot come from a real catalogue.
const MOST_SLOTS: u64 = 1 << 20;

/// Everything that features are computed from.
#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) format: u32,
    pub(super) specs: Vec<FeatureSpec>,
    pub(super) users: Encoders,
    pub(super) items: Encoders,
    pub(super) context: Encoders,
    /// Of categories of several sides. Parts are places among the indices of user, item and context, one after the other.
    pub(super) pairs: Vec<Cross>,
    pub(super) recent: Vec<Recent>,
    pub(super) user_rows: Written,
    pub(super) item_rows: Written,
    pub(super) past: Past,
    /// Whether clocks are seconds since 1970.
    pub(super) real_times: bool,
}

impl State {
    /// What is wrong with a state that was read from a file.
    fn fault(&self) -> Option<String> {
        if self.format != FORMAT {
            let advice = "fit the features again, or use the version that wrote them";
            return Some(format!(
                "fitted features of format {} cannot be read, only format {FORMAT}; {advice}",
                self.format
            ));
        }
        let damaged = |what: &str| Some(format!("the fitted features are damaged: {what}; copy or fit them again"));
        for side in [&self.users, &self.items, &self.context] {
            if let Some((name, fault)) = side.fault() {
                return damaged(&format!("feature \"{name}\": {fault}"));
            }
            if side.crosses.iter().any(|cross| !reaches(cross, side.categories.len() as u64)) {
                return damaged("a cross points at a category that there is not");
            }
        }
        let recent: u64 = self.recent.iter().map(|recent| u64::from(recent.last)).sum();
        let indices = [&self.users, &self.items, &self.context].map(|side| side.indices() as u64);
        let slots = indices.iter().sum::<u64>() + recent;
        if slots > MOST_SLOTS || self.pairs.iter().any(|cross| !reaches(cross, slots)) {
            return damaged("a cross points at a category that there is not");
        }
        for recent in &self.recent {
            let rows = recent.rows.count();
            if recent.rows.fault().is_some()
                || recent.of_item.len() != self.item_rows.rows as usize
                || recent.of_item.iter().any(|row| *row >= rows)
            {
                return damaged(&format!("feature \"{}\" does not fit its table", recent.name));
            }
        }
        let parts = [
            (self.user_rows.fits(&self.users), "the users' rows have another shape than their features"),
            (self.item_rows.fits(&self.items), "the items' rows have another shape than their features"),
            (self.past.is_sound(), "the users' histories are cut short"),
        ];
        parts.iter().find(|(sound, _)| !sound).and_then(|(_, what)| damaged(what))
    }
}

fn reaches(cross: &Cross, places: u64) -> bool {
    cross.hash > 0 && cross.parts.iter().all(|place| u64::from(*place) < places)
}

impl Serialize for Transforms {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Transforms {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let state = State::deserialize(from)?;
        match state.fault() {
            None => Ok(Self { state }),
            Some(fault) => Err(D::Error::custom(fault)),
        }
    }
}
