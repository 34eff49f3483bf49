//! Views of a history for contrastive learning (CL4SRec, Xie et al. 2022).

use rand::seq::{SliceRandom, index};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::RankingError;

/// One way to change a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Augmentation {
    /// A piece without gaps is kept.
    Crop,
    /// Some events are masked: that something happened is left, not what.
    Mask,
    /// A piece without gaps is shuffled.
    Reorder,
}

/// How much each augmentation changes, as shares of a history's length.
///
/// ```
/// use paretune_recommender::Augmentations;
///
/// let history = [40, 41, 42, 43, 44, 45, 46, 47, 48, 49];
/// let [a, b] = Augmentations::default().views(&history, 7, 0);
/// assert!(a != b);
/// // Masked events are `None`; everything else is an event of the history.
/// assert!(a.iter().chain(&b).flatten().all(|event| history.contains(event)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentations {
    /// Share of the events that cropping keeps, above 0; 1 turns it off.
    pub crop: f64,
    /// Share of the events that masking hides, below 1; 0 turns it off.
    pub mask: f64,
    /// Share of the events that reordering shuffles; 0 turns it off.
    pub reorder: f64,
}

impl Default for Augmentations {
    fn default() -> Self {
        Self { crop: 0.6, mask: 0.3, reorder: 0.6 }
    }
}

impl Augmentations {
    /// Says whether the shares are in range.
    ///
    /// # Errors
    /// [`RankingError::Setting`].
    pub fn check(&self) -> Result<(), RankingError> {
        let settings = [
            (
                "model.contrast.augmentations.crop",
                self.crop,
                self.crop > 0.0 && self.crop <= 1.0,
                "it is the share kept: above 0, at most 1",
            ),
            (
                "model.contrast.augmentations.mask",
                self.mask,
                (0.0..1.0).contains(&self.mask),
                "it is the share hidden: at least 0, below 1",
            ),
            (
                "model.contrast.augmentations.reorder",
                self.reorder,
                (0.0..=1.0).contains(&self.reorder),
                "it is the share shuffled: between 0 and 1",
            ),
        ];
        match settings.into_iter().find(|(_, _, fits, _)| !fits) {
            Some((setting, value, _, rule)) => Err(RankingError::Setting { setting, value, rule }),
            None => Ok(()),
        }
    }

    /// Those that change anything.
    fn active(&self) -> Vec<Augmentation> {
        let all = [
            (Augmentation::Crop, self.crop < 1.0),
            (Augmentation::Mask, self.mask > 0.0),
            (Augmentation::Reorder, self.reorder > 0.0),
        ];
        all.into_iter().filter(|(_, active)| *active).map(|(augmentation, _)| augmentation).collect()
    }

