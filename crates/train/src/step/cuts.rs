//! Where a graph is cut.

use std::fmt;

use candle_core::{Tensor, Var};
use paretune_encoder::{Gradients, backward_from};

use crate::TrainError;

/// A graph in pieces, bottom up: at each level the values that leave one piece and the leaves that begin the next.
///
/// A backward pass over the whole goes from the losses to the leaves of the last level, and from there down, one piece at a time. Each
/// parameter lies in one piece.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use paretune_train::step::Cuts;
///
/// let w = Var::new(&[3f32], &Device::Cpu)?;
/// let mut cuts = Cuts::default();
/// let shared = cuts.at([(w.as_tensor() * 2.0)?])?;
/// // What is built on it is a graph of its own.
/// assert!((&shared[0] * 5.0)?.sum_all()?.backward()?.get(&w).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Cuts<'a> {
    levels: Vec<Vec<Cut<'a>>>,
}

#[derive(Debug)]
struct Cut<'a> {
    below: Below<'a>,
    leaf: Var,
}

/// What lies below a cut.
enum Below<'a> {
    /// The graph of this value.
    Graph(Tensor),
    /// Nothing that was kept: from a gradient at the leaf to those of what lies below, computed again.
    Again(Box<Again<'a>>),
}

type Again<'a> = dyn Fn(&Tensor) -> Result<Gradients, TrainError> + 'a;

impl fmt::Debug for Below<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Graph(value) => f.debug_tuple("Graph").field(value).finish(),
            Self::Again(_) => f.write_str("Again"),
        }
    }
}

/// The gradient of one loss at every leaf, level by level; `None` where it does not depend on the leaf.
pub(super) type AtLeaves = Vec<Vec<Option<Tensor>>>;

impl<'a> Cuts<'a> {
    /// Cuts above `values` and answers with their leaves. Values that depend on no parameter pass as they are.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn at<const N: usize>(&mut self, values: [Tensor; N]) -> candle_core::Result<[Tensor; N]> {
        let leaves = self.at_those(values.map(Some))?;
        Ok(leaves.map(|leaf| leaf.expect("a leaf for every value")))
    }

    /// As [`Self::at`], of the values that there are.
    pub(super) fn at_those<const N: usize>(
        &mut self,
        values: [Option<Tensor>; N],
    ) -> candle_core::Result<[Option<Tensor>; N]> {
        let mut level = Vec::new();
        let mut leaves = values;
        for value in leaves.iter_mut().flatten() {
            if value.track_op() {
                let leaf = Var::from_tensor(&value.detach())?;
                let value = std::mem::replace(value, leaf.as_tensor().clone());
                level.push(Cut { below: Below::Graph(value), leaf });
            }
        }
        self.levels.push(level);
        Ok(leaves)
    }

    /// Cuts above `value`, whose graph was not kept: `again` is given the gradient at the leaf and answers with those of what lies below. Has the
    /// level to itself.
    pub(super) fn above(
        &mut self,
        value: &Tensor,
        again: impl Fn(&Tensor) -> Result<Gradients, TrainError> + 'a,
    ) -> candle_core::Result<Tensor> {
        let leaf = Var::from_tensor(&value.detach())?;
        let top = leaf.as_tensor().clone();
        self.levels.push(vec![Cut { below: Below::Again(Box::new(again)), leaf }]);
        Ok(top)
    }

    /// Whether losses reach all parameters without a cut, but for what is computed again.
    pub(super) fn is_whole(&self) -> bool {
        let again = |cut: &Cut<'_>| matches!(cut.below, Below::Again(_));
        self.levels.iter().all(|level| !level.is_empty() && level.iter().all(again))
    }

    /// What a loss's backward pass left at the leaves, which must be those of the last level.
    pub(super) fn of_loss(&self, found: &Gradients) -> Result<AtLeaves, TrainError> {
        let mut row = AtLeaves::new();
        self.collect(found, self.levels(), &mut row)?;
        let last = self.levels().saturating_sub(1);
        match row.iter().take(last).flatten().any(Option::is_some) {
            true => Err(TrainError::AroundTheCut),
            false => Ok(row),
        }
    }

    pub(super) fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Adds what a backward pass found at the leaves below level `level`.
    pub(super) fn collect(&self, found: &Gradients, level: usize, into: &mut AtLeaves) -> Result<(), TrainError> {
        into.resize_with(self.levels(), Vec::new);
        for (cuts, sums) in self.levels.iter().zip(into).take(level) {
            sums.resize_with(cuts.len(), || None);
            for (cut, sum) in cuts.iter().zip(sums) {
                let Some(gradient) = found.get(&cut.leaf) else { continue };
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + gradient)?.detach(),
                    None => gradient.detach(),
                });
            }
        }
        Ok(())
    }

    /// From the leaves of `level` through the piece below them.
    pub(super) fn descend(&self, level: usize, gradients: &[Option<Tensor>]) -> Result<Gradients, TrainError> {
        let cuts = self.levels.get(level).map_or(&[][..], Vec::as_slice);
        let mut roots: Vec<(&Tensor, &Tensor)> = Vec::new();
        for (cut, gradient) in cuts.iter().zip(gradients) {
            match (&cut.below, gradient) {
                (_, None) => {}
                (Below::Graph(value), Some(gradient)) => roots.push((value, gradient)),
                (Below::Again(again), Some(gradient)) => return again(gradient),
            }
        }
        Ok(backward_from(&roots)?)
    }
}
