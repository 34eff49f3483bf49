//! Probabilities of what is given something else.

use candle_core::Tensor;

use super::Outputs;
use crate::Result;
use crate::losses::Chance;

impl Outputs {
    /// The chance of a flag, of the rows that `seen` takes.
    pub(crate) fn chance(&self, i: usize, seen: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Chance> {
        let rate = self.rate(i, seen)?;
        match self.objectives.given_index(i) {
            Some(given) => Ok(self.chance(given, seen)?.and(&rate)?),
            None => Ok(rate),
        }
    }

    /// The chance of a flag given its condition, or its whole chance where it has none.
    fn rate(&self, i: usize, seen: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Chance> {
        let own = seen(&self.logits[i])?;
        match (&self.others[i], self.objectives.through_index(i)) {
            (Some(other), Some(through)) => Ok(self.rate(through, seen)?.through(&own, &seen(other)?)?),
            _ => Ok(Chance::of(&own)?),
        }
    }

    /// The chance of a flag in one row, of logits on the CPU.
    pub(super) fn probability(&self, i: usize, row: usize, logits: &HostLogits) -> f64 {
        let rate = self.conditional(i, row, logits);
        match self.objectives.given_index(i) {
            // Rounded once, after all: a product of two stays below both.
            Some(given) => self.probability(given, row, logits) * rate,
            None => rate,
        }
    }

    /// The same given its condition.
    pub(super) fn conditional(&self, i: usize, row: usize, logits: &HostLogits) -> f64 {
        let own = sigmoid(logits.own[i][row]);
        match (logits.others[i].get(row), self.objectives.through_index(i)) {
            (Some(other), Some(through)) => {
                let way = self.conditional(through, row, logits);
                (way * own + (1.0 - way) * sigmoid(*other)).min(1.0)
            }
            _ => own,
        }
    }
}

/// All logits, `[objectives][B]`, and those of second towers, empty where there is none.
pub(super) struct HostLogits {
    pub(super) own: Vec<Vec<f32>>,
    pub(super) others: Vec<Vec<f32>>,
}

/// In `f64`, so that the product of two is rounded once and stays below both.
fn sigmoid(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}
