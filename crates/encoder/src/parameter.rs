//! Weights that are trained or not, and what one forward pass does with them.

use candle_core::{Result, Tensor, Var};

use crate::device::Kernels;
use crate::kernels::dropout::{Mask, mix64};
use crate::kernels::gemm::Arithmetic;

/// A weight. Only a trained one is known to Candle's graph, so no gradient is computed for the others.
#[derive(Debug, Clone)]
pub(crate) enum Parameter {
    Trained(Var),
    Frozen(Tensor),
}

impl Parameter {
    /// Wraps `tensor`, which must be contiguous.
    pub(crate) fn new(tensor: Tensor, trained: bool) -> Result<Self> {
        Ok(if trained { Self::Trained(Var::from_tensor(&tensor)?) } else { Self::Frozen(tensor) })
    }

    /// The weight as the given pass uses it.
    pub(crate) fn get(&self, pass: Pass) -> Tensor {
        match self {
            Self::Trained(var) if pass.track => var.as_tensor().clone(),
            Self::Trained(var) => var.as_detached_tensor(),
            Self::Frozen(tensor) => tensor.clone(),
        }
    }

    /// The variable, if this weight is trained.
    pub(crate) fn var(&self) -> Option<&Var> {
        match self {
            Self::Trained(var) => Some(var),
            Self::Frozen(_) => None,
        }
    }
}

/// What is fixed for one forward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// Whether gradients may be asked for.
    pub(crate) track: bool,
    /// Seed of the dropout masks; none outside of training.
    pub(crate) dropout: Option<u64>,
    /// How matrices are multiplied.
    pub(crate) arithmetic: Arithmetic,
    /// Whether the backward pass computes a layer's inner values again instead of keeping them.
    pub(crate) recompute: bool,
    /// What the network is made of.
    pub(crate) kernels: Kernels,
    /// Number of the first token, where a batch is encoded in parts: dropout falls as if it were whole.
    pub(crate) first_token: usize,
    /// Depth of the first part that is not at rest: what is below is a fixed function for now. Embeddings have the depth 0.
    pub(crate) awake_from: usize,
}

impl Pass {
    /// A pass that builds the graph and drops nothing.
    pub(crate) const TRACKED: Self = Self {
        track: true,
        dropout: None,
        arithmetic: Arithmetic::F32,
        recompute: false,
        first_token: 0,
        awake_from: 0,
        kernels: Kernels::Fused,
    };
    /// A pass that builds no graph.
    pub(crate) const INFERENCE: Self = Self { track: false, ..Self::TRACKED };

    /// The pass for a part at this depth.
    pub(crate) fn at(self, depth: usize) -> Self {
        if depth < self.awake_from { Self { track: false, dropout: None, ..self } } else { self }
    }

    /// The mask for one place of the network, which has a number of its own.
    pub(crate) fn mask(self, p: f64, place: u64) -> Result<Option<Mask>> {
        match self.dropout {
            Some(seed) => Mask::new(p, mix64(seed) ^ place),
            None => Ok(None),
        }
    }
}
