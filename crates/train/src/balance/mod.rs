//! How several objectives become one gradient: the configuration and its live state.

mod config;
mod control;

use paretune_objectives::Objectives;
use paretune_optim::control::Controlled;
use paretune_optim::solve::Combination;
use paretune_optim::{
    Jacobian, Method, MethodKind, OptimError, Preference, RowWeighting, Setting, Signals, Weighting, WeightingState,
};

pub use config::{BalanceConfig, GradientCut};
pub use control::{ControlConfig, RampConfig};

use crate::TrainError;

/// A balancing method at work.
pub struct Balancer {
    config: BalanceConfig,
    preferences: Vec<Preference>,
    method: Live,
    wanted: Vec<bool>,
    held: Option<Held>,
}

enum Live {
    Plain(Box<dyn Weighting>),
    Controlled(Controlled),
    Rows(Box<dyn RowWeighting>),
}

/// Weights that serve for several steps.
struct Held {
    weights: Vec<f64>,
    /// Which objectives had labels when they were made.
    seen: Vec<bool>,
    /// Steps that they have served for.
    age: usize,
}

/// What a method must be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Losses,
    Gramian,
    Rows,
}

const HELD: [&str; 3] = ["held.weights", "held.seen", "held.age"];

impl Balancer {
    /// `weights` are the objectives' preferences; one of weight 0 is not trained at all, unless [`ControlConfig`] raises it.
    ///
    /// # Errors
    /// No objective with a positive weight, or a setting out of range.
    pub fn new(config: &BalanceConfig, objectives: &Objectives, weights: &[f64]) -> Result<Self, TrainError> {
        config.check()?;
        if weights.len() != objectives.len() {
            let (found, expected) = (weights.len(), objectives.len());
            return Err(OptimError::Count { what: "weights", found, expected }.into());
        }
        let preferences: Vec<Preference> = objectives
            .iter()
            .zip(weights)
            .map(|(objective, weight)| Preference::new(&objective.name, *weight))
            .collect();
        let raised = |name: &str| config.control.as_ref().is_some_and(|control| control.wants(name));
        Ok(Self {
            // Whatever is wrong with the control shows before anything is trained.
            method: Live::build(config, &preferences, 1000)?,
            config: config.clone(),
            wanted: preferences.iter().map(|one| one.weight > 0.0 || raised(&one.name)).collect(),
            preferences,
            held: None,
        })
    }

    /// Begins a run of `steps` steps, afresh.
    pub(crate) fn start(&mut self, steps: usize) -> Result<(), TrainError> {
        self.method = Live::build(&self.config, &self.preferences, steps as u64)?;
        self.held = None;
        Ok(())
    }

    /// Where gradients are compared; `None` if the method looks at losses alone.
    pub fn cut(&self) -> Option<GradientCut> {
        (self.asks() != Asks::Losses).then(|| self.config.cut())
    }

    /// Which objectives are trained.
    pub fn wanted(&self) -> &[bool] {
        &self.wanted
    }

    /// Whether its directions are weighted sums.
    pub(crate) fn weighs(&self) -> bool {
        self.config.method != Method::GradDrop
    }

    /// Says what keeps this balance from following preferences that change at every step.
    pub(crate) fn check_steered(&self) -> Result<(), TrainError> {
        let refuse = |setting: String, problem| Err(TrainError::NotSteered { setting, problem });
        if !self.config.method.reads_preferences() {
            let problem = "preferences do not steer it; choose a method that they do, such as weighted-sum, smooth-chebyshev, cosmos, epo \
                           or upgrad";
            return refuse(format!("balance.method = \"{}\"", self.config.method), problem);
        }
        if self.config.parameters.get("update_every").is_some_and(|every| *every != Setting::from(1.0)) {
            let problem = "each step has a preference of its own and needs its own weights; leave it at 1";
            return refuse("balance.update_every".into(), problem);
        }
        if self.config.control.is_some() {
            return refuse("balance.control".into(), "it sets the preferences that each step draws; leave it out");
        }
        if self.config.refresh > 1 {
            let problem = "each step has a preference of its own and needs its own weights; leave it at 1";
            return refuse(format!("balance.refresh = {}", self.config.refresh), problem);
        }
        Ok(())
    }

    /// Changes the preferences from the next step on; which objectives are trained stays as it is.
    pub(crate) fn prefer(&mut self, weights: &[f64]) -> Result<(), TrainError> {
        match &mut self.method {
            Live::Plain(method) => method.prefer(weights)?,
            Live::Controlled(method) => method.prefer(weights)?,
            Live::Rows(method) => method.prefer(weights)?,
        }
        Ok(())
    }

    pub(crate) fn asks(&self) -> Asks {
        match self.config.method.kind() {
            MethodKind::Losses => Asks::Losses,
            MethodKind::Gramian => Asks::Gramian,
            MethodKind::Rows => Asks::Rows,
        }
    }

