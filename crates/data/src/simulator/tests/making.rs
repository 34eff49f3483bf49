//! Seeds, files and limits.

use super::*;
use crate::{Descriptor, Split, SplitStrategy};

#[test]
fn seeds_decide_everything() {
    let run = |config| Simulation::new(config).run().unwrap();
    let (base, truth) = run(small(1));
    let (same, same_truth) = run(small(1));
    assert!(truth == same_truth && base.items == same.items && base.users == same.users);
    // Missing feedback is NaN, which equals nothing: compare bits.
    let bits =
        |data: &Dataset| -> Vec<u32> { data.events.feedback.values().flatten().map(|value| value.to_bits()).collect() };
    assert_eq!(bits(&base), bits(&same));
    assert_ne!(base.items, run(small(2)).0.items);
    // More users change no item.
    let more = SimulationConfig { users: 80, ..small(1) };
    assert_eq!(base.items, run(more).0.items);
}

#[test]
fn files_hold_the_data_and_the_truth() {
    let (folder, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dataset, truth) = write(folder.path(), &small(3)).unwrap();
    write(again.path(), &small(3)).unwrap();
    let names = ["items", "users", "events", "truth_items", "truth_users"];
    for name in names {
        let name = format!("{name}.parquet");
        let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(&name)).unwrap();
        assert_eq!(read(&folder), read(&again), "{name}");
    }
    assert_eq!(Truth::read(folder.path()).unwrap(), truth);
    let read = Dataset::read(folder.path()).unwrap();
    assert_eq!((&read.name, &read.items, &read.users), (&dataset.name, &dataset.items, &dataset.users));
    assert_eq!(read.events.item, dataset.events.item);
    assert_eq!(read.events.propensity, dataset.events.propensity);

    let (other, _) = Simulation::new(small(4)).run().unwrap();
    let mut fewer = truth;
    fewer.users.pop();
    assert!(fewer.write(folder.path(), &other).unwrap_err().to_string().contains("49 entries"));
    std::fs::write(folder.path().join("truth_items.parquet"), b"PAR1").unwrap();
    assert!(Truth::read(folder.path()).unwrap_err().to_string().contains("truth_items.parquet"));
}

#[test]
fn the_default_marketplace_is_small_enough_to_embed() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, truth) = marketplace();
    dataset.write(folder.path()).unwrap();
    truth.write(folder.path(), dataset).unwrap();
    let files = std::fs::read_dir(folder.path()).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 4_000_000, "{bytes} bytes");
}

#[test]
fn impossible_marketplaces_are_refused() {
    let check = |config: SimulationConfig, part: &str| {
        let error = Simulation::new(config).run().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let base = SimulationConfig::default;
    check(SimulationConfig { items: 11, ..base() }, "items = 11");
    check(SimulationConfig { users: 0, ..base() }, "users = 0");
    check(SimulationConfig { providers: 241, ..base() }, "1 to 240");
    check(SimulationConfig { shown: 0, ..base() }, "shown = 0");
    check(SimulationConfig { days: 0, ..base() }, "days = 0");
    check(SimulationConfig { requests_per_user: f64::NAN, ..base() }, "requests_per_user");
    check(SimulationConfig { bait_share: 1.5, ..base() }, "bait_share = 1.5");
    check(SimulationConfig { late_share: 1.0, ..base() }, "late_share = 1");
    check(SimulationConfig { exploration: -0.1, ..base() }, "exploration");
    check(SimulationConfig { position_bias: f64::INFINITY, ..base() }, "position_bias");
    // The smallest there is.
    let tiny =
        SimulationConfig { items: 1, users: 1, providers: 1, shown: 1, late_share: 0.0, exploration: 1.0, ..base() };
    assert_eq!(Simulation::new(tiny).run().unwrap().0.items.len(), 1);
}

#[test]
fn strangers_have_no_truth() {
    let (_, truth) = marketplace();
    assert!(truth.click(u32::MAX, 0).is_nan() && truth.rating(0, u32::MAX).is_nan());
}

#[test]
fn the_descriptor_names_columns_there_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/marketplace.toml");
    let descriptor = Descriptor::read(path.as_ref()).unwrap();
    let (dataset, _) = marketplace();
    let finetune = &descriptor.finetune;
    let strategy: SplitStrategy = finetune["split"].clone().try_into().unwrap();
    assert_eq!(strategy, SplitStrategy::Time { valid: 0.1, test: 0.1 });
    assert!(Split::new(dataset, &strategy).is_ok());
    let objectives = finetune["objectives"].as_array().unwrap();
    assert_eq!(objectives.len(), 4);
    for objective in objectives {
        assert!(dataset.events.feedback.contains_key(objective["column"].as_str().unwrap()));
    }
    for field in ["title", "description"] {
        assert!(dataset.items.text.contains_key(field));
        assert!(finetune["template"].as_str().unwrap().contains(field));
    }
    assert_eq!(descriptor.name, dataset.name);
}
