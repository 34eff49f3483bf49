//! What a model takes from one that was trained on other data.

use std::path::Path;

use candle_core::{Device, Tensor};
use paretune_data::{Split, UserColumn};
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{Corpus, ItemVectors, Recommender, RecommenderConfig, Start, Taken, UserConfig, UserKind};

use crate::world::{self, TIME};

/// The same simulated log with columns of users that the other does not have, and without prices and providers.
fn other_corpus() -> Corpus {
    let mut dataset = world::dataset();
    let users = dataset.users.ids.len();
    dataset.users.columns.clear();
    dataset.users.columns.insert("age".into(), UserColumn::Numeric((0..users).map(|at| Some(at as f64)).collect()));
    (dataset.items.price, dataset.items.provider) = (None, None);
    let split = Split::new(&dataset, &TIME).unwrap();
    world::corpus_of(dataset, split)
}

fn disturb(model: &Recommender) {
    for (_, var) in model.parameters().all() {
        var.set(&var.as_tensor().affine(1.1, 0.02).unwrap()).unwrap();
    }
}

/// A trained model for the first data set, saved.
fn saved(dir: &Path, corpus: &Corpus, vectors: ItemVectors, kind: UserKind) -> Recommender {
    let mut model = world::of_kind(corpus, vectors, kind, &world::objectives());
    disturb(&model);
    model.name_features(corpus.feature_names());
    model.save(dir, &world::files()).unwrap();
    model
}

fn of(model: &Recommender, name: &str) -> Tensor {
    let all = model.parameters().all();
    let (_, var) = all.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("no {name}"));
    var.as_tensor().copy().unwrap()
}

/// Which of a model's values are bit for bit those of another.
fn same(a: &Tensor, b: &Tensor) -> bool {
    let bits = |tensor: &Tensor| -> Vec<u32> { world::values(tensor).into_iter().map(f32::to_bits).collect() };
    a.dims() == b.dims() && bits(a) == bits(b)
}

fn fresh(taken: &Taken, name: &str) -> String {
    taken.fresh.iter().find(|fresh| fresh.name == name).unwrap_or_else(|| panic!("{name} was taken")).why.clone()
}

#[test]
fn what_it_says_is_taken_is_taken_bit_for_bit_and_nothing_else_is() {
    for kind in UserKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let (corpus, other) = (world::corpus_for(kind), other_corpus());
        let first = saved(dir.path(), &corpus, world::text(), kind);
        let mut model = world::of_kind(&other, world::text(), kind, &world::objectives());
        model.name_features(other.feature_names());
        let before: Vec<(String, Tensor)> =
            model.parameters().all().into_iter().map(|(name, var)| (name, var.as_tensor().copy().unwrap())).collect();
        let taken = Start::read(dir.path()).unwrap().take(&mut model).unwrap();
        assert!(taken.whole.iter().any(|name| name == "items.text.weight"), "{kind:?}: {taken:?}");
        assert!(taken.whole.iter().any(|name| name.starts_with("towers.dwell.")), "{kind:?}");
        for (name, before) in &before {
            let now = of(&model, name);
            let columns = taken.columns.iter().find(|columns| columns.name == *name);
            if taken.whole.contains(name) {
                assert!(same(&now, &of(&first, name)), "{kind:?}: {name}");
            } else if let Some(columns) = columns {
                assert!(!columns.taken.is_empty(), "{kind:?}: {columns:?}");
                columns_are_taken(&corpus, &other, &now, &of(&first, name), name);
            } else {
                // The encoder is the caller's; everything else is said to be fresh.
                assert!(
                    taken.fresh.iter().any(|fresh| fresh.name == *name)
                        || !name.contains('.')
                        || is_encoder(&model, name)
                );
                assert!(same(&now, before), "{kind:?}: {name} moved");
            }
        }
        let rows = taken.fresh.iter().filter(|fresh| fresh.why.contains("ids mean other"));
        assert_eq!(rows.count() > 0, matches!(kind, UserKind::Factors | UserKind::Graph), "{kind:?}: {taken:?}");
        assert!(taken.describe().iter().all(|line| line.ends_with('.')));
    }
}

