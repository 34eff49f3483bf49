//! Titles of 6 to 14 words, always the same.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What titles are made of.
const WORDS: &str = "hair skin cream organic moisturizing shampoo lotion with for women men natural oil vitamin face serum ounce \
    pack of 2 3 12 black rose gold brush set professional nail polish eye shadow palette lip balm daily cleanser \
    sensitive repair color dry treatment mask gel perfume spray travel size";

/// So many of them.
pub(crate) fn titles(items: usize) -> Vec<Option<String>> {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let words: Vec<&str> = WORDS.split(' ').collect();
    let mut title = || {
        let count = random.random_range(6..=14);
        let drawn: Vec<&str> = (0..count).map(|_| words[random.random_range(0..words.len())]).collect();
        drawn.join(" ")
    };
    (0..items).map(|_| Some(title())).collect()
}
