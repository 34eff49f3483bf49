//! What the features are.

use super::*;
use crate::UserColumn;
use crate::small_log::{ITEMS, NOON, Row, USERS, dataset, rows};

proptest! {
    #[test]
    fn running_totals_agree_with_counting(log in rows(), item in 0..ITEMS, at in 0i64..220_000) {
        let data = dataset(&log);
        let split = Split::new(&data, &SplitStrategy::Random { valid: 0.2, test: 0.2, seed: 2 }).unwrap();
        let behaviour = Behaviour::fit(&data, &split, columns()).unwrap();
        let clock = NOON + at;
        let past: Vec<Row> = split
            .rows(Part::Train)
            .into_iter()
            .map(|row| log[row as usize])
            .filter(|row| NOON + row.2 < clock)
            .collect();
        let own: Vec<Row> = past.iter().copied().filter(|row| row.1 == item).collect();
        let clicks = |rows: &[Row]| rows.iter().filter(|row| row.3).count() as f64;
        let rated = |rows: &[Row]| -> Vec<f64> {
            rows.iter().filter(|row| row.4 > 0).map(|row| f64::from(row.4).ln_1p()).collect()
        };
        let relative = |own: f64, all: f64| ((own + 1.0) / (all / f64::from(ITEMS) + 1.0)).ln();
        let overall = (clicks(&past) + 1.0) / (past.len() as f64 + 2.0);
        let rate = (clicks(&own) + 10.0 * overall) / (own.len() as f64 + 10.0);
        let (all_rated, own_rated) = (rated(&past), rated(&own));
        let mean = if all_rated.is_empty() { 0.0 } else { all_rated.iter().sum::<f64>() / all_rated.len() as f64 };
        let own_mean = (own_rated.iter().sum::<f64>() + 5.0 * mean) / (own_rated.len() as f64 + 5.0);
        let last = own.iter().filter(|row| row.3).map(|row| row.2).max();
        let expected = [
            relative(own.len() as f64, past.len() as f64),
            relative(clicks(&own), clicks(&past)),
            (rate / overall).ln(),
            last.map_or(f64::NAN, |last| ((at - last) as f64 / 86_400.0).ln_1p()),
            f64::from(u8::from(last.is_none())),
            own_mean - mean,
            relative(own_rated.len() as f64, all_rated.len() as f64),
        ];
        let mut raw = Vec::new();
        behaviour.item_raw(item, clock, &mut raw);
        for (found, expected) in raw.iter().zip(expected) {
            let same = (found.is_nan() && expected.is_nan()) || (found - expected).abs() < 1e-9;
            prop_assert!(same, "{:?} is not {:?}", raw, expected);
        }
    }

    #[test]
    fn values_are_finite_and_clipped(log in rows(), clock: i64, wild in proptest::collection::vec(any::<f32>(), 60)) {
        let mut data = dataset(&log);
        data.events.feedback.insert("wild".to_owned(), wild[..log.len()].to_vec());
        let numbers = (0..USERS).map(|u| Some(f64::from(wild[u as usize]) * 1e200)).collect();
        data.users.columns.insert("number".to_owned(), UserColumn::Numeric(numbers));
        let split = Split::new(&data, &SplitStrategy::Random { valid: 0.2, test: 0.2, seed: 2 }).unwrap();
        let mut config = columns();
        config.feedback.push("wild".to_owned());
        let behaviour = Behaviour::fit(&data, &split, config).unwrap();
        for clock in [clock, i64::MIN, i64::MAX, NOON + 70_000] {
            for n in 0..ITEMS + 2 {
                let mut out = Vec::new();
                behaviour.item(n, clock, &mut out);
                prop_assert_eq!(out.len(), behaviour.item_names().len());
                behaviour.user(n, clock, &mut out);
                behaviour.context(clock, &mut out);
                prop_assert!(out.iter().all(|x| x.abs() <= 5.0), "{:?}", out);
            }
        }
    }
}