fn is_encoder(model: &Recommender, name: &str) -> bool {
    model.parameters().backbone.iter().any(|(own, _)| own == name)
}

fn columns_are_taken(corpus: &Corpus, other: &Corpus, now: &Tensor, first: &Tensor, name: &str) {
    let (theirs, ours) = (corpus.feature_names(), other.feature_names());
    let (theirs, ours) = match name {
        "items.features.weight" => (theirs.items, ours.items),
        "users.event.weight" => (theirs.events, ours.events),
        _ => (theirs.users, ours.users),
    };
    let (now, first): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (now.to_vec2().unwrap(), first.to_vec2().unwrap());
    let (begin, width) = (first[0].len() - theirs.len(), now[0].len() - ours.len());
    assert_eq!(begin, width);
    for (now, first) in now.iter().zip(&first) {
        assert_eq!(now[..begin], first[..begin]);
        for (at, feature) in ours.iter().enumerate() {
            let expected = theirs.iter().position(|name| name == feature).map_or(0.0, |place| first[begin + place]);
            assert_eq!(now[begin + at].to_bits(), expected.to_bits(), "{name}: {feature}");
        }
    }
}

#[test]
fn what_means_something_else_is_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = world::corpus();
    saved(dir.path(), &corpus, world::text(), UserKind::Attention);
    let start = Start::read(dir.path()).unwrap();

    // An objective of another kind, one that is not there, and a user model of another kind with layers of the same shape.
    let objectives = Objectives::new(vec![
        Objective::new("click", Kind::Regression, "rating"),
        Objective::new("liked", Kind::Binary, "click"),
        Objective::new("dwell", Kind::LogRegression, "dwell_seconds"),
    ])
    .unwrap();
    let mut model = world::of_kind(&corpus, world::text(), UserKind::Mean, &objectives);
    model.name_features(corpus.feature_names());
    let taken = start.take(&mut model).unwrap();
    assert!(fresh(&taken, "towers.click.0.weight").contains("another kind"));
    assert!(fresh(&taken, "towers.liked.0.weight").contains("no objective `liked`"));
    assert!(fresh(&taken, "users.out.weight").contains("attention"));
    assert!(taken.whole.iter().any(|name| name == "towers.dwell.0.weight"));
    assert!(taken.is_partial());
    // A regression without labels of its own is answered in the other's unit.
    start.take_scales(&mut model).unwrap();
    let said = serde_json::to_value(start.objectives().unwrap().as_slice()).unwrap();
    assert_eq!(said[0]["name"], "click");

    // Another width: the projection does not fit, and nothing above it.
    let user = UserConfig { heads: 2, ..UserConfig::default() };
    let config = RecommenderConfig { dim: 10, user, ..world::config(&corpus, UserKind::Attention) };
    let mut narrow = Recommender::new(config, world::text(), &world::objectives(), 5, &Device::Cpu).unwrap();
    let taken = start.take(&mut narrow).unwrap();
    assert!(fresh(&taken, "items.text.weight").contains("[10, 16], there [12, 16]"));
    assert!(fresh(&taken, "items.features.weight").contains("shape"), "{taken:?}");
}

#[test]
fn ids_are_no_start() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = world::corpus();
    saved(dir.path(), &corpus, world::ids(&corpus), UserKind::Attention);
    let refused = Start::read(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("only a model that reads texts"), "{refused}");
    assert!(Start::read(&dir.path().join("nowhere")).err().unwrap().to_string().contains("nowhere"));

    // Nor can a model of ids take anything; one of both takes everything but its ids.
    saved(dir.path(), &corpus, world::text(), UserKind::Attention);
    let start = Start::read(dir.path()).unwrap();
    assert!(start.take(&mut world::model(&corpus, world::ids(&corpus))).is_err());
    let mut hybrid = world::model(&corpus, world::hybrid());
    hybrid.name_features(corpus.feature_names());
    let table = of(&hybrid, "items.table");
    let taken = start.take(&mut hybrid).unwrap();
    assert!(fresh(&taken, "items.table").contains("ids mean other items"));
    assert!(same(&table, &of(&hybrid, "items.table")));
    assert!(taken.columns.is_empty(), "the same data has the same features: {taken:?}");
}
