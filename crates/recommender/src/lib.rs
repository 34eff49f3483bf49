//! The composed recommender: a batch of requests in, a shared representation, losses and scores out.
//!
//! ```text
//! item text ─▶ encoder ─▶ item vectors ─┬─▶ ItemTower (+ item features) ─▶ items [samples, dim] ─┐
//!                                       │                                                       ├─ Shared ─▶ TaskTowers
//!                                       └─▶ UserTower (history, feedback, ─▶ users [requests, dim] ┘
//!                                            user and context features)
//! ```
//!
//! [`Shared`] is where a multi-objective step cuts the graph: below it lies what all objectives share (the backbone and the two
//! towers), above it what is cheap to differentiate once for each objective.
//!
//! A [`Corpus`] turns the tables of `paretune-data` and the tokens of `paretune-features` into [`Batch`]es; the same code builds the
//! batches of training, of evaluation and of serving, so that features cannot drift apart. The crate knows nothing of loops,
//! optimizers or files other than the model's own.

mod batch;
mod corpus;
mod error;
mod item;
mod model;
mod score;
mod store;
mod user;

pub use batch::{Batch, BatchBuilder, Encode, Viewer};
pub use corpus::{Corpus, CorpusConfig};
pub use error::RecommenderError;
pub use item::{ItemSource, ItemTower, ItemVectors};
pub use model::{Parameters, Recommender, RecommenderConfig, Shared};
pub use score::Catalogue;
pub use user::UserTower;
