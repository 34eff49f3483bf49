//! Propensities of the log, for objectives that are debiased by them ([`paretune_objectives::Debias`]).
//!
//! | `propensity` | `1 / p` of a row | stands for |
//! | --- | --- | --- |
//! | `column` | `(1 / N) / p` of the logged `p` and `N` items | a policy that shows every item alike |
//! | `column`, another one named | `1 / p` | all rows of the log |
//! | `popularity`, selection | `mean_j(n_j^power) / n_i^power` | the same, where the log showed what is popular |
//! | `popularity`, exposure | `(max n / n_i)^power` | items everybody looks at |
//! | `position` | `rank^eta`, or one over the curve | the first position |
//! | `model` | one over what a logistic model says of the row | all rows of the log |

mod logistic;
mod model;

use paretune_objectives::{Bias, Debias, DebiasMethod, Objective, Objectives, Propensity, SampleWeights};
use paretune_recommender::Corpus;

use crate::TrainError;

pub use logistic::Logistic;
pub use model::PropensityModel;

/// What the losses of a training have to know of the rows of its log, by objective.
#[derive(Debug, Clone)]
pub struct Propensities {
    of: Vec<Option<Known>>,
}

/// What is known for one objective.
#[derive(Debug, Clone)]
struct Known {
    /// `1 / p` of each row of the log; `NaN` where unknown.
    inverse: Vec<f32>,
    /// Whether it stands for the whole catalogue, of which drawn items are a sample, rather than for the rows of the log.
    catalogue: bool,
    /// Whether what is not observed is imputed.
    imputes: bool,
}

impl Propensities {
    /// For the rows of a corpus. A logistic model is fitted to the training rows.
    ///
    /// # Errors
    /// A source that the log does not have: a column, positions, labels that are missing somewhere.
    pub fn new(corpus: &Corpus, objectives: &Objectives) -> Result<Self, TrainError> {
        let known = |objective: &Objective| {
            if objective.examination > 0 && corpus.dataset.events.position.is_none() {
                let problem =
                    "examination needs a column `position` of the events: map it in the data set's descriptor";
                return refused(objective, problem);
            }
            objective.debias.as_ref().map(|debias| Known::new(corpus, objective, debias)).transpose()
        };
        Ok(Self { of: objectives.iter().map(known).collect::<Result<_, _>>()? })
    }

    /// Refuses a doubly robust loss over the catalogue where nothing is drawn from it.
    pub(crate) fn check(&self, objectives: &Objectives, negatives: usize) -> Result<(), TrainError> {
        let wants = |known: &Option<Known>| known.as_ref().is_some_and(|known| known.catalogue && known.imputes);
        match objectives.iter().zip(&self.of).find(|(_, known)| wants(known)) {
            Some((objective, _)) if negatives == 0 => {
                let problem = "a doubly robust loss over the catalogue imputes labels of items that were not shown: set \
                               training.negatives = 1 or more";
                refused(objective, problem)
            }
            _ => Ok(()),
        }
    }

    /// For the samples of a batch: rows of the log, or `None` for items that were drawn. `labels` as in
    /// [`Batch::labels`](paretune_recommender::Batch::labels). Empty where no objective is debiased.
    pub fn weights(&self, rows: &[Option<u32>], labels: &[Vec<f32>]) -> Vec<Option<SampleWeights>> {
        if self.of.iter().all(Option::is_none) {
            return Vec::new();
        }
        let of = self.of.iter().zip(labels);
        of.map(|(known, labels)| known.as_ref().map(|known| known.weights(rows, labels))).collect()
    }

    /// `1 / p` of the rows of the log, for an objective that is debiased.
    pub fn inverse(&self, objective: usize) -> Option<&[f32]> {
        self.of.get(objective)?.as_ref().map(|known| known.inverse.as_slice())
    }
}

