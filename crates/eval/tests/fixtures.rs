//! Our numbers against those of scikit-learn, pymoo and plain Python, stored by `fixtures/make_metrics.py`.

use std::collections::BTreeMap;

use paretune_eval::{ListAccumulator, RankingAccumulator, auc, gauc, hypervolume, log_loss, mae, non_dominated, rmse};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixtures {
    values: Values,
    lists: Lists,
    fronts: Vec<Front>,
}

#[derive(Deserialize)]
struct Values {
    scores: Vec<f32>,
    labels: Vec<f32>,
    users: Vec<u32>,
    predictions: Vec<f32>,
    ratings: Vec<f32>,
    auc: f64,
    gauc: f64,
    log_loss: f64,
    rmse: f64,
    mae: f64,
}

#[derive(Deserialize)]
struct Lists {
    items: usize,
    top: Vec<Vec<u32>>,
    relevant: Vec<Vec<u32>>,
    counts: Vec<f64>,
    providers: Vec<Option<u32>>,
    vectors: Vec<f32>,
    dimensions: usize,
    ranking: BTreeMap<String, f64>,
    lists: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Front {
    points: Vec<Vec<f64>>,
    reference: Vec<f64>,
    hypervolume: f64,
    front: Vec<usize>,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("../fixtures/metrics.json"))
        .expect("metrics.json is as make_metrics.py writes it")
}

#[track_caller]
fn check(name: &str, ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{name}: {ours} is not {theirs}");
}

#[test]
fn value_metrics_agree_with_scikit_learn() {
    let theirs = fixtures().values;
    let Values { scores, labels, users, predictions, ratings, .. } = &theirs;
    check("auc", auc(scores, labels).unwrap(), theirs.auc, 1e-12);
    check("gauc", gauc(scores, labels, users).unwrap(), theirs.gauc, 1e-12);
    // The inputs are rounded to single precision here.
    check("log loss", log_loss(scores, labels).unwrap(), theirs.log_loss, 1e-7);
    check("rmse", rmse(predictions, ratings).unwrap(), theirs.rmse, 1e-7);
    check("mae", mae(predictions, ratings).unwrap(), theirs.mae, 1e-7);
}

#[test]
fn ranking_metrics_agree_with_their_definitions() {
    let Lists { top, relevant, ranking, .. } = fixtures().lists;
    let mut ours = RankingAccumulator::new(&[1, 3, 10]);
    for (top, relevant) in top.iter().zip(&relevant) {
        ours.add_user(top, relevant);
    }
    let ours = ours.finish();
    assert!(ours.keys().eq(ranking.keys()), "{:?} against {:?}", ours.keys(), ranking.keys());
    for (name, theirs) in &ranking {
        check(name, ours[name], *theirs, 1e-12);
    }
}

#[test]
fn list_metrics_agree_with_their_definitions() {
    let theirs = fixtures().lists;
    let mut ours = ListAccumulator::new(theirs.items, 10)
        .with_popularity(&theirs.counts)
        .and_then(|lists| lists.with_providers(&theirs.providers))
        .and_then(|lists| lists.with_vectors(&theirs.vectors, theirs.dimensions))
        .unwrap();
    for top in &theirs.top {
        ours.add_user(top).unwrap();
    }
    let ours = ours.finish();
    assert!(ours.keys().eq(theirs.lists.keys()), "{:?}", ours.keys());
    for (name, theirs) in &theirs.lists {
        let tolerance = if name.starts_with("diversity") { 1e-7 } else { 1e-12 };
        check(name, ours[name], *theirs, tolerance);
    }
}

#[test]
fn fronts_and_hypervolumes_agree_with_pymoo() {
    for Front { points, reference, hypervolume: theirs, front } in fixtures().fronts {
        // pymoo minimises.
        let maximise = vec![false; reference.len()];
        let name = format!("{} objectives", reference.len());
        check(&name, hypervolume(&points, &reference, &maximise).unwrap(), theirs, 1e-12);
        let ours = non_dominated(&points, &maximise).unwrap();
        let ours: Vec<usize> = (0..ours.len()).filter(|&index| ours[index]).collect();
        assert_eq!(ours, front, "{name}");

        // The mirror image has the same front and volume.
        let flip = |point: &Vec<f64>| point.iter().map(|x| -x).collect();
        let mirrored: Vec<Vec<f64>> = points.iter().map(flip).collect();
        let maximise = vec![true; reference.len()];
        let volume = hypervolume(&mirrored, &flip(&reference), &maximise).unwrap();
        check(&name, volume, theirs, 1e-12);
    }
}
