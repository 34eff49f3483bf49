//! Dynamic weight average.

use serde::{Deserialize, Serialize};

use crate::adam::check_range;
use crate::random::softmax;
use crate::scalarizers::Scalarizer;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Preference, Result, Signals, Weighting};

const SUMS: usize = 0;
const COUNTS: usize = 1;
const LAST: usize = 2;
const BEFORE: usize = 3;
/// Windows finished, and steps in the running one.
const CLOCK: usize = 4;

/// Parameters of [`Dwa`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DwaConfig {
    /// Larger is more uniform, above 0; the paper uses 2.
    pub temperature: f64,
    /// Steps that are averaged for one rate; 0 waits for [`Weighting::end_epoch`], the paper's form.
    pub window: u64,
}

impl Default for DwaConfig {
    fn default() -> Self {
        Self { temperature: 2.0, window: 100 }
    }
}

/// DWA (Liu, Johns and Davison, "End-to-end multi-task learning with attention", CVPR 2019): `w_i = m p_i softmax(r_i / T)` brought to a sum of `m`, with
/// `r_i` the mean loss of the last window over that of the one before: objectives that fall slowly weigh more.
///
/// Weights are `m p_i` until two windows are over. A mean loss of 0 or no labels in a window count as no change, `r_i = 1`. Remembers
/// sums and means.
#[derive(Debug, Clone)]
pub struct Dwa {
    config: DwaConfig,
    objectives: Objectives,
    memory: Memory,
}

impl Dwa {
    /// Starts without windows.
    ///
    /// # Errors
    /// Wrong preferences, or a temperature that is not positive.
    pub fn new(objectives: &[Preference], config: DwaConfig) -> Result<Self> {
        check_range("temperature", config.temperature, 1e-9, 1e12, "it is above 0, such as 2")?;
        let zeros = vec![0.0; objectives.len()];
        let fresh = vec![zeros.clone(), zeros.clone(), zeros.clone(), zeros, vec![0.0; 2]];
        let memory = Memory::new("dwa", &["sums", "counts", "last", "before", "clock"], fresh);
        Ok(Self { config, objectives: Objectives::new(objectives)?, memory })
    }

    fn current(&self) -> Vec<f64> {
        let m = self.objectives.len() as f64;
        let shares = self.objectives.shares();
        if self.memory.values[CLOCK][0] < 2.0 {
            return shares.iter().map(|p| p * m).collect();
        }
        let rate = |(last, before): (&f64, &f64)| {
            let rate = last / before;
            (if rate.is_finite() && rate != 0.0 { rate } else { 1.0 }) / self.config.temperature
        };
        let rates: Vec<f64> = self.memory.values[LAST].iter().zip(&self.memory.values[BEFORE]).map(rate).collect();
        let raw: Vec<f64> = softmax(&rates).iter().zip(&shares).map(|(s, p)| s * p).collect();
        let total: f64 = raw.iter().sum();
        raw.iter().map(|w| if total > 0.0 { w / total * m } else { 1.0 }).collect()
    }
}

impl Weighting for Dwa {
    fn name(&self) -> &'static str {
        "dwa"
    }

    fn needs_gramian(&self) -> bool {
        false
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        self.objectives.check(signals)?;
        let weights = self.current();
        for (i, loss) in signals.losses.iter().enumerate().filter(|(i, _)| signals.observed[*i] > 0) {
            self.memory.values[SUMS][i] = (self.memory.values[SUMS][i] + loss).clamp(-f64::MAX, f64::MAX);
            self.memory.values[COUNTS][i] += 1.0;
        }
        self.memory.step += 1;
        self.memory.values[CLOCK][1] += 1.0;
        if self.config.window > 0 && self.memory.values[CLOCK][1] >= self.config.window as f64 {
            self.roll();
        }
        Ok(weights)
    }

    fn end_epoch(&mut self) {
        if self.config.window == 0 && self.memory.values[CLOCK][1] > 0.0 {
            self.roll();
        }
    }

    remembers!();
}

impl Dwa {
    /// Closes the running window.
    fn roll(&mut self) {
        for i in 0..self.objectives.len() {
            let count = self.memory.values[COUNTS][i];
            let last = self.memory.values[LAST][i];
            self.memory.values[BEFORE][i] = last;
            if count > 0.0 {
                self.memory.values[LAST][i] = self.memory.values[SUMS][i] / count;
            }
        }
        self.memory.values[SUMS].fill(0.0);
        self.memory.values[COUNTS].fill(0.0);
        let windows = self.memory.values[CLOCK][0];
        self.memory.values[CLOCK] = vec![windows + 1.0, 0.0];
    }
}

impl Scalarizer for Dwa {
    fn value(&self, losses: &[f64], observed: &[usize]) -> Result<f64> {
        self.objectives.check(&Signals { losses, observed, gramian: None })?;
        Ok(self.current().iter().zip(losses).map(|(w, l)| w * l).sum())
    }
}
