//! Which items an evaluation holds against each other.

use paretune_data::{Part, SplitStrategy};
use paretune_recommender::Corpus;
use serde::{Deserialize, Serialize};

/// The items that rankings rank and that negatives are drawn from.
///
/// Where positives come from one set and negatives from another, knowing the set is enough to tell them apart. Protocols of cold start
/// (DropoutNet: Volkovs et al. 2017; CLCRec: Wei et al. 2021) therefore rank items that training never met among themselves.
///
/// ```
/// use paretune_data::{Part, SplitStrategy};
/// use paretune_train::evaluation::Candidates;
///
/// let split = SplitStrategy::ColdItems { valid: 0.1, test: 0.2, seed: 0 };
/// assert_eq!(Candidates::usual(&split, Part::Test), Candidates::Unseen);
/// assert_eq!(Candidates::usual(&SplitStrategy::LeaveLast, Part::Test), Candidates::All);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Candidates {
    /// The whole catalogue.
    All,
    /// Items with a training row.
    Seen,
    /// Items with a row in the part that is measured and none in training.
    Unseen,
}

impl Candidates {
    /// What is customary for a part of a split: items that are held out are held against each other, and the training rows of such a
    /// split against what training meets; everywhere else all items are.
    pub fn usual(strategy: &SplitStrategy, part: Part) -> Self {
        match (strategy, part) {
            (SplitStrategy::ColdItems { .. }, Part::Train) => Self::Seen,
            (SplitStrategy::ColdItems { .. }, Part::Valid | Part::Test) => Self::Unseen,
            _ => Self::All,
        }
    }

    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Seen => "seen",
            Self::Unseen => "unseen",
        }
    }

    /// The items, ascending.
    pub fn items(self, corpus: &Corpus, part: Part) -> Vec<u32> {
        let all = 0..corpus.dataset.items.len() as u32;
        match self {
            Self::All => all.collect(),
            Self::Seen => all.zip(corpus.met_in_training()).filter(|(_, met)| *met).map(|(item, _)| item).collect(),
            Self::Unseen => {
                let mut here = vec![false; corpus.dataset.items.len()];
                for row in corpus.split.rows(part) {
                    here[corpus.dataset.events.item[row as usize] as usize] = true;
                }
                let sets = here.into_iter().zip(corpus.met_in_training());
                all.zip(sets).filter(|(_, (here, met))| *here && !met).map(|(item, _)| item).collect()
            }
        }
    }
}
