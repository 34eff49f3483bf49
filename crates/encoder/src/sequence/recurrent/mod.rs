//! Recurrent networks: gated recurrent units and long short-term memory, as PyTorch computes them.
//!
//! ```text
//! GRU   r = σ(W_ir·x + b_ir + W_hr·h + b_hr)            LSTM  i, f, o = σ(W_i·x + b_i + W_h·h + b_h)
//!       z = σ(W_iz·x + b_iz + W_hz·h + b_hz)                  g = tanh(W_ig·x + b_ig + W_hg·h + b_hg)
//!       n = tanh(W_in·x + b_in + r ⊙ (W_hn·h + b_hn))         c ← f ⊙ c + i ⊙ g
//!       h ← (1 - z) ⊙ n + z ⊙ h                               h ← o ⊙ tanh(c)
//! ```
//!
//! States begin at 0. A layer is one node of Candle's graph: the products with `x` of all tokens are one matrix product, and so are the
//! gradients of each matrix. The recurrence takes sequences in groups of similar length, whose rows lie step after step
//! ([`order`]), so that every step of a group is one small product; groups run in parallel.

mod composed;
mod gru;
mod lstm;
mod op;
mod order;
mod passes;

use std::sync::Arc;

use candle_core::{Result, Tensor, Var};

use super::blank::{Blank, Start};
use super::config::SequenceConfig;
use crate::kernels::dropout;
use crate::network::composed::drop;
use crate::parameter::Pass;
use order::Order;

/// What passes a state on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// Gates reset, update, new.
    Gru,
    /// Gates input, forget, cell, output.
    Lstm,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gru => "gru",
            Self::Lstm => "lstm",
        }
    }
}

/// The parameters in their order: those of PyTorch, whose starting values they have too.
pub(super) fn blanks(cell: Cell, config: &SequenceConfig) -> Vec<Blank> {
    let (width, rows) = (config.width, cell.gates() * config.width);
    let start = Start::Uniform(1.0 / (width as f32).sqrt());
    let layers = (0..config.layers).flat_map(|layer| {
        let matrix = |stem: &str| Blank::new(format!("{stem}_l{layer}"), &[rows, width], start);
        let bias = |stem: &str| Blank::new(format!("{stem}_l{layer}"), &[rows], start);
        [matrix("weight_ih"), matrix("weight_hh"), bias("bias_ih"), bias("bias_hh")]
    });
    layers.collect()
}

/// One layer.
#[derive(Debug, Clone)]
struct Layer {
    cell: Cell,
    width: usize,
    /// `[gates·width, width]` for `x` and for the state, and `[gates·width]` biases of both.
    all: [Var; 4],
}

/// The network of one configuration.
#[derive(Debug, Clone)]
pub(super) struct Recurrent {
    layers: Vec<Layer>,
    dropout: f64,
}

impl Recurrent {
    /// The network of the parameters that [`blanks`] lists.
    pub(super) fn new(cell: Cell, config: &SequenceConfig, vars: &[Var]) -> Self {
        let layers = vars.as_chunks::<4>().0.iter();
        let layers = layers.map(|all| Layer { cell, width: config.width, all: all.clone() });
        Self { layers: layers.collect(), dropout: config.dropout }
    }

    /// `[T, width]` to `[T, width]`, with at least one row; the offsets have been checked.
    pub(super) fn forward(&self, x: &Tensor, offsets: &[u32], pass: Pass) -> Result<Tensor> {
        let fused = pass.kernels.fused_on(x.device());
        let order = Arc::new(Order::new(offsets, if fused { order::GROUP } else { usize::MAX }));
        let mut x = x.clone();
        for (number, layer) in self.layers.iter().enumerate() {
            // As in PyTorch, on what passes from layer to layer.
            let mask = if number > 0 { pass.mask(self.dropout, number as u64)? } else { None };
            x = match fused {
                true => op::layer(&dropout::apply(&x, mask)?, layer, &order)?,
                false => composed::layer(&drop(&x, mask, 0..x.dim(0)? as u64)?, layer, &order)?,
            };
        }
        Ok(x)
    }
}
