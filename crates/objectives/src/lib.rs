//! What a recommender is trained for: one small network and one masked loss for each objective.
//!
//! # Bird's-eye view
//!
//! A shared representation `[B, D]` comes in; for every objective a logit, a loss over the labels that were observed, and a
//! prediction in natural units go out.
//!
//! - [`Objective`] and [`Objectives`]: what the configuration says, checked as a set;
//! - [`Scaler`]: regression targets in standard units, fitted on training labels;
//! - [`Labels`]: one batch of labels, where `NaN` is a label that was not observed;
//! - [`TaskTowers`]: the networks ([`Linear`] layers, seeded from the names), with named [`parameters`](TaskTowers::parameters);
//! - [`Debias`], [`SampleWeights`]: losses of logs that are biased by the system that wrote them;
//! - [`Conditioning`]: towers and representations ([`Modulation`]) that take the preference between the objectives as an input;
//! - [`Semi`]: what samples without a label teach;
//! - [`CustomObjective`]: a loss of one's own;
//! - [`Outputs`]: their logits, with [`losses`](Outputs::losses) and [`predictions`](Outputs::predictions).
//!
//! Explicit and implicit feedback train together: a missing label takes its sample out of that objective's loss and gradient,
//! and out of nothing else.
//!
//! This crate knows nothing of what made the representation, of how the losses are weighted or of optimizers, and nothing of files.
//!
//! # Example
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use paretune_objectives::{Kind, Labels, Objective, Objectives, TaskTowers, TowerConfig};
//!
//! let objectives = Objectives::new(vec![
//!     Objective::new("click", Kind::Binary, "click"),
//!     Objective::new("conversion", Kind::Conditional, "conversion").given("click"),
//!     Objective::new("satisfaction", Kind::Regression, "rating"),
//! ])?;
//! let columns = vec![vec![1.0, 0.0, 1.0], vec![0.0, 0.0, 1.0], vec![f32::NAN, f32::NAN, 4.5]];
//! let scalers = objectives.fit_scalers(&columns)?;
//!
//! let mut towers = TaskTowers::new(&objectives, &TowerConfig { input: 8, ..TowerConfig::default() }, &Device::Cpu)?;
//! towers.set_scalers(scalers.clone())?;
//! towers.set_prior(&objectives.base_rates(&scalers, &columns)?)?;
//!
//! let shared = Tensor::ones((3, 8), candle_core::DType::F32, &Device::Cpu)?;
//! let outputs = towers.forward(&shared, None)?;
//! let labels = Labels::new(&objectives, &scalers, &columns, &Device::Cpu)?;
//! let losses = outputs.losses(&labels)?;
//! assert_eq!(losses[2].observed, 1); // one rating
//!
//! let predictions = outputs.predictions()?;
//! assert!(predictions[1][0] <= predictions[0][0]); // a conversion is never more likely than its click
//! # Ok::<(), paretune_objectives::ObjectiveError>(())
//! ```

mod affine;
mod conditioning;
mod custom;
mod debias;
mod distill;
mod error;
mod examination;
mod goals;
mod labels;
mod layers;
mod losses;
mod objective;
mod outputs;
mod scaler;
mod semi;
mod silu;
mod tasks;
mod towers;

pub use conditioning::{Conditioning, Modulation};
pub use custom::CustomObjective;
pub use debias::{Bias, Debias, DebiasMethod, Propensity, SampleWeights};
pub use distill::Distill;
pub use error::ObjectiveError;
pub use goals::{Goal, Groups, ListGoal, Policy, Target};
pub use labels::Labels;
pub use layers::Linear;
pub use losses::Loss;
pub use objective::{Direction, Kind, Objective, Objectives, TowerShape};
pub use outputs::{Outputs, TaskLoss};
pub use scaler::Scaler;
pub use semi::{Again, Semi};
pub use tasks::{Architecture, CrossStitchConfig, ExpertsConfig, GateReport, LevelsConfig, TransferConfig};
pub use towers::{TaskTowers, TowerConfig};

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, ObjectiveError>;
