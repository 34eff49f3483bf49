//! Items: what they are, and what their sellers write about them.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::START;
use super::SimulationConfig;
use super::products::{CATEGORIES, Category};
use super::topic::{Directions, normal};
use super::truth::ItemTruth;
use super::vocabulary::{BAIT_LINES, BAIT_TITLES, GOOD, PLAIN, POOR, PROVIDER_HEADS, PROVIDER_TAILS, STYLES};
use crate::Items;

const DAY: i64 = 86_400;
/// Spread of log prices that quality explains, and that it does not.
const PRICE_BY_QUALITY: f64 = 0.45;
const PRICE_BY_CHANCE: f64 = 0.4;

/// Listings in the order they appeared, and what is true of them.
pub(super) fn items(
    config: &SimulationConfig,
    directions: &Directions,
    rng: &mut ChaCha8Rng,
) -> (Items, Vec<ItemTruth>) {
    let providers = Providers::draw(config.providers, rng);
    let mut created: Vec<i64> = (0..config.items)
        .map(|place| {
            if place < config.early_items() {
                START - rng.random_range(0..365 * DAY)
            } else {
                START + rng.random_range(0..i64::from(config.days) * DAY)
            }
        })
        .collect();
    created.sort_unstable();

    let (mut titles, mut descriptions) = (Vec::new(), Vec::new());
    let (mut offered_by, mut categories, mut prices) = (Vec::new(), Vec::new(), Vec::new());
    let mut truths = Vec::with_capacity(config.items);
    for &created in &created {
        let provider = providers.pick(rng);
        let category = rng.random_range(0..CATEGORIES.len());
        let Category { name, price, nouns, materials, uses } = &CATEGORIES[category];
        let (noun, style) = (rng.random_range(0..nouns.len()), rng.random_range(0..STYLES.len()));
        let suited = rng.random_range(0..uses.len());
        let bait = if rng.random_bool(config.bait_share) { rng.random_range(0.6..1.0) } else { 0.0 };
        let quality = 0.8 * normal(rng) + providers.quality[provider] - 0.5 * bait;
        let dearness = PRICE_BY_QUALITY * quality + PRICE_BY_CHANCE * normal(rng);
        let fresh = if created > START { 0.5 } else { 0.0 };
        truths.push(ItemTruth {
            quality,
            bait,
            dearness: dearness / PRICE_BY_QUALITY.hypot(PRICE_BY_CHANCE),
            exposure: 0.5 * providers.weights[provider].ln() + 0.5 * normal(rng) + fresh,
            topic: directions.topic(category, noun, style, suited, rng),
        });
        let listing = Listing {
            provider: &providers.names[provider],
            noun: nouns[noun],
            material: pick(materials, rng),
            suited: uses[suited],
            style,
            cues: match quality + 0.4 * normal(rng) {
                q if q > 0.6 => &GOOD,
                q if q < -0.6 => &POOR,
                _ => &PLAIN,
            },
        };
        let (title, description) = if bait > 0.0 { listing.bait(rng) } else { listing.honest(rng) };
        titles.push(Some(title));
        descriptions.push(Some(description));
        offered_by.push(Some(providers.names[provider].clone()));
        categories.push(Some((*name).to_owned()));
        prices.push(Some(((price * dearness.exp() * 100.0).round() / 100.0).max(0.5)));
    }
    let items = Items {
        ids: (1..=config.items).map(|n| format!("item-{n:05}")).collect(),
        text: BTreeMap::from([("title".to_owned(), titles), ("description".to_owned(), descriptions)]),
        provider: Some(offered_by),
        category: Some(categories),
        price: Some(prices),
        created_at: Some(created.into_iter().map(Some).collect()),
    };
    (items, truths)
}

/// Who offers: sizes follow Zipf's law, so that a few are everywhere and most are hardly seen.
struct Providers {
    names: Vec<String>,
    /// Relative size, 1 on average.
    weights: Vec<f64>,
    cumulative: Vec<f64>,
    quality: Vec<f64>,
}

impl Providers {
    fn draw(count: usize, rng: &mut ChaCha8Rng) -> Self {
        let all = PROVIDER_HEADS.len() * PROVIDER_TAILS.len();
        let names = rand::seq::index::sample(rng, all, count.min(all)).into_iter().map(|at| {
            let (head, tail) = (PROVIDER_HEADS[at % PROVIDER_HEADS.len()], at / PROVIDER_HEADS.len());
            let tail = PROVIDER_TAILS[tail];
            let space = if tail.starts_with('&') { " " } else { "" };
            format!("{head}{space}{tail}")
        });
        let names: Vec<String> = names.collect();
        let zipf: Vec<f64> = (1..=names.len()).map(|rank| 1.0 / rank as f64).collect();
        let mean = zipf.iter().sum::<f64>() / zipf.len() as f64;
        let weights: Vec<f64> = zipf.iter().map(|weight| weight / mean).collect();
        // Niche providers have a slightly smaller share of the catalogue, and much less of the exposure.
        let mut sum = 0.0;
        let cumulative = weights.iter().map(|weight| {
            sum += weight.sqrt();
            sum
        });
        Self {
            cumulative: cumulative.collect(),
            quality: names.iter().map(|_| 0.5 * normal(rng)).collect(),
            weights,
            names,
        }
    }

    fn pick(&self, rng: &mut ChaCha8Rng) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let at = rng.random::<f64>() * total;
        let place = self.cumulative.partition_point(|&sum| sum <= at);
        place.min(self.names.len().saturating_sub(1))
    }
}

/// What a seller has to write about.
struct Listing<'a> {
    provider: &'a str,
    noun: &'a str,
    material: &'a str,
    suited: &'a str,
    style: usize,
    cues: &'a [&'a str],
}

impl Listing<'_> {
    fn honest(&self, rng: &mut ChaCha8Rng) -> (String, String) {
        let Self { provider, noun, material, .. } = self;
        let adjective = self.adjective(rng);
        let title = match rng.random_range(0..3) {
            0 => format!("{provider} {adjective} {noun}, {material}"),
            1 => format!("{} {noun} - {material}", capital(adjective)),
            _ => format!("{} {noun} by {provider}", capital(adjective)),
        };
        let mut description = self.description(rng);
        if rng.random_bool(0.35) {
            let cue = pick(self.cues, rng);
            if !description.contains(cue) {
                description = format!("{description} {cue}.");
            }
        }
        (title, description)
    }

    fn bait(&self, rng: &mut ChaCha8Rng) -> (String, String) {
        let title = pick(&BAIT_TITLES, rng).replace("{}", self.noun);
        let line = pick(&BAIT_LINES, rng);
        (title, format!("{line} {}", self.description(rng)))
    }

    fn description(&self, rng: &mut ChaCha8Rng) -> String {
        let Self { material, suited, .. } = self;
        let (adjective, cue) = (self.adjective(rng), pick(self.cues, rng));
        match rng.random_range(0..4) {
            0 => format!("A {adjective} choice for {suited}. {cue}."),
            1 => format!("{cue}. {} look, ideal for {suited}.", capital(adjective)),
            2 => format!("For {suited}: {adjective}, {material}. {cue}."),
            _ => format!("{} and made for {suited}. {cue}.", capital(adjective)),
        }
    }

    fn adjective(&self, rng: &mut ChaCha8Rng) -> &'static str {
        pick(&STYLES[self.style].adjectives, rng)
    }
}

/// One of the words; none if there are none.
fn pick<'a>(words: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    words.choose(rng).copied().unwrap_or_default()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
