//! The fields of one section, taken one by one, so that every error names the feature and the field.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

use super::spec::Side;
use crate::DataError;

/// What is left of a section after its name.
pub(super) struct Fields {
    pub(super) name: String,
    rest: BTreeMap<String, Value>,
}

impl Fields {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut rest = BTreeMap::<String, Value>::deserialize(from)?;
        match rest.remove("name") {
            Some(Value::String(name)) if !name.trim().is_empty() => Ok(Self { name, rest }),
            Some(other) => {
                Err(D::Error::custom(format!("a feature has the name {other}; give it a text that is not empty")))
            }
            None => {
                let column = rest.get("column").map(|column| format!(" (of column {column})")).unwrap_or_default();
                Err(D::Error::custom(format!("a feature{column} has no field `name`; add one")))
            }
        }
    }

    pub(super) fn wrong(&self, field: &str, problem: impl Into<String>) -> DataError {
        DataError::Feature { feature: self.name.clone(), field: field.to_owned(), problem: problem.into() }
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, field: &str) -> Result<String, DataError> {
        match self.rest.remove(field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(field, format!("{other} is no text"))),
            None => Err(self.wrong(field, "is needed and not there")),
        }
    }

    pub(super) fn side(&mut self) -> Result<Side, DataError> {
        let sides = [Side::User, Side::Item, Side::EventContext];
        let name = self.text("of")?;
        sides.into_iter().find(|side| side.name() == name).ok_or_else(|| {
            self.wrong("of", format!("{name:?} has no columns; take \"user\", \"item\" or \"event-context\""))
        })
    }

    /// One of several names, or the default.
    pub(super) fn choice<T: Copy + Default>(&mut self, field: &str, known: &[(&str, T)]) -> Result<T, DataError> {
        if !self.rest.contains_key(field) {
            return Ok(T::default());
        }
        let name = self.text(field)?;
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.wrong(field, format!("{name:?} is not known; take one of {}", names.join(", ")))
        })
    }

    /// A whole number between `least` and `most`; `None` where there is no such field.
    pub(super) fn whole(&mut self, field: &str, least: u64, most: u64) -> Result<Option<u64>, DataError> {
        let Some(value) = self.rest.remove(field) else {
            return Ok(None);
        };
        match value.as_u64().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                Err(self.wrong(field, format!("{value} is out of range; give a whole number from {least} to {most}")))
            }
        }
    }

    /// A list of names that must be there.
    pub(super) fn names(&mut self, field: &str) -> Result<Vec<String>, DataError> {
        let value = self.rest.remove(field).ok_or_else(|| self.wrong(field, "is needed and not there"))?;
        let names: Option<Vec<String>> =
            value.as_array().and_then(|list| list.iter().map(|name| name.as_str().map(str::to_owned)).collect());
        names.ok_or_else(|| self.wrong(field, format!("{value} is no list of names, such as [\"age\", \"region\"]")))
    }

    /// Refuses what was not taken.
    pub(super) fn finish(self, allowed: &str) -> Result<(), DataError> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(field) => Err(self.wrong(field, format!("is not known here; this kind of feature takes {allowed}"))),
        }
    }
}
