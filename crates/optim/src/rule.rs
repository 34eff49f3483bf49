//! Methods that are a function of the Gramian and the preferences alone.

use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Gramian, Preference, Result, Signals, Weighting};

/// A method without memory: the Gramian (`m × m`) and preferences (`m`) in, weights (`m`) out.
///
/// This is the mathematics as published. [`Memoryless`] puts it into a training loop.
pub trait Rule: Send {
    /// The method's name.
    const NAME: &'static str;

    /// Weights, finite, for preferences that are finite, not negative and usually sum to 1 (as `1/m` each does).
    ///
    /// # Errors
    /// A parameter out of its range, or preferences that do not fit.
    fn weights(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Vec<f64>>;

    /// Whether every parameter is in range.
    ///
    /// # Errors
    /// One is not.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A [`Rule`] in a training loop.
///
/// Objectives without a gradient in this step (no labels in the batch) or with preference 0 get weight 0, and the rule
/// sees the others only: a zero row would stop the training of everything else under many of the rules. The preferences it sees are
/// shares of the sum over all objectives. When every gradient is zero, the weights are those shares (and do nothing).
///
/// ```
/// # use paretune_optim::{Gramian, Memoryless, Preference, Signals, Weighting, methods::UpGrad};
/// let objectives = [Preference::new("click", 1.0), Preference::new("rating", 1.0)];
/// let mut upgrad = Memoryless::new(UpGrad {}, &objectives)?;
/// let gramian = Gramian::from_rows(&[[1.0, 0.0], [-1.0, 1.0]])?;
/// let weights = upgrad.weights(&Signals { losses: &[0.3, 0.9], observed: &[8, 8], gramian: Some(&gramian) })?;
/// // ½ (g₁ + ½ g₂) + ½ (g₂ + g₁): each projected, then the mean.
/// assert!((weights[0] - 1.0).abs() < 1e-12 && (weights[1] - 0.75).abs() < 1e-12);
/// # Ok::<(), paretune_optim::OptimError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Memoryless<R> {
    rule: R,
    objectives: Objectives,
    memory: Memory,
}

impl<R: Rule> Memoryless<R> {
    /// Checks the rule's parameters and the objectives.
    ///
    /// # Errors
    /// A parameter out of range, no objectives, or wrong preferences.
    pub fn new(rule: R, objectives: &[Preference]) -> Result<Self> {
        rule.check()?;
        Ok(Self { rule, objectives: Objectives::new(objectives)?, memory: Memory::counter(R::NAME) })
    }
}

impl<R: Rule> Weighting for Memoryless<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, R::NAME)?;
        let shares = self.objectives.shares();
        on_live(gramian, &shares, |gramian, shares| self.rule.weights(gramian, shares))
    }

    remembers!();
}

/// Solves for the objectives that have a gradient and a preference; see [`Memoryless`].
pub(crate) fn on_live(
    gramian: &Gramian,
    shares: &[f64],
    solve: impl FnOnce(&Gramian, &[f64]) -> Result<Vec<f64>>,
) -> Result<Vec<f64>> {
    let live: Vec<usize> = (0..shares.len()).filter(|&i| shares[i] > 0.0 && gramian.norm(i) > 0.0).collect();
    if live.is_empty() {
        return Ok(shares.to_vec());
    }
    if live.len() == shares.len() {
        return solve(gramian, shares);
    }
    let chosen: Vec<f64> = live.iter().map(|&i| shares[i]).collect();
    let solved = solve(&gramian.select(&live), &chosen)?;
    let mut weights = vec![0.0; shares.len()];
    live.iter().zip(solved).for_each(|(&i, w)| weights[i] = w);
    Ok(weights)
}