    /// The weights of an earlier step, if they serve for this one too.
    pub(crate) fn held(&self, observed: &[usize]) -> Option<Vec<f64>> {
        let held = self.held.as_ref().filter(|held| held.age < self.config.refresh)?;
        let new = observed.iter().zip(&held.seen).any(|(observed, seen)| *observed > 0 && !seen);
        (!new).then(|| held.weights.clone())
    }

    pub(crate) fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>, TrainError> {
        let weights = match &mut self.method {
            Live::Plain(method) => method.weights(signals)?,
            Live::Controlled(method) => method.weights(signals)?,
            Live::Rows(method) => return Err(OptimError::NeedsRows { method: method.name() }.into()),
        };
        self.hold(&weights, signals);
        Ok(weights)
    }

    pub(crate) fn combine(&mut self, jacobian: &Jacobian, signals: &Signals<'_>) -> Result<Combination, TrainError> {
        let Live::Rows(method) = &mut self.method else {
            let (setting, value) = ("balance.method".into(), self.config.method.to_string());
            return Err(OptimError::Setting { setting, value, rule: "it takes a Gramian" }.into());
        };
        let combination = method.combine(jacobian, signals)?;
        self.hold(&combination.weights, signals);
        Ok(combination)
    }

    fn hold(&mut self, weights: &[f64], signals: &Signals<'_>) {
        if self.config.refresh > 1 && self.asks() != Asks::Losses {
            let seen = signals.observed.iter().map(|observed| *observed > 0).collect();
            self.held = Some(Held { weights: weights.to_vec(), seen, age: 0 });
        }
    }

    /// A step has been taken.
    pub(crate) fn end_step(&mut self) {
        let Some(held) = &mut self.held else { return };
        if let (true, Live::Controlled(method)) = (held.age > 0, &mut self.method) {
            method.skip();
        }
        held.age += 1;
    }

    /// An epoch is over.
    pub(crate) fn end_epoch(&mut self) {
        match &mut self.method {
            Live::Plain(method) => method.end_epoch(),
            Live::Controlled(method) => method.end_epoch(),
            Live::Rows(_) => {}
        }
    }

    /// Whether [`Self::after_step`] is to be called.
    pub(crate) fn listens(&self) -> bool {
        match &self.method {
            Live::Plain(method) => method.listens(),
            Live::Controlled(method) => method.listens(),
            Live::Rows(_) => false,
        }
    }

    /// The losses of the same batch after the parameters have moved.
    pub(crate) fn after_step(&mut self, losses: &[f64]) -> Result<(), TrainError> {
        match &mut self.method {
            Live::Plain(method) => method.after_step(losses)?,
            Live::Controlled(method) => method.after_step(losses)?,
            Live::Rows(_) => {}
        }
        Ok(())
    }

    /// How good each objective is on the validation part, larger being better.
    pub(crate) fn observe(&mut self, skills: &[Option<f64>]) -> Result<(), TrainError> {
        if let Live::Controlled(method) = &mut self.method {
            method.observe(skills)?;
        }
        Ok(())
    }

    pub(crate) fn state(&self) -> WeightingState {
        let mut state = match &self.method {
            Live::Plain(method) => method.state(),
            Live::Controlled(method) => method.state(),
            Live::Rows(method) => method.state(),
        };
        if let Some(held) = &self.held {
            let seen = held.seen.iter().map(|seen| f64::from(u8::from(*seen))).collect();
            let values = [held.weights.clone(), seen, vec![held.age as f64]];
            state.values.extend(HELD.map(str::to_owned).into_iter().zip(values));
        }
        state
    }

    pub(crate) fn restore(&mut self, state: &WeightingState) -> Result<(), TrainError> {
        match &mut self.method {
            Live::Plain(method) => method.restore(state)?,
            Live::Controlled(method) => method.restore(state)?,
            Live::Rows(method) => method.restore(state)?,
        }
        let [weights, seen, age] = HELD.map(|name| state.values.get(name));
        self.held = match (weights, seen, age.and_then(|age| age.first())) {
            (Some(weights), Some(seen), Some(age))
                if weights.len() == self.wanted.len() && seen.len() == self.wanted.len() =>
            {
                let seen = seen.iter().map(|seen| *seen > 0.0).collect();
                Some(Held { weights: weights.clone(), seen, age: *age as usize })
            }
            _ => None,
        };
        Ok(())
    }
}

impl Live {
    fn build(config: &BalanceConfig, objectives: &[Preference], steps: u64) -> Result<Self, OptimError> {
        if config.method.kind() == MethodKind::Rows {
            return Ok(Self::Rows(config.method().build_rows(objectives)?));
        }
        let method = config.method().build(objectives)?;
        Ok(match &config.control {
            None => Self::Plain(method),
            Some(control) => Self::Controlled(Controlled::new(method, control.build(objectives, steps)?)),
        })
    }
}
