//! The learning rate over a run.

use serde::{Deserialize, Serialize};

use crate::{OptimError, Result};

/// What the learning rate does after the warm-up; [`Decay::OneCycle`] has a warm-up of its own shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls in a straight line.
    Linear,
    /// Falls along half a cosine wave (Loshchilov and Hutter 2017, without restarts).
    #[default]
    Cosine,
    /// One cycle (Smith and Topin 2019): rises along half a cosine wave from a twenty-fifth, and falls along another one to nearly nothing,
    /// as PyTorch's `OneCycleLR` has it. Wants a long warm-up, such as 0.3.
    OneCycle,
    /// Falls with the inverse square root of the step (Vaswani et al. 2017), without regard to the run's length: after four times the
    /// warm-up it is at a half.
    InverseRoot,
}

/// Where one cycle begins.
const CYCLE_START: f64 = 1.0 / 25.0;
/// Where one cycle ends, if [`Schedule::floor`] is not above it.
const CYCLE_END: f64 = CYCLE_START / 1e4;

/// Linear warm-up, then a decay to [`Schedule::floor`].
///
/// ```
/// # use paretune_optim::{Decay, Schedule};
/// let schedule = Schedule { warmup: 0.1, decay: Decay::Linear, floor: 0.0 };
/// assert_eq!(schedule.at(0, 100), 0.1); // the first of 10 warm-up steps
/// assert_eq!(schedule.at(10, 100), 1.0);
/// assert_eq!(schedule.at(55, 100), 0.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Share of the run's steps, 0 to 1, during which the multiplier rises to 1.
    pub warmup: f64,
    /// What follows.
    pub decay: Decay,
    /// The multiplier that the decay ends at, 0 to 1.
    pub floor: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { warmup: 0.1, decay: Decay::Cosine, floor: 0.0 }
    }
}

impl Schedule {
    /// Multiplier of the learning rate at `step` (from 0) of `total`, in `[0, 1]`.
    ///
    /// The first warm-up step already moves (`1 / warm-up steps`, not 0); from step `total` on it is the floor (or 1 for
    /// [`Decay::Constant`]; [`Decay::InverseRoot`] goes on falling).
    pub fn at(&self, step: usize, total: usize) -> f64 {
        let floor = self.floor.clamp(0.0, 1.0);
        if self.decay == Decay::OneCycle {
            return self.one_cycle(step as f64, total as f64, floor.max(CYCLE_END));
        }
        let warmup = (self.warmup.clamp(0.0, 1.0) * total as f64).round() as usize;
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let length = total.saturating_sub(warmup).max(1) as f64;
        let progress = ((step - warmup) as f64 / length).min(1.0);
        let left = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine | Decay::OneCycle => half_wave(progress),
            Decay::InverseRoot => (warmup.max(1) as f64 / step.max(1) as f64).sqrt(),
        };
        floor + (1.0 - floor) * left
    }

    fn one_cycle(&self, step: f64, total: f64, end: f64) -> f64 {
        // The last step of the rise, which need not be a whole number.
        let peak = (self.warmup.clamp(0.0, 1.0) * total - 1.0).max(0.0);
        if step < peak {
            return 1.0 - (1.0 - CYCLE_START) * half_wave(step / peak);
        }
        let fall = total - 1.0 - peak;
        let progress = if fall > 0.0 { ((step - peak) / fall).min(1.0) } else { f64::from(u8::from(step > peak)) };
        end + (1.0 - end) * half_wave(progress)
    }

    /// Says whether the settings are in range.
    ///
    /// # Errors
    /// `warmup` or `floor` outside `[0, 1]`.
    pub fn check(&self) -> Result<()> {
        for (setting, value) in [("warmup", self.warmup), ("floor", self.floor)] {
            if !(0.0..=1.0).contains(&value) {
                let (setting, value) = (setting.to_string(), value.to_string());
                return Err(OptimError::Setting { setting, value, rule: "it is a share between 0 and 1" });
            }
        }
        Ok(())
    }
}

/// From 1 to 0 along half a cosine wave.
fn half_wave(progress: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cosine_has_its_known_points() {
        let schedule = Schedule { warmup: 0.0, decay: Decay::Cosine, floor: 0.2 };
        for (step, expected) in [(0, 1.0), (50, 0.6), (100, 0.2), (500, 0.2)] {
            assert!((schedule.at(step, 100) - expected).abs() < 1e-12, "step {step}");
        }
    }

    #[test]
    fn reads_from_configuration_and_refuses_nonsense() {
        let schedule: Schedule = serde_json::from_str(r#"{"warmup": 0.05, "decay": "linear"}"#).unwrap();
        assert_eq!(schedule, Schedule { warmup: 0.05, decay: Decay::Linear, floor: 0.0 });
        assert!(serde_json::from_str::<Schedule>(r#"{"warm_up": 0.05}"#).is_err());
        let error = Schedule { warmup: 10.0, ..schedule }.check().unwrap_err().to_string();
        assert!(error.contains("warmup = 10"), "{error}");
        assert!(Schedule { floor: f64::NAN, ..schedule }.check().is_err());
    }

    proptest! {
        #[test]
        fn rises_then_never_rises_again_and_stays_in_range(
            warmup in 0.0..1.0_f64, floor in 0.0..1.0_f64, total in 0_usize..200, kind in 0_usize..5,
        ) {
            let decay = [Decay::Constant, Decay::Linear, Decay::Cosine, Decay::OneCycle, Decay::InverseRoot][kind];
            let schedule = Schedule { warmup, decay, floor };
            let values: Vec<f64> = (0..total + 5).map(|s| schedule.at(s, total)).collect();
            prop_assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
            let peak = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a))).unwrap();
            prop_assert!(values[..=peak].windows(2).all(|w| w[0] <= w[1]));
            prop_assert!(values[peak..].windows(2).all(|w| w[0] >= w[1] - 1e-15));
        }
    }
}
