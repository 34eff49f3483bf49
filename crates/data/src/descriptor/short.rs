//! Values that may be written short, as a string or a number, or long, as a table.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A type with a short form.
pub(super) trait Short: Sized {
    /// For messages: what may stand here.
    const EXPECTED: &'static str;

    /// From the string of the short form.
    fn from_text(text: &str) -> Result<Self, String>;

    /// From the number of the short form; by default there is no such form.
    fn from_number(number: f64) -> Result<Self, String> {
        Err(format!("{number} is a number; {} is needed", Self::EXPECTED))
    }

    /// From the long form.
    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error>;
}

/// Deserializes either form. An untagged enum would do, but tell nothing of what is wrong, and where.
pub(super) fn deserialize<'de, T: Short, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(Either(PhantomData))
}

struct Either<T>(PhantomData<T>);

impl<'de, T: Short> Visitor<'de> for Either<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::from_number(number as f64).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::from_number(number as f64).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::from_number(number).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<T, A::Error> {
        T::from_table(MapAccessDeserializer::new(table))
    }
}

/// Gives types with a short form their `Deserialize`.
macro_rules! deserialize_short {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                deserialize(from)
            }
        }
    )*};
}

deserialize_short!(super::FileSpec, super::TextSpec, super::NumberSpec, super::FeedbackSpec, super::TimeSpec);
