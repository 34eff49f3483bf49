//! Several models as one.

use serde::{Deserialize, Serialize};

/// How the opinions of several models on the items of a catalogue become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ensemble {
    /// The mean of the models' scores, each standardised over the catalogue.
    Scores,
    /// Reciprocal rank fusion (Cormack et al. 2009): `Σ_m 1 / (60 + rank_m)`, ranks from 1.
    Ranks,
}

/// The constant of reciprocal rank fusion: how little the first places differ.
const FLAT: f32 = 60.0;

impl Ensemble {
    /// One score for each item from `[model][item]`. Models that have no opinion (all items alike) do not count among scores.
    ///
    /// ```
    /// use paretune_train::evaluation::Ensemble;
    ///
    /// let models = [vec![0.1, 0.9, 0.5], vec![300.0, 200.0, 100.0]];
    /// let fused = Ensemble::Ranks.combine(&models);
    /// assert!(fused[0] > fused[2] && fused[1] > fused[2]);
    /// ```
    pub fn combine(self, models: &[Vec<f32>]) -> Vec<f32> {
        let items = models.first().map_or(0, Vec::len);
        let mut total = vec![0.0f32; items];
        for scores in models {
            let own = match self {
                Self::Scores => standardised(scores),
                Self::Ranks => reciprocal_ranks(scores),
            };
            total.iter_mut().zip(own).for_each(|(sum, own)| *sum += own / models.len() as f32);
        }
        total
    }
}

fn standardised(scores: &[f32]) -> Vec<f32> {
    let n = scores.len().max(1) as f64;
    let mean = scores.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let variance = scores.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
    let scale = if variance > 0.0 { variance.sqrt().recip() } else { 0.0 };
    scores.iter().map(|x| ((f64::from(*x) - mean) * scale) as f32).collect()
}

/// `1 / (60 + rank)`; among equals the first one comes first.
fn reciprocal_ranks(scores: &[f32]) -> Vec<f32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
    let mut ranks = vec![0.0; scores.len()];
    for (rank, item) in order.into_iter().enumerate() {
        ranks[item as usize] = (FLAT + 1.0 + rank as f32).recip();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_compared_in_units_of_their_own() {
        // One model speaks in thousands; both count alike.
        let models = [vec![1000.0, 3000.0, 2000.0], vec![0.3, 0.1, 0.2]];
        let fused = Ensemble::Scores.combine(&models);
        assert!(fused.iter().all(|score| score.abs() < 1e-6), "{fused:?}");
        let silent = [vec![5.0, 5.0, 5.0], vec![0.3, 0.1, 0.2]];
        let fused = Ensemble::Scores.combine(&silent);
        let alone = Ensemble::Scores.combine(&silent[1..]);
        assert!(fused.iter().zip(&alone).all(|(a, b)| (2.0 * a - b).abs() < 1e-6));
    }

    #[test]
    fn ranks_are_those_of_the_formula() {
        let fused = Ensemble::Ranks.combine(&[vec![0.1, 0.9, 0.5], vec![3.0, 2.0, 1.0]]);
        let expected =
            [(1.0 / 63.0 + 1.0 / 61.0) / 2.0, (1.0 / 61.0 + 1.0 / 62.0) / 2.0, (1.0 / 62.0 + 1.0 / 63.0) / 2.0];
        for (found, expected) in fused.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-8);
        }
    }

    #[test]
    fn a_model_with_itself_is_itself() {
        let scores: Vec<f32> = (0..50).map(|item| ((item * 37) % 50) as f32).collect();
        let order = |scores: &[f32]| paretune_eval::top_k(scores, 50, &[]);
        for how in [Ensemble::Scores, Ensemble::Ranks] {
            assert_eq!(order(&how.combine(&[scores.clone(), scores.clone()])), order(&scores));
        }
        assert!(Ensemble::Scores.combine(&[]).is_empty());
    }
}
