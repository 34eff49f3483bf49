//! What the configuration says about objectives.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::custom::Registry;
use crate::{Debias, Distill, ListGoal, Loss, ObjectiveError, Result, Scaler, Semi};

mod conditions;
mod direction;
mod goals;
#[cfg(test)]
mod tests;
mod tower;

pub use direction::Direction;
pub use tower::TowerShape;

/// What a label is, and with it the loss and the unit of the prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// 0 or 1; binary cross-entropy, predicts a probability.
    Binary,
    /// 0 or 1, and only possible where another objective is 1, binary or itself conditional (a cart given a click, a purchase given a cart).
    /// Trained over all impressions as in ESMM (Ma et al., SIGIR 2018): `p = p(given) · p(this | given)` against the label. With
    /// [`through`](Objective::through) by two ways, as in ESM² (Wen et al., SIGIR 2020):
    /// `p = p(given) · [p(through | given) · p(this | through) + (1 - p(through | given)) · p(this | other)]`.
    Conditional,
    /// A number; squared error in standard units, predicts in the label's unit.
    Regression,
    /// A number from 0 with a long tail, such as seconds; squared error of `ln(1 + y)` in standard units.
    LogRegression,
    /// 0 or 1, of which only the order of items counts: has no tower, and predicts how well user and item fit (a score without a
    /// unit, made by who owns both). Its loss is a ranking loss, or, of single samples, binary cross-entropy.
    Ranking,
    /// Of the lists that another objective's ranking shows: diversity, coverage, fairness, novelty. Has neither labels nor a tower, and predicts
    /// nothing; its loss looks at a whole batch.
    List,
    /// What a score costs: the share of the shared representation's columns that count, of which training shuts those that are not worth their
    /// weight. Has neither labels nor a tower.
    Cost,
    /// Whatever a [`CustomObjective`](crate::CustomObjective) makes of it, which has to be registered ([`Objectives::with_custom`]).
    Custom,
}

impl Kind {
    /// Whether predictions come from a task tower.
    pub fn has_tower(self) -> bool {
        !matches!(self, Self::Ranking | Self::List | Self::Cost)
    }

    /// Whether samples have labels for it; else it is a matter of the model.
    pub fn has_labels(self) -> bool {
        !matches!(self, Self::List | Self::Cost)
    }

    /// Whether labels are 0 or 1.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Binary | Self::Conditional | Self::Ranking)
    }
}

/// One objective, as it stands in the configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Name in reports, parameters and on the command line: letters, digits, `-`, `_`.
    pub name: String,
    /// Loss and unit.
    pub kind: Kind,
    /// Feedback column of the events; none of kinds without [labels](Kind::has_labels).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub column: String,
    /// Preference; what it does is the balancing method's to say.
    #[serde(default = "one")]
    pub weight: f64,
    /// What a prediction pays; the kind's own loss without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// `ε` of label smoothing, for flags: targets become `y (1 - ε) + ε / 2`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub smoothing: f64,
    /// How many negatives a positive counts for, for flags. Anything but 1 moves the predicted probabilities: calibrate them.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub positive_weight: f64,
    /// How its loss makes up for the bias of the log; not at all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debias: Option<Debias>,
    /// For [`Kind::Binary`]: how many positions an examination model tells apart; 0 for none. Then `P(1) = σ(θ_position) σ(logit)`, and the model
    /// predicts what position 1 would get.
    #[serde(default, skip_serializing_if = "is_none")]
    pub examination: usize,
    /// For [`Kind::Conditional`]: name of the binary or conditional objective that must be 1 first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// For [`Kind::List`]: what lists are to be like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<ListGoal>,
    /// What it learns from samples without a label of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semi: Option<Semi>,
    /// For [`Kind::Conditional`]: name of another one of the same `given`, by way of which it is reached, or without which, by a second tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// A teacher beside the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distill>,
    /// Whether more or less of it is wanted.
    #[serde(default, skip_serializing_if = "Direction::is_more")]
    pub direction: Direction,
    /// A tower of its own sizes; those of all towers without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tower: Option<TowerShape>,
}

