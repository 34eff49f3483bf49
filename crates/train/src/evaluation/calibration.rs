//! Predicted probabilities made frequencies, after training.

mod config;

use std::collections::BTreeMap;

use paretune_data::UserColumn;
use paretune_eval::{Calibrator, SlicedCalibrator};
use paretune_objectives::{Kind, Objectives};
use paretune_recommender::Corpus;
use serde::{Deserialize, Serialize};

use super::Rows;
use crate::TrainError;

pub use config::{CalibrationConfig, CalibrationMethod};

/// Calibrators of a trained model: one for each objective that is a flag and has a tower, fitted on rows that the model was not trained on.
///
/// Conditional objectives are calibrated as they are predicted, as the probability that both happen over all impressions (a calibrator of
/// the rate *given* the click would see clicked rows alone, the bias that ESMM is there to avoid), and bounded by the calibrated
/// probability of what they depend on: a conversion is never more likely than its click.
///
/// Platt's map rises, so that whatever ranks by one objective ranks as before (but for a conversion that the bound caught); an isotonic map
/// may level neighbours.
///
/// ```
/// use paretune_train::evaluation::{CalibrationConfig, CalibrationMethod};
///
/// #[derive(serde::Deserialize)]
/// struct Run { calibration: CalibrationConfig }
/// let plain: Run = toml::from_str("calibration = 'platt'")?;
/// assert_eq!(plain.calibration.method, CalibrationMethod::Platt);
/// let sliced: Run = toml::from_str("calibration = { method = 'isotonic', by = 'category' }")?;
/// assert_eq!(sliced.calibration.by.as_deref(), Some("category"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The column whose values are calibrated each by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Objective → its calibrators.
    objectives: BTreeMap<String, SlicedCalibrator>,
}

impl Calibration {
    /// Whether the tables have what a configuration asks for: better to know before anything is trained.
    ///
    /// # Errors
    /// A column that rows cannot be divided by.
    pub fn check(config: &CalibrationConfig, corpus: &Corpus) -> Result<(), TrainError> {
        let empty = Self { by: config.by.clone().filter(|_| !config.is_none()), objectives: BTreeMap::new() };
        empty.slices(corpus, 0, |_| (None, None)).map(drop)
    }

    /// Fits calibrators to predictions `[objective][row]` of the model for `rows`; `None` where none is asked for.
    ///
    /// An objective (or a slice) stays as it is where the rows do not tell: labels of one class alone, or predictions that are no better than
    /// the wrong way round, whose calibrated order would be upside down.
    ///
    /// # Errors
    /// A column that rows cannot be divided by, or predictions for other rows.
    pub fn fit(
        config: &CalibrationConfig,
        corpus: &Corpus,
        objectives: &Objectives,
        rows: &Rows,
        predictions: &[Vec<f32>],
    ) -> Result<Option<Self>, TrainError> {
        let fit = match config.method {
            CalibrationMethod::None => return Ok(None),
            CalibrationMethod::Platt => Calibrator::platt,
            CalibrationMethod::Isotonic => Calibrator::isotonic,
        };
        let mut found = Self { by: config.by.clone(), objectives: BTreeMap::new() };
        let slices = found.slices(corpus, rows.len(), |row| (Some(rows.users[row]), Some(rows.items[row])))?;
        for (k, objective) in objectives.iter().enumerate().filter(|(_, objective)| calibrated(objective.kind)) {
            let labels = &rows.labels[k];
            let has = |slice: Option<&str>, positive: bool| {
                let mut own = labels.iter().zip(&slices).filter(|(_, of)| slice.is_none_or(|slice| **of == slice));
                own.any(|(label, _)| !label.is_nan() && (*label > 0.5) == positive)
            };
            let both = |slice: Option<&str>| has(slice, true) && has(slice, false);
            if !both(None) {
                continue;
            }
            let mut own = SlicedCalibrator::fit(&predictions[k], labels, &slices, config.least, fit)?;
            own.slices.retain(|slice, calibrator| config.by.is_some() && rises(calibrator) && both(Some(slice)));
            if rises(&own.all) {
                found.objectives.insert(objective.name.clone(), own);
            }
        }
        Ok(Some(found))
    }

