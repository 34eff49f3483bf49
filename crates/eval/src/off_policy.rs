//! What another policy would have earned, from the log of this one.

use crate::EvalError;

#[cfg(test)]
mod tests;

/// Decisions of a log: what was earned, how likely the logging policy was to decide so, and how likely another policy is.
///
/// Estimates of the other policy's mean reward, with importance weights `w = target / logging`:
///
/// | estimate | formula | right when |
/// | --- | --- | --- |
/// | [`naive`](Self::naive) | mean of `r` | both policies are the same |
/// | [`ips`](Self::ips) | mean of `w r` (Horvitz and Thompson 1952) | propensities are right; noisy where they are small |
/// | [`clipped`](Self::clipped) | mean of `min(w, M) r` (Ionides 2008) | a bias for less noise |
/// | [`snips`](Self::snips) | `Σ w r / Σ w` (Swaminathan and Joachims 2015) | propensities are right, or off by a factor |
/// | [`doubly_robust`](Self::doubly_robust) | mean of `d + w (r − q)` (Dudík et al. 2011) | propensities or the reward model are right |
///
/// ```
/// use paretune_eval::OffPolicy;
///
/// // Of two actions the log took the worse one three times of four; the other policy always takes the better one.
/// let rewards = [0.0, 0.0, 0.0, 1.0];
/// let log = OffPolicy::new(&rewards, &[0.75, 0.75, 0.75, 0.25], &[0.0, 0.0, 0.0, 1.0])?;
/// assert_eq!(log.naive().value, 0.25);
/// assert_eq!(log.ips().value, 1.0);
/// assert_eq!(log.effective_size(), 1.0); // one decision says it all
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
#[derive(Debug, Clone)]
pub struct OffPolicy {
    rewards: Vec<f64>,
    weights: Vec<f64>,
}

/// An estimate and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean reward.
    pub value: f64,
    /// Its standard error; 0 of a single decision.
    pub error: f64,
}

impl Estimate {
    /// The interval that holds the truth with 95 % confidence, by the normal approximation.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        (self.value - 1.96 * self.error, self.value + 1.96 * self.error)
    }

    fn of(terms: &[f64]) -> Self {
        let n = terms.len() as f64;
        let value = terms.iter().sum::<f64>() / n;
        let squares: f64 = terms.iter().map(|term| (term - value).powi(2)).sum();
        Self { value, error: (squares / (n - 1.0).max(1.0) / n).sqrt() }
    }
}

impl OffPolicy {
    /// One reward, one logging probability (above 0) and one target probability for each decision.
    ///
    /// # Errors
    /// Different lengths, no decision, or a number that is no reward or probability.
    pub fn new(rewards: &[f64], logging: &[f64], target: &[f64]) -> Result<Self, EvalError> {
        let expected = rewards.len();
        for (what, found) in [("logging probabilities", logging.len()), ("target probabilities", target.len())] {
            if found != expected {
                return Err(EvalError::Length { what, found, expected, per: "decision" });
            }
        }
        if rewards.is_empty() {
            return Err(EvalError::Empty { what: "a log of decisions" });
        }
        let finite = |what, values: &[f64], fits: fn(f64) -> bool, rule| match values.iter().position(|v| !fits(*v)) {
            Some(row) => Err(EvalError::Decision { what, row, value: values[row], rule }),
            None => Ok(()),
        };
        finite("the reward", rewards, f64::is_finite, "must be finite")?;
        finite("the logging probability", logging, |p| p > 0.0 && p <= 1.0, "must be above 0 and at most 1")?;
        finite("the target probability", target, |p| (0.0..=1.0).contains(&p), "must be from 0 to 1")?;
        let weights = target.iter().zip(logging).map(|(target, logging)| target / logging).collect();
        Ok(Self { rewards: rewards.to_vec(), weights })
    }

    /// The importance weights.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The mean reward of the log as it is.
    #[must_use]
    pub fn naive(&self) -> Estimate {
        Estimate::of(&self.rewards)
    }

    /// Inverse propensity scores.
    #[must_use]
    pub fn ips(&self) -> Estimate {
        self.clipped(f64::INFINITY)
    }

    /// With weights of at most `largest`.
    #[must_use]
    pub fn clipped(&self, largest: f64) -> Estimate {
        let terms = self.weights.iter().zip(&self.rewards).map(|(weight, reward)| weight.min(largest) * reward);
        Estimate::of(&terms.collect::<Vec<_>>())
    }

    /// Self-normalised: divided by the sum of the weights; its error by the delta method. 0 where the other policy does nothing that the log
    /// did.
    #[must_use]
    pub fn snips(&self) -> Estimate {
        let total: f64 = self.weights.iter().sum();
        if total == 0.0 {
            return Estimate { value: 0.0, error: 0.0 };
        }
        let sum: f64 = self.weights.iter().zip(&self.rewards).map(|(weight, reward)| weight * reward).sum();
        let value = sum / total;
        let squares: f64 =
            self.weights.iter().zip(&self.rewards).map(|(weight, reward)| (weight * (reward - value)).powi(2)).sum();
        Estimate { value, error: squares.sqrt() / total }
    }

    /// With a model of the reward: `predicted`, what it expects of each decision of the log, and `expected`, what it expects of the
    /// other policy in the same situation. Weights are clipped at `largest`.
    ///
    /// # Errors
    /// Not one of both for each decision.
    pub fn doubly_robust(&self, predicted: &[f64], expected: &[f64], largest: f64) -> Result<Estimate, EvalError> {
        for (what, found) in [("predicted rewards", predicted.len()), ("expected rewards", expected.len())] {
            if found != self.rewards.len() {
                return Err(EvalError::Length { what, found, expected: self.rewards.len(), per: "decision" });
            }
        }
        let terms = (0..self.rewards.len())
            .map(|row| expected[row] + self.weights[row].min(largest) * (self.rewards[row] - predicted[row]));
        Ok(Estimate::of(&terms.collect::<Vec<_>>()))
    }

    /// `(Σ w)² / Σ w²`: as many decisions of the other policy itself would say about as much (Kish 1965). Far below the length of the
    /// log, the two policies are too unlike to tell.
    #[must_use]
    pub fn effective_size(&self) -> f64 {
        let (sum, squares) = self.weights.iter().fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
        if squares == 0.0 { 0.0 } else { sum * sum / squares }
    }

    /// The mean weight: 1 where propensities are right, as far as chance allows. A check of the log.
    #[must_use]
    pub fn mean_weight(&self) -> Estimate {
        Estimate::of(&self.weights)
    }
}
