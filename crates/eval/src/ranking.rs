//! Ranking metrics, with the exact definitions of RecBole.
//!
//! For one user, with the first `K` items of the ranking, `pos_i ∈ {0, 1}` telling whether the item at rank `i` (from 1) is
//! relevant, and `P` the number of relevant items (not capped at `K`):
//!
//! | metric | value |
//! | --- | --- |
//! | hit | 1 if any `pos_i` is 1 |
//! | precision | `Σ pos_i / K` |
//! | recall | `Σ pos_i / P` |
//! | mrr | `1 / rank` of the first hit, 0 without one |
//! | ndcg | `Σ pos_i / log2(i + 1)` over `Σ_{i ≤ min(P, K)} 1 / log2(i + 1)` |
//! | map | `Σ precision@i · pos_i / min(P, K)` |
//!
//! The value of a run is the mean over the users that have a relevant item.

mod buckets;
mod split;
mod top;

pub use buckets::Buckets;
pub use split::{BucketRanking, SplitRanking};
pub use top::top_k;

use std::collections::{BTreeMap, BTreeSet};

/// The ranking metrics of one list at one cut-off, each between 0 and 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RankingMetrics {
    /// Normalized discounted cumulative gain.
    pub ndcg: f64,
    /// Share of the relevant items that were found.
    pub recall: f64,
    /// Reciprocal rank of the first hit.
    pub mrr: f64,
    /// Whether there was a hit.
    pub hit: f64,
    /// Share of the list that is relevant.
    pub precision: f64,
    /// Average precision.
    pub map: f64,
}

impl RankingMetrics {
    const NAMES: [&str; 6] = ["ndcg", "recall", "mrr", "hit", "precision", "map"];

    /// Measures the ranking `top` (best first) of one user at cut-off `k`.
    ///
    /// A ranking shorter than `k` misses at the ranks it lacks; an item ranked twice counts where it comes first.
    /// `None` where `relevant` is empty or `k` is 0.
    #[must_use]
    pub fn of_user(top: &[u32], relevant: &[u32], k: usize) -> Option<Self> {
        let relevant: BTreeSet<u32> = relevant.iter().copied().collect();
        (k > 0 && !relevant.is_empty()).then(|| Self::from_hits(&hits(top, &relevant, k), relevant.len(), k))
    }

    fn from_hits(hits: &[bool], relevant: usize, k: usize) -> Self {
        let (mut found, mut gain, mut precisions) = (0.0, 0.0, 0.0);
        let mut first = None;
        for (index, _) in hits.iter().take(k).enumerate().filter(|(_, hit)| **hit) {
            let rank = (index + 1) as f64;
            found += 1.0;
            gain += discount(index);
            precisions += found / rank;
            first.get_or_insert(rank);
        }
        let reachable = relevant.min(k);
        Self {
            ndcg: gain / (0..reachable).map(discount).sum::<f64>(),
            recall: found / relevant as f64,
            mrr: first.map_or(0.0, |rank| 1.0 / rank),
            hit: if found > 0.0 { 1.0 } else { 0.0 },
            precision: found / k as f64,
            map: precisions / reachable as f64,
        }
    }

    fn values(&self) -> [f64; 6] {
        [self.ndcg, self.recall, self.mrr, self.hit, self.precision, self.map]
    }
}

/// `1 / log2(rank + 1)` of the zero-based position `index`.
pub(crate) fn discount(index: usize) -> f64 {
    1.0 / ((index + 2) as f64).log2()
}

fn hits(top: &[u32], relevant: &BTreeSet<u32>, longest: usize) -> Vec<bool> {
    let mut found = BTreeSet::new();
    (top.iter().take(longest)).map(|item| relevant.contains(item) && found.insert(*item)).collect()
}

/// Gathers [`RankingMetrics`] user by user, at several cut-offs.
///
/// ```
/// use paretune_eval::RankingAccumulator;
///
/// let mut ranking = RankingAccumulator::new(&[5, 10]);
/// ranking.add_user(&[7, 3, 9], &[3]);
/// ranking.add_user(&[1, 2, 8], &[4]);
/// assert_eq!(ranking.finish()["mrr@10"], 0.25);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RankingAccumulator {
    ks: Vec<usize>,
    /// One series per cut-off and metric, in the order of `ks` and `NAMES`; one value per user.
    series: Vec<Vec<f64>>,
}

impl RankingAccumulator {
    /// An empty accumulator for these cut-offs. Zeros and repeats are dropped.
    #[must_use]
    pub fn new(ks: &[usize]) -> Self {
        let ks: Vec<usize> = BTreeSet::from_iter(ks.iter().copied().filter(|&k| k > 0)).into_iter().collect();
        let series = vec![Vec::new(); ks.len() * RankingMetrics::NAMES.len()];
        Self { ks, series }
    }

    /// The longest cut-off: how many items a ranking needs.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.ks.last().copied().unwrap_or(0)
    }

    /// Adds the ranking `top` (best first) of a user to whom the items in `relevant` (any order) were the right ones.
    ///
    /// A user without relevant items says nothing and is not counted.
    pub fn add_user(&mut self, top: &[u32], relevant: &[u32]) {
        let relevant: BTreeSet<u32> = relevant.iter().copied().collect();
        if relevant.is_empty() {
            return;
        }
        let hits = hits(top, &relevant, self.longest());
        let mut series = self.series.iter_mut();
        for &k in &self.ks {
            let metrics = RankingMetrics::from_hits(&hits, relevant.len(), k);
            for (value, own) in metrics.values().into_iter().zip(series.by_ref()) {
                own.push(value);
            }
        }
    }

    /// Number of users counted.
    #[must_use]
    pub fn users(&self) -> usize {
        self.series.first().map_or(0, Vec::len)
    }

    /// The values of every counted user, in the order of adding, by names such as `ndcg@10`: what
    /// [`paired_bootstrap`](crate::paired_bootstrap) compares.
    #[must_use]
    pub fn per_user(&self) -> BTreeMap<String, &[f64]> {
        let names = (self.ks.iter()).flat_map(|k| RankingMetrics::NAMES.map(|metric| format!("{metric}@{k}")));
        names.zip(self.series.iter().map(Vec::as_slice)).collect()
    }

    /// Means over the counted users, by names such as `ndcg@10`. Empty if no user was counted.
    #[must_use]
    pub fn finish(&self) -> BTreeMap<String, f64> {
        (self.per_user().into_iter())
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| (name, values.iter().sum::<f64>() / values.len() as f64))
            .collect()
    }
}

#[cfg(test)]
mod tests;