fn one() -> f64 {
    1.0
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Objective {
    /// An objective of weight 1.
    pub fn new(name: impl Into<String>, kind: Kind, column: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            column: column.into(),
            weight: 1.0,
            loss: None,
            smoothing: 0.0,
            positive_weight: 1.0,
            debias: None,
            examination: 0,
            given: None,
            goal: None,
            semi: None,
            through: None,
            distill: None,
            direction: Direction::More,
            tower: None,
        }
    }

    /// With another loss than its kind's own.
    pub fn loss(self, loss: Loss) -> Self {
        Self { loss: Some(loss), ..self }
    }

    /// With another weight.
    pub fn weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    fn check_loss(&self) -> Result<()> {
        let wrong = |reason: String| Err(ObjectiveError::Loss { name: self.name.clone(), reason });
        if let Some(reason) = self.loss.as_ref().and_then(|loss| loss.problem(self.kind)) {
            return wrong(reason);
        }
        if let Some(reason) = self.semi.and_then(|semi| semi.problem(self.kind)) {
            return wrong(reason);
        }
        if !(0.0..1.0).contains(&self.smoothing) {
            return wrong(format!("smoothing = {} must be at least 0 and below 1", self.smoothing));
        }
        if !(self.positive_weight.is_finite() && self.positive_weight > 0.0) {
            return wrong(format!("positive_weight = {} must be above 0", self.positive_weight));
        }
        let plain = self.smoothing == 0.0 && self.positive_weight == 1.0;
        if !plain && !matches!(self.kind, Kind::Binary | Kind::Conditional) {
            return wrong("smoothing and positive_weight are for flags: kind = \"binary\" or \"conditional\"".into());
        }
        if let Some(reason) = self.examination_problem() {
            return wrong(reason);
        }
        if let Some(reason) = self.debias.as_ref().and_then(|debias| debias.problem(self)) {
            return wrong(reason);
        }
        Ok(())
    }

    /// Learning from samples without a label of it.
    pub fn semi(self, semi: Semi) -> Self {
        Self { semi: Some(semi), ..self }
    }
}

/// A checked, ordered, non-empty set of objectives.
///
/// Names are unique and usable in parameter names, weights are in range, and every conditional objective names one of the set that
/// can come before it, without leading in a circle. Everything in this crate that is "one for each objective" is in this order. Reads and writes itself as a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Objective>", into = "Vec<Objective>")]
pub struct Objectives {
    all: Vec<Objective>,
    pub(crate) customs: Registry,
}

impl Objectives {
    /// Checks the set.
    ///
    /// # Errors
    /// The set is empty, a name is repeated or unusable, a weight is out of range, or a `given`, `through`, `tower` or `direction` is wrong.
    pub fn new(all: Vec<Objective>) -> Result<Self> {
        if all.is_empty() {
            return Err(ObjectiveError::Empty);
        }
        let mut names = BTreeSet::new();
        for objective in &all {
            let name = objective.name.clone();
            let usable = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || !name.chars().all(usable) {
                return Err(ObjectiveError::Name { name });
            }
            if !names.insert(name.clone()) {
                return Err(ObjectiveError::Duplicate { name });
            }
            if !objective.weight.is_finite() || objective.weight < 0.0 {
                return Err(ObjectiveError::Weight { name, weight: objective.weight });
            }
        }
        let set = Self { all, customs: Registry::default() };
        set.all.iter().try_for_each(Objective::check_loss)?;
        set.all.iter().try_for_each(Objective::check_distill)?;
        set.all.iter().try_for_each(Objective::check_tower)?;
        set.all.iter().try_for_each(Objective::check_direction)?;
        set.check_conditions()?;
        set.all.iter().try_for_each(|o| set.check_goal(o))?;
        Ok(set)
    }

