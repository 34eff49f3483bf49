//! What happens while training, for whoever wants to show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum TrainEvent {
    /// Training begins, or goes on after a checkpoint.
    Start {
        /// Steps already done.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// A step is done.
    Step {
        /// Number of steps done.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// Loss of each objective, with what is added to it; absent where no label was observed.
        losses: BTreeMap<String, f64>,
        /// What was added to the loss of the first ranking (`contrast`, `align`), without its weight.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        added: BTreeMap<String, f64>,
        /// Weight of each objective.
        weights: BTreeMap<String, f64>,
        /// Norm of the gradient before clipping.
        gradient_norm: f64,
        /// Learning rate of the towers.
        learning_rate: f64,
        /// Samples of this step.
        samples: usize,
    },
    /// The validation rows were scored.
    Validation {
        /// Number of steps done.
        step: usize,
        /// Metric → value.
        metrics: BTreeMap<String, f64>,
        /// The combination that early stopping looks at; higher is better.
        monitor: f64,
        /// Whether it is the best so far.
        best: bool,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Number of steps done.
        step: usize,
    },
    /// Training ended.
    End {
        /// Number of steps done.
        step: usize,
        /// Whether early stopping ended it.
        stopped_early: bool,
    },
}

impl TrainEvent {
    /// Number of steps done when it happened.
    pub fn step(&self) -> usize {
        match self {
            Self::Start { step, .. }
            | Self::Step { step, .. }
            | Self::Validation { step, .. }
            | Self::Checkpoint { step }
            | Self::End { step, .. } => *step,
        }
    }
}

/// Receives [`TrainEvent`]s.
pub trait Observer {
    /// Called in order, from the training thread.
    fn observe(&mut self, event: &TrainEvent);
}

/// Ignores everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&mut self, _event: &TrainEvent) {}
}
