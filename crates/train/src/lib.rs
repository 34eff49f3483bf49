//! The training loop: batches in a seeded order, balanced gradients, validation, early stopping, checkpoints and exact resume;
//! then what a trained model is worth, against baselines on the same split.
//!
//! One step with `K` objectives ([`step`]): encode every distinct item of the batch once, cut the graph at the shared
//! representation, run `K` cheap backward passes to the cut, turn their Gramian into weights, and one backward pass through the
//! backbone with the combined gradient. A model with conditioning gets a preference drawn afresh for every step.
//!
//! A log larger than memory is trained on shard by shard: [`Stream`].
//!
//! Knows nothing of the command line: progress leaves through an [`Observer`].
//!
//! ```no_run
//! use paretune_objectives::Objectives;
//! use paretune_optim::Method;
//! use paretune_recommender::{Corpus, Recommender};
//! use paretune_train::{BalanceConfig, Balancer, Silent, TrainError, Trainer, TrainingConfig};
//!
//! /// Balances all objectives alike and leaves the best weights in the model. Called again after a crash, it goes on from the newest
//! /// checkpoint and ends with the same bytes.
//! fn train(model: &Recommender, corpus: &Corpus, objectives: &Objectives) -> Result<(), TrainError> {
//!     let config = TrainingConfig { epochs: 3, checkpoint_every: 50, ..TrainingConfig::default() };
//!     let mgda = BalanceConfig { method: Method::Mgda, ..BalanceConfig::default() };
//!     let balancer = Balancer::new(&mgda, objectives, &vec![1.0; objectives.len()])?;
//!     let checkpoints = Some("checkpoints".as_ref());
//!     let trainer = Trainer::new(model, corpus, objectives, &config, balancer, checkpoints, 1)?;
//!     let outcome = trainer.run(&mut Silent)?;
//!     println!("{} steps, best validation {:?}", outcome.steps, outcome.best);
//!     Ok(())
//! }
//! ```

mod balance;
mod checkpoint;
mod config;
pub mod debias;
mod depth;
mod differentiate;
pub mod distill;
mod error;
pub mod evaluation;
mod observer;
mod plan;
mod preference;
pub mod pretrain;
pub mod step;
mod stream;
mod trainer;

pub use balance::{BalanceConfig, Balancer, ControlConfig, GradientCut, RampConfig};
pub use checkpoint::latest as latest_checkpoint;
pub use config::{HistoryMode, Loaders, TrainingConfig};
pub use error::TrainError;
pub use observer::{Observer, Silent, TrainEvent};
pub use plan::Plan;
pub use stream::Stream;
pub use trainer::{Outcome, Trainer};
