//! From one balance to another.

use serde::{Deserialize, Serialize};

use super::{Controller, nothing_to_remember};
use crate::{OptimError, Preference, Result};

/// How [`Anneal`] goes from one balance to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// In a straight line.
    #[default]
    Linear,
    /// Along half a cosine wave: slow at both ends.
    Cosine,
    /// By equal factors, for preferences that are all positive: `a^(1-t) b^t`.
    Geometric,
}

/// Anneals all preferences from one balance to another over a number of steps, and stays there.
///
/// ```
/// # use paretune_optim::{Preference, control::{Anneal, Controller, Curve}};
/// let start = [Preference::new("click", 1.0), Preference::new("rating", 1.0)];
/// let anneal = Anneal::new(&start, &[1.0, 4.0], 100, Curve::Geometric)?;
/// assert_eq!(anneal.preferences(0), [1.0, 1.0]);
/// assert!((anneal.preferences(50)[1] - 2.0).abs() < 1e-12);
/// assert_eq!(anneal.preferences(1000), [1.0, 4.0]);
/// # Ok::<(), paretune_optim::OptimError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Anneal {
    from: Vec<f64>,
    to: Vec<f64>,
    steps: u64,
    curve: Curve,
}

impl Anneal {
    /// From the objectives' preferences to `to` in `steps` steps.
    ///
    /// # Errors
    /// Wrong preferences at either end, no steps, or a preference of 0 with [`Curve::Geometric`].
    pub fn new(objectives: &[Preference], to: &[f64], steps: u64, curve: Curve) -> Result<Self> {
        Preference::check(objectives)?;
        if to.len() != objectives.len() {
            return Err(OptimError::Count { what: "preferences", found: to.len(), expected: objectives.len() });
        }
        let ends: Vec<_> = objectives.iter().zip(to).map(|(p, &w)| Preference::new(&p.name, w)).collect();
        Preference::check(&ends)?;
        let refuse = |setting: &str, value: &str, rule| {
            Err(OptimError::Setting { setting: setting.into(), value: value.into(), rule })
        };
        if steps == 0 {
            return refuse("the number of steps", "0", "annealing takes at least one step");
        }
        if curve == Curve::Geometric && objectives.iter().chain(&ends).any(|p| p.weight == 0.0) {
            return refuse("a preference", "0", "a geometric curve is for positive preferences; use linear");
        }
        Ok(Self { from: objectives.iter().map(|p| p.weight).collect(), to: to.to_vec(), steps, curve })
    }
}

impl Controller for Anneal {
    fn preferences(&self, step: u64) -> Vec<f64> {
        let t = (step as f64 / self.steps as f64).min(1.0);
        let between = |(&a, &b): (&f64, &f64)| match (t, self.curve) {
            (0.0, _) => a,
            (1.0, _) => b,
            (t, Curve::Linear) => a + (b - a) * t,
            (t, Curve::Cosine) => a + (b - a) * 0.5 * (1.0 - (std::f64::consts::PI * t).cos()),
            (t, Curve::Geometric) => (a.ln() * (1.0 - t) + b.ln() * t).exp(),
        };
        self.from.iter().zip(&self.to).map(between).collect()
    }

    fn remember(&mut self, memory: &[f64]) -> Result<()> {
        nothing_to_remember(memory)
    }
}
