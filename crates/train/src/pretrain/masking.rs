//! Which tokens are hidden, and behind what.

use paretune_features::{Packed, Tokenized};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::TrainError;

/// How tokens are hidden: of those chosen, 80 % become the mask, 10 % a random token, and 10 % stay, so that the encoder cannot
/// trust what it sees (Devlin et al. 2019, appendix A.1).
#[derive(Debug, Clone)]
pub struct Masking {
    /// Share of the tokens that is chosen.
    share: f64,
    /// Id of the mask.
    mask: u32,
    /// Ids that are never chosen, ascending.
    special: Vec<u32>,
    /// Number of ids.
    vocabulary: u32,
}

/// A batch with hidden tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Masked {
    /// What the encoder reads.
    pub packed: Packed,
    /// Places of the chosen tokens in the batch, ascending.
    pub places: Vec<u32>,
    /// What stood there.
    pub words: Vec<u32>,
}

impl Masking {
    /// `special` tokens (those around a text, the mask itself) are never chosen.
    ///
    /// # Errors
    /// A share that is not above 0 and at most 1, or a mask outside of the vocabulary.
    pub fn new(share: f64, mask: u32, special: &[u32], vocabulary: usize) -> Result<Self, TrainError> {
        let bad = |field, value: String, problem| Err(TrainError::BadConfig { field, value, problem });
        if !(share > 0.0 && share <= 1.0) {
            return bad("mask", share.to_string(), "is the share of tokens to hide, above 0 and at most 1");
        }
        if mask as usize >= vocabulary {
            return bad("mask", mask.to_string(), "is no token of this vocabulary");
        }
        let mut special = special.to_vec();
        special.push(mask);
        special.sort_unstable();
        special.dedup();
        Ok(Self { share, mask, special, vocabulary: vocabulary as u32 })
    }

    /// Hides tokens of the texts `which`.
    pub fn hide(&self, texts: &Tokenized, which: &[u32], rng: &mut ChaCha8Rng) -> Masked {
        let mut packed = texts.pack(which);
        let (mut places, mut words) = (Vec::new(), Vec::new());
        for (place, id) in packed.ids.iter_mut().enumerate() {
            if self.special.binary_search(id).is_ok() || rng.random::<f64>() >= self.share {
                continue;
            }
            places.push(place as u32);
            words.push(*id);
            *id = match rng.random::<f64>() {
                fate if fate < 0.8 => self.mask,
                fate if fate < 0.9 => rng.random_range(0..self.vocabulary),
                _ => *id,
            };
        }
        Masked { packed, places, words }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn masking() -> Masking {
        Masking::new(0.15, 3, &[0, 1, 2], 1000).unwrap()
    }

    #[test]
    fn shares_are_those_of_the_paper() {
        // 200,000 words: four deviations of a share of 0.15 are 0.0032.
        let texts = Tokenized::from_sequences((0..20_000u32).map(|at| {
            let word = |place: u32| 4 + (at * 7 + place * 13) % 996;
            let mut text: Vec<u32> = (0..10).map(word).collect();
            text.insert(0, 1);
            text.push(2);
            text
        }));
        let which: Vec<u32> = (0..20_000).collect();
        let Masked { packed, places, words } = masking().hide(&texts, &which, &mut ChaCha8Rng::seed_from_u64(5));
        let chosen = places.len() as f64;
        assert!((chosen / 200_000.0 - 0.15).abs() < 0.0032, "{chosen}");
        let now: Vec<u32> = places.iter().map(|place| packed.ids[*place as usize]).collect();
        let masks = now.iter().filter(|id| **id == 3).count() as f64 / chosen;
        let same = now.iter().zip(&words).filter(|(now, before)| now == before).count() as f64 / chosen;
        // A random token is the one before, or the mask, once in a thousand times.
        assert!((masks - 0.8001).abs() < 0.01 && (same - 0.1001).abs() < 0.008, "{masks} masks, {same} left");
        assert!(words.iter().all(|word| *word > 3), "special tokens are never chosen");
    }

    proptest! {
        #[test]
        fn only_chosen_places_change_and_the_seed_decides(
            texts in prop::collection::vec(prop::collection::vec(0u32..1000, 0..20), 1..20),
            seed: u64,
        ) {
            let texts = Tokenized::from_sequences(texts);
            let which: Vec<u32> = (0..texts.len() as u32).rev().collect();
            let hide = || masking().hide(&texts, &which, &mut ChaCha8Rng::seed_from_u64(seed));
            let masked = hide();
            prop_assert_eq!(&masked, &hide());
            let mut back = masked.packed.clone();
            for (place, word) in masked.places.iter().zip(&masked.words) {
                prop_assert!(*word > 3);
                back.ids[*place as usize] = *word;
            }
            prop_assert_eq!(back, texts.pack(&which));
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        for share in [0.0, -1.0, 1.5, f64::NAN] {
            assert!(Masking::new(share, 3, &[], 10).unwrap_err().to_string().contains("share"));
        }
        assert!(Masking::new(0.15, 10, &[], 10).unwrap_err().to_string().contains("no token"));
    }
}
