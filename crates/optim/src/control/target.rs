//! Preferences that keep objectives above a floor.

use serde::{Deserialize, Serialize};

use super::Controller;
use crate::adam::{check_range, check_rate};
use crate::{OptimError, Preference, Result};

/// Parameters of [`TargetTracking`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetConfig {
    /// How much the logarithm of a preference moves for a shortfall of 1, above 0.
    pub gain: f64,
    /// Share of a raise that is given back at each measurement above the floor, 0 to 1.
    pub relax: f64,
    /// A preference is raised to this multiple of itself at most, at least 1.
    pub most: f64,
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self { gain: 1.0, relax: 0.1, most: 100.0 }
    }
}

/// Keeps measured qualities (satisfaction, say) above their floors: the preference of an objective is `p_i exp(λ_i)`, where the multiplier
/// `λ_i ≥ 0` rises by `gain × shortfall` with each measurement below the floor and decays above it.
///
/// This is the integral part of a controller, and dual ascent on the constraint `quality_i ≥ floor_i` in the logarithm of the preference (as the
/// multiplier method of Bertsekas 1982), with a leak so that a floor that is easily held costs nothing.
#[derive(Debug, Clone)]
pub struct TargetTracking {
    base: Vec<f64>,
    floors: Vec<Option<f64>>,
    config: TargetConfig,
    multipliers: Vec<f64>,
}

impl TargetTracking {
    /// Starts at the objectives' preferences; `floors` holds one for each objective, or none.
    ///
    /// # Errors
    /// Wrong preferences, a floor that is not finite or on an objective of preference 0 (which no factor raises), or a parameter out of
    /// range.
    pub fn new(objectives: &[Preference], floors: &[Option<f64>], config: TargetConfig) -> Result<Self> {
        Preference::check(objectives)?;
        check_rate("gain", config.gain)?;
        check_range("relax", config.relax, 0.0, 1.0, "it is a share between 0 and 1")?;
        check_range("most", config.most, 1.0, 1e12, "it is between 1 and 1e12, such as 100")?;
        if floors.len() != objectives.len() {
            return Err(OptimError::Count { what: "floors", found: floors.len(), expected: objectives.len() });
        }
        for (objective, floor) in objectives.iter().zip(floors) {
            let Some(floor) = floor else { continue };
            if !floor.is_finite() || objective.weight == 0.0 {
                let rule = "a floor is finite, and on an objective whose preference is above 0";
                let setting = format!("the floor of objective {}", objective.name);
                return Err(OptimError::Setting { setting, value: floor.to_string(), rule });
            }
        }
        let base: Vec<f64> = objectives.iter().map(|p| p.weight).collect();
        Ok(Self { multipliers: vec![0.0; base.len()], base, floors: floors.to_vec(), config })
    }

    /// `λ`, one for each objective; 0 where nothing was raised.
    pub fn multipliers(&self) -> &[f64] {
        &self.multipliers
    }
}

impl Controller for TargetTracking {
    fn preferences(&self, _: u64) -> Vec<f64> {
        self.base.iter().zip(&self.multipliers).map(|(p, l)| (p * l.exp()).min(f64::MAX)).collect()
    }

    fn observe(&mut self, measured: &[Option<f64>]) -> Result<()> {
        if measured.len() != self.base.len() {
            let (found, expected) = (measured.len(), self.base.len());
            return Err(OptimError::Count { what: "measurements", found, expected });
        }
        if let Some((i, value)) =
            measured.iter().enumerate().find_map(|(i, v)| Some((i, (*v)?)).filter(|(_, v)| !v.is_finite()))
        {
            return Err(OptimError::NotFinite { what: "the measured quality", objective: i.to_string(), value });
        }
        for ((multiplier, floor), value) in self.multipliers.iter_mut().zip(&self.floors).zip(measured) {
            let (Some(floor), Some(value)) = (floor, value) else { continue };
            if value < floor {
                *multiplier = (*multiplier + self.config.gain * (floor - value)).min(self.config.most.ln());
            } else {
                *multiplier *= 1.0 - self.config.relax;
            }
        }
        Ok(())
    }

    fn memory(&self) -> Vec<f64> {
        self.multipliers.clone()
    }

    fn remember(&mut self, memory: &[f64]) -> Result<()> {
        if memory.len() != self.base.len() || memory.iter().any(|l| !(l.is_finite() && *l >= 0.0)) {
            let reason = format!("target tracking takes {} multipliers, none negative", self.base.len());
            return Err(OptimError::State { reason });
        }
        self.multipliers = memory.to_vec();
        Ok(())
    }

    fn reset(&mut self) {
        self.multipliers.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objectives() -> [Preference; 2] {
        [Preference::new("click", 1.0), Preference::new("satisfaction", 0.5)]
    }

    /// A weighted sum of (x - 1)² and x² rests at x = p / (p + q); "satisfaction" is 1 - x². The controller must find the q that keeps it.
    #[test]
    fn holds_the_floor_of_a_weighted_sum() {
        let config = TargetConfig { gain: 0.5, relax: 0.01, most: 1000.0 };
        let mut control = TargetTracking::new(&objectives(), &[None, Some(0.9)], config).unwrap();
        let mut quality = 0.0;
        for step in 0..2000 {
            let p = control.preferences(step);
            let x = p[0] / (p[0] + p[1]);
            quality = 1.0 - x * x;
            control.observe(&[None, Some(quality)]).unwrap();
        }
        assert!((quality - 0.9).abs() < 0.02, "{quality}");
        assert_eq!(control.multipliers()[0], 0.0);
        let saved = control.memory();
        let mut resumed = TargetTracking::new(&objectives(), &[None, Some(0.9)], config).unwrap();
        resumed.remember(&saved).unwrap();
        assert_eq!(resumed.preferences(0), control.preferences(0));
        assert!(resumed.remember(&[1.0]).is_err());
        resumed.reset();
        assert_eq!(resumed.preferences(7), [1.0, 0.5]);
    }

    #[test]
    fn a_raise_has_a_limit_and_wears_off() {
        let mut control = TargetTracking::new(&objectives(), &[None, Some(0.9)], TargetConfig::default()).unwrap();
        for _ in 0..100 {
            control.observe(&[None, Some(0.0)]).unwrap();
        }
        assert!((control.preferences(0)[1] - 50.0).abs() < 1e-9);
        for _ in 0..200 {
            control.observe(&[Some(0.1), Some(0.95)]).unwrap();
        }
        assert!((control.preferences(0)[1] - 0.5).abs() < 1e-6);
        assert!(control.observe(&[None, Some(f64::NAN)]).is_err());
    }
}
