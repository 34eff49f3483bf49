use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::cooccurrence::Cooccurrence;
use super::error::check_setting;
use super::{ClassicError, Interactions, Scorer, distinct};

/// Settings of [`ItemKnn`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ItemKnnConfig {
    /// Neighbours that each item keeps, at least 1.
    pub neighbours: usize,
    /// Added to the denominator of the cosine, so that items with few users seem less alike; finite, not negative.
    pub shrinkage: f64,
}

impl Default for ItemKnnConfig {
    fn default() -> Self {
        Self { neighbours: 100, shrinkage: 10.0 }
    }
}

/// Item-based nearest neighbours (Sarwar, Karypis, Konstan and Riedl, 2001).
///
/// With `U_i` the users of item `i`, `s_ij = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrinkage)`. Each item `j` keeps the `neighbours` items `i ≠ j`
/// with the largest positive `s_ij` (ties go to the lower index), `N(j)`, and a user with history `H` scores it
/// `Σ_{i ∈ H ∩ N(j)} s_ij`.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemKnn {
    /// By item `i`, ascending: the items `j` that keep `i` as a neighbour, with `s_ij`.
    kept_by: Vec<Vec<(u32, f32)>>,
}

impl ItemKnn {
    /// Finds every item's neighbours, in parallel; time grows with the sum of squared history lengths.
    ///
    /// # Errors
    /// [`ClassicError::Setting`].
    pub fn fit(interactions: &Interactions, config: &ItemKnnConfig) -> Result<Self, ClassicError> {
        let &ItemKnnConfig { neighbours, shrinkage } = config;
        check_setting("item kNN", "neighbours", neighbours as f64, neighbours > 0, "1 at least")?;
        let valid = shrinkage.is_finite() && shrinkage >= 0.0;
        check_setting("item kNN", "shrinkage", shrinkage, valid, "a finite number that is not negative")?;

        let shared = Cooccurrence::new(interactions);
        let nearest: Vec<Vec<(u32, f32)>> = (0..interactions.items())
            .into_par_iter()
            .map_init(
                || shared.counter(),
                |counter, item| {
                    let own = shared.users_of(item) as f64;
                    let others = shared.row(item, counter).iter().filter(|(other, _)| *other as usize != item);
                    let similarity = |&(other, count): &(u32, u32)| {
                        let norm = (own * shared.users_of(other as usize) as f64).sqrt();
                        (other, (f64::from(count) / (norm + shrinkage)) as f32)
                    };
                    let mut near: Vec<(u32, f32)> = others.map(similarity).collect();
                    near.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                    near.truncate(neighbours);
                    near
                },
            )
            .collect();

        let mut kept_by = vec![Vec::new(); interactions.items()];
        for (item, near) in (0_u32..).zip(nearest) {
            for (neighbour, similarity) in near {
                kept_by[neighbour as usize].push((item, similarity));
            }
        }
        Ok(Self { kept_by })
    }
}

impl Scorer for ItemKnn {
    fn name(&self) -> &str {
        "item kNN"
    }

    fn score(&self, history: &[u32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.kept_by.len()];
        for item in distinct(history, self.kept_by.len()) {
            for &(candidate, similarity) in &self.kept_by[item as usize] {
                scores[candidate as usize] += similarity;
            }
        }
        scores
    }
}