    /// Calibrates predictions `[objective][row]` in place. `of` says which user and which item a row is about; `None` is one that the tables
    /// do not have.
    ///
    /// # Errors
    /// A column that the tables do not have.
    pub fn apply(
        &self,
        corpus: &Corpus,
        objectives: &Objectives,
        predictions: &mut [Vec<f32>],
        of: impl Fn(usize) -> (Option<u32>, Option<u32>),
    ) -> Result<(), TrainError> {
        let rows = predictions.first().map_or(0, Vec::len);
        let slices = self.slices(corpus, rows, of)?;
        for (objective, column) in objectives.iter().zip(predictions.iter_mut()) {
            let Some(own) = self.objectives.get(&objective.name) else { continue };
            column.iter_mut().zip(&slices).for_each(|(p, slice)| *p = own.apply(*p, slice));
        }
        // What is conditional on something conditional comes after it: as many turns as there are objectives are enough, and one nearly always.
        for _ in 0..objectives.len() {
            let mut bounded = false;
            for (k, objective) in
                objectives.iter().enumerate().filter(|(_, objective)| objective.kind == Kind::Conditional)
            {
                let given = objective.given.as_ref().and_then(|given| objectives.index_of(given).ok());
                let Some(given) = given.filter(|given| *given != k) else { continue };
                let bound = std::mem::take(&mut predictions[given]);
                for (p, bound) in predictions[k].iter_mut().zip(&bound).filter(|(p, bound)| **p > **bound) {
                    (*p, bounded) = (*bound, true);
                }
                predictions[given] = bound;
            }
            if !bounded {
                break;
            }
        }
        Ok(())
    }

    /// Whether an objective's predictions are changed.
    #[must_use]
    pub fn covers(&self, objective: &str) -> bool {
        self.objectives.contains_key(objective)
    }

    /// The slice of each row; empty where the tables do not tell, and for all rows where nothing is divided.
    fn slices<'c>(
        &self,
        corpus: &'c Corpus,
        rows: usize,
        of: impl Fn(usize) -> (Option<u32>, Option<u32>),
    ) -> Result<Vec<&'c str>, TrainError> {
        let Some(by) = &self.by else { return Ok(vec![""; rows]) };
        let (items, users) = (&corpus.dataset.items, &corpus.dataset.users);
        let by_item = items.text.contains_key(by)
            || (by == "category" && items.category.is_some())
            || (by == "provider" && items.provider.is_some());
        if by_item {
            return Ok((0..rows)
                .map(|row| of(row).1.and_then(|item| items.field(item, by)).unwrap_or_default())
                .collect());
        }
        if let Some(UserColumn::Categorical(values)) = users.columns.get(by) {
            let value = |user: u32| values.get(user as usize)?.as_deref();
            return Ok((0..rows).map(|row| of(row).0.and_then(value).unwrap_or_default()).collect());
        }
        let mut known: Vec<&str> = items.text.keys().map(String::as_str).collect();
        known.extend(items.category.as_ref().map(|_| "category"));
        known.extend(items.provider.as_ref().map(|_| "provider"));
        let named = users.columns.iter().filter(|(_, column)| matches!(column, UserColumn::Categorical(_)));
        known.extend(named.map(|(name, _)| name.as_str()));
        Err(TrainError::NoSlices { by: by.clone(), known: known.join(", ") })
    }
}

/// Whether objectives of a kind predict probabilities.
pub(super) fn calibrated(kind: Kind) -> bool {
    matches!(kind, Kind::Binary | Kind::Conditional)
}

/// Whether a map keeps the order that it is given.
fn rises(calibrator: &Calibrator) -> bool {
    match calibrator {
        Calibrator::Platt { slope, .. } => *slope > 0.0,
        Calibrator::Isotonic { to, .. } => to.first() < to.last(),
    }
}
