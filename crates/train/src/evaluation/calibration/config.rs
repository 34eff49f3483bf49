//! How probabilities are calibrated, as the configuration says it.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The map from predicted probabilities to frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationMethod {
    /// Probabilities stay as the model says them.
    #[default]
    None,
    /// `σ(slope · logit(p) + offset)` (Platt 1999).
    Platt,
    /// A step-wise linear map that never falls (Zadrozny and Elkan 2002); wants more rows.
    Isotonic,
}

/// What is calibrated how: a bare method, or a table with `method` and more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub struct CalibrationConfig {
    /// The map.
    pub method: CalibrationMethod,
    /// A column of names, of items or of users, whose values are calibrated each by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Rows that a value must have for that; others share one calibrator.
    pub least: usize,
}

impl Default for CalibrationConfig {
    fn default() -> Self {
        Self { method: CalibrationMethod::None, by: None, least: 500 }
    }
}

impl CalibrationConfig {
    /// Whether nothing is calibrated.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.method == CalibrationMethod::None
    }
}

impl Serialize for CalibrationConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // The derived function, which is not the trait's.
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for CalibrationConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = CalibrationConfig;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("\"none\", \"platt\", \"isotonic\", or a table with such a `method`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                // As the table that says nothing else.
                CalibrationConfig::deserialize(MapDeserializer::new([("method", name)].into_iter()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                CalibrationConfig::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_any(NameOrTable)
    }
}
