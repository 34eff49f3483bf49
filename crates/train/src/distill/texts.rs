//! Which texts are measured on, and texts that nobody wrote.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Whether a text is held out, a tenth of all texts: a function of its letters and digits alone, so that neither another
/// spelling (case, punctuation) nor other files can move it to the other side.
///
/// ```
/// # use paretune_train::distill::held_out;
/// assert_eq!(held_out("Toy Story (1995)"), held_out("toy story 1995"));
/// ```
pub fn held_out(text: &str) -> bool {
    // FNV-1a, whose low bits are weak, folded.
    let letters = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut buffer = [0; 4];
    for letter in letters {
        for byte in letter.encode_utf8(&mut buffer).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    (hash ^ (hash >> 32)).is_multiple_of(10)
}

/// Up to `count` texts that are not among `texts`, made of their words and of `words`: spans of a text, a beginning with another text's
/// end, and words drawn alike however rare they are, in turn. A teacher answers for them as for any other, which is how a
/// student learns what rare words mean. None of them is [held out](held_out); the same seed gives the same texts.
pub fn invented(texts: &[String], words: &[String], count: usize, seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let all: BTreeSet<&str> =
        texts.iter().flat_map(|text| text.split_whitespace()).chain(words.iter().map(String::as_str)).collect();
    let all: Vec<&str> = all.into_iter().collect();
    let known: BTreeSet<&str> = texts.iter().map(String::as_str).collect();
    let mut made = BTreeSet::new();
    let mut inventions = Vec::new();
    let pick = |rng: &mut ChaCha8Rng| -> Vec<&str> {
        texts.choose(rng).map(|text| text.split_whitespace().collect()).unwrap_or_default()
    };
    // Small corpora do not have so many combinations.
    for at in 0..count * 4 {
        if inventions.len() == count {
            break;
        }
        let chosen: Vec<&str> = match at % 3 {
            0 => {
                let text = pick(&mut rng);
                let length = rng.random_range(1..=text.len().clamp(1, 8));
                let from = rng.random_range(0..=text.len().saturating_sub(length));
                text.into_iter().skip(from).take(length).collect()
            }
            1 => {
                let (a, b) = (pick(&mut rng), pick(&mut rng));
                let (front, back) = (rng.random_range(1..=4), rng.random_range(1..=4));
                a.into_iter().take(front).chain(b.iter().skip(b.len().saturating_sub(back)).copied()).collect()
            }
            _ => (0..rng.random_range(1..=4)).filter_map(|_| all.choose(&mut rng).copied()).collect(),
        };
        let text = chosen.join(" ");
        if text.is_empty() || held_out(&text) || known.contains(text.as_str()) || !made.insert(text.clone()) {
            continue;
        }
        inventions.push(text);
    }
    inventions
}
