//! The training loop: batches in a seeded order, balanced gradients, validation, early stopping, checkpoints and exact resume;
//! then what a trained model is worth, against baselines on the same split.
//!
//! One step with `K` objectives ([`step`]): encode every distinct item of the batch once, cut the graph at the shared
//! representation, run `K` cheap backward passes to the cut, turn their Gramian into weights, and one backward pass through the
//! backbone with the combined gradient.
//!
//! Knows nothing of the command line: progress leaves through an [`Observer`].

mod balance;
mod checkpoint;
mod config;
mod error;
pub mod distill;
pub mod evaluation;
mod observer;
mod plan;
pub mod step;
mod trainer;

pub use balance::{BalanceConfig, Balancer, GradientCut};
pub use checkpoint::latest as latest_checkpoint;
pub use config::{HistoryMode, TrainingConfig};
pub use error::TrainError;
pub use observer::{Observer, Silent, TrainEvent};
pub use plan::Plan;
pub use trainer::{Outcome, Trainer};
