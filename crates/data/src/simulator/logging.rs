//! The log: what a known policy showed, and how users answered.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};

use super::topic::{Topic, dot, normal};
use super::{START, SimulationConfig, Truth};
use crate::Events;

const DAY: i64 = 86_400;
/// Weight of what the policy believes a user likes.
const RELEVANCE: f64 = 0.6;
/// How wrong it is about users, and about items.
const USER_NOISE: f64 = 0.9;
const ITEM_NOISE: f64 = 0.2;
/// Clicks that are rated without a conversion.
pub(super) const RATED_CLICKS: f64 = 0.16;
/// When people shop: relative traffic of each hour.
const TRAFFIC: [u32; 24] = [2, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 10, 12, 14, 15, 13, 9, 5];

/// The columns of a log in the making.
#[derive(Default)]
struct Log {
    events: Events,
    times: Vec<i64>,
    requests: Vec<u32>,
    positions: Vec<u16>,
    propensities: Vec<f32>,
    clicks: Vec<f32>,
    conversions: Vec<f32>,
    ratings: Vec<f32>,
    dwells: Vec<f32>,
}

/// Simulates every user's requests. `created` is ascending.
pub(super) fn events(config: &SimulationConfig, truth: &Truth, created: &[i64], rng: &mut ChaCha8Rng) -> Events {
    let believed: Vec<Topic> =
        truth.items.iter().map(|item| item.topic.map(|x| x + ITEM_NOISE * normal(rng))).collect();
    let mut log = Log::default();
    let mut request = 0;
    for (user, of_user) in (0u32..).zip(&truth.users) {
        let taste: Topic = of_user.taste.map(|x| x + USER_NOISE * normal(rng));
        let weights = truth.items.iter().zip(&believed);
        let weights = weights.map(|(item, topic)| (RELEVANCE * dot(&taste, topic) + item.exposure).exp());
        let policy = Policy::new(weights, config.exploration);
        for time in visits(config, rng) {
            let there = created.partition_point(|&created| created <= time);
            let shown = policy.show(there, config.shown, rng);
            for (position, (item, propensity)) in (1u16..).zip(shown) {
                log.events.user.push(user);
                log.events.item.push(item);
                log.times.push(time);
                log.requests.push(request);
                log.positions.push(position);
                log.propensities.push(propensity as f32);
                log.answer(truth, user, item, position, rng);
            }
            request += 1;
        }
    }
    log.finish()
}

/// When a user asks, ascending.
fn visits(config: &SimulationConfig, rng: &mut ChaCha8Rng) -> Vec<i64> {
    let activity = (0.6 * normal(rng) - 0.18).exp();
    // At most 1000 × a bounded factor, so the rate is valid; without a rate there is the one request everybody makes.
    let more = Poisson::new((config.requests_per_user - 1.0) * activity).map_or(0.0, |poisson| poisson.sample(rng));
    let traffic: u32 = TRAFFIC.iter().sum();
    let mut times: Vec<i64> = (0..=more as usize)
        .map(|_| {
            let mut at = rng.random_range(0..traffic);
            let hour = TRAFFIC.iter().position(|&share| {
                let here = at < share;
                at = at.saturating_sub(share);
                here
            });
            let hour = hour.unwrap_or(0) as i64;
            let day = rng.random_range(0..i64::from(config.days));
            START + day * DAY + hour * 3600 + rng.random_range(0..3600)
        })
        .collect();
    times.sort_unstable();
    times
}

/// One user's logging policy. Each place is filled, with probability ε, by any item not yet shown alike; else by softmax over them.
struct Policy {
    /// Running sum of the softmax weights.
    cumulative: Vec<f64>,
    exploration: f64,
}

impl Policy {
    fn new(weights: impl Iterator<Item = f64>, exploration: f64) -> Self {
        let mut sum = 0.0;
        let cumulative = weights.map(|weight| {
            sum += weight;
            sum
        });
        Self { cumulative: cumulative.collect(), exploration }
    }

    fn weight(&self, item: usize) -> f64 {
        match item {
            0 => self.cumulative[0],
            _ => self.cumulative[item] - self.cumulative[item - 1],
        }
    }

    /// Fills `places` from the first `there` items; each with its probability of being put there, given those before it.
    fn show(&self, there: usize, places: usize, rng: &mut ChaCha8Rng) -> Vec<(u32, f64)> {
        let mut shown: Vec<(u32, f64)> = Vec::with_capacity(places);
        let total = self.cumulative[there - 1];
        let mut used = 0.0;
        for place in 0..places.min(there) {
            let item = self.draw(there, &shown, rng);
            let softmax = (self.weight(item) / (total - used)).clamp(0.0, 1.0);
            let uniform = 1.0 / (there - place) as f64;
            let propensity = (1.0 - self.exploration) * softmax + self.exploration * uniform;
            used += self.weight(item);
            shown.push((item as u32, propensity));
        }
        shown
    }

