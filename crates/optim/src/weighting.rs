//! The trait that every balancing method implements whose answer is weights.

use crate::{Gramian, Jacobian, OptimError, Result, WeightingState};

/// What a method may look at in one step. All slices are in the order in which the objectives were given to the method.
#[derive(Debug, Clone, Copy)]
pub struct Signals<'a> {
    /// Loss of every objective, before any weight.
    pub losses: &'a [f64],
    /// How many labels every loss is the mean of; a loss of no labels says nothing.
    pub observed: &'a [usize],
    /// The gradients' Gramian; only methods whose [`Weighting::needs_gramian`] is true read it.
    pub gramian: Option<&'a Gramian>,
}

/// An objective's name and how much it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// Name, for messages and saved state.
    pub name: String,
    /// Weight, finite and not negative. What it does is the method's to say.
    pub weight: f64,
}

impl Preference {
    /// A preference.
    pub fn new(name: impl Into<String>, weight: f64) -> Self {
        Self { name: name.into(), weight }
    }

    pub(crate) fn check(all: &[Self]) -> Result<()> {
        if all.is_empty() {
            return Err(OptimError::Empty);
        }
        if let Some(wrong) = all.iter().find(|p| !p.weight.is_finite() || p.weight < 0.0) {
            let (setting, value) = (format!("the weight of objective {}", wrong.name), wrong.weight.to_string());
            return Err(OptimError::Setting { setting, value, rule: "weights are finite and not negative" });
        }
        if all.iter().all(|p| p.weight == 0.0) {
            let setting = "the sum of the objectives' weights".to_string();
            return Err(OptimError::Setting { setting, value: "0".into(), rule: "at least one objective must count" });
        }
        Ok(())
    }
}

/// A balancing method: losses and the gradients' Gramian (`m × m`) in, one weight for each objective (`m`) out.
///
/// The training loop descends along `Σ w_i g_i`. A method may keep state between steps; [`Weighting::state`] and
/// [`Weighting::restore`] carry it across an interruption, bit for bit. Methods that look at losses alone are also
/// [`crate::Scalarizer`]s; methods that need the gradients themselves are [`crate::RowWeighting`]s instead.
pub trait Weighting: Send {
    /// The name in configuration files and reports.
    fn name(&self) -> &'static str;

    /// Whether [`Signals::gramian`] must be there. When it is not needed, one backward pass of the weighted sum is enough.
    fn needs_gramian(&self) -> bool;

    /// The weights for this step, finite, in the objectives' order. Those of most methods are not negative; the method's page
    /// says where they can be.
    ///
    /// # Errors
    /// A wrong number of losses, a loss that is not finite, or no Gramian for a method that needs one.
    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>>;

    /// Changes the preferences from the next step on, as a [`crate::control`] schedule does. The memory stays.
    ///
    /// # Errors
    /// Not one weight for each objective, a weight that is negative or not finite, or none above 0; nothing is changed then.
    fn prefer(&mut self, weights: &[f64]) -> Result<()>;

    /// Whether the method wants to be told how a step went ([`Weighting::after_step`]), which costs one more forward pass.
    fn listens(&self) -> bool {
        false
    }

    /// Tells the method the losses of the same batch after the model has moved. Only FAMO with `update = "same-batch"` listens.
    ///
    /// # Errors
    /// A wrong number of losses, or one that is not finite.
    fn after_step(&mut self, losses: &[f64]) -> Result<()> {
        let _ = losses;
        Ok(())
    }

    /// Tells the method that an epoch is over. Only DWA with `window = 0` listens.
    fn end_epoch(&mut self) {}

    /// Everything that [`Weighting::weights`] remembers.
    fn state(&self) -> WeightingState;

    /// Takes up where [`Weighting::state`] was called.
    ///
    /// # Errors
    /// The state is of another method or of other objectives; nothing is changed then.
    fn restore(&mut self, state: &WeightingState) -> Result<()>;

    /// Forgets everything, as if no step had been taken.
    fn reset(&mut self);
}

/// The objectives of a method, checked.
#[derive(Debug, Clone)]
pub(crate) struct Objectives(Vec<Preference>);

impl Objectives {
    pub(crate) fn new(all: &[Preference]) -> Result<Self> {
        Preference::check(all)?;
        Ok(Self(all.to_vec()))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn weight(&self, i: usize) -> f64 {
        self.0[i].weight
    }

    pub(crate) fn name(&self, i: usize) -> &str {
        &self.0[i].name
    }

    /// The weights as they were given.
    pub(crate) fn weights(&self) -> Vec<f64> {
        self.0.iter().map(|p| p.weight).collect()
    }

    /// The weights divided by their sum.
    pub(crate) fn shares(&self) -> Vec<f64> {
        // By the largest first: the sum may overflow.
        let largest = self.0.iter().map(|p| p.weight).fold(0.0, f64::max);
        let total: f64 = self.0.iter().map(|p| p.weight / largest).sum();
        self.0.iter().map(|p| p.weight / largest / total).collect()
    }

    /// The place of an objective that a setting names.
    pub(crate) fn find(&self, setting: &str, name: &str) -> Result<usize> {
        self.0.iter().position(|p| p.name == name).ok_or_else(|| OptimError::UnknownObjective {
            setting: setting.to_string(),
            name: name.to_string(),
            known: self.0.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    pub(crate) fn prefer(&mut self, weights: &[f64]) -> Result<()> {
        if weights.len() != self.len() {
            let (found, expected) = (weights.len(), self.len());
            return Err(OptimError::Count { what: "preferences", found, expected });
        }
        let next: Vec<_> = self.0.iter().zip(weights).map(|(p, &w)| Preference::new(&p.name, w)).collect();
        Preference::check(&next)?;
        self.0 = next;
        Ok(())
    }

    /// The checks that every method makes first.
    pub(crate) fn check(&self, signals: &Signals<'_>) -> Result<()> {
        check_signals(signals, &self.0)
    }

    /// The checks of a method that needs the rows.
    pub(crate) fn check_rows(&self, signals: &Signals<'_>, jacobian: &Jacobian) -> Result<()> {
        self.check(signals)?;
        let (found, expected) = (jacobian.size(), self.len());
        match found == expected {
            true => Ok(()),
            false => Err(OptimError::Count { what: "rows of the Jacobian", found, expected }),
        }
    }

    /// The checks, and the Gramian of a method that needs it.
    pub(crate) fn gramian<'a>(&self, signals: &Signals<'a>, method: &'static str) -> Result<&'a Gramian> {
        self.check(signals)?;
        let gramian = signals.gramian.ok_or(OptimError::MissingGramian { method })?;
        if gramian.size() != self.len() {
            let (found, expected) = (gramian.size(), self.len());
            return Err(OptimError::Count { what: "rows of the Gramian", found, expected });
        }
        Ok(gramian)
    }
}

/// The checks that every method makes first.
pub(crate) fn check_signals(signals: &Signals<'_>, objectives: &[Preference]) -> Result<()> {
    let expected = objectives.len();
    let counts = [("losses", signals.losses.len()), ("label counts", signals.observed.len())];
    for (what, found) in counts {
        if found != expected {
            return Err(OptimError::Count { what, found, expected });
        }
    }
    for (objective, &value) in objectives.iter().zip(signals.losses) {
        if !value.is_finite() {
            return Err(OptimError::NotFinite { what: "the loss", objective: objective.name.clone(), value });
        }
    }
    Ok(())
}
