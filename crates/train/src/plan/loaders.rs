//! A loader for each objective, taking turns.

use paretune_objectives::Objectives;
use paretune_recommender::Corpus;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::LabelColumn;
use crate::TrainError;

/// The requests of which each objective has labels.
pub(super) struct Alternating {
    /// Objective, and its groups, ascending.
    loaders: Vec<(usize, Vec<u32>)>,
}

impl Alternating {
    pub(super) fn new(
        corpus: &Corpus,
        objectives: &Objectives,
        columns: &[LabelColumn],
        groups: &[(u32, u32)],
        train: &[u32],
    ) -> Result<Self, TrainError> {
        let mut loaders = Vec::new();
        for (k, objective) in objectives.iter().enumerate().filter(|(_, objective)| objective.kind.has_labels()) {
            let labelled = |rows: &[u32]| rows.iter().any(|&row| !columns[k].value(corpus, row).is_nan());
            let own = (0u32..).zip(groups).filter(|(_, (start, end))| labelled(&train[*start as usize..*end as usize]));
            let own: Vec<u32> = own.map(|(group, _)| group).collect();
            if own.is_empty() {
                let why = format!(
                    "no row has a label of `{}`, whose turn would never come: leave it out, or set training.loaders = \"mixed\"",
                    objective.name
                );
                return Err(TrainError::Empty { part: "train", why });
            }
            loaders.push((k, own));
        }
        Ok(Self { loaders })
    }

    /// The order of an epoch for each objective.
    pub(super) fn shuffled(&self, rng: impl Fn(u64) -> ChaCha8Rng) -> Vec<Vec<u32>> {
        let order = |(at, (_, groups)): (usize, &(usize, Vec<u32>))| {
            let mut groups = groups.clone();
            groups.shuffle(&mut rng(at as u64));
            groups
        };
        self.loaders.iter().enumerate().map(order).collect()
    }

    /// Whose turn it is at a step of the training, and the groups of its batch, the one with this number in the epoch: its own order from
    /// where its last batch ended, and again from the beginning where that is through.
    pub(super) fn batch(&self, orders: &[Vec<u32>], step: usize, number: usize, size: usize) -> (usize, Vec<u32>) {
        let turn = step % self.loaders.len();
        let order = &orders[turn];
        let first = number / self.loaders.len() * size;
        let groups = (first..first + size.min(order.len())).map(|at| order[at % order.len()]).collect();
        (self.loaders[turn].0, groups)
    }
}
