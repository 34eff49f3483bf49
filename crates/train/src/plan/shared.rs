//! Negatives that all requests of a batch share: what rankings tell the positives from.

use paretune_recommender::{Batch, BatchBuilder, Corpus, Needs};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{TrainingConfig, evaluation::engagement};

/// Which items a batch's requests share as negatives.
pub(super) struct Shared {
    draws: Draws,
    /// Logarithm of each item's probability to be drawn; `None` where all are equally likely.
    drawn: Option<Vec<f32>>,
    /// Logarithm of each item's share of the engagements: its probability to be another request's positive.
    popularity: Vec<f32>,
}

enum Draws {
    /// None: the other requests' positives are the negatives.
    Others,
    /// The whole catalogue.
    Catalogue(u32),
    /// So many of the candidates with replacement, all alike.
    Uniform(usize),
    /// So many with replacement, as likely as their weights, of which these are the sums up to each candidate.
    Weighted(usize, Vec<f64>),
}

impl Shared {
    /// What a loss that asks for `needs` is to be shown; nothing for losses over a request's own list.
    pub(super) fn new(corpus: &Corpus, candidates: &[u32], needs: Needs, config: &TrainingConfig) -> Option<Self> {
        let counts = engagement(corpus);
        // An item that nobody engaged with is as likely as one that was met once.
        let weight = |item: u32, power: f64| f64::from(counts[item as usize].max(1)).powf(power);
        let log_q = |power: f64| {
            let total: f64 = candidates.iter().map(|&item| weight(item, power)).sum();
            (0..counts.len() as u32).map(|item| (weight(item, power) / total).ln() as f32).collect()
        };
        let power = config.negative_power;
        let (draws, drawn) = match needs {
            Needs::Graded => return None,
            Needs::Others => (Draws::Others, None),
            Needs::Catalogue => (Draws::Catalogue(counts.len() as u32), None),
            Needs::Own | Needs::Pool if power == 0.0 => (Draws::Uniform(config.shared_negatives), None),
            Needs::Own | Needs::Pool => {
                let mut sum = 0.0;
                let sums = candidates.iter().map(|&item| {
                    sum += weight(item, power);
                    sum
                });
                (Draws::Weighted(config.shared_negatives, sums.collect()), Some(log_q(power)))
            }
        };
        Some(Self { draws, drawn, popularity: log_q(1.0) })
    }

    /// Adds a batch's negatives. A step that reads texts cannot read a catalogue, and must not hold vectors that are read now against
    /// looked-up ones: the encoder would learn to tell the two apart. Its negatives are the other requests' positives.
    pub(super) fn draw(&self, candidates: &[u32], reads: bool, builder: &mut BatchBuilder<'_>, rng: &mut ChaCha8Rng) {
        let count = match &self.draws {
            Draws::Others => 0,
            Draws::Catalogue(_) if reads => 0,
            Draws::Catalogue(items) => {
                (0..*items).for_each(|item| builder.negative(item));
                0
            }
            Draws::Uniform(count) | Draws::Weighted(count, _) => *count,
        };
        for _ in 0..if candidates.is_empty() { 0 } else { count } {
            let at = match &self.draws {
                Draws::Weighted(_, sums) => {
                    let drawn = rng.random::<f64>() * sums.last().copied().unwrap_or(0.0);
                    sums.partition_point(|sum| *sum <= drawn).min(sums.len() - 1)
                }
                _ => rng.random_range(0..candidates.len()),
            };
            builder.negative(candidates[at]);
        }
    }

    /// Logarithms of the probabilities of a batch's items to become negatives; empty where all are alike.
    pub(super) fn log_q(&self, batch: &Batch) -> Vec<f32> {
        let of = |log_q: &[f32]| batch.items.iter().map(|&item| log_q[item as usize]).collect();
        match (batch.pool.slots.is_empty(), &self.drawn) {
            (true, _) => of(&self.popularity),
            (false, Some(drawn)) => of(drawn),
            (false, None) => Vec::new(),
        }
    }
}