#[test]
fn train_rows_have_mean_zero_and_deviation_one() {
    let (data, split, behaviour) = marketplace();
    let mut table: Vec<Vec<f32>> = Vec::new();
    for row in split.rows(Part::Train) {
        let mut out = Vec::new();
        behaviour.item(data.events.item[row as usize], split.clock[row as usize], &mut out);
        table.push(out);
    }
    let n = table.len() as f64;
    for (f, name) in behaviour.item_names().iter().enumerate() {
        if name.ends_with("missing") || name.ends_with("never_engaged") {
            assert!(table.iter().all(|row| row[f] == 0.0 || row[f] == 1.0), "{name}");
            continue;
        }
        let mean = table.iter().map(|row| f64::from(row[f])).sum::<f64>() / n;
        let square = table.iter().map(|row| f64::from(row[f]).powi(2)).sum::<f64>() / n;
        // Missing values sit at the mean, and clipping cuts tails.
        assert!(mean.abs() < 0.05, "{name}: mean {mean}");
        assert!((0.5..1.1).contains(&square), "{name}: square {square}");
    }
}

#[test]
fn a_snapshot_is_the_end_of_the_log() {
    let (data, _, behaviour) = marketplace();
    let text = serde_json::to_string(&behaviour.snapshot()).unwrap();
    let snapshot: BehaviourSnapshot = serde_json::from_str(&text).unwrap();
    let end = behaviour.end();
    assert_eq!(snapshot.end(), end);
    assert_eq!(snapshot.item_names(), behaviour.item_names());
    assert_eq!(snapshot.user_names(), behaviour.user_names());
    assert_eq!(snapshot.context_names(), behaviour.context_names());
    for item in 0..data.items.len() as u32 + 2 {
        assert_eq!(bits32(|out| snapshot.item(item, out)), bits32(|out| behaviour.item(item, end, out)));
    }
    for user in 0..data.users.len() as u32 + 2 {
        assert_eq!(bits32(|out| snapshot.user(user, out)), bits32(|out| behaviour.user(user, end, out)));
    }
    assert_eq!(bits32(|out| snapshot.context(end, out)), bits32(|out| behaviour.context(end, out)));
    assert_eq!(bits32(|out| snapshot.new_user(out)), bits32(|out| behaviour.new_user(out)));
    let provider = data.items.field(7, "provider");
    for item in [
        NewItem::default(),
        NewItem { provider, category: Some("Garden"), price: Some(31.5) },
        NewItem { provider: Some("nobody"), category: None, price: Some(f64::NAN) },
    ] {
        assert_eq!(bits32(|out| snapshot.new_item(&item, out)), bits32(|out| behaviour.new_item(&item, out)));
    }
    let known = NewItem { provider, ..NewItem::default() };
    assert_ne!(bits32(|out| snapshot.new_item(&known, out)), bits32(|out| snapshot.new_item(&NewItem::default(), out)));
}

