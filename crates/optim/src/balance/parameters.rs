//! Parameters of any method, as a flat table.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};

use crate::{OptimError, Result};

/// A parameter's value, in the terms of TOML and JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A word.
    Text(String),
    /// Several values.
    List(Vec<Setting>),
    /// Values by name.
    Table(BTreeMap<String, Setting>),
}

macro_rules! from {
    ($($type:ty => $variant:ident),*) => {
        $(impl From<$type> for Setting {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}
from!(bool => Bool, i64 => Integer, i32 => Integer, f64 => Number, &str => Text, String => Text, Vec<Setting> => List);

/// A method's parameters by name; those that are absent have their defaults.
pub type Parameters = BTreeMap<String, Setting>;

/// Reads a method's typed parameters, and refuses what it does not have.
pub(super) fn read<T: DeserializeOwned>(method: &'static str, parameters: &Parameters) -> Result<T> {
    let fields = fields::<T>();
    let known = || match fields {
        [] => "it has no parameters".to_string(),
        all => format!("its parameters are {}", all.join(", ")),
    };
    if let Some(name) = parameters.keys().find(|name| !fields.contains(&name.as_str())) {
        return Err(OptimError::Parameter { method, reason: format!("there is no parameter {name}"), known: known() });
    }
    let entries = parameters.iter().map(|(name, value)| (name.as_str(), value.clone()));
    T::deserialize(MapDeserializer::new(entries)).map_err(|error: de::value::Error| OptimError::Parameter {
        method,
        reason: blame(parameters, &error),
        known: known(),
    })
}

/// Serde says what is wrong with a value but not with which: the value itself is the best clue.
fn blame(parameters: &Parameters, error: &de::value::Error) -> String {
    match parameters.iter().next() {
        Some((name, _)) if parameters.len() == 1 => format!("{name}: {error}"),
        _ => error.to_string(),
    }
}

/// The names of a struct's fields.
pub(super) fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // Ends with an error by design: all that counts is what was asked for.
    let _ = T::deserialize(Fields(&mut found));
    found
}

struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> std::result::Result<V::Value, Self::Error> {
        Err(de::Error::custom("only a struct has fields"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, de::value::Error> for Setting {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Setting {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Self::Error> {
        match self {
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Integer(value) => visitor.visit_i64(value),
            Self::Number(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::List(values) => visitor.visit_seq(SeqDeserializer::new(values.into_iter())),
            Self::Table(values) => visitor.visit_map(MapDeserializer::new(values.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Self::Error> {
        match self {
            Self::Text(value) => {
                let inner: de::value::StringDeserializer<de::value::Error> = value.into_deserializer();
                inner.deserialize_enum(name, variants, visitor)
            }
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::List(values) => {
                let all: Vec<String> = values.iter().map(Self::to_string).collect();
                write!(f, "[{}]", all.join(", "))
            }
            Self::Table(values) => {
                let all: Vec<String> = values.iter().map(|(k, v)| format!("{k} = {v}")).collect();
                write!(f, "{{{}}}", all.join(", "))
            }
        }
    }
}
