//! Weights from learned uncertainties.

use serde::{Deserialize, Serialize};

use crate::scalarizers::Scalarizer;
use crate::weighting::{Objectives, check_signals};
use crate::{OptimError, Preference, Result, Signals, Weighting, WeightingState};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Log-variances stay in `[-LIMIT, LIMIT]`: a loss that falls to zero would send its weight to infinity.
const LIMIT: f64 = 10.0;

/// Uncertainty weighting (Kendall, Gal and Cipolla, CVPR 2018).
///
/// Every objective has a trainable log-variance `s_i`, and the model minimizes `Σ p_i (exp(-s_i) L_i + s_i)`. The weights are
/// `p_i exp(-s_i)`; after they are read, `s` takes one Adam step on `exp(-s_i) L_i + s_i`, whose minimum is `s_i = ln L_i`. So every
/// loss comes to weigh about the inverse of its size, and a scale given to a loss cancels out.
///
/// The paper writes `L / (2σ²) + ln σ` for a regression and `L / σ² + ln σ` for a classification, with `s = ln σ²`. The two
/// differ from the form used here by constant factors, which only shift the `s` that is reached: at the optimum the weights keep the
/// proportions `1 / L_i` in every form (`1 / (2 L_i)` in the paper's).
///
/// An objective without labels in a step keeps its `s`.
#[derive(Debug, Clone)]
pub struct UncertaintyWeighting {
    objectives: Vec<Preference>,
    learning_rate: f64,
    log_variances: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    /// Updates of each objective's `s`: the bias correction counts only those.
    updates: Vec<f64>,
    step: u64,
}

impl UncertaintyWeighting {
    /// Starts at `s = 0`, weights equal to the preferences. `learning_rate` is that of the log-variances.
    ///
    /// # Errors
    /// Wrong preferences, or a learning rate that is not a positive number.
    pub fn new(objectives: &[Preference], learning_rate: f64) -> Result<Self> {
        Preference::check(objectives)?;
        if !(learning_rate.is_finite() && learning_rate > 0.0) {
            return Err(OptimError::Setting {
                setting: "uncertainty_lr".into(),
                value: learning_rate.to_string(),
                rule: "it is a positive number, such as 0.01",
            });
        }
        let zeros = vec![0.0; objectives.len()];
        Ok(Self {
            objectives: objectives.to_vec(),
            learning_rate,
            log_variances: zeros.clone(),
            first: zeros.clone(),
            second: zeros.clone(),
            updates: zeros,
            step: 0,
        })
    }

    /// The log-variances `s`, in the objectives' order.
    pub fn log_variances(&self) -> &[f64] {
        &self.log_variances
    }

    fn update(&mut self, i: usize, loss: f64) {
        let gradient = 1.0 - (-self.log_variances[i]).exp() * loss;
        self.updates[i] += 1.0;
        self.first[i] = BETA1 * self.first[i] + (1.0 - BETA1) * gradient;
        self.second[i] = BETA2 * self.second[i] + (1.0 - BETA2) * gradient * gradient;
        let first = self.first[i] / (1.0 - BETA1.powf(self.updates[i]));
        let second = self.second[i] / (1.0 - BETA2.powf(self.updates[i]));
        let moved = self.log_variances[i] - self.learning_rate * first / (second.sqrt() + EPSILON);
        self.log_variances[i] = moved.clamp(-LIMIT, LIMIT);
    }
}

impl Weighting for UncertaintyWeighting {
    fn name(&self) -> &'static str {
        "uncertainty"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        check_signals(signals, &self.objectives)?;
        let weights = self.objectives.iter().zip(&self.log_variances).map(|(p, s)| p.weight * (-s).exp()).collect();
        for (i, (&loss, &observed)) in signals.losses.iter().zip(signals.observed).enumerate() {
            if observed > 0 {
                self.update(i, loss);
            }
        }
        self.step += 1;
        Ok(weights)
    }

    fn prefer(&mut self, weights: &[f64]) -> Result<()> {
        let mut next = Objectives::new(&self.objectives)?;
        next.prefer(weights)?;
        self.objectives.iter_mut().zip(weights).for_each(|(p, &w)| p.weight = w);
        Ok(())
    }

    fn reset(&mut self) {
        for values in [&mut self.log_variances, &mut self.first, &mut self.second, &mut self.updates] {
            values.fill(0.0);
        }
        self.step = 0;
    }

    fn state(&self) -> WeightingState {
        let mut state = WeightingState::of(self.name());
        state.step = self.step;
        for (name, values) in [
            ("log_variances", &self.log_variances),
            ("first", &self.first),
            ("second", &self.second),
            ("updates", &self.updates),
        ] {
            state.values.insert(name.to_string(), values.clone());
        }
        state
    }

    fn restore(&mut self, state: &WeightingState) -> Result<()> {
        state.check(self.name())?;
        let m = self.objectives.len();
        let (log_variances, first) = (state.vector("log_variances", m)?, state.vector("first", m)?);
        let (second, updates) = (state.vector("second", m)?, state.vector("updates", m)?);
        (self.log_variances, self.first, self.second, self.updates) = (log_variances, first, second, updates);
        self.step = state.step;
        Ok(())
    }
}

