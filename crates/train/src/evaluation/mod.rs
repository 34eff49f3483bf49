//! What a model is worth on rows it never learned from, and what simpler answers to the same question are worth.
//!
//! [`Rows`] are the rows of one part of the split (with sampled negatives where a data set has only positives); models and
//! [`baselines`] give predictions for the same rows. [`Ranking`] ranks the whole catalogue, or other [`Candidates`], for the users of a part.

pub mod baselines;
mod calibration;
mod candidates;
mod ensemble;
mod gates;
mod monitor;
mod ranking;
mod rows;
mod scores;
mod utilities;

pub use calibration::{Calibration, CalibrationConfig, CalibrationMethod};
pub use candidates::Candidates;
pub use ensemble::Ensemble;
pub use gates::{Gate, gates};
pub use monitor::Monitor;
pub use ranking::{Ranked, Ranking};
pub use rows::{Rows, predict, predict_telling};
pub(crate) use rows::{engagement, predict_for};
pub use scores::{
    Bucket, CALIBRATION_BINS, MetricTable, Metrics, list_metric_at, primary_metric, skill, value_metrics,
};
pub use utilities::{rank_weights, utilities};
