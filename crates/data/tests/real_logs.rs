//! Splits and behaviour features on the real logs, where they are at hand.

use std::path::Path;

use paretune_data::leaks::{self, LeakThresholds};
use paretune_data::{
    Behaviour, BehaviourConfig, Dataset, Descriptor, Histories, ImportOptions, Part, Split, SplitStrategy, import,
};

/// Imports a known data set and splits it as its descriptor says; `None` where its files are not at hand.
fn known(name: &str) -> Option<(Dataset, Split)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let from = root.join("../shared/data").join(name);
    if !from.exists() {
        eprintln!("skipped: {} is not there", from.display());
        return None;
    }
    let descriptor = root.join(format!("datasets/{name}.toml"));
    let descriptor = Descriptor::read(&descriptor).expect("the descriptor is well formed");
    let (dataset, _) = import(&descriptor, &from, ImportOptions::default()).expect("the data is clean");
    let strategy: SplitStrategy =
        descriptor.finetune["split"].clone().try_into().expect("the descriptor names a split");
    let split = Split::new(&dataset, &strategy).expect("there is enough data for every part");
    Some((dataset, split))
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let (a, b) = pairs.iter().fold((0.0, 0.0), |(a, b), p| (a + p.0 / n, b + p.1 / n));
    let moment = |f: &dyn Fn(f64, f64) -> f64| -> f64 { pairs.iter().map(|p| f(p.0 - a, p.1 - b)).sum() };
    moment(&|a, b| a * b) / (moment(&|a, _| a * a) * moment(&|_, b| b * b)).sqrt()
}

#[test]
fn past_ratings_foretell_later_ones_of_movielens() {
    let Some((dataset, split)) = known("movielens-small") else {
        return;
    };
    assert!(split.has_real_times());
    let test = split.rows(Part::Test);
    let share = test.len() as f64 / dataset.events.len() as f64;
    assert!((0.09..0.11).contains(&share), "{share}");

    let config = BehaviourConfig { engaged: "click".to_owned(), feedback: vec!["rating".to_owned()] };
    let behaviour = Behaviour::fit(&dataset, &split, config).expect("the columns are there");
    let feature = |names: &[String], name: &str| names.iter().position(|n| n == name);
    let of_item = feature(behaviour.item_names(), "item.rating.mean").expect("a rating feature");
    let of_user = feature(behaviour.user_names(), "user.rating.mean").expect("a rating feature");
    let (mut item, mut user) = (Vec::new(), Vec::new());
    for row in test.iter().map(|&row| row as usize) {
        let rating = f64::from(dataset.events.feedback["rating"][row]);
        let mut out = Vec::new();
        behaviour.item(dataset.events.item[row], split.clock[row], &mut out);
        item.push((f64::from(out[of_item]), rating));
        out.clear();
        behaviour.user(dataset.events.user[row], split.clock[row], &mut out);
        user.push((f64::from(out[of_user]), rating));
    }
    let (item, user) = (correlation(&item), correlation(&user));
    assert!(item > 0.15, "mean rating of the item: {item}");
    assert!(user > 0.05, "mean rating of the user: {user}");
}

#[test]
fn every_user_of_beauty_has_one_test_event_and_a_history() {
    let Some((dataset, split)) = known("amazon-beauty") else {
        return;
    };
    assert!(!split.has_real_times());
    let test = split.rows(Part::Test);
    assert_eq!(test.len(), 22_363);
    let histories = Histories::new(&dataset, &split, "click").expect("the column is there");
    for row in test.iter().map(|&row| row as usize) {
        let user = dataset.events.user[row];
        let history = histories.before(user, split.clock[row], usize::MAX, true);
        // Five events or more each; the two newest are held out.
        assert!(history.len() >= 3);
        let newest = split.clock[history[0] as usize];
        assert_eq!(newest, split.clock[row] - 2);
    }
}

#[test]
fn honest_logs_have_no_leaks() {
    let objectives = [
        ("movielens-small", &["click", "rating"][..]),
        ("bookcrossing", &["click", "rating"]),
        ("steam", &["conversion", "dwell_seconds"]),
        ("amazon-beauty", &["click"]),
    ];
    for (name, objectives) in objectives {
        let Some((dataset, split)) = known(name) else {
            continue;
        };
        let found =
            leaks::check(&dataset, &split, objectives, &LeakThresholds::default()).expect("the columns are there");
        let found: Vec<String> = found.iter().map(leaks::Leak::to_string).collect();
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}
