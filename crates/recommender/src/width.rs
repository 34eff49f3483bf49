//! Columns of the shared representation that training may shut.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor, Var};
use paretune_objectives::TaskLoss;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Recommender, RecommenderError, Shared};

/// A hard concrete gate for each column (Louizos, Welling and Kingma 2018, "Learning sparse neural networks through L0 regularization"): with
/// `α` the odds of a gate, `u` uniform, `β` = 2/3, `γ` = -0.1 and `ζ` = 1.1,
///
/// ```text
/// s = σ((ln u - ln(1 - u) + ln α) / β)        z = min(1, max(0, s (ζ - γ) + γ))        P(z ≠ 0) = σ(ln α - β ln(-γ / ζ))
/// ```
///
/// In training `u` is drawn anew at every step; without dropout `z` is what `σ(ln α)` in place of `s` gives, and a column whose gate is 0 is none: no
/// score reads it. What a score costs is the mean of `P(z ≠ 0)`.
pub(crate) struct WidthGates {
    /// `ln α / SCALE` `[dim]`.
    weight: Var,
}

const BETA: f64 = 2.0 / 3.0;
const GAMMA: f64 = -0.1;
const ZETA: f64 = 1.1;
/// Optimizers move every number by about the learning rate: odds must get across in one training.
const SCALE: f64 = 50.0;
/// Nearly open.
const FIRST: f64 = 2.0;
/// Sets the draws of gates apart from those of dropout.
const DRAWS: u64 = 0x6761_7465;

impl WidthGates {
    pub(crate) fn new(dim: usize, device: &Device) -> Result<Self, RecommenderError> {
        Ok(Self { weight: Var::from_tensor(&Tensor::full((FIRST / SCALE) as f32, dim, device)?)? })
    }

    /// `ln α` `[dim]`.
    pub(crate) fn odds(&self) -> candle_core::Result<Tensor> {
        self.weight.as_tensor() * SCALE
    }

    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        vec![("gates.width".into(), self.weight.clone())]
    }
}

/// `z` `[dim]` of log-odds, drawn by a seed or, without, the gates that a trained model has.
fn gates(odds: &Tensor, dropout: Option<u64>) -> candle_core::Result<Tensor> {
    let inner = match dropout {
        None => odds.clone(),
        Some(seed) => {
            let mut random = ChaCha8Rng::seed_from_u64(seed ^ DRAWS);
            let noise: Vec<f32> = (0..odds.dims1()?)
                .map(|_| {
                    let u = random.random_range(1e-6..1.0 - 1e-6f64);
                    (u.ln() - (1.0 - u).ln()) as f32
                })
                .collect();
            ((odds + Tensor::from_vec(noise, odds.dims1()?, odds.device())?)? / BETA)?
        }
    };
    sigmoid(&inner)?.affine(ZETA - GAMMA, GAMMA)?.clamp(0f32, 1f32)
}

/// The mean of `P(z ≠ 0)`.
fn expected(odds: &Tensor) -> candle_core::Result<Tensor> {
    sigmoid(&(odds - BETA * (-GAMMA / ZETA).ln())?)?.mean_all()
}

/// `(1 + tanh(x / 2)) / 2`: finite however large `x` is.
fn sigmoid(x: &Tensor) -> candle_core::Result<Tensor> {
    ((x * 0.5)?.tanh()? + 1.0)? * 0.5
}

impl Recommender {
    /// Share of the shared representation's columns whose gates are not shut; `None` where no objective is what a score costs.
    ///
    /// # Errors
    /// When the gates cannot be read.
    pub fn kept_width(&self) -> Result<Option<f64>, RecommenderError> {
        let Some(own) = &self.gates else { return Ok(None) };
        let values = gates(&own.odds()?, None)?.to_vec1::<f32>()?;
        let kept = values.iter().filter(|gate| **gate > 0.0).count();
        Ok(Some(kept as f64 / values.len().max(1) as f64))
    }

