//! Where things lie in the space of tastes: categories, products, styles and uses as vectors.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::products::CATEGORIES;
use super::vocabulary::STYLES;

/// Dimensions of the space of tastes.
pub const TOPICS: usize = 8;

/// A place in the space of tastes.
pub(super) type Topic = [f64; TOPICS];

/// How much the parts of an item's text say about its topic.
const NOUN: f64 = 0.6;
const STYLE: f64 = 0.6;
const USE: f64 = 0.35;
/// And how much of the topic no text says.
const UNSAID: f64 = 0.25;

/// The directions everything is made of.
pub(super) struct Directions {
    pub(super) categories: Vec<Topic>,
    pub(super) styles: Vec<Topic>,
    nouns: Vec<Vec<Topic>>,
    uses: Vec<Vec<Topic>>,
}

impl Directions {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let mut draw = |n: usize| -> Vec<Topic> { (0..n).map(|_| direction(rng)).collect() };
        Self {
            categories: draw(CATEGORIES.len()),
            styles: draw(STYLES.len()),
            nouns: CATEGORIES.iter().map(|c| draw(c.nouns.len())).collect(),
            uses: CATEGORIES.iter().map(|c| draw(c.uses.len())).collect(),
        }
    }

    /// The topic of an item, of about unit length.
    pub(super) fn topic(
        &self,
        category: usize,
        noun: usize,
        style: usize,
        suited: usize,
        rng: &mut ChaCha8Rng,
    ) -> Topic {
        let unsaid = direction(rng);
        let length = (1.0 + NOUN * NOUN + STYLE * STYLE + USE * USE + UNSAID * UNSAID).sqrt();
        std::array::from_fn(|d| {
            (self.categories[category][d]
                + NOUN * self.nouns[category][noun][d]
                + STYLE * self.styles[style][d]
                + USE * self.uses[category][suited][d]
                + UNSAID * unsaid[d])
                / length
        })
    }
}

/// A direction drawn uniformly.
pub(super) fn direction(rng: &mut ChaCha8Rng) -> Topic {
    let draw: Topic = std::array::from_fn(|_| normal(rng));
    let length = dot(&draw, &draw).sqrt().max(1e-12);
    draw.map(|x| x / length)
}

pub(super) fn dot(a: &Topic, b: &Topic) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A standard normal number.
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}