    /// An item not yet shown: by rejection, which is quick while most of the weight is left, then by listing what is left.
    fn draw(&self, there: usize, shown: &[(u32, f64)], rng: &mut ChaCha8Rng) -> usize {
        let explore = rng.random_bool(self.exploration);
        let is_new = |item: usize| shown.iter().all(|&(other, _)| other as usize != item);
        let total = self.cumulative[there - 1];
        for _ in 0..64 {
            let item = if explore {
                rng.random_range(0..there)
            } else {
                let at = rng.random::<f64>() * total;
                let item = self.cumulative[..there].partition_point(|&sum| sum <= at);
                item.min(there - 1)
            };
            if is_new(item) {
                return item;
            }
        }
        let weight = |item: usize| if explore { 1.0 } else { self.weight(item) };
        let left: f64 = (0..there).filter(|&item| is_new(item)).map(weight).sum();
        let mut at = rng.random::<f64>() * left;
        let mut last = 0;
        for item in (0..there).filter(|&item| is_new(item)) {
            last = item;
            at -= weight(item);
            if at < 0.0 {
                break;
            }
        }
        last
    }
}

impl Log {
    /// What the user does with an item that was shown.
    fn answer(&mut self, truth: &Truth, user: u32, item: u32, position: u16, rng: &mut ChaCha8Rng) {
        let click = truth.examination(position) * truth.click(user, item);
        let clicked = rng.random_bool(click.clamp(0.0, 1.0));
        let converted = clicked && rng.random_bool(truth.conversion(user, item).clamp(0.0, 1.0));
        let rated = converted || (clicked && rng.random_bool(RATED_CLICKS));
        let flag = |happened: bool| if happened { 1.0 } else { 0.0 };
        self.clicks.push(flag(clicked));
        self.conversions.push(flag(converted));
        self.ratings.push(if rated {
            let stars = truth.rating(user, item) + 0.5 * normal(rng);
            ((stars * 2.0).round() / 2.0).clamp(1.0, 5.0) as f32
        } else {
            f32::NAN
        });
        self.dwells.push(if clicked {
            let seconds = truth.dwell(user, item) * (0.6 * normal(rng)).exp();
            ((seconds * 10.0).round() / 10.0).clamp(0.1, 3600.0) as f32
        } else {
            f32::NAN
        });
    }

    fn finish(self) -> Events {
        Events {
            timestamp: Some(self.times),
            request: Some(self.requests),
            position: Some(self.positions),
            propensity: Some(self.propensities),
            feedback: BTreeMap::from([
                ("click".to_owned(), self.clicks),
                ("conversion".to_owned(), self.conversions),
                ("rating".to_owned(), self.ratings),
                ("dwell_seconds".to_owned(), self.dwells),
            ]),
            ..self.events
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn propensities_are_the_frequencies_of_what_is_shown() {
        let policy = Policy::new([1.0, 2.0, 3.0, 4.0, 50.0].into_iter(), 0.2);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        const DRAWS: u32 = 40_000;
        // The fifth item is not there yet.
        let mut first = [0.0; 4];
        let mut second_after_first_item = [0.0; 4];
        let mut propensity = [[f64::NAN; 4]; 2];
        for _ in 0..DRAWS {
            let shown = policy.show(4, 2, &mut rng);
            let [(a, p), (b, q)] = shown[..] else { panic!("two places, not {shown:?}") };
            first[a as usize] += 1.0;
            propensity[0][a as usize] = p;
            if a == 0 {
                second_after_first_item[b as usize] += 1.0;
                propensity[1][b as usize] = q;
            }
        }
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 0.02, "{found} is not {expected}");
        };
        for item in 0..4 {
            close(propensity[0][item], 0.8 * (item + 1) as f64 / 10.0 + 0.2 / 4.0);
            close(first[item] / f64::from(DRAWS), propensity[0][item]);
        }
        for item in 1..4 {
            close(propensity[1][item], 0.8 * (item + 1) as f64 / 9.0 + 0.2 / 3.0);
            close(second_after_first_item[item] / first[0], propensity[1][item]);
        }
    }

    #[test]
    fn everything_there_is_can_be_shown() {
        // Weights so far apart that rejection alone would never end.
        let policy = Policy::new([1.0, 1e-12, 1e-9, 1e-6].into_iter(), 0.0);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let shown: Vec<u32> = policy.show(4, 9, &mut rng).iter().map(|(item, _)| *item).collect();
        assert_eq!(shown, [0, 3, 2, 1]);
    }
}