#[test]
fn user_columns_become_numbers_levels_and_buckets() {
    let log: Vec<Row> = (0..25).map(|n| (n / 5, n % 7, i64::from(n), true, 0)).collect();
    let mut data = dataset(&log);
    let text =
        |values: [Option<&str>; 5]| UserColumn::Categorical(values.iter().map(|v| v.map(str::to_owned)).collect());
    data.users
        .columns
        .insert("age".to_owned(), UserColumn::Numeric(vec![Some(20.0), None, Some(40.0), Some(30.0), Some(30.0)]));
    data.users.columns.insert("region".to_owned(), text([Some("b"), Some("a"), None, Some("b"), Some("a")]));
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let behaviour = Behaviour::fit(&data, &split, columns()).unwrap();
    let first = behaviour.user_names().iter().position(|name| name == "user.age").unwrap();
    assert_eq!(behaviour.user_names()[first..], ["user.age", "user.age.missing", "user.region=a", "user.region=b"]);
    let of = |user| {
        let mut out = Vec::new();
        behaviour.user(user, behaviour.end(), &mut out);
        out[first..].to_vec()
    };
    // Ages have mean 30 and variance 200/4 over the train rows that know them.
    let unit = (10.0 / 50f64.sqrt()) as f32;
    assert!((of(0)[0] + unit).abs() < 1e-6 && of(0)[1..] == [0.0, 0.0, 1.0], "{:?}", of(0));
    assert_eq!(of(1), [0.0, 1.0, 1.0, 0.0]);
    assert_eq!(of(2)[1..], [0.0, 0.0, 0.0]);
    assert_eq!(of(99), [0.0, 1.0, 0.0, 0.0]);

    // Many levels are hashed: one bucket of 16 is hot for everybody, seen or not.
    let ids: Vec<Row> = (0..60).map(|n| (n / 3, n % 7, i64::from(n), true, 0)).collect();
    let mut data = dataset(&ids);
    data.users.ids = (0..20).map(|n| format!("u{n}")).collect();
    let cities = (0..20).map(|n| Some(format!("city {n}"))).collect();
    data.users.columns.insert("city".to_owned(), UserColumn::Categorical(cities));
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let behaviour = Behaviour::fit(&data, &split, columns()).unwrap();
    let first = behaviour.user_names().len() - 16;
    let mut out = Vec::new();
    behaviour.user(3, behaviour.end(), &mut out);
    assert_eq!(out[first..].iter().sum::<f32>(), 1.0);
}

#[test]
fn moments_lie_on_a_circle() {
    let (_, _, behaviour) = marketplace();
    let at = |clock| {
        let mut out = Vec::new();
        behaviour.context(clock, &mut out);
        out
    };
    // 1970 began on a Thursday at midnight; six hours later the sine is 1.
    assert_eq!(at(0), [0.0, 1.0, 0.0, 1.0]);
    assert!((at(6 * 3600)[0] - 1.0).abs() < 1e-6);
    assert_eq!(at(7 * 86_400), at(0));
    assert_eq!(at(-86_400)[2..], at(6 * 86_400)[2..]);
    assert_eq!(behaviour.context_names().len(), 4);
}

#[test]
fn without_times_there_is_no_context() {
    let log: Vec<Row> = (0..25).map(|n| (n / 5, n % 7, i64::from(n), true, 0)).collect();
    let mut data = dataset(&log);
    data.events.timestamp = None;
    let split = Split::new(&data, &SplitStrategy::Random { valid: 0.1, test: 0.1, seed: 0 }).unwrap();
    let behaviour = Behaviour::fit(&data, &split, columns()).unwrap();
    assert!(bits32(|out| behaviour.context(5, out)).is_empty() && behaviour.context_names().is_empty());
    assert!(!behaviour.item_names().iter().any(|name| name.contains("log_age")));
}

#[test]
fn wrong_columns_are_named() {
    let data = dataset(&[(0, 1, 0, true, 0), (0, 1, 1, true, 0), (0, 1, 2, true, 0)]);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let mut config = columns();
    config.feedback.push("stars".to_owned());
    let error = Behaviour::fit(&data, &split, config).unwrap_err().to_string();
    assert!(error.contains("\"stars\"") && error.contains("click, rating"), "{error}");
}

#[test]
fn silence_says_nothing_of_anybody() {
    let silent = Behaviour::silent(columns());
    let mut out = Vec::new();
    silent.item(3, NOON, &mut out);
    silent.user(1, NOON, &mut out);
    silent.context(NOON, &mut out);
    silent.new_user(&mut out);
    silent.new_item(&NewItem::default(), &mut out);
    assert!(out.is_empty() && silent.item_names().is_empty() && silent.user_names().is_empty());
    assert!(silent.context_names().is_empty());
    assert_eq!((silent.config(), silent.end()), (&columns(), 0));
}
