//! Methods that look at the losses alone: one function of `m` losses to minimize.
//!
//! A [`Scalarizer`] is a [`Weighting`] whose weights are the gradient `∂f / ∂L_i` of a function `f` of the losses: one ordinary backward
//! pass of `Σ w_i L_i`, with the weights held fixed, is that of `f` itself. `f` sees only the objectives that have labels in the step.

mod chebyshev;
mod cosmos;
mod dwa;
mod famo;
mod geometric_mean;
mod imtl_l;
mod pbi;
mod random;
mod uncertainty;
mod weighted_sum;

pub use chebyshev::{Chebyshev, ChebyshevConfig, SmoothChebyshev, SmoothChebyshevConfig};
pub use cosmos::{Cosmos, CosmosConfig};
pub use dwa::{Dwa, DwaConfig};
pub use famo::{Famo, FamoConfig, FamoUpdate};
pub use geometric_mean::GeometricMean;
pub use imtl_l::{ImtlL, ImtlLConfig};
pub use pbi::{Pbi, PbiConfig};
pub use random::{Random, RandomConfig};
pub use uncertainty::{UncertaintyConfig, UncertaintyWeighting};
pub use weighted_sum::{ConstantConfig, WeightedSum};

use std::collections::BTreeMap;

use crate::weighting::Objectives;
use crate::{OptimError, Result, Weighting};

/// A [`Weighting`] that is the gradient of a function of the losses.
pub trait Scalarizer: Weighting {
    /// `f(L)` with the weights' memory as it stands: the number that the next step's weights are the gradient of.
    ///
    /// # Errors
    /// A wrong number of losses, or a loss that is not finite.
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64>;
}

/// [`Weighting`] and [`Scalarizer`] of a method that remembers nothing, from `solve(losses, observed)`: `f(L)` and all `m` weights, for
/// losses that have been checked.
macro_rules! function_of_losses {
    ($method:ty) => {
        impl $crate::Weighting for $method {
            fn name(&self) -> &'static str {
                self.memory.method()
            }

            fn needs_gramian(&self) -> bool {
                false
            }

            fn weights(&mut self, signals: &$crate::Signals<'_>) -> $crate::Result<Vec<f64>> {
                self.objectives.check(signals)?;
                Ok(self.solve(signals.losses, signals.observed)?.1)
            }

            $crate::state::remembers!();
        }

        impl $crate::Scalarizer for $method {
            fn value(&self, losses: &[f64], observed: &[usize]) -> $crate::Result<f64> {
                self.objectives.check(&$crate::Signals { losses, observed, gramian: None })?;
                Ok(self.solve(losses, observed)?.0)
            }
        }
    };
}
use function_of_losses;

/// The objectives that have labels and a preference.
fn seen(objectives: &Objectives, observed: &[usize]) -> Vec<usize> {
    (0..objectives.len()).filter(|&i| observed[i] > 0 && objectives.weight(i) > 0.0).collect()
}

/// Puts weights of some objectives among zeros.
fn spread(m: usize, at: &[usize], weights: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut all = vec![0.0; m];
    at.iter().zip(weights).for_each(|(&i, w)| all[i] = w);
    all
}

/// Ideal losses by name, 0 for those without.
fn ideal_point(ideal: &BTreeMap<String, f64>, objectives: &Objectives) -> Result<Vec<f64>> {
    let mut point = vec![0.0; objectives.len()];
    for (name, &value) in ideal {
        if !value.is_finite() {
            let (setting, value) = (format!("ideal.{name}"), value.to_string());
            return Err(OptimError::Setting { setting, value, rule: "an ideal loss is finite" });
        }
        point[objectives.find("ideal", name)?] = value;
    }
    Ok(point)
}
