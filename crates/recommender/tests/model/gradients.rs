//! Everything learns, and learns in the right direction.

use std::collections::BTreeSet;

use candle_core::Tensor;
use paretune_recommender::{Encode, ItemVectors};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::{self, values};

fn check_that_everything_learns(vectors: ItemVectors, dropout: Option<u64>) {
    let corpus = world::corpus();
    let model = world::model(&corpus, vectors);
    let batch = world::batch(&corpus, &world::late_rows(&corpus, 80), Encode::ShownAndHistory);
    let known = model.embed(&corpus.tokens, None).unwrap();
    let store = world::loss(&model, &batch, &known, dropout).backward().unwrap();
    let parameters = model.parameters().all();
    let names: BTreeSet<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), parameters.len(), "names are unique");
    for (name, var) in &parameters {
        let gradient = values(store.get(var).unwrap_or_else(|| panic!("{name} has no gradient")));
        let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
        assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
        // A bias of the keys adds the same to all scores of a query, and softmax does not see it: its gradient is zero.
        let exempt = name.ends_with("attention.self.key.bias");
        assert!(exempt || largest > 1e-9, "the gradient of {name} is zero");
        assert!(!exempt || largest < 1e-6, "{name}: {largest}");
    }
}

#[test]
fn every_parameter_learns_through_text() {
    check_that_everything_learns(world::text(), None);
    check_that_everything_learns(world::text(), Some(7));
}

#[test]
fn every_parameter_learns_with_ids() {
    check_that_everything_learns(world::ids(&world::corpus()), None);
}

#[test]
fn cached_histories_give_the_encoder_no_gradient_of_their_own() {
    let corpus = world::corpus();
    let model = world::model(&corpus, world::text());
    let known = model.embed(&corpus.tokens, None).unwrap();
    let batch = world::batch(&corpus, &world::late_rows(&corpus, 20), Encode::Nothing);
    let store = world::loss(&model, &batch, &known, None).backward().unwrap();
    let parameters = model.parameters();
    assert!(parameters.backbone.iter().all(|(_, var)| store.get(var).is_none()));
    assert!(parameters.shared.iter().all(|(_, var)| store.get(var).is_some()));
}

/// Along a direction `d`, `(L(θ + εd) − L(θ − εd)) / 2ε` is `⟨∇L, d⟩`.
#[test]
fn gradients_are_those_of_finite_differences() {
    let corpus = world::corpus();
    let model = world::model(&corpus, world::text());
    let batch = world::batch(&corpus, &world::late_rows(&corpus, 60), Encode::ShownAndHistory);
    let known = model.embed(&corpus.tokens, None).unwrap();
    let loss = || f64::from(world::loss(&model, &batch, &known, None).to_scalar::<f32>().unwrap());
    let store = world::loss(&model, &batch, &known, None).backward().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut checked = 0;
    for (name, var) in model.parameters().shared {
        let gradient = values(store.get(&var).unwrap());
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        // The gradient's own direction, shaken: what is left out or doubled anywhere changes the product.
        let spread = 1.0 / (gradient.len() as f32).sqrt();
        let direction: Vec<f32> = gradient.iter().map(|g| g / norm + spread * (rng.random::<f32>() - 0.5)).collect();
        let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let before = var.as_tensor().copy().unwrap();
        let step = Tensor::from_vec(direction, var.shape(), var.device()).unwrap();
        let at = |epsilon: f64| {
            var.set(&(&before + (&step * epsilon).unwrap()).unwrap()).unwrap();
            let value = loss();
            var.set(&before).unwrap();
            value
        };
        let epsilon = 5e-3;
        let found = (at(epsilon) - at(-epsilon)) / (2.0 * epsilon);
        assert!((found - expected).abs() < 0.02 * expected.abs() + 3e-4, "{name}: {found} and {expected}");
        checked += 1;
    }
    assert_eq!(checked, 19, "parameters of item vectors, item tower and user model");
}
