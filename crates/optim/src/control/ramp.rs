//! Piecewise linear preferences.

use serde::{Deserialize, Serialize};

use super::{Controller, nothing_to_remember};
use crate::{OptimError, Preference, Result};

/// One objective's preference from one step to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// First step, from 0.
    pub from: u64,
    /// Step at which `to_weight` is reached, above `from`.
    pub until: u64,
    /// Preference up to `from`.
    pub weight: f64,
    /// Preference from `until` on.
    pub to_weight: f64,
}

/// Linear ramps of single objectives: before `from` and after `until` a preference is constant, between them it goes in a straight line.
///
/// ```
/// # use paretune_optim::{Preference, control::{Controller, Ramp, Segment}};
/// let objectives = [Preference::new("click", 1.0), Preference::new("rating", 1.0)];
/// // Ratings join between steps 100 and 200.
/// let ramp = Ramp::new(&objectives, vec![None, Some(Segment { from: 100, until: 200, weight: 0.0, to_weight: 2.0 })])?;
/// assert_eq!(ramp.preferences(50), [1.0, 0.0]);
/// assert_eq!(ramp.preferences(125), [1.0, 0.5]);
/// assert_eq!(ramp.preferences(900), [1.0, 2.0]);
/// # Ok::<(), paretune_optim::OptimError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ramp {
    base: Vec<f64>,
    segments: Vec<Option<Segment>>,
}

impl Ramp {
    /// One segment, or none, for each objective.
    ///
    /// # Errors
    /// A wrong number of segments, one that ends before it begins, or weights that leave no objective at some step.
    pub fn new(objectives: &[Preference], segments: Vec<Option<Segment>>) -> Result<Self> {
        Preference::check(objectives)?;
        if segments.len() != objectives.len() {
            let (found, expected) = (segments.len(), objectives.len());
            return Err(OptimError::Count { what: "ramps", found, expected });
        }
        for segment in segments.iter().flatten() {
            if segment.until <= segment.from {
                let value = format!("{} to {}", segment.from, segment.until);
                return Err(OptimError::Setting { setting: "a ramp".into(), value, rule: "it ends after it begins" });
            }
        }
        let ramp = Self { base: objectives.iter().map(|p| p.weight).collect(), segments };
        // Straight lines are least at their ends: preferences that fit there fit everywhere.
        let ends = ramp.segments.iter().flatten().flat_map(|s| [s.from, s.until]);
        for step in std::iter::once(0).chain(ends) {
            let names = objectives.iter().map(|p| &p.name).zip(ramp.preferences(step));
            Preference::check(&names.map(|(name, w)| Preference::new(name, w)).collect::<Vec<_>>())?;
        }
        Ok(ramp)
    }
}

impl Controller for Ramp {
    fn preferences(&self, step: u64) -> Vec<f64> {
        let at = |(base, segment): (&f64, &Option<Segment>)| match segment {
            None => *base,
            Some(s) if step <= s.from => s.weight,
            Some(s) if step >= s.until => s.to_weight,
            Some(s) => s.weight + (s.to_weight - s.weight) * ((step - s.from) as f64 / (s.until - s.from) as f64),
        };
        self.base.iter().zip(&self.segments).map(at).collect()
    }

    fn remember(&mut self, memory: &[f64]) -> Result<()> {
        nothing_to_remember(memory)
    }
}
