//! Mistakes, and what is said of them.

use candle_core::{DType, Device, Tensor};
use paretune_recommender::{Listwise, Negatives, RankingBatch, RankingLoss, Scoring, align, info_nce};

use super::{World, random, scalar};

fn named(name: &str) -> RankingLoss {
    serde_json::from_str(&format!("\"{name}\"")).unwrap()
}

fn refused(loss: RankingLoss, batch: RankingBatch<'_>, parts: &[&str]) {
    let found = loss.loss(&batch).unwrap_err().to_string();
    assert!(parts.iter().all(|part| found.contains(part)), "{found}");
}

#[test]
fn settings_are_checked_before_use() {
    let world = World::new(3, 5, 2, 1);
    for temperature in [0.0, f64::NAN, -2.0] {
        let loss = RankingLoss::Bpr(Scoring { temperature, cosine: false });
        refused(loss, world.batch(), &["model.ranking.temperature = ", "divided by it"]);
        let loss = RankingLoss::ListNet(Listwise { temperature });
        let logits = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let found = loss.listwise(&logits, &[0.0, 1.0], &[0, 2]).unwrap_err().to_string();
        assert!(found.contains("model.ranking.temperature = "), "{found}");
        assert!(info_nce(&world.users, &world.users, temperature).unwrap_err().to_string().contains("temperature = "));
    }
}

#[test]
fn negatives_of_another_kind_are_refused_with_what_is_needed() {
    let world = World::new(3, 5, 2, 1);
    let (good, own) = (world.batch(), Negatives::Own { per_row: 1, places: &[0, 1, 2] });
    let others = Negatives::Others;
    for (name, negatives, parts) in [
        ("bpr", others, ["model.ranking = \"bpr\" needs negatives of each row's own", "given none"]),
        ("sampled-softmax", others, ["needs a shared pool", "given none (Negatives::Others)"]),
        ("softmax", own, ["needs the whole catalogue", "given negatives of each row's own"]),
        ("in-batch", own, ["needs the positives of the other rows", "given negatives of each row's own"]),
        ("in-batch", good.negatives, ["needs the positives of the other rows", "given a shared pool"]),
        ("listnet", good.negatives, ["needs graded lists (RankingLoss::listwise)", "given a shared pool"]),
        ("approx-ndcg", own, ["needs graded lists", "given negatives of each row's own"]),
        ("bce", Negatives::Shared(&[]), ["needs negatives", "given an empty list"]),
        ("bce", Negatives::Own { per_row: 0, places: &[] }, ["needs negatives", "given an empty list"]),
    ] {
        refused(named(name), RankingBatch { negatives, ..good }, &parts);
    }
    for catalogue in [None, Some(1)] {
        refused(named("gbce"), RankingBatch { catalogue, ..good }, &["\"gbce\" needs the number of items"]);
    }
}

#[test]
fn lists_that_do_not_fit_are_named() {
    let world = World::new(3, 5, 2, 1);
    let (good, loss) = (world.batch(), named("sampled-softmax"));
    assert!(loss.loss(&good).is_ok());
    let wide = random(5, 3, 1);
    refused(loss, RankingBatch { candidates: &wide, ..good }, &["3 columns of candidates, expected 2"]);
    let flat = wide.flatten_all().unwrap();
    refused(loss, RankingBatch { users: &flat, ..good }, &["1 dimensions of users, expected 2"]);
    let empty = Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap();
    refused(loss, RankingBatch { users: &empty, positives: &[], ..good }, &["0 rows of users"]);
    refused(loss, RankingBatch { positives: &[0], ..good }, &["1 positives, expected 3"]);
    refused(loss, RankingBatch { positives: &[0, 5, 1], ..good }, &["positives[1] = 5", "5 candidates"]);
    refused(loss, RankingBatch { negatives: Negatives::Shared(&[4, 9]), ..good }, &["negatives[1] = 9"]);
    let short = Negatives::Own { per_row: 2, places: &[0, 1] };
    refused(loss, RankingBatch { negatives: short, ..good }, &["2 negatives, expected 6"]);
    refused(loss, RankingBatch { ids: &[1], ..good }, &["1 ids, expected 5"]);
    refused(loss, RankingBatch { log_q: Some(&[0.0]), ..good }, &["1 log_q, expected 5"]);
    let never = [0.0, 0.0, f32::NEG_INFINITY, 0.0, 0.0];
    refused(loss, RankingBatch { log_q: Some(&never), ..good }, &["log_q[2] = -inf"]);
    refused(loss, RankingBatch { weights: Some(&[1.0]), ..good }, &["1 weights, expected 3"]);
    refused(loss, RankingBatch { weights: Some(&[1.0, f32::NAN, 1.0]), ..good }, &["weights[1] = NaN"]);
    refused(loss, RankingBatch { weights: Some(&[0.0; 3]), ..good }, &["all 3 weights are zero"]);
}

#[test]
fn graded_lists_are_checked() {
    let logits = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
    let refused = |name: &str, labels: &[f32], offsets: &[usize], part: &str| {
        let found = named(name).listwise(&logits, labels, offsets).unwrap_err().to_string();
        assert!(found.contains(part), "{found}");
    };
    refused("listnet", &[0.0, 1.0], &[0, 3], "2 labels, expected 3");
    refused("listnet", &[0.0; 3], &[], "offsets[0]");
    refused("listnet", &[0.0; 3], &[1, 3], "1 items before the first list");
    refused("listnet", &[0.0; 3], &[0, 2], "2 items in lists (the last offset), expected 3");
    refused("listnet", &[0.0; 3], &[0, 3, 2, 3], "offsets must not fall");
    refused("listnet", &[0.0, f32::INFINITY, 0.0], &[0, 3], "labels[1] = inf");
    refused("approx-ndcg", &[0.0, 1.0, -1.0], &[0, 3], "labels[2] = -1");
    refused("approx-ndcg", &[0.0, 61.0, 1.0], &[0, 3], "labels[1] = 61");
    refused("bpr", &[0.0; 3], &[0, 3], "\"bpr\" needs negatives");
    // Nothing to order is no mistake.
    for name in ["listnet", "approx-ndcg"] {
        assert_eq!(scalar(&named(name).listwise(&logits, &[f32::NAN; 3], &[0, 3]).unwrap()), 0.0);
        let none = Tensor::zeros(0, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(scalar(&named(name).listwise(&none, &[], &[0]).unwrap()), 0.0);
    }
}

#[test]
fn views_that_do_not_fit_are_named() {
    let (a, b) = (random(4, 3, 1), random(5, 3, 2));
    let found = info_nce(&a, &b, 0.1).unwrap_err().to_string();
    assert!(found.contains("5 rows of the second view, expected 4"), "{found}");
    let found = align(&random(4, 8, 1), &a, 0.1).unwrap_err().to_string();
    assert!(found.contains("8 columns of text vectors (project them"), "{found}");
    let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(info_nce(&empty, &empty, 0.1).is_err());
}
