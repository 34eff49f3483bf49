//! From where on a feature is suspicious, and from where on it is refused.

use serde::{Deserialize, Serialize};

use crate::DataError;

/// Two bounds of one measure. Above 1 nothing is ever reported, or refused.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// From here on it is reported.
    pub warn: f64,
    /// From here on it is refused.
    pub refuse: f64,
}

/// Bounds of every measure.
///
/// ```
/// use paretune_data::leaks::LeakThresholds;
///
/// let strict: LeakThresholds = toml::from_str("auc = { warn = 0.9, refuse = 0.95 }")?;
/// assert_eq!(strict.auc.refuse, 0.95);
/// assert_eq!(strict.future, LeakThresholds::default().future);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LeakThresholds {
    /// Share of the training rows in which a column has the value of the label: from here on it is refused. Rows with the label's most
    /// frequent value must reach it, and so must all others.
    pub same: f64,
    /// AUC of one column against a binary label.
    pub auc: Bounds,
    /// |Spearman's rank correlation| of one column and a graded label.
    pub rank: Bounds,
    /// |Spearman's rank correlation| of a column and a count, share or mean over the whole log, held-out rows included …
    pub future: Bounds,
    /// … together with their partial correlation beyond the same over training rows.
    pub beyond: Bounds,
    /// Rows, users and items that are looked at, at most: a seeded sample of them.
    pub rows: usize,
}

impl Default for LeakThresholds {
    fn default() -> Self {
        Self {
            same: 0.99,
            auc: Bounds { warn: 0.98, refuse: 0.999 },
            rank: Bounds { warn: 0.98, refuse: 0.999 },
            future: Bounds { warn: 0.9, refuse: 0.98 },
            beyond: Bounds { warn: 0.7, refuse: 0.9 },
            rows: 50_000,
        }
    }
}

impl LeakThresholds {
    pub(super) fn check(&self) -> Result<(), DataError> {
        let refuse =
            |field: &str, value: f64, hint| Err(DataError::LeakThreshold { field: field.to_owned(), value, hint });
        for (field, bounds, least) in [
            ("auc", self.auc, 0.5),
            ("rank", self.rank, 0.0),
            ("future", self.future, 0.0),
            ("beyond", self.beyond, 0.0),
        ] {
            // Written so that NaN is refused too.
            if !(bounds.warn > least && bounds.warn.is_finite()) {
                let hint = "take a number above 0 (above 0.5 for auc); above 1 nothing is reported";
                return refuse(&format!("{field}.warn"), bounds.warn, hint);
            }
            if !(bounds.refuse >= bounds.warn && bounds.refuse.is_finite()) {
                let hint = "take a number that is not below `warn`; above 1 nothing is refused";
                return refuse(&format!("{field}.refuse"), bounds.refuse, hint);
            }
        }
        if !(self.same > 0.5 && self.same.is_finite()) {
            return refuse("same", self.same, "take a number above 0.5; above 1 nothing is refused");
        }
        if self.rows < 100 {
            return refuse("rows", self.rows as f64, "take 100 at least: fewer rows prove nothing");
        }
        Ok(())
    }
}
