use std::collections::{BTreeMap, BTreeSet};

use super::{Buckets, RankingAccumulator};

#[cfg(test)]
mod tests;

/// The ranking metrics of one bucket.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BucketRanking {
    /// Name of the bucket.
    pub name: String,
    /// Users with a relevant item in the bucket: what the metrics are means over.
    pub users: usize,
    /// Relevant items in the bucket, counted once for each user.
    pub relevant: usize,
    /// Metrics by names such as `ndcg@10`; empty where `users` is 0.
    pub metrics: BTreeMap<String, f64>,
}

/// Ranking metrics of the whole, and again of the relevant items of each [bucket](Buckets).
///
/// Let `R_u` be the relevant items of user `u`, and `R_ub` those whose count lies in bucket `b`. The value of a metric in `b` is
/// the mean over the users with `R_ub ≠ ∅` of the metric of the *same* ranking (nothing is taken out of it), with `R_ub` in
/// the place of `R_u`: a relevant item of another bucket is a miss there, and the ideal ranking of NDCG starts with `R_ub`.
/// The [whole](Self::whole) is what a [`RankingAccumulator`] says.
///
/// It follows for each user that `recall_u = Σ_b |R_ub| / |R_u| · recall_ub` and `precision_u = Σ_b precision_ub`. Where everybody
/// has one relevant item, as when one is left out, every metric of the whole is the mean of the buckets', weighted by their users.
///
/// The count is told for each relevant item. How often the item was seen in training splits by item; the length of the
/// user's history, the same for all of the user's items, splits by user:
///
/// ```
/// use paretune_eval::{Buckets, SplitRanking};
///
/// let seen = [0, 7, 130]; // by item, in training
/// let mut by_item = SplitRanking::new(&[1, 2], Buckets::default());
/// by_item.add_user(&[2, 1], &[2, 0], |item| seen[item as usize]);
/// let buckets = by_item.finish();
/// assert_eq!((buckets[0].name.as_str(), buckets[0].metrics["recall@2"]), ("0", 0.0));
/// assert_eq!((buckets[4].name.as_str(), buckets[4].metrics["recall@2"]), (">100", 1.0));
/// assert_eq!(by_item.whole().finish()["recall@2"], 0.5);
///
/// let mut by_user = SplitRanking::new(&[2], Buckets::named(&[0, 5], &["new", "1-5 events", "regular"])?);
/// by_user.add_user(&[2, 1], &[2, 0], |_| 3);
/// assert_eq!(by_user.finish()[1].metrics["recall@2"], 0.5);
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SplitRanking {
    buckets: Buckets,
    whole: RankingAccumulator,
    /// One accumulator, and one number of relevant items, for each bucket.
    parts: Vec<(RankingAccumulator, usize)>,
}

impl SplitRanking {
    /// An empty accumulator for these cut-offs. Zeros and repeats are dropped.
    #[must_use]
    pub fn new(ks: &[usize], buckets: Buckets) -> Self {
        let whole = RankingAccumulator::new(ks);
        Self { parts: vec![(whole.clone(), 0); buckets.names().len()], whole, buckets }
    }

    /// The longest cut-off: how many items a ranking needs.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.whole.longest()
    }

    /// Adds the ranking `top` (best first) of a user to whom the items in `relevant` (any order) were the right ones; `count` says
    /// by what a relevant item is put into a bucket.
    ///
    /// A user without relevant items says nothing and is not counted.
    pub fn add_user(&mut self, top: &[u32], relevant: &[u32], count: impl Fn(u32) -> u32) {
        self.whole.add_user(top, relevant);
        let mut divided = vec![Vec::new(); self.parts.len()];
        for item in BTreeSet::from_iter(relevant.iter().copied()) {
            divided[self.buckets.of(count(item))].push(item);
        }
        for ((ranking, items), own) in self.parts.iter_mut().zip(divided) {
            ranking.add_user(top, &own);
            *items += own.len();
        }
    }

    /// The ranking of all relevant items together.
    #[must_use]
    pub fn whole(&self) -> &RankingAccumulator {
        &self.whole
    }

    /// The buckets with the rankings of their relevant items, in ascending order of the counts. The values of single users are
    /// there too, for [`paired_bootstrap`](crate::paired_bootstrap).
    pub fn parts(&self) -> impl Iterator<Item = (&str, &RankingAccumulator)> {
        self.buckets.names().iter().map(String::as_str).zip(self.parts.iter().map(|(ranking, _)| ranking))
    }

    /// Means over the counted users of every bucket, in ascending order of the counts, those that nobody fell into included.
    #[must_use]
    pub fn finish(&self) -> Vec<BucketRanking> {
        let buckets = self.buckets.names().iter().zip(&self.parts);
        buckets
            .map(|(name, (ranking, relevant))| BucketRanking {
                name: name.clone(),
                users: ranking.users(),
                relevant: *relevant,
                metrics: ranking.finish(),
            })
            .collect()
    }
}
