//! What recommended lists are like as lists: varied, novel, and fair to those who offer the items.

mod due;
mod exposure;

use due::Due;
pub use exposure::{gini, shannon_entropy, top_share};

use std::collections::BTreeMap;

use crate::EvalError;
use crate::ranking::discount;

/// Gathers the list metrics of recommended lists, user by user.
///
/// [`finish`](Self::finish) gives, for lists cut at `k`:
///
/// | name | value | needs |
/// | --- | --- | --- |
/// | `coverage@k` | distinct recommended items ÷ catalogue size | |
/// | `item_gini@k` | [`gini`] of how often each catalogue item is recommended | |
/// | `item_entropy@k` | [`shannon_entropy`] of the same, in nats | |
/// | `diversity@k` | mean over lists of `Σ_{i<j} (1 − cos(v_i, v_j))` ÷ `k(k−1)/2` | vectors |
/// | `popularity@k` | mean over recommendations of `ln(1 + c)`, `c` the item's past interactions | popularity |
/// | `novelty@k` | mean over recommendations of `−log2 p`, `p = (c + 1) / Σ (c + 1)` | popularity |
/// | `provider_gini@k` | [`gini`] of the providers' exposure | providers |
/// | `provider_entropy@k` | [`shannon_entropy`] of the same, in nats | providers |
/// | `provider_top_share@k` | share of the exposure that goes to the most exposed 10 % of the providers | providers |
/// | `NAME.disparity@k` | `½ Σ_g \|E_g − t_g\|` of groups' shares of the exposure and their due, from 0 (all have it) to 1 | groups of that name |
///
/// The exposure of a provider is the sum of `1 / log2(1 + rank)` over the ranks at which its items stand; providers that are
/// never recommended count, with 0. RecBole differs in three ways: it counts a padding item in the catalogue, divides its
/// entropy by the number of distinct recommended items, and averages the popularity `c` without the logarithm. The one added
/// to `c` in `p` keeps the novelty of items never met finite.
///
/// ```
/// use paretune_eval::ListAccumulator;
///
/// let mut lists = ListAccumulator::new(4, 2).with_popularity(&[3.0, 1.0, 0.0, 0.0])?;
/// lists.add_user(&[0, 2])?;
/// lists.add_user(&[0, 1])?;
/// assert_eq!(lists.finish()["coverage@2"], 0.75);
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ListAccumulator<'a> {
    k: usize,
    popularity: Option<&'a [f64]>,
    popularity_total: f64,
    vectors: Option<(&'a [f32], usize)>,
    providers: Option<&'a [Option<u32>]>,
    shown: Vec<f64>,
    exposure: BTreeMap<u32, f64>,
    groups: Vec<Due<'a>>,
    lists: usize,
    recommendations: f64,
    log_popularity: f64,
    novelty: f64,
    diversity: f64,
    diverse_lists: f64,
}

impl<'a> ListAccumulator<'a> {
    /// An empty accumulator over a catalogue of `items` items, for lists of `k` items (longer ones are cut).
    #[must_use]
    pub fn new(items: usize, k: usize) -> Self {
        Self {
            k,
            popularity: None,
            popularity_total: 0.0,
            vectors: None,
            providers: None,
            shown: vec![0.0; items],
            exposure: BTreeMap::new(),
            groups: Vec::new(),
            lists: 0,
            recommendations: 0.0,
            log_popularity: 0.0,
            novelty: 0.0,
            diversity: 0.0,
            diverse_lists: 0.0,
        }
    }

    /// Adds popularity and novelty: `counts` has each item's interactions in the training part, none negative.
    ///
    /// # Errors
    /// [`EvalError::Length`] if there is not one count per item.
    pub fn with_popularity(mut self, counts: &'a [f64]) -> Result<Self, EvalError> {
        self.check("popularity", counts.len(), self.shown.len())?;
        self.popularity_total = counts.iter().map(|count| count + 1.0).sum();
        self.popularity = Some(counts);
        Ok(self)
    }

    /// Adds diversity: `vectors` is row-major `[items, dimensions]`. A vector of zeros is orthogonal to all.
    ///
    /// # Errors
    /// [`EvalError::Length`] if there is not one vector per item.
    pub fn with_vectors(mut self, vectors: &'a [f32], dimensions: usize) -> Result<Self, EvalError> {
        let expected = self.shown.len().saturating_mul(dimensions);
        self.check("vectors", vectors.len(), expected)?;
        self.vectors = (dimensions > 0).then_some((vectors, dimensions));
        Ok(self)
    }

    /// Adds provider exposure: each item's provider, by any number; `None` where unknown, which gives exposure to nobody.
    ///
    /// # Errors
    /// [`EvalError::Length`] if there is not one entry per item.
    pub fn with_providers(mut self, providers: &'a [Option<u32>]) -> Result<Self, EvalError> {
        self.check("providers", providers.len(), self.shown.len())?;
        self.exposure = providers.iter().flatten().map(|&provider| (provider, 0.0)).collect();
        self.providers = Some(providers);
        Ok(self)
    }

