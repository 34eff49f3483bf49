//! Users: what they like, and what little the marketplace knows of them.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SimulationConfig;
use super::topic::{Directions, Topic, direction, normal};
use super::truth::UserTruth;
use super::vocabulary::{AGE_GROUPS, REGIONS};
use crate::{UserColumn, Users};

/// Users with a favourite category or two and a favourite style; age and region lean them a little.
pub(super) fn users(
    config: &SimulationConfig,
    directions: &Directions,
    rng: &mut ChaCha8Rng,
) -> (Users, Vec<UserTruth>) {
    let leanings = |n: usize, rng: &mut ChaCha8Rng| -> Vec<Topic> { (0..n).map(|_| direction(rng)).collect() };
    let of_age = leanings(AGE_GROUPS.len(), rng);
    let of_region = leanings(REGIONS.len(), rng);
    let (mut ages, mut regions) = (Vec::new(), Vec::new());
    let mut truths = Vec::with_capacity(config.users);
    for _ in 0..config.users {
        let age = rng.random_range(0..AGE_GROUPS.len());
        let region = rng.random_range(0..REGIONS.len());
        let first = &directions.categories[rng.random_range(0..directions.categories.len())];
        let second = &directions.categories[rng.random_range(0..directions.categories.len())];
        let style = &directions.styles[rng.random_range(0..directions.styles.len())];
        let own = direction(rng);
        let taste = std::array::from_fn(|d| {
            1.7 * first[d]
                + 1.1 * second[d]
                + 1.2 * style[d]
                + 0.8 * of_age[age][d]
                + 0.5 * of_region[region][d]
                + 0.8 * own[d]
        });
        // The young mind prices more; both ends of the age scale fall for bait a little more.
        let youth = 1.0 - age as f64 / 4.0;
        truths.push(UserTruth {
            taste,
            price_sensitivity: (0.6 * (youth - 0.5) - 0.6 + 0.4 * normal(rng)).exp(),
            bait_susceptibility: (0.55 + 0.3 * (2.0 * youth - 1.0).abs() + 0.2 * normal(rng)).clamp(0.0, 1.2),
            leniency: 0.25 * normal(rng),
        });
        ages.push(Some(AGE_GROUPS[age].to_owned()));
        regions.push(Some(REGIONS[region].to_owned()));
    }
    let users = Users {
        ids: (1..=config.users).map(|n| format!("user-{n:05}")).collect(),
        columns: BTreeMap::from([
            ("age_group".to_owned(), UserColumn::Categorical(ages)),
            ("region".to_owned(), UserColumn::Categorical(regions)),
        ]),
    };
    (users, truths)
}
