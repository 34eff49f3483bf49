//! Models without gradients, fitted on the training interactions alone: the table that a trained model has to beat.
//!
//! Ferrari Dacrema, Cremonesi and Jannach (2019) showed how often well-tuned models of this kind are as good as newer ones.
//! All of them know an item by its interactions only: an item that nobody engaged with in training scores 0.

mod cooccurrence;
mod ease;
mod error;
mod interactions;
mod knn;
mod mf;
#[cfg(test)]
mod tests;

pub(crate) use cooccurrence::companions;
pub use ease::{Ease, EaseConfig};
pub use error::ClassicError;
pub use interactions::Interactions;
pub use knn::{ItemKnn, ItemKnnConfig};
pub use mf::{Mf, MfConfig};

/// A model that scores every item from what a user engaged with.
///
/// ```
/// use paretune_recommender::{Ease, EaseConfig, Interactions, ItemKnn, ItemKnnConfig, Mf, MfConfig, Scorer};
///
/// // Users by the items they engaged with; items 0 and 1 go together.
/// let log = Interactions::new(vec![vec![0, 1], vec![0, 1, 2], vec![2, 3], vec![0]], 4)?;
/// let models: [Box<dyn Scorer>; 3] = [
///     Box::new(ItemKnn::fit(&log, &ItemKnnConfig::default())?),
///     Box::new(Ease::fit(&log, &EaseConfig { lambda: 1.0 })?),
///     Box::new(Mf::fit(&log, &MfConfig { factors: 2, ..MfConfig::default() })?),
/// ];
/// for model in &models {
///     let scores = model.score(&[0]);
///     assert!(scores[1] > scores[3], "{} has {scores:?}", model.name());
/// }
/// # Ok::<(), paretune_recommender::ClassicError>(())
/// ```
pub trait Scorer: Send + Sync {
    /// What tables call it.
    fn name(&self) -> &str;

    /// One score for every item `[items]`, the higher the better, from the items a user engaged with, newest first.
    ///
    /// Items that are not in the catalogue are passed over. The items of the history are scored too: whoever does not want to
    /// recommend them again leaves them out of the ranking.
    fn score(&self, history: &[u32]) -> Vec<f32>;
}

/// The items of a history that a catalogue of `items` items holds: ascending, each once. What depends on sets of items sums
/// them in this order, so that neither order nor repeats change a bit of a score.
fn distinct(history: &[u32], items: usize) -> Vec<u32> {
    let mut known: Vec<u32> = history.iter().copied().filter(|item| (*item as usize) < items).collect();
    known.sort_unstable();
    known.dedup();
    known
}