    /// Adds `NAME.disparity`: each item's group, and the share of the exposure that is each group's due. Items of no group, or one without a due,
    /// are not counted.
    ///
    /// # Errors
    /// [`EvalError::Length`] if there is not one entry per item.
    pub fn with_due(
        mut self,
        name: impl Into<String>,
        groups: &'a [Option<u32>],
        due: &'a [f64],
    ) -> Result<Self, EvalError> {
        self.check("groups", groups.len(), self.shown.len())?;
        self.groups.push(Due::new(name.into(), groups, due));
        Ok(self)
    }

    /// Adds the list recommended to one user, best first.
    ///
    /// # Errors
    /// [`EvalError::ItemOutOfRange`] if it holds an item outside the catalogue; nothing of the list is counted then.
    pub fn add_user(&mut self, top: &[u32]) -> Result<(), EvalError> {
        let top = &top[..top.len().min(self.k)];
        let size = self.shown.len();
        if let Some(&item) = top.iter().find(|&&item| item as usize >= size) {
            return Err(EvalError::ItemOutOfRange { item, size });
        }
        self.lists += 1;
        self.recommendations += top.len() as f64;
        for (position, item) in top.iter().map(|&item| item as usize).enumerate() {
            self.shown[item] += 1.0;
            if let Some(counts) = self.popularity {
                self.log_popularity += counts[item].ln_1p();
                self.novelty += (self.popularity_total / (counts[item] + 1.0)).log2();
            }
            if let Some(provider) = self.providers.and_then(|providers| providers[item]) {
                *self.exposure.entry(provider).or_default() += discount(position);
            }
            self.groups.iter_mut().for_each(|groups| groups.add(item, discount(position)));
        }
        if let Some(diversity) = self.vectors.and_then(|(all, width)| diversity(top, all, width)) {
            self.diversity += diversity;
            self.diverse_lists += 1.0;
        }
        Ok(())
    }

    /// The metrics of all lists so far, by name (see the type's table). Empty if there was no list.
    ///
    /// A metric that the lists do not define is left out, such as the diversity of lists of one item.
    #[must_use]
    pub fn finish(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        if self.lists == 0 {
            return metrics;
        }
        let mut put = |name: &str, value: Option<f64>| {
            if let Some(value) = value {
                metrics.insert(format!("{name}@{}", self.k), value);
            }
        };
        let share = |sum: f64, count: f64| (count > 0.0).then(|| sum / count);
        let distinct = self.shown.iter().filter(|&&times| times > 0.0).count() as f64;
        put("coverage", share(distinct, self.shown.len() as f64));
        put("item_gini", gini(&self.shown));
        put("item_entropy", shannon_entropy(&self.shown));
        if self.popularity.is_some() {
            put("popularity", share(self.log_popularity, self.recommendations));
            put("novelty", share(self.novelty, self.recommendations));
        }
        put("diversity", share(self.diversity, self.diverse_lists));
        let exposure: Vec<f64> = self.exposure.values().copied().collect();
        put("provider_gini", gini(&exposure));
        put("provider_entropy", shannon_entropy(&exposure));
        put("provider_top_share", top_share(&exposure, 0.1));
        for groups in &self.groups {
            put(&format!("{}.disparity", groups.name()), groups.disparity());
        }
        metrics
    }

    fn check(&self, what: &'static str, found: usize, expected: usize) -> Result<(), EvalError> {
        if found == expected {
            return Ok(());
        }
        let per = if what == "vectors" { "item and dimension" } else { "item of the catalogue" };
        Err(EvalError::Length { what, found, expected, per })
    }
}

/// `Σ_{i<j} (1 − cos(v_i, v_j))` over the pairs, in one pass: the cosines of all pairs come from the length of the sum of the
/// unit vectors.
fn diversity(top: &[u32], vectors: &[f32], width: usize) -> Option<f64> {
    if top.len() < 2 {
        return None;
    }
    let mut sum = vec![0.0_f64; width];
    let mut own = 0.0;
    for &item in top {
        let vector = &vectors[item as usize * width..][..width];
        let norm = (vector.iter().map(|&x| f64::from(x) * f64::from(x))).sum::<f64>().sqrt();
        if norm > 0.0 {
            own += 1.0;
            for (total, &x) in sum.iter_mut().zip(vector) {
                *total += f64::from(x) / norm;
            }
        }
    }
    let cosines = (sum.iter().map(|x| x * x).sum::<f64>() - own) / 2.0;
    let pairs = (top.len() * (top.len() - 1)) as f64 / 2.0;
    Some(1.0 - cosines / pairs)
}

#[cfg(test)]
mod tests;