    /// The objectives whose names are in `names`, in this set's order; a conditional one needs its `given` and `through` among them.
    ///
    /// # Errors
    /// A name that does not exist (the message lists those that do), or a set that is wrong by itself.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self> {
        for name in names {
            self.index_of(name.as_ref())?;
        }
        let wanted = |o: &&Objective| names.iter().any(|n| n.as_ref() == o.name);
        Ok(Self::new(self.all.iter().filter(wanted).cloned().collect())?.customs_of(self))
    }

    /// Says whether the events have every column that is needed, of labels and of teachers.
    ///
    /// # Errors
    /// The first missing column, with the list of those that are there.
    pub fn check_columns<S: AsRef<str>>(&self, available: &[S]) -> Result<()> {
        for objective in self.all.iter().filter(|objective| objective.kind.has_labels()) {
            let needed = [Some(&objective.column), objective.distill.as_ref().map(|distill| &distill.column)];
            let missing = |column: &&String| !available.iter().any(|c| c.as_ref() == column.as_str());
            if let Some(column) = needed.into_iter().flatten().find(missing) {
                let names: Vec<&str> = available.iter().map(AsRef::as_ref).collect();
                return Err(ObjectiveError::MissingColumn {
                    name: objective.name.clone(),
                    column: column.clone(),
                    available: if names.is_empty() { "none".into() } else { names.join(", ") },
                });
            }
        }
        Ok(())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Never true; for symmetry with `len`.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> std::slice::Iter<'_, Objective> {
        self.all.iter()
    }

    /// As a slice, in order.
    pub fn as_slice(&self) -> &[Objective] {
        &self.all
    }

    /// Names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|o| o.name.as_str())
    }

    /// Position of an objective.
    ///
    /// # Errors
    /// There is none of that name; the message lists those that exist.
    pub fn index_of(&self, name: &str) -> Result<usize> {
        self.all.iter().position(|o| o.name == name).ok_or_else(|| ObjectiveError::Unknown {
            name: name.to_string(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    /// Weights divided by their sum: a preference on the simplex, in the objectives' order.
    ///
    /// # Errors
    /// Not one weight for each objective, one that is negative or not finite, or none above 0.
    pub fn shares(&self, weights: &[f64]) -> Result<Vec<f64>> {
        self.check_count("preferences", weights.len())?;
        for (objective, &weight) in self.all.iter().zip(weights) {
            if !weight.is_finite() || weight < 0.0 {
                return Err(ObjectiveError::Weight { name: objective.name.clone(), weight });
            }
        }
        let total: f64 = weights.iter().sum();
        if total == 0.0 {
            let rule = "at least one objective must have a weight above 0";
            return Err(ObjectiveError::Setting { setting: "preference", value: "0".into(), rule });
        }
        if total.is_infinite() {
            return self.shares(&weights.iter().map(|weight| weight / f64::MAX).collect::<Vec<_>>());
        }
        // What are shares already, up to rounding, stay as they are, to the bit: they go through files.
        if (total - 1.0).abs() < 1e-12 {
            return Ok(weights.to_vec());
        }
        Ok(weights.iter().map(|weight| weight / total).collect())
    }

    /// A scaler for each objective, from training labels (one column for each objective, `NaN` where not observed).
    ///
    /// # Errors
    /// Not one column for each objective, a regression without labels, or a label its objective cannot mean.
    pub fn fit_scalers(&self, columns: &[Vec<f32>]) -> Result<Vec<Scaler>> {
        self.check_count("label columns", columns.len())?;
        (0..columns.len()).try_for_each(|index| self.check_labels(index, &columns[index]))?;
        self.all.iter().zip(columns).map(|(o, c)| Scaler::fit(o, c)).collect()
    }

    /// What to predict for everyone, from training labels: for [`crate::TaskTowers::set_prior`].
    ///
    /// The share of ones for binary objectives (for conditional ones: of all impressions), the value at the scaler's mean for
    /// regressions, the mean label of custom ones. One half where no label was observed.
    ///
    /// # Errors
    /// As [`crate::Labels::new`].
    pub fn base_rates(&self, scalers: &[Scaler], columns: &[Vec<f32>]) -> Result<Vec<f32>> {
        let targets = crate::labels::targets(self, scalers, columns)?;
        let rate = |(i, objective): (usize, &Objective)| {
            let has_mean = objective.kind.is_binary() || objective.kind == Kind::Custom;
            if !has_mean && !matches!(objective.loss, Some(Loss::Ordinal { .. })) {
                return scalers[i].inverse(0.0);
            }
            let seen: Vec<f64> = targets[i].iter().filter(|t| !t.is_nan()).map(|t| f64::from(*t)).collect();
            if seen.is_empty() { 0.5 } else { (seen.iter().sum::<f64>() / seen.len() as f64) as f32 }
        };
        Ok(self.all.iter().enumerate().map(rate).collect())
    }

    pub(crate) fn check_count(&self, what: &str, found: usize) -> Result<()> {
        if found == self.all.len() {
            return Ok(());
        }
        let what = format!("{what} for objectives {}", self.names().collect::<Vec<_>>().join(", "));
        Err(ObjectiveError::Count { what, found, expected: self.all.len() })
    }
}

impl TryFrom<Vec<Objective>> for Objectives {
    type Error = ObjectiveError;

    fn try_from(all: Vec<Objective>) -> Result<Self> {
        Self::new(all)
    }
}

impl From<Objectives> for Vec<Objective> {
    fn from(set: Objectives) -> Self {
        set.all
    }
}

impl<'a> IntoIterator for &'a Objectives {
    type Item = &'a Objective;
    type IntoIter = std::slice::Iter<'a, Objective>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