impl Known {
    fn new(corpus: &Corpus, objective: &Objective, debias: &Debias) -> Result<Self, TrainError> {
        let events = &corpus.dataset.events;
        let exposure = debias.bias_of(objective.kind) == Bias::Exposure;
        let items = corpus.dataset.items.len() as f64;
        let inverse: Vec<f32> = match debias.propensity {
            Propensity::Column if debias.column.is_some() => {
                let name = debias.column.as_deref().unwrap_or_default();
                let Some(column) = events.feedback.get(name) else {
                    let known: Vec<&str> = events.feedback.keys().map(String::as_str).collect();
                    let problem = format!(
                        "propensity = \"column\" reads column `{name}`, which the events do not have: there are {}",
                        known.join(", ")
                    );
                    return refused(objective, &problem);
                };
                if let Some(wrong) = column.iter().find(|p| **p <= 0.0 || **p > 1.0) {
                    let problem = format!("column `{name}` holds {wrong}: a propensity is above 0 and at most 1");
                    return refused(objective, &problem);
                }
                column.iter().map(|p| 1.0 / p).collect()
            }
            Propensity::Column => match &events.propensity {
                Some(column) if column.iter().any(|p| p.is_finite()) => {
                    column.iter().map(|p| (1.0 / (items * f64::from(*p))) as f32).collect()
                }
                _ => {
                    let problem = "propensity = \"column\" needs a column `propensity` of the events: map it in the data set's descriptor, \
                                   or take propensity = \"model\" or \"popularity\"";
                    return refused(objective, problem);
                }
            },
            Propensity::Position => match &events.position {
                Some(positions) => {
                    let share = |at: &u16| debias.examination(*at).map_or(f32::NAN, |share| (1.0 / share) as f32);
                    positions.iter().map(share).collect()
                }
                None => {
                    let problem = "propensity = \"position\" needs a column `position` of the events: map it in the data set's descriptor";
                    return refused(objective, problem);
                }
            },
            Propensity::Popularity => {
                let power = debias.power.unwrap_or(0.5);
                // An item that was shown and never engaged with is as rare as one that was once.
                let shares = corpus.summary().engagement().iter().map(|n| f64::from((*n).max(1)).powf(power));
                let shares: Vec<f64> = shares.collect();
                let all = match exposure {
                    true => shares.iter().fold(1.0, |most: f64, share| most.max(*share)),
                    false => shares.iter().sum::<f64>() / items,
                };
                events.item.iter().map(|item| (all / shares[*item as usize]) as f32).collect()
            }
            Propensity::Model => {
                let fitted = PropensityModel::fit(corpus, objective)?;
                let mut inverse = vec![f32::NAN; events.len()];
                for (row, p) in fitted.rows().iter().zip(fitted.probabilities()) {
                    inverse[*row as usize] = (1.0 / p) as f32;
                }
                inverse
            }
        };
        let catalogue = match debias.propensity {
            Propensity::Column => debias.column.is_none(),
            Propensity::Popularity => !exposure,
            Propensity::Position | Propensity::Model => false,
        };
        Ok(Self { inverse, catalogue, imputes: debias.method == DebiasMethod::DoublyRobust })
    }

    fn weights(&self, rows: &[Option<u32>], labels: &[f32]) -> SampleWeights {
        let of = |row: &Option<u32>| row.and_then(|row| self.inverse.get(row as usize)).copied().unwrap_or(f32::NAN);
        let inverse: Vec<f32> = rows.iter().map(of).collect();
        let known = |at: &usize| !inverse[*at].is_nan();
        let base = match self.catalogue {
            // Rows that were shown stand for all that might have been: by weights of mean 1.
            true => (0..rows.len()).filter(known).filter(|at| !labels[*at].is_nan()).count(),
            false => (0..rows.len()).filter(known).count(),
        };
        let population = match self.catalogue {
            true => (0..rows.len()).filter(|at| rows[*at].is_none()).map(|at| at as u32).collect(),
            false => (0..rows.len()).filter(known).map(|at| at as u32).collect(),
        };
        SampleWeights { inverse, base, population }
    }
}

fn refused<T>(objective: &Objective, problem: &str) -> Result<T, TrainError> {
    Err(TrainError::Debias { objective: objective.name.clone(), problem: problem.to_owned() })
}