    /// Two views of `history` (whatever its numbers stand for), by two different augmentations where as many are on. The same `seed` and
    /// `number` of the history give the same views. Without augmentations both are the history itself, which dropout may still
    /// tell apart (SimCSE); a history of one event has no other view either.
    ///
    /// Shares are cut to what they can be: a view has at least one event that is not masked, if the history has any.
    pub fn views(&self, history: &[u32], seed: u64, number: u64) -> [Vec<Option<u32>>; 2] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(number);
        let mut active = self.active();
        active.shuffle(&mut random);
        let chosen = [active.first(), active.last()];
        chosen.map(|which| match which {
            Some(&which) => self.apply(which, history, &mut random),
            None => history.iter().copied().map(Some).collect(),
        })
    }

    /// `history` after one augmentation; masked events are `None`.
    pub fn apply(&self, which: Augmentation, history: &[u32], random: &mut ChaCha8Rng) -> Vec<Option<u32>> {
        let mut events: Vec<Option<u32>> = history.iter().copied().map(Some).collect();
        if events.is_empty() {
            return events;
        }
        // A share of NaN or below 0 is 0 events; one above 1 is all of them.
        let count = |share: f64| ((share * history.len() as f64) as usize).min(history.len());
        match which {
            Augmentation::Crop => {
                let kept = count(self.crop).max(1);
                let first = random.random_range(0..=history.len() - kept);
                events[first..first + kept].to_vec()
            }
            Augmentation::Mask => {
                let hidden = count(self.mask).min(history.len() - 1);
                for at in index::sample(random, history.len(), hidden) {
                    events[at] = None;
                }
                events
            }
            Augmentation::Reorder => {
                let shuffled = count(self.reorder);
                let first = random.random_range(0..=history.len() - shuffled);
                events[first..first + shuffled].shuffle(random);
                events
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_augmentation_changes_what_it_says(length in 0usize..40, crop in 0.01f64..=1.0, mask in 0f64..0.99, reorder in 0f64..=1.0, seed in 0u64..1000) {
            let settings = Augmentations { crop, mask, reorder };
            prop_assert!(settings.check().is_ok());
            let history: Vec<u32> = (100..100 + length as u32).collect();
            let whole: Vec<Option<u32>> = history.iter().copied().map(Some).collect();
            let count = |share: f64| (share * length as f64) as usize;
            let apply = |which| settings.apply(which, &history, &mut ChaCha8Rng::seed_from_u64(seed));

            let cropped = apply(Augmentation::Crop);
            prop_assert_eq!(cropped.len(), count(crop).max(1).min(length));
            prop_assert!(cropped.is_empty() || whole.windows(cropped.len()).any(|piece| piece == cropped));

            let masked = apply(Augmentation::Mask);
            prop_assert_eq!(masked.len(), length);
            prop_assert!(masked.iter().zip(&whole).all(|(found, event)| found.is_none() || found == event));
            prop_assert_eq!(masked.iter().filter(|event| event.is_none()).count(), count(mask).min(length.saturating_sub(1)));

            let mut reordered = apply(Augmentation::Reorder);
            let moved: Vec<usize> = (0..length).filter(|&at| reordered[at] != whole[at]).collect();
            if let (Some(first), Some(last)) = (moved.first(), moved.last()) {
                prop_assert!(last - first < count(reorder));
            }
            reordered.sort_unstable();
            prop_assert_eq!(reordered, whole);
        }
    }

    #[test]
    fn views_are_functions_of_seed_and_number_by_two_augmentations() {
        let history: Vec<u32> = (0..20).collect();
        let settings = Augmentations::default();
        assert_eq!(settings.views(&history, 1, 2), settings.views(&history, 1, 2));
        assert_ne!(settings.views(&history, 1, 2), settings.views(&history, 1, 3));
        assert_ne!(settings.views(&history, 1, 2), settings.views(&history, 2, 2));
        // Which augmentation made a view shows in it: a crop is short, a mask has gaps, the rest is a shuffled piece.
        let which = |view: &Vec<Option<u32>>| match view {
            view if view.len() < 20 => 0,
            view if view.contains(&None) => 1,
            _ => 2,
        };
        let mut pairs = [[0; 3]; 3];
        for number in 0..600 {
            let [a, b] = settings.views(&history, 5, number);
            pairs[which(&a)][which(&b)] += 1;
        }
        for (a, row) in pairs.iter().enumerate() {
            for (b, count) in row.iter().enumerate() {
                assert!(if a == b { *count == 0 } else { (60..140).contains(count) }, "{pairs:?}");
            }
        }
    }

    #[test]
    fn what_is_off_is_not_drawn() {
        let history: Vec<u32> = (0..20).collect();
        let whole: Vec<Option<u32>> = history.iter().copied().map(Some).collect();
        let off = Augmentations { crop: 1.0, mask: 0.0, reorder: 0.0 };
        assert_eq!(off.views(&history, 1, 1), [whole.clone(), whole]);
        let [a, b] = Augmentations { mask: 0.5, ..off }.views(&history, 1, 1);
        assert!(a != b && a.contains(&None) && b.contains(&None));
        assert_eq!(Augmentations::default().views(&[], 1, 1), [vec![], vec![]]);
        assert_eq!(Augmentations::default().views(&[9], 1, 1), [vec![Some(9)], vec![Some(9)]]);
    }

    #[test]
    fn shares_out_of_range_are_named_and_cut() {
        let good = Augmentations::default();
        for (settings, part) in [
            (Augmentations { crop: 0.0, ..good }, "crop = 0 "),
            (Augmentations { mask: 1.0, ..good }, "mask = 1 "),
            (Augmentations { reorder: f64::NAN, ..good }, "reorder = NaN "),
        ] {
            let refused = settings.check().unwrap_err().to_string();
            assert!(refused.contains(part), "{refused}");
            settings.views(&[1, 2, 3], 1, 1);
        }
    }
}
