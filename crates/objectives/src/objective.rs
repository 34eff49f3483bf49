//! What the configuration says about objectives.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Debias, Loss, ObjectiveError, Result, Scaler};

#[cfg(test)]
mod tests;

/// What a label is, and with it the loss and the unit of the prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// 0 or 1; binary cross-entropy, predicts a probability.
    Binary,
    /// 0 or 1, and only possible where another, binary objective is 1 (a conversion, given a click). Trained over all impressions as
    /// in ESMM (Ma et al., SIGIR 2018): `p = p(given) · p(this | given)` against the label.
    Conditional,
    /// A number; squared error in standard units, predicts in the label's unit.
    Regression,
    /// A number from 0 with a long tail, such as seconds; squared error of `ln(1 + y)` in standard units.
    LogRegression,
    /// 0 or 1, of which only the order of items counts: has no tower, and predicts how well user and item fit (a score without a
    /// unit, made by who owns both). Its loss is a ranking loss, or, of single samples, binary cross-entropy.
    Ranking,
}

impl Kind {
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
    /// Feedback column of the events.
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
    /// For [`Kind::Conditional`]: name of the binary objective that must be 1 first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
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

    /// Conditional on another objective.
    pub fn given(self, name: impl Into<String>) -> Self {
        Self { given: Some(name.into()), ..self }
    }
}

/// A checked, ordered, non-empty set of objectives.
///
/// Names are unique and usable in parameter names, weights are in range, and every conditional objective names a binary one of the
/// set. Everything in this crate that is "one for each objective" is in this order. Reads and writes itself as a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Objective>", into = "Vec<Objective>")]
pub struct Objectives {
    all: Vec<Objective>,
}

impl Objectives {
    /// Checks the set.
    ///
    /// # Errors
    /// The set is empty, a name is repeated or unusable, a weight is out of range, or a `given` is wrong.
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
        let set = Self { all };
        set.all.iter().try_for_each(Objective::check_loss)?;
        set.all.iter().try_for_each(|o| set.check_given(o))?;
        Ok(set)
    }

    fn check_given(&self, objective: &Objective) -> Result<()> {
        let wrong = |reason: String| Err(ObjectiveError::Given { name: objective.name.clone(), reason });
        let binary = || -> String {
            let names: Vec<&str> =
                self.all.iter().filter(|o| o.kind == Kind::Binary).map(|o| o.name.as_str()).collect();
            if names.is_empty() { "there is none".into() } else { format!("there are {}", names.join(", ")) }
        };
        match (objective.kind, &objective.given) {
            (Kind::Conditional, None) => {
                wrong(format!("a conditional objective needs `given`, the name of a binary one ({})", binary()))
            }
            (Kind::Conditional, Some(given)) => match self.all.iter().find(|o| o.name == *given) {
                Some(other) if other.kind == Kind::Binary => Ok(()),
                Some(_) => wrong(format!("given = \"{given}\" must be a binary objective ({})", binary())),
                None => {
                    wrong(format!("given = \"{given}\" is not among the objectives; name a binary one ({})", binary()))
                }
            },
            (_, Some(_)) => {
                wrong("`given` belongs to conditional objectives only: remove it, or set kind = \"conditional\"".into())
            }
            (_, None) => Ok(()),
        }
    }

    /// The objectives whose names are in `names`, in this set's order; a conditional one needs its `given` among them.
    ///
    /// # Errors
    /// A name that does not exist (the message lists those that do), or a set that is wrong by itself.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self> {
        for name in names {
            self.index_of(name.as_ref())?;
        }
        let wanted = |o: &&Objective| names.iter().any(|n| n.as_ref() == o.name);
        Self::new(self.all.iter().filter(wanted).cloned().collect())
    }

    /// Says whether the events have every column that is needed.
    ///
    /// # Errors
    /// The first missing column, with the list of those that are there.
    pub fn check_columns<S: AsRef<str>>(&self, available: &[S]) -> Result<()> {
        for objective in &self.all {
            if !available.iter().any(|c| c.as_ref() == objective.column) {
                let names: Vec<&str> = available.iter().map(AsRef::as_ref).collect();
                return Err(ObjectiveError::MissingColumn {
                    name: objective.name.clone(),
                    column: objective.column.clone(),
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

    /// For a conditional objective, the position of the one it depends on.
    pub(crate) fn given_index(&self, index: usize) -> Option<usize> {
        let given = self.all[index].given.as_ref()?;
        self.all.iter().position(|o| o.name == *given)
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
        self.all.iter().zip(columns).map(|(o, c)| Scaler::fit(o, c)).collect()
    }

    /// What to predict for everyone, from training labels: for [`crate::TaskTowers::set_prior`].
    ///
    /// The share of ones for binary objectives (for conditional ones: of all impressions), the value at the scaler's mean for
    /// regressions. One half where no label was observed.
    ///
    /// # Errors
    /// As [`crate::Labels::new`].
    pub fn base_rates(&self, scalers: &[Scaler], columns: &[Vec<f32>]) -> Result<Vec<f32>> {
        let targets = crate::labels::targets(self, scalers, columns)?;
        let rate = |(i, objective): (usize, &Objective)| {
            if !objective.kind.is_binary() && !matches!(objective.loss, Some(Loss::Ordinal { .. })) {
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