    /// Items, users and candidates behind the gates, if there are any.
    pub(crate) fn gated<'a>(
        &self,
        shared: &'a Shared,
        dropout: Option<u64>,
    ) -> Result<Cow<'a, Shared>, RecommenderError> {
        let Some(odds) = &shared.gates else { return Ok(Cow::Borrowed(shared)) };
        let gates = gates(odds, dropout)?;
        let columns = gates.dims1()?;
        let candidates = |rows: &Tensor| match rows.dim(1)? - columns {
            0 => rows.broadcast_mul(&gates),
            // What lies beside them is no column of theirs.
            more => {
                let open = Tensor::ones(more, DType::F32, rows.device())?;
                rows.broadcast_mul(&Tensor::cat(&[&gates, &open], 0)?)
            }
        };
        Ok(Cow::Owned(Shared {
            items: shared.items.as_ref().map(|items| items.broadcast_mul(&gates)).transpose()?,
            users: shared.users.broadcast_mul(&gates)?,
            candidates: shared.candidates.as_ref().map(candidates).transpose()?,
            ..shared.clone()
        }))
    }

    /// Users and candidates with the columns alone whose gates are not shut: what a ranking multiplies.
    pub(crate) fn kept(&self, shared: &Shared) -> Result<Shared, RecommenderError> {
        let gated = self.gated(shared, None)?.into_owned();
        let Some(odds) = &shared.gates else { return Ok(gated) };
        let values = gates(odds, None)?.to_vec1::<f32>()?;
        let open: Vec<u32> = (0u32..).zip(&values).filter(|(_, gate)| **gate > 0.0).map(|(at, _)| at).collect();
        if open.is_empty() || open.len() == values.len() {
            return Ok(gated);
        }
        let of = |rows: &Tensor| {
            let beside = values.len() as u32..rows.dim(1)? as u32;
            let columns: Vec<u32> = open.iter().copied().chain(beside).collect();
            rows.index_select(&Tensor::new(columns, rows.device())?, 1)
        };
        let (users, candidates) = (of(&gated.users)?, gated.candidates.as_ref().map(of).transpose()?);
        Ok(Shared { users, candidates, ..gated })
    }

    /// What a score costs: the share of the columns that are expected to count.
    pub(crate) fn width_loss(&self, shared: &Shared) -> Result<TaskLoss, RecommenderError> {
        Ok(match &shared.gates {
            Some(odds) => TaskLoss { loss: expected(odds)?, observed: 1 },
            None => TaskLoss { loss: Tensor::zeros((), DType::F32, self.device())?, observed: 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odds(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    /// The share of draws that are not 0 is the probability that the loss pays for.
    #[test]
    fn what_is_paid_for_is_how_often_gates_are_open() {
        for value in [-3.0f32, -1.0, 0.0, 1.5] {
            let wide = odds(&[value; 4000]);
            let drawn = gates(&wide, Some(3)).unwrap().to_vec1::<f32>().unwrap();
            let open = drawn.iter().filter(|gate| **gate > 0.0).count() as f32 / 4000.0;
            let paid = expected(&wide).unwrap().to_scalar::<f32>().unwrap();
            assert!((open - paid).abs() < 0.03, "{value}: {open} and {paid}");
            assert!(drawn.iter().all(|gate| (0.0..=1.0).contains(gate)));
            assert_eq!(drawn, gates(&wide, Some(3)).unwrap().to_vec1::<f32>().unwrap());
        }
        // Without a draw: exactly shut, in between, exactly open.
        let still = gates(&odds(&[-4.0, 0.0, 4.0]), None).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((still[0], still[2]), (0.0, 1.0));
        assert!((still[1] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let values = [-1.2f32, 0.3, 1.0];
        let var = Var::new(&values, &Device::Cpu).unwrap();
        for seed in [None, Some(5)] {
            let loss = |odds: &Tensor| {
                let weighed =
                    (gates(odds, seed).unwrap() * Tensor::new(&[1f32, -2.0, 0.5], &Device::Cpu).unwrap()).unwrap();
                (weighed.sum_all().unwrap() + expected(odds).unwrap()).unwrap()
            };
            let found = loss(&var).backward().unwrap().get(&var).unwrap().to_vec1::<f32>().unwrap();
            for (at, slope) in found.iter().enumerate() {
                let moved = |by: f32| {
                    let mut values = values;
                    values[at] += by;
                    loss(&odds(&values)).to_scalar::<f32>().unwrap()
                };
                let numeric = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!(
                    (slope - numeric).abs() < 2e-3 * numeric.abs().max(0.1),
                    "{seed:?} {at}: {slope} and {numeric}"
                );
            }
        }
    }
}
