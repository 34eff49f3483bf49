//! Whether a position was looked at: the position-based model.
//!
//! `P(click | item, position k) = P(looked at | k) · P(click | item, looked at) = σ(θ_k) σ(z)` (Richardson et al., WWW 2007; learned beside the
//! relevance as by Wang et al., WSDM 2018), with a number `θ_k` for each position. Only the product can be seen, so position 1 counts as always
//! looked at: `θ_1 = ∞`, and everything is relative to it.

use candle_core::{Tensor, Var};

use crate::{Kind, Objective, Result};

/// `θ = SCALE · parameter`: optimizers move parameters by steps of the learning rate's size, which is made for weights of layers.
const SCALE: f64 = 10.0;
/// `θ_1`: so large that `σ(θ_1)` is 1, and small enough for sums.
const ALWAYS: f32 = 1e4;
/// Positions at most.
const MOST: usize = 1000;

impl Objective {
    /// What is wrong with its examination model, and what would be right.
    pub(crate) fn examination_problem(&self) -> Option<String> {
        match self.examination {
            0 => None,
            _ if self.kind != Kind::Binary => Some("examination is for flags: kind = \"binary\"".to_owned()),
            _ if self.loss.is_some() => Some("examination goes with cross-entropy: leave out loss".to_owned()),
            2..=MOST => None,
            count => Some(format!("examination = {count}: tell 2 to {MOST} positions apart")),
        }
    }
}

/// `θ` `[N]` of samples shown at these positions (from 1; 0, nowhere, counts as looked at), from the parameters `[positions - 1]`.
pub(crate) fn logits(parameters: &Tensor, positions: &[u16]) -> Result<Tensor> {
    let device = parameters.device();
    let last = parameters.dim(0)?;
    let places: Vec<u32> = positions.iter().map(|at| usize::from(*at).saturating_sub(1).min(last) as u32).collect();
    let always = Tensor::new(&[ALWAYS], device)?.to_dtype(parameters.dtype())?;
    let table = Tensor::cat(&[&always, &(parameters * SCALE)?], 0)?;
    Ok(table.index_select(&Tensor::from_vec(places, positions.len(), device)?, 0)?)
}

/// `σ(θ_k)` of every position, 1 for the first.
pub(crate) fn curve(parameters: &Var) -> Result<Vec<f64>> {
    let values = parameters.as_tensor().to_vec1::<f32>()?;
    let share = |value: f32| 1.0 / (1.0 + (-SCALE * f64::from(value)).exp());
    Ok(std::iter::once(1.0).chain(values.into_iter().map(share)).collect())
}
