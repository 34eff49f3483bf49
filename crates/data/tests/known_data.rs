//! The descriptors in `datasets/` against the real files, where they are at hand.

use std::path::{Path, PathBuf};

use paretune_data::{CleaningReport, Dataset, Descriptor, ImportOptions, UserColumn, import};

/// Imports one of the known data sets; `None` where its files are not at hand.
fn known(name: &str) -> Option<(Dataset, CleaningReport)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let descriptor =
        Descriptor::read(&root.join(format!("datasets/{name}.toml"))).expect("the descriptor is well formed");
    assert_eq!(descriptor.name, name);
    let from: PathBuf = root.join("../shared/data").join(name);
    if !from.exists() {
        eprintln!("skipped: {} is not there", from.display());
        return None;
    }
    let options = ImportOptions { max_bad_share: 0.0, ..ImportOptions::default() };
    let (dataset, report) = import(&descriptor, &from, options).expect("the data is clean");
    println!("{report}");
    for file in &report.files {
        assert_eq!(file.bad(), 0, "{file:?}");
        assert_eq!(file.read, file.kept + file.repeated + file.merged);
    }
    Some((dataset, report))
}

fn observed(dataset: &Dataset, feedback: &str) -> usize {
    let column = &dataset.events.feedback[feedback];
    column.iter().filter(|value| !value.is_nan()).count()
}

#[test]
fn every_descriptor_is_well_formed_and_says_how_to_train() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let descriptor = Descriptor::read(&path).unwrap();
            for key in ["template", "split", "engaged", "objectives"] {
                assert!(descriptor.finetune.contains_key(key), "{}: {key}", path.display());
            }
            assert!(!descriptor.licence.is_empty());
            found += 1;
        }
    }
    assert!(found >= 4);
}

#[test]
fn movielens_small() {
    let Some((dataset, _)) = known("movielens-small") else {
        return;
    };
    assert_eq!((dataset.items.len(), dataset.users.len(), dataset.events.len()), (9_742, 610, 100_836));
    assert_eq!(observed(&dataset, "rating"), 100_836);
    assert_eq!(dataset.items.field(0, "title"), Some("Toy Story (1995)"));
    assert_eq!(dataset.items.field(0, "genres"), Some("Adventure, Animation, Children, Comedy, Fantasy"));
    assert_eq!(dataset.items.field(0, "category"), Some("Adventure"));
    let times = dataset.events.timestamp.unwrap();
    assert_eq!(times.iter().min(), Some(&828_124_615));
}

#[test]
fn steam() {
    let Some((dataset, report)) = known("steam") else {
        return;
    };
    assert_eq!((dataset.items.len(), dataset.users.len(), dataset.events.len()), (5_155, 12_393, 128_804));
    let [buys, plays] = &report.files[1..] else { panic!("{report}") };
    assert_eq!((buys.read, buys.kept, buys.repeated), (129_511, 128_804, 707));
    assert_eq!((plays.read, plays.kept), (70_489, 0));
    let seconds = &dataset.events.feedback["dwell_seconds"];
    assert_eq!(seconds[0], 273.0 * 3_600.0);
}

#[test]
fn bookcrossing() {
    let Some((dataset, report)) = known("bookcrossing") else {
        return;
    };
    assert_eq!((dataset.items.len(), dataset.users.len(), dataset.events.len()), (17_384, 2_946, 272_678));
    assert_eq!(observed(&dataset, "click"), 272_678);
    assert_eq!(observed(&dataset, "rating"), 62_656);
    assert_eq!(report.files[3].merged, 62_656);
    let item = |id: &str| dataset.items.ids.iter().position(|there| there == id).unwrap() as u32;
    assert_eq!(dataset.items.field(item("2"), "publisher"), Some("W. W. Norton & Company"));
    assert_eq!(dataset.items.field(item("218"), "author"), Some("Antoine de Saint-Exupéry"));
    assert_eq!(dataset.items.field(item("103"), "title"), Some("Neun Erzählungen."));
    assert_eq!(dataset.items.field(item("13550"), "title"), Some("Dream Secrets Unlocking the Mystery of Your Dream"));
    for column in dataset.items.text.values() {
        let left = column.iter().flatten().find(|text| text.contains("&amp") || text.contains('\t'));
        assert_eq!(left, None);
    }
    let UserColumn::Categorical(country) = &dataset.users.columns["country"] else { panic!() };
    assert_eq!(country[0].as_deref(), Some("usa"));
    // "king of prussia, ,"
    assert_eq!(country[5], None);
}

#[test]
fn amazon_beauty() {
    let Some((dataset, _)) = known("amazon-beauty") else {
        return;
    };
    assert_eq!((dataset.items.len(), dataset.users.len(), dataset.events.len()), (12_101, 22_363, 198_502));
    assert_eq!(dataset.items.field(0, "title"), Some("rene furterer complexe 5"));
    assert_eq!(dataset.users.ids[0], "A1YJEY40YUW4SE");
    assert_eq!(dataset.events.timestamp.unwrap()[..3], [1, 2, 3]);
}
