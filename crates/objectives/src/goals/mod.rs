//! Goals that belong to a list, as losses of what a model would show.
//!
//! A ranking of a batch's `R` requests over `N` candidates is relaxed to a policy `π = softmax(s / τ)` of its scores `s` `[R, N]`: the probability
//! that a place of the list goes to a candidate. With a small `τ` it is the top of the list alone, with a large one all candidates. The goals are
//! functions of the policies, differentiable in the scores (and where they compare items, in the items' vectors).

mod goal;
#[cfg(test)]
mod tests;

use candle_core::{D, Result, Tensor};

pub use goal::{Goal, Groups, ListGoal, Target};

/// What is shown: the policies of a batch.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use paretune_objectives::Policy;
///
/// // Two requests that are both shown item 0 nearly always.
/// let scores = Tensor::new(&[[9f32, 0.0, 0.0], [9.0, 0.0, 0.0]], &Device::Cpu)?;
/// let sharp = Policy::new(&scores, 1.0)?.concentration()?.to_scalar::<f32>()?;
/// let soft = Policy::new(&scores, 100.0)?.concentration()?.to_scalar::<f32>()?;
/// assert!(sharp > 0.99 && soft < 0.01);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    /// `[R, N]`, rows that sum to 1.
    shares: Tensor,
}

impl Policy {
    /// From scores `[R, N]` in standard deviations of each row: `softmax(z / τ)`, `z = (s - mean s) / √var s`. Scores that are scaled down as a whole
    /// rank the same, and are the same policy. What `hidden` names (row by row, `[R × N]`) is not shown at all, but counts in mean and variance.
    ///
    /// # Errors
    /// As [`Self::new`], and not one entry of `hidden` for each score.
    pub fn standardized(scores: &Tensor, temperature: f64, hidden: Option<&[bool]>) -> crate::Result<Self> {
        let (rows, candidates) = scores.dims2()?;
        let centred = scores.broadcast_sub(&scores.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + FLAT)?.sqrt()?;
        let mut z = centred.broadcast_div(&deviation)?;
        if let Some(hidden) = hidden {
            if hidden.len() != rows * candidates {
                let (what, found) = ("entries that say what is hidden".into(), hidden.len());
                return Err(crate::ObjectiveError::Count { what, found, expected: rows * candidates });
            }
            let far: Vec<f32> =
                hidden.iter().map(|hidden| if *hidden { -FAR * temperature as f32 } else { 0.0 }).collect();
            z = (z + Tensor::from_vec(far, (rows, candidates), scores.device())?.to_dtype(scores.dtype())?)?;
        }
        Self::new(&z, temperature)
    }

    /// From scores `[R, N]`, divided by `temperature`.
    ///
    /// # Errors
    /// Scores that are no matrix with a row and a column, or a temperature that is not above 0.
    pub fn new(scores: &Tensor, temperature: f64) -> crate::Result<Self> {
        let (rows, candidates) = scores.dims2()?;
        if rows == 0 || candidates == 0 {
            let what = if rows == 0 { "requests" } else { "candidates" };
            return Err(crate::ObjectiveError::Count { what: what.into(), found: 0, expected: 1 });
        }
        if !(temperature.is_finite() && temperature > 0.0) {
            let (setting, rule) = ("temperature", "it must be above 0");
            return Err(crate::ObjectiveError::Setting { setting, value: temperature.to_string(), rule });
        }
        let logits = (scores / temperature)?;
        let raised = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let shares = raised.broadcast_div(&raised.sum_keepdim(D::Minus1)?)?;
        Ok(Self { shares })
    }

    /// The probabilities `[R, N]`.
    pub fn shares(&self) -> &Tensor {
        &self.shares
    }

    /// How similar two items are that a request is shown: `Σ_ij π_i π_j ⟨v_i, v_j⟩ = ‖Σ_i π_i v_i‖²`, the mean over requests, for `vectors` `[N, d]` of
    /// length one. One less this is the expected intra-list distance.
    ///
    /// # Errors
    /// Not one vector for each candidate.
    pub fn similarity(&self, vectors: &Tensor) -> Result<Tensor> {
        self.shares.matmul(vectors)?.sqr()?.sum(1)?.mean_all()
    }

    /// What share of the batch's places each candidate gets `[N]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn exposure(&self) -> Result<Tensor> {
        self.shares.mean(0)
    }

    /// How far exposure is from all candidates alike: `KL(e ‖ uniform) / ln N`, from 0 (everything is shown alike) to 1 (one item
    /// is). One less this is the normalised Shannon entropy of exposure: soft coverage.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn concentration(&self) -> Result<Tensor> {
        let exposure = self.exposure()?;
        let count = exposure.dim(0)?;
        let entropy = (&exposure * (&exposure + TINY)?.log()?)?.sum_all()?;
        match count {
            1 => entropy * 0.0,
            _ => (entropy / (count as f64).ln())? + 1.0,
        }
    }

    /// How far groups are from their due: `KL(t ‖ E)` of the exposures `E_g` of groups and their targets `t_g`, which sum to 1. Candidates are in
    /// one group each, given by number; those in none (past the targets) are not counted.
    ///
    /// # Errors
    /// Not one group for each candidate.
    pub fn disparity(&self, groups: &[u32], targets: &[f64]) -> Result<Tensor> {
        let exposure = self.exposure()?;
        let (count, device) = (exposure.dim(0)?, exposure.device());
        let member = |group: usize| groups.iter().map(move |own| f32::from(u8::from(*own as usize == group)));
        let members: Vec<f32> = (0..targets.len()).flat_map(member).collect();
        let members = Tensor::from_vec(members, (targets.len(), count), device)?.to_dtype(exposure.dtype())?;
        let shares = members.matmul(&exposure.unsqueeze(1)?)?.squeeze(1)?;
        let shares = shares.broadcast_div(&(shares.sum_all()? + TINY)?)?;
        let targets = Tensor::from_slice(targets, targets.len(), device)?.to_dtype(exposure.dtype())?;
        let due = (&targets * (&targets + TINY)?.log()?)?.sum_all()?;
        due - (targets * (shares + TINY)?.log()?)?.sum_all()?
    }

    /// The mean of a value of the items that are shown, `Σ_i π_i x_i`, mean over requests: of their log-popularity, price, age. `values` `[N]`.
    ///
    /// # Errors
    /// Not one value for each candidate.
    pub fn mean_of(&self, values: &[f32]) -> Result<Tensor> {
        let count = self.shares.dim(1)?;
        if values.len() != count {
            candle_core::bail!("{} values for {count} candidates", values.len())
        }
        let values = Tensor::from_slice(values, (count, 1), self.shares.device())?.to_dtype(self.shares.dtype())?;
        self.shares.matmul(&values)?.mean_all()
    }
}

/// Variance of scores that do not differ.
const FLAT: f64 = 1e-8;

/// How far below all others something hidden lies: `e^-FAR` is 0 in single precision beside 1.
const FAR: f32 = 1e4;

/// Keeps a logarithm finite where nothing is shown.
const TINY: f64 = 1e-12;
