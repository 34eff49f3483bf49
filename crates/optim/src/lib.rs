//! Balancing several objectives in one training step, and the optimizer that takes the step.
//!
//! # Bird's-eye view
//!
//! A model with `m` objectives has `m` losses and, at its shared parameters (or at its shared representation), `m` gradients
//! `g_1 … g_m`. Every balancing method here turns what those have to say into `m` weights; the training loop then descends along
//! `Σ w_i g_i`.
//!
//! - [`Gramian`]: the `m × m` matrix of dot products `g_i · g_j`, all that most gradient-based methods need to see; [`Jacobian`], the rows;
//! - [`min_norm`] and [`project_dual_cone`]: the exact shortest vector in the convex hull of the gradients, and the exact projection
//!   onto the directions that hurt no objective; in [`solve`] the same from the rows, to the last digit;
//! - [`Weighting`]: Gramian and losses in, weights out, with its memory. Most methods of [`methods`] are a [`Rule`], a plain function of the
//!   Gramian, which [`Memoryless`] puts into a training loop; those of [`scalarizers`] look at losses alone and are [`Scalarizer`]s;
//!   a few need the rows and are [`RowWeighting`]s;
//! - [`Method`] names them all; [`BalanceConfig`] holds a name with its parameters, as in a configuration file, and builds it;
//! - [`control`]: preferences that change while training;
//! - [`Schedule`]: the learning rate's multiplier over a run;
//! - behind the feature `candle` (on by default): the [`Optimizer`]s [`AdamW`], [`Lamb`], [`Adafactor`] and [`Sgd`], [`Sam`] around any of
//!   them, [`Ema`] beside them, all with state that can be saved; [`clip_global_norm`], [`accumulate`], [`combine`] and
//!   [`Gramian::from_gradients`].
//!
//! The core is plain `f64` arithmetic on small matrices. This crate knows nothing of items, users, losses' formulas or
//! networks, and nothing of files: states are plain values that the caller stores.
//!
//! # Example
//!
//! ```
//! use paretune_optim::{BalanceConfig, Gramian, Method, Preference, Signals};
//!
//! // Two objectives that pull apart, one ten times as hard as the other.
//! let gramian = Gramian::from_rows(&[vec![1.0, 0.0], vec![-6.0, 8.0]])?;
//! let config = BalanceConfig::new(Method::Mgda).with("normalize", "none");
//! let mut mgda = config.build(&[Preference::new("click", 1.0), Preference::new("conversion", 1.0)])?;
//!
//! let weights = mgda.weights(&Signals { losses: &[0.7, 2.1], observed: &[32, 8], gramian: Some(&gramian) })?;
//! assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
//! // The combined direction does not hurt either objective: its product with both gradients is positive.
//! for i in 0..2 {
//!     let product: f64 = (0..2).map(|j| weights[j] * gramian.get(i, j)).sum();
//!     assert!(product > 0.0);
//! }
//! # Ok::<(), paretune_optim::OptimError>(())
//! ```

mod adam;
mod balance;
pub mod control;
mod error;
mod gramian;
mod jacobian;
pub mod methods;
mod random;
mod rows;
mod rule;
pub mod scalarizers;
mod schedule;
mod solvers;
mod state;
mod weighting;

#[cfg(feature = "candle")]
mod ema;
#[cfg(feature = "candle")]
mod gradient;
#[cfg(feature = "candle")]
mod gradients;
#[cfg(feature = "candle")]
mod held;
#[cfg(feature = "candle")]
mod optimizers;
#[cfg(feature = "candle")]
mod sam;

pub use balance::{BalanceConfig, Method, MethodKind, Parameters, Setting};
pub use error::OptimError;
pub use gramian::Gramian;
pub use jacobian::Jacobian;
pub use methods::{Mgda, Normalization};
pub use rows::{FromRows, RowWeighting};
pub use rule::{Memoryless, Rule};
pub use scalarizers::{Scalarizer, UncertaintyWeighting, WeightedSum};
pub use schedule::{Decay, Schedule};
pub use solvers::dual_cone::project_dual_cone;
pub use solvers::min_norm::min_norm;
pub use state::WeightingState;
pub use weighting::{Preference, Signals, Weighting};

pub mod solve {
    //! The projections from the rows themselves, to the last digit of `f64`.

    pub use crate::solvers::exact::{Combination, min_norm, project_dual_cone, upgrad};
}

#[cfg(feature = "candle")]
pub use ema::{Ema, EmaConfig};
#[cfg(feature = "candle")]
pub use gradient::Gradient;
#[cfg(feature = "candle")]
pub use gradients::{Gradients, accumulate, clip_global_norm, collect, combine, global_norm};
#[cfg(feature = "candle")]
pub use optimizers::{
    Adafactor, AdafactorConfig, AdamW, AdamWConfig, Groups, Lamb, LambConfig, Optimizer, OptimizerConfig,
    ParameterGroup, Sgd, SgdConfig, Stepper,
};
#[cfg(feature = "candle")]
pub use sam::Sam;

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, OptimError>;
