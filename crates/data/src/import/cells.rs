//! From a raw cell to a value, as a column's specification says.

use std::borrow::Cow;

use arrow_cast::parse::string_to_timestamp_nanos;

use super::rows::Cell;
use super::{DropReason, Fault, text};
use crate::descriptor::{FileSpec, NumberSpec, TextSpec, TimeSpec, TimeUnit};

/// Characters of a bad value that a message shows.
const SHOWN: usize = 40;

impl Cell<'_> {
    /// The value as text without white space around it; `None` where it is blank.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        let text = match self {
            Self::Missing => return None,
            Self::Text(text) => Cow::from(text.trim()),
            Self::Integer(number) | Self::Time(number) => Cow::from(number.to_string()),
            Self::Float(number) if number.is_nan() => return None,
            Self::Float(number) => Cow::from(number.to_string()),
        };
        (!text.is_empty()).then_some(text)
    }

    /// An id, which must be there.
    pub(super) fn id(&self, column: &str) -> Result<Cow<'_, str>, Fault> {
        self.text().ok_or_else(|| missing(column))
    }

    /// Text, mended and shaped; `None` where nothing is left of it.
    pub(super) fn cleaned(&self, spec: &TextSpec, file: &FileSpec) -> Option<String> {
        text::clean(&self.text()?, spec, file)
    }

    /// A number, checked and transformed; `None` where there is none.
    pub(super) fn number(&self, spec: &NumberSpec) -> Result<Option<f64>, Fault> {
        let raw = match self {
            Self::Integer(number) => *number as f64,
            Self::Float(number) => *number,
            Self::Missing | Self::Text(_) | Self::Time(_) => {
                let Some(text) = self.text() else {
                    return Ok(None);
                };
                if spec.null.iter().any(|null| *null == text) {
                    return Ok(None);
                }
                text.parse().map_err(|_| bad(DropReason::BadNumber, &spec.column, &text))?
            }
        };
        if raw.is_nan() {
            return Ok(None);
        }
        let outside = spec.min.is_some_and(|min| raw < min) || spec.max.is_some_and(|max| raw > max);
        if outside || !raw.is_finite() {
            return Err(bad(DropReason::OutOfRange, &spec.column, &raw.to_string()));
        }
        let mut number = raw * spec.scale;
        if let Some(cap) = spec.cap {
            number = number.min(cap);
        }
        if let Some(threshold) = spec.threshold {
            number = f64::from(u8::from(number >= threshold));
        }
        // Feedback is kept in single precision.
        if !(number as f32).is_finite() {
            return Err(bad(DropReason::OutOfRange, &spec.column, &raw.to_string()));
        }
        Ok(Some(number))
    }

    /// A time in seconds since 1970; `None` where there is none.
    pub(super) fn time(&self, spec: &TimeSpec) -> Result<Option<i64>, Fault> {
        if let Self::Time(seconds) = self {
            return Ok(Some(*seconds));
        }
        let Some(text) = self.text() else {
            return Ok(None);
        };
        let wrong = || bad(DropReason::BadTime, &spec.column, &text);
        let per_second = match spec.unit {
            TimeUnit::S => 1,
            TimeUnit::Ms => 1_000,
            TimeUnit::Us => 1_000_000,
            TimeUnit::Iso => {
                let nanoseconds = string_to_timestamp_nanos(&text).map_err(|_| wrong())?;
                return Ok(Some(nanoseconds.div_euclid(1_000_000_000)));
            }
        };
        if let Ok(whole) = text.parse::<i64>() {
            return Ok(Some(whole.div_euclid(per_second)));
        }
        let seconds = text.parse::<f64>().map_err(|_| wrong())? / per_second as f64;
        if !seconds.is_finite() {
            return Err(wrong());
        }
        Ok(Some(seconds.floor() as i64))
    }
}

/// A cell that must be there is not.
pub(super) fn missing(column: &str) -> Fault {
    Fault::new(DropReason::MissingField, format!("`{column}` is empty"))
}

fn bad(reason: DropReason, column: &str, value: &str) -> Fault {
    let shown: String = value.chars().take(SHOWN).collect();
    Fault::new(reason, format!("`{column}` is {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str, shape: impl Fn(&mut NumberSpec)) -> Result<Option<f64>, DropReason> {
        let mut spec = NumberSpec {
            column: "n".into(),
            min: None,
            max: None,
            scale: 1.0,
            cap: None,
            threshold: None,
            null: vec!["NULL".into()],
        };
        shape(&mut spec);
        Cell::Text(text.into()).number(&spec).map_err(|fault| fault.reason)
    }

    #[test]
    fn numbers_are_checked_then_transformed() {
        assert_eq!(number(" 4.5 ", |_| ()), Ok(Some(4.5)));
        assert_eq!(number("NULL", |_| ()), Ok(None));
        assert_eq!(number("nan", |_| ()), Ok(None));
        assert_eq!(number("", |_| ()), Ok(None));
        assert_eq!(number("four", |_| ()), Err(DropReason::BadNumber));
        assert_eq!(number("inf", |_| ()), Err(DropReason::OutOfRange));
        assert_eq!(number("11", |n| n.max = Some(10.0)), Err(DropReason::OutOfRange));
        assert_eq!(number("0", |n| n.min = Some(1.0)), Err(DropReason::OutOfRange));
        assert_eq!(number("2", |n| n.scale = 3600.0), Ok(Some(7200.0)));
        assert_eq!(number("1e39", |_| ()), Err(DropReason::OutOfRange));
        assert_eq!(number("9", |n| n.cap = Some(5.0)), Ok(Some(5.0)));
        assert_eq!(number("4", |n| n.threshold = Some(4.0)), Ok(Some(1.0)));
        assert_eq!(number("3.9", |n| n.threshold = Some(4.0)), Ok(Some(0.0)));
    }

    #[test]
    fn times_are_seconds() {
        let time = |text: &str, unit| {
            let spec = TimeSpec { column: "t".into(), unit };
            Cell::Text(text.to_owned().into()).time(&spec).map_err(|fault| fault.reason)
        };
        assert_eq!(time("964982703", TimeUnit::S), Ok(Some(964_982_703)));
        assert_eq!(time("964982703.9", TimeUnit::S), Ok(Some(964_982_703)));
        assert_eq!(time("-1", TimeUnit::Ms), Ok(Some(-1)));
        assert_eq!(time("1500", TimeUnit::Ms), Ok(Some(1)));
        assert_eq!(time("1970-01-02", TimeUnit::Iso), Ok(Some(86_400)));
        assert_eq!(time("1970-01-01T01:00:00.5+01:00", TimeUnit::Iso), Ok(Some(0)));
        assert_eq!(time("yesterday", TimeUnit::Iso), Err(DropReason::BadTime));
        assert_eq!(time("yesterday", TimeUnit::S), Err(DropReason::BadTime));
        assert_eq!(time(" ", TimeUnit::S), Ok(None));
    }
}
