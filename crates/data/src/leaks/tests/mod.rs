use super::*;
use crate::simulator::{Simulation, SimulationConfig};
use crate::{DataError, FeatureSpec, Histories, SplitStrategy, UserColumn};

mod future;
mod labels;
mod measures;

const OBJECTIVES: [&str; 4] = ["click", "conversion", "rating", "dwell_seconds"];

fn marketplace() -> (Dataset, Split) {
    let config = SimulationConfig { items: 300, users: 300, ..SimulationConfig::default() };
    let (data, _) = Simulation::new(config).run().unwrap();
    let split = Split::new(&data, &SplitStrategy::Time { valid: 0.1, test: 0.1 }).unwrap();
    (data, split)
}

fn found(data: &Dataset, split: &Split) -> Vec<Leak> {
    check(data, split, &OBJECTIVES, &LeakThresholds::default()).unwrap()
}

fn numbers(values: impl IntoIterator<Item = f64>) -> UserColumn {
    UserColumn::Numeric(values.into_iter().map(Some).collect())
}

fn texts(values: impl IntoIterator<Item = f64>) -> Vec<Option<String>> {
    values.into_iter().map(|value| Some(value.to_string())).collect()
}

/// Sum of a feedback column for each user or item, over the rows that `counts` says.
fn sums(of: &[u32], entities: usize, column: &[f32], counts: impl Fn(usize) -> bool) -> Vec<f64> {
    let mut sums = vec![0.0; entities];
    for (row, (entity, value)) in of.iter().zip(column).enumerate() {
        if counts(row) && !value.is_nan() {
            sums[*entity as usize] += f64::from(*value);
        }
    }
    sums
}

#[test]
fn an_honest_marketplace_leaks_nothing() {
    let (mut data, split) = marketplace();
    assert_eq!(found(&data, &split), []);
    // Nor where items are held out, and users and items have columns of their own.
    let ages = data.users.columns["age_group"].clone();
    data.users.columns.insert("again".to_owned(), ages);
    let prices = data.items.price.clone().unwrap();
    data.items.text.insert("list_price".to_owned(), prices.iter().map(|price| price.map(|p| p.to_string())).collect());
    for strategy in [
        SplitStrategy::Random { valid: 0.2, test: 0.2, seed: 1 },
        SplitStrategy::ColdItems { valid: 0.2, test: 0.2, seed: 1 },
    ] {
        let split = Split::new(&data, &strategy).unwrap();
        assert_eq!(found(&data, &split), [], "{strategy:?}");
    }
}

#[test]
fn wrong_questions_are_refused() {
    let (data, split) = marketplace();
    let error = check(&data, &split, &["clicks"], &LeakThresholds::default()).unwrap_err().to_string();
    assert!(error.contains("\"clicks\"") && error.contains("click, conversion"), "{error}");
    let defaults = LeakThresholds::default;
    let bounds = |warn, refuse| Bounds { warn, refuse };
    let cases = [
        (LeakThresholds { auc: bounds(0.4, 1.0), ..defaults() }, "auc.warn = 0.4"),
        (LeakThresholds { auc: bounds(f64::NAN, 1.0), ..defaults() }, "auc.warn = NaN"),
        (LeakThresholds { rank: bounds(0.9, 0.8), ..defaults() }, "rank.refuse = 0.8"),
        (LeakThresholds { future: bounds(0.0, 0.8), ..defaults() }, "future.warn = 0"),
        (LeakThresholds { beyond: bounds(0.5, f64::INFINITY), ..defaults() }, "beyond.refuse = inf"),
        (LeakThresholds { same: 0.0, ..defaults() }, "same = 0"),
        (LeakThresholds { rows: 3, ..defaults() }, "rows = 3"),
    ];
    for (thresholds, expected) in cases {
        let error = check(&data, &split, &OBJECTIVES, &thresholds).unwrap_err();
        assert!(matches!(error, DataError::LeakThreshold { .. }) && error.to_string().contains(expected), "{error}");
    }
}
