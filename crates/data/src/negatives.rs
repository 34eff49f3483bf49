//! Items a user did not engage with, for data sets that only record what was liked.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset, Histories, Part, Split, consistency};

#[cfg(test)]
mod tests;

/// How negatives are drawn.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum NegativeSampling {
    /// Every item alike.
    #[default]
    Uniform,
    /// An item engaged with `n` times in training has weight (1 + n)^0.75, the exponent of word2vec (Mikolov et al. 2013).
    Popularity,
}

/// Draws negatives: items met in training that the user did not engage with there.
///
/// Items without a train row are never drawn: some of them belong to the held-out future, and calling them negatives would
/// decide cold start in advance. The sampler keeps no state: the same seed, user and draw give the same items in any order of calls.
///
/// ```
/// use paretune_data::{NegativeSampler, NegativeSampling, Split, SplitStrategy, simulator};
///
/// let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
/// let (dataset, _truth) = simulator::Simulation::new(config).run()?;
/// let split = Split::new(&dataset, &SplitStrategy::Random { valid: 0.1, test: 0.1, seed: 0 })?;
/// let sampler = NegativeSampler::new(&dataset, &split, "click", NegativeSampling::Uniform, 7)?;
/// let mut negatives = Vec::new();
/// sampler.sample(0, 0, 4, &mut negatives);
/// assert_eq!(negatives.len(), 4);
/// # Ok::<(), paretune_data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NegativeSampler {
    /// Items met in training, ascending.
    items: Vec<u32>,
    /// Running sum of their weights.
    cumulative: Vec<f64>,
    /// Items each user engaged with in training, ascending.
    engaged: Vec<Vec<u32>>,
    seed: u64,
}

impl NegativeSampler {
    /// Prepares the tables.
    ///
    /// # Errors
    /// `engaged` is no feedback column, or the split was made for another log.
    pub fn new(
        dataset: &Dataset,
        split: &Split,
        engaged: &str,
        how: NegativeSampling,
        seed: u64,
    ) -> Result<Self, DataError> {
        let histories = Histories::new(dataset, split, engaged)?;
        let value = consistency::feedback(dataset, engaged)?;
        let mut counts: Vec<Option<u32>> = vec![None; dataset.items.len()];
        for row in split.rows(Part::Train) {
            let count = &mut counts[dataset.events.item[row as usize] as usize];
            *count = Some(count.unwrap_or(0) + u32::from(value[row as usize] > 0.0));
        }
        let (mut items, mut cumulative, mut total) = (Vec::new(), Vec::new(), 0.0);
        for (item, count) in (0u32..).zip(counts) {
            if let Some(count) = count {
                total += match how {
                    NegativeSampling::Uniform => 1.0,
                    NegativeSampling::Popularity => (1.0 + f64::from(count)).powf(0.75),
                };
                items.push(item);
                cumulative.push(total);
            }
        }
        let engaged = (0..dataset.users.len() as u32).map(|user| histories.engaged_items(user, true)).collect();
        Ok(Self { items, cumulative, engaged, seed })
    }

    /// Appends `n` distinct negatives of `user` to `out`: fewer only if the user engaged with nearly everything.
    ///
    /// `draw` tells calls apart (an epoch, a step, a row): equal draws give equal negatives.
    pub fn sample(&self, user: u32, draw: u64, n: usize, out: &mut Vec<u32>) {
        let none = Vec::new();
        let n = n.min(self.items.len());
        let engaged = self.engaged.get(user as usize).unwrap_or(&none);
        let mut rng = ChaCha8Rng::from_seed(key(self.seed, user, draw));
        let first = out.len();
        let total = self.cumulative.last().copied().unwrap_or(0.0);

        // Rejection is quick while most items are free; past that, the free ones are listed.
        let crowded = (engaged.len() + n) * 2 > self.items.len();
        let mut tries = if crowded { 0 } else { 8 * n + 32 };
        while out.len() - first < n && tries > 0 {
            tries -= 1;
            let at = rng.random::<f64>() * total;
            let place = self.cumulative.partition_point(|&sum| sum <= at);
            let Some(&item) = self.items.get(place) else {
                continue;
            };
            if engaged.binary_search(&item).is_err() && !out[first..].contains(&item) {
                out.push(item);
            }
        }
        if out.len() - first < n {
            self.sample_from_list(engaged, &mut rng, first, n, out);
        }
    }

    /// Completes a draw by listing what is left: weighted, without replacement.
    fn sample_from_list(&self, engaged: &[u32], rng: &mut ChaCha8Rng, first: usize, n: usize, out: &mut Vec<u32>) {
        let weight = |place: usize| match place {
            0 => self.cumulative[0],
            _ => self.cumulative[place] - self.cumulative[place - 1],
        };
        // Efraimidis and Spirakis (2006): the largest of ln(u) / weight form a weighted sample without replacement.
        let mut left: Vec<(f64, u32)> = Vec::new();
        for (place, &item) in self.items.iter().enumerate() {
            if engaged.binary_search(&item).is_err() && !out[first..].contains(&item) {
                let u: f64 = rng.random();
                left.push(((1.0 - u).ln() / weight(place), item));
            }
        }
        left.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let missing = n - (out.len() - first);
        out.extend(left.into_iter().take(missing).map(|(_, item)| item));
    }
}

/// A key of its own for every (seed, user, draw).
fn key(seed: u64, user: u32, draw: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..12].copy_from_slice(&user.to_le_bytes());
    key[16..24].copy_from_slice(&draw.to_le_bytes());
    key[24..].copy_from_slice(b"negative");
    key
}
