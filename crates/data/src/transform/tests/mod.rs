use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::small_log::{ITEMS, Row, USERS, dataset};
use crate::{SplitStrategy, UserColumn};

mod fitting;
mod parts;
mod saving;
mod specs;
mod values;

/// One feature of each kind, of each side where there are sides.
const ALL: &str = r#"
    [[features]]
    name = "age"
    kind = "numeric"
    of = "user"
    column = "age"

    [[features]]
    name = "price"
    kind = "numeric"
    of = "item"
    column = "price"
    normalise = "log"

    [[features]]
    name = "rank"
    kind = "numeric"
    of = "item"
    column = "price"
    normalise = "quantile"

    [[features]]
    name = "hour"
    kind = "numeric"
    of = "event-context"
    column = "hour"
    normalise = "none"

    [[features]]
    name = "price bucket"
    kind = "bucket"
    of = "item"
    column = "price"
    buckets = 3

    [[features]]
    name = "region"
    kind = "category"
    of = "user"
    column = "region"
    vocabulary = 2

    [[features]]
    name = "provider"
    kind = "category"
    of = "item"
    column = "provider"
    hash = 50
    seed = 3

    [[features]]
    name = "weekday"
    kind = "category"
    of = "event-context"
    column = "weekday"
    vocabulary = 7

    [[features]]
    name = "provider and price"
    kind = "cross"
    of = ["provider", "price bucket"]
    hash = 40

    [[features]]
    name = "region and provider"
    kind = "cross"
    of = ["provider", "weekday", "region"]
    hash = 1000
    seed = 9

    [[features]]
    name = "last providers"
    kind = "recent"
    column = "provider"
    last = 3
    hash = 20
"#;

fn specs(text: &str) -> Vec<FeatureSpec> {
    let mut config: BTreeMap<String, Vec<FeatureSpec>> = toml::from_str(text).unwrap();
    config.remove("features").unwrap()
}

/// A small log whose users have columns.
fn log(rows: &[Row]) -> Dataset {
    let mut data = dataset(rows);
    let ages = (0..USERS).map(|user| (user != 2).then_some(20.0 + f64::from(user * user)));
    let regions = ["north", "south", "north", "east", ""].map(|region| Some(region.to_owned()));
    data.users.columns = BTreeMap::from([
        ("age".to_owned(), UserColumn::Numeric(ages.collect())),
        ("region".to_owned(), UserColumn::Categorical(regions.to_vec())),
    ]);
    data
}

fn fit(data: &Dataset, split: &Split, specs: &[FeatureSpec]) -> Result<Transforms, DataError> {
    let histories = Histories::new(data, split, "click")?;
    Transforms::fit(data, split, &histories, specs)
}

fn strategies() -> impl Strategy<Value = SplitStrategy> {
    prop_oneof![
        Just(SplitStrategy::Time { valid: 0.2, test: 0.2 }),
        Just(SplitStrategy::LeaveLast),
        (0u64..9).prop_map(|seed| SplitStrategy::Random { valid: 0.2, test: 0.2, seed }),
        (0u64..9).prop_map(|seed| SplitStrategy::ColdItems { valid: 0.2, test: 0.2, seed }),
    ]
}

/// Numbers (as bits) and indices that one call appends.
fn written(write: impl FnOnce(&mut Vec<f32>, &mut Vec<u32>)) -> (Vec<u32>, Vec<u32>) {
    let (mut numeric, mut categories) = (Vec::new(), Vec::new());
    write(&mut numeric, &mut categories);
    (numeric.into_iter().map(f32::to_bits).collect(), categories)
}

fn everything(transforms: &Transforms, clock: i64) -> Vec<(Vec<u32>, Vec<u32>)> {
    // One user and one item more than there are.
    let pairs = (0..=USERS).flat_map(|user| (0..=ITEMS).map(move |item| (user, item)));
    pairs.map(|(user, item)| written(|n, c| transforms.apply(user, item, clock, n, c))).collect()
}