impl Scalarizer for UncertaintyWeighting {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        check_signals(&Signals { losses, observed, gramian: None }, &self.objectives)?;
        let term = |(i, p): (usize, &Preference)| {
            let s = self.log_variances[i];
            if observed[i] > 0 { p.weight * ((-s).exp() * losses[i] + s) } else { 0.0 }
        };
        Ok(self.objectives.iter().enumerate().map(term).sum())
    }
}

/// Parameters of [`UncertaintyWeighting`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UncertaintyConfig {
    /// Learning rate of the log-variances, above 0.
    pub uncertainty_lr: f64,
}

impl Default for UncertaintyConfig {
    fn default() -> Self {
        Self { uncertainty_lr: 0.01 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Preference> {
        vec![Preference::new("click", 1.0), Preference::new("rating", 1.0)]
    }

    fn step(method: &mut UncertaintyWeighting, losses: &[f64], observed: &[usize]) -> Vec<f64> {
        method.weights(&Signals { losses, observed, gramian: None }).unwrap()
    }

    #[test]
    fn weights_settle_at_the_inverse_of_the_losses() {
        let mut method = UncertaintyWeighting::new(&two(), 0.05).unwrap();
        let mut last = vec![];
        for _ in 0..2000 {
            last = step(&mut method, &[0.2, 5.0], &[1, 1]);
        }
        assert!((last[0] - 5.0).abs() < 1e-3 && (last[1] - 0.2).abs() < 1e-4, "{last:?}");
        assert!((method.log_variances()[0] - 0.2_f64.ln()).abs() < 1e-3);
    }

    #[test]
    fn first_step_is_the_closed_form_of_adam() {
        let mut method = UncertaintyWeighting::new(&two(), 0.01).unwrap();
        assert_eq!(step(&mut method, &[0.5, 3.0], &[4, 4]), vec![1.0, 1.0]);
        // Adam's first step is the learning rate times the gradient's sign: 1 - 0.5 > 0, 1 - 3 < 0.
        assert!((method.log_variances()[0] + 0.01).abs() < 1e-9 && (method.log_variances()[1] - 0.01).abs() < 1e-9);
    }

    #[test]
    fn an_objective_without_labels_keeps_its_weight_and_zero_losses_stay_finite() {
        let mut method = UncertaintyWeighting::new(&two(), 0.5).unwrap();
        for _ in 0..200 {
            step(&mut method, &[0.0, 0.0], &[8, 0]);
        }
        assert_eq!(method.log_variances(), &[-LIMIT, 0.0]);
        assert!(step(&mut method, &[0.0, 0.0], &[8, 0]).iter().all(|w| w.is_finite()));
    }

    #[test]
    fn a_restored_state_goes_on_bit_for_bit_through_json() {
        let mut method = UncertaintyWeighting::new(&two(), 0.013).unwrap();
        for i in 0..37 {
            step(&mut method, &[0.3 + 0.01 * f64::from(i), 1.7 / f64::from(i + 1)], &[4, 4]);
        }
        let text = serde_json::to_string(&method.state()).unwrap();
        let mut resumed = UncertaintyWeighting::new(&two(), 0.013).unwrap();
        resumed.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        for _ in 0..5 {
            assert_eq!(step(&mut method, &[0.4, 0.9], &[4, 4]), step(&mut resumed, &[0.4, 0.9], &[4, 4]));
        }
        let mut other = UncertaintyWeighting::new(&two()[..1], 0.013).unwrap();
        assert!(other.restore(&method.state()).unwrap_err().to_string().contains("1 finite values"));
    }

    #[test]
    fn names_the_loss_that_is_not_finite() {
        let mut method = UncertaintyWeighting::new(&two(), 0.01).unwrap();
        let signals = Signals { losses: &[0.1, f64::INFINITY], observed: &[1, 1], gramian: None };
        assert!(method.weights(&signals).unwrap_err().to_string().contains("objective rating is inf"));
    }
}
