//! The users' own columns as features: numbers, one-hot levels, hashed levels.

use std::collections::BTreeSet;

use super::normalise::Feature;
use crate::{Dataset, Part, Split, UserColumn};

/// Columns with more levels than this are hashed into as many buckets.
const LEVELS: usize = 16;

#[derive(Clone, Debug)]
enum Encoding {
    /// Value of each user, `NaN` = missing.
    Numeric(Vec<f64>),
    /// Which of `width` slots is hot, for each user.
    Hot { width: usize, slot: Vec<Option<u8>> },
}

/// The encoded columns of all users.
#[derive(Clone, Debug, Default)]
pub(super) struct UserColumns {
    encodings: Vec<Encoding>,
    features: Vec<Feature>,
}

impl UserColumns {
    /// Levels are those of users with train rows.
    pub(super) fn fit(dataset: &Dataset, split: &Split) -> Self {
        let mut seen = vec![false; dataset.users.len()];
        for row in split.rows(Part::Train) {
            seen[dataset.events.user[row as usize] as usize] = true;
        }
        let (mut encodings, mut features) = (Vec::new(), Vec::new());
        for (name, column) in &dataset.users.columns {
            match column {
                UserColumn::Numeric(values) => {
                    features.push(Feature::scaled(format!("user.{name}")));
                    features.push(Feature::flag(format!("user.{name}.missing")));
                    let number = |value: &Option<f64>| value.filter(|v| v.is_finite()).unwrap_or(f64::NAN);
                    encodings.push(Encoding::Numeric(values.iter().map(number).collect()));
                }
                UserColumn::Categorical(values) => {
                    let seen_values = values.iter().zip(&seen).filter(|(_, seen)| **seen);
                    let levels: BTreeSet<&str> = seen_values.filter_map(|(value, _)| value.as_deref()).collect();
                    let levels: Vec<&str> = levels.into_iter().collect();
                    let hashed = levels.len() > LEVELS;
                    let slot = |value: &Option<String>| {
                        let value = value.as_deref()?;
                        if hashed {
                            Some(bucket(value))
                        } else {
                            levels.binary_search(&value).ok().map(|slot| slot as u8)
                        }
                    };
                    let slot = values.iter().map(slot).collect();
                    let width = if hashed { LEVELS } else { levels.len() };
                    features.extend((0..width).map(|at| {
                        Feature::flag(match levels.get(at) {
                            Some(level) if !hashed => format!("user.{name}={level}"),
                            _ => format!("user.{name}#{at}"),
                        })
                    }));
                    encodings.push(Encoding::Hot { width, slot });
                }
            }
        }
        Self { encodings, features }
    }

    pub(super) fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Appends the raw features of a user; all missing for somebody unknown.
    pub(super) fn write(&self, user: Option<u32>, out: &mut Vec<f64>) {
        for encoding in &self.encodings {
            match encoding {
                Encoding::Numeric(values) => {
                    let value = user.and_then(|user| values.get(user as usize));
                    let value = value.copied().unwrap_or(f64::NAN);
                    out.extend([value, f64::from(u8::from(value.is_nan()))]);
                }
                Encoding::Hot { width, slot } => {
                    let hot = user.and_then(|user| slot.get(user as usize).copied().flatten());
                    let hot = hot.map(usize::from);
                    out.extend((0..*width).map(|at| f64::from(u8::from(hot == Some(at)))));
                }
            }
        }
    }
}

/// 64-bit FNV-1a, folded to a bucket: the same on every machine and in every version.
fn bucket(level: &str) -> u8 {
    let hash = level
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    ((hash ^ (hash >> 32)) % LEVELS as u64) as u8
}
