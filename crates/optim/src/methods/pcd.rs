//! A primary objective with guaranteed progress for the others.

use serde::{Deserialize, Serialize};

use crate::adam::check_range;
use crate::solvers::non_negative::{Bounded, non_negative};
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Gramian, Preference, Result, Signals, Weighting};

const SQUARES: usize = 0;
const SEEN: usize = 1;

/// Parameters of [`Pcd`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PcdConfig {
    /// Name of the primary objective; the first by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Share of its own normalized progress that every other objective keeps: 0 to 1.
    pub tau: f64,
    /// Decay of the running mean of squared gradient norms, at least 0 and below 1.
    pub beta: f64,
    /// Added to the running mean, at least 0.
    pub eps: f64,
}

impl Default for PcdConfig {
    fn default() -> Self {
        Self { primary: None, tau: 0.02, beta: 0.999, eps: 1e-8 }
    }
}

/// Priority-constrained descent (Varam and AlHajri, "Not all objectives are born equal", TMLR 2026), in TorchJD's form: the nearest direction to the
/// primary gradient that gives every other objective a share `τ` of what its own gradient would: `min ½ ‖d - g̃_1‖²` with `g̃_j · d ≥ τ ‖g̃_j‖²`,
/// then as long as `g_1`.
///
/// `g̃_i = g_i / √(v_i + ε)` with `v_i` the running mean of `‖g_i‖²`, so `τ` has no unit. Contradictory constraints are dropped. Where the
/// primary gradient or `d` is zero, so are the weights. Preferences are not read, but an objective of preference 0 is left out, as is
/// one without a gradient in a step; its running mean waits. Remembers the running means.
#[derive(Debug, Clone)]
pub struct Pcd {
    config: PcdConfig,
    primary: usize,
    objectives: Objectives,
    memory: Memory,
}

impl Pcd {
    /// Starts without running means.
    ///
    /// # Errors
    /// Wrong preferences, an unknown primary objective, or a parameter out of range.
    pub fn new(objectives: &[Preference], config: PcdConfig) -> Result<Self> {
        check_range("tau", config.tau, 0.0, 1.0, "it is a share between 0 and 1")?;
        check_range("beta", config.beta, 0.0, 0.999_999_999, "it is at least 0 and below 1")?;
        check_range("eps", config.eps, 0.0, f64::MAX, "it is at least 0")?;
        let objectives = Objectives::new(objectives)?;
        let primary = config.primary.as_ref().map_or(Ok(0), |name| objectives.find("primary", name))?;
        let zeros = vec![0.0; objectives.len()];
        let memory = Memory::new("pcd", &["squares", "seen"], vec![zeros.clone(), zeros]);
        Ok(Self { config, primary, objectives, memory })
    }

    /// Takes the squared norm into the running mean and answers with the scale of the gradient.
    fn scale(&mut self, i: usize, squared: f64) -> f64 {
        let beta = self.config.beta;
        let square = &mut self.memory.values[SQUARES][i];
        *square = beta * *square + (1.0 - beta) * squared;
        let square = *square;
        self.memory.values[SEEN][i] += 1.0;
        let unbiased = square / (1.0 - beta.powf(self.memory.values[SEEN][i]));
        let root = (unbiased + self.config.eps).sqrt();
        if root > 0.0 { 1.0 / root } else { 0.0 }
    }
}

impl Weighting for Pcd {
    fn name(&self) -> &'static str {
        "pcd"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "pcd")?;
        let m = self.objectives.len();
        self.memory.step += 1;
        let live: Vec<usize> = (0..m).filter(|&i| gramian.norm(i) > 0.0 && self.objectives.weight(i) > 0.0).collect();
        let mut scales = vec![0.0; m];
        live.iter().for_each(|&i| scales[i] = self.scale(i, gramian.get(i, i)));
        let mut weights = vec![0.0; m];
        if !live.contains(&self.primary) {
            return Ok(weights);
        }
        let others: Vec<usize> = live.iter().copied().filter(|&i| i != self.primary).collect();
        let demands: Vec<f64> = others.iter().map(|_| self.config.tau).collect();
        let lengths: Vec<f64> = (0..m).map(|i| scales[i] * gramian.norm(i)).collect();
        let multipliers = constrained(gramian, self.primary, &others, &lengths, &demands).unwrap_or_default();
        // Weights on unit gradients.
        let mut u = vec![0.0; m];
        u[self.primary] = lengths[self.primary];
        others.iter().zip(multipliers).for_each(|(&i, x)| u[i] = x);
        let squared: f64 = (0..m).map(|i| u[i] * (0..m).map(|j| gramian.cosine(i, j) * u[j]).sum::<f64>()).sum();
        let magnitude: f64 = u.iter().sum();
        if squared > 10.0 * f64::EPSILON * magnitude * magnitude {
            let size = gramian.norm(self.primary) / squared.sqrt();
            (0..m).filter(|&i| u[i] > 0.0).for_each(|i| weights[i] = (u[i] * (size / gramian.norm(i))).min(f64::MAX));
        }
        Ok(weights)
    }

    remembers!();
}

/// Multipliers, on unit gradients, of `min ½ ‖d - l_p ĝ_p‖²` with `ĝ_j · d ≥ demand_j l_j`, in the order of `others`. `None`: no `d` meets all
/// demands. Gradients have the lengths `l` given instead of their own.
pub(super) fn constrained(
    gramian: &Gramian,
    primary: usize,
    others: &[usize],
    lengths: &[f64],
    demands: &[f64],
) -> Option<Vec<f64>> {
    let unit = others.iter().map(|&j| lengths[j]).fold(lengths[primary], f64::max);
    let h: Vec<f64> = others.iter().flat_map(|&i| others.iter().map(move |&j| gramian.cosine(i, j))).collect();
    let b: Vec<f64> = others
        .iter()
        .zip(demands)
        .map(|(&j, demand)| (demand * lengths[j] - lengths[primary] * gramian.cosine(j, primary)) / unit)
        .collect();
    Some(non_negative(&h, &b, &[], Bounded::Unknown)?.iter().map(|x| x * unit).collect())
}
