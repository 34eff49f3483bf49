//! Numbers in, numbers and reports out: how good a recommender is, and whether the difference is real.
//!
//! # Bird's-eye view
//!
//! | module's items | answer |
//! | --- | --- |
//! | [`auc`], [`gauc`], [`log_loss`], [`rmse`], [`mae`] | are predicted values right? |
//! | [`expected_calibration_error`], [`Calibrator`] | are probabilities frequencies, and how are they made so? |
//! | [`RankingAccumulator`], [`top_k`] | do the right items come first? |
//! | [`SplitRanking`], [`Buckets`] | for rarely and often seen items, for new and regular users? |
//! | [`ListAccumulator`], [`gini`], [`shannon_entropy`], [`top_share`] | are the lists varied, novel, fair to providers? |
//! | [`non_dominated`], [`hypervolume`], [`reference_point`] | which trade-offs are worth choosing from? |
//! | [`OffPolicy`] | what would another policy have earned? |
//! | [`PropensityReport`] | can propensities be trusted? |
//! | [`paired_bootstrap`] | is it more than chance? |
//! | [`better_is_higher`] | which way does a metric point? |
//! | [`report`] | a page to read it all on, and tables for the terminal |
//!
//! This crate is a leaf. It knows nothing of models, tensors, files of tables or the network: items, users and providers are
//! indices, scores and labels are slices, and text arrives ready to show.
//!
//! Definitions follow [RecBole](https://recbole.io) where it has one, so that figures can be compared with published ones;
//! the documentation says where ours differ. All results are the same on any number of threads.
//!
//! # Example
//!
//! ```
//! use paretune_eval::{RankingAccumulator, report::{Report, Table}, top_k};
//!
//! let mut ranking = RankingAccumulator::new(&[2]);
//! let scores = [0.3, 0.9, 0.1, 0.7];
//! // Item 1 is in the user's history; items 3 and 2 are what the user chose afterwards.
//! ranking.add_user(&top_k(&scores, ranking.longest(), &[1]), &[2, 3]);
//! let metrics = ranking.finish();
//! assert_eq!(metrics["recall@2"], 0.5);
//!
//! let mut table = Table::new("Ranking", ["metric", "model", "popularity"]);
//! for (name, value) in &metrics {
//!     table = table.compare(&[], name, &[Some(*value), Some(0.25)]);
//! }
//! println!("{table}");
//! let page = Report::new("First run").table(table).render()?;
//! assert!(page.contains("recall@2"));
//! # Ok::<(), paretune_eval::EvalError>(())
//! ```

mod calibration;
mod direction;
mod error;
mod list;
mod off_policy;
mod pareto;
mod propensity;
mod ranking;
pub mod report;
mod significance;
mod value;

pub use calibration::{Calibrator, ReliabilityBin, SlicedCalibrator, expected_calibration_error, reliability};
pub use direction::better_is_higher;
pub use error::EvalError;
pub use list::{ListAccumulator, gini, shannon_entropy, top_share};
pub use off_policy::{Estimate, OffPolicy};
pub use pareto::{hypervolume, non_dominated, reference_point};
pub use propensity::{Balance, PropensityReport};
pub use ranking::{BucketRanking, Buckets, RankingAccumulator, RankingMetrics, SplitRanking, top_k};
pub use significance::{Difference, paired_bootstrap};
pub use value::{auc, gauc, log_loss, mae, rmse};
