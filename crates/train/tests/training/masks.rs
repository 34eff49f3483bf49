//! What was not observed touches no bit of the gradient of a whole model.

use std::collections::BTreeMap;

use candle_core::Tensor;
use paretune_objectives::{Architecture, Kind, Objective, Objectives};
use paretune_recommender::{Batch, Recommender};
use paretune_train::Plan;

use crate::world::{World, architectures, short, values};

/// Bits of the sum of all losses, and of the gradient of every parameter.
fn bits(model: &Recommender, batch: &Batch, known: &Tensor) -> (u32, BTreeMap<String, Option<Vec<u32>>>) {
    let shared = model.represent(batch, known, Some(5)).unwrap();
    let losses = model.losses(&shared, batch, Some(6)).unwrap().into_iter().map(|task| task.loss);
    let total = losses.reduce(|a, b| (a + b).unwrap()).unwrap();
    let store = total.backward().unwrap();
    let bits = |tensor: &Tensor| values(tensor).into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    let gradients = model.parameters().all().into_iter().map(|(name, var)| (name, store.get(&var).map(bits)));
    (total.to_scalar::<f32>().unwrap().to_bits(), gradients.collect())
}

#[test]
fn masked_labels_reach_no_parameter() {
    for tasks in architectures().into_iter().chain([Architecture::SharedBottom]) {
        let mut world = World::with_tasks(tasks.clone());
        let ranking = Objective::new("ranked", Kind::Ranking, "click");
        let all = world.objectives.iter().cloned().chain([ranking]);
        world.objectives = Objectives::new(all.collect()).unwrap();
        let model = world.model();
        let known = model.embed(&world.corpus.tokens, None).unwrap();
        let mut batch = Plan::new(&world.corpus, &world.objectives, &short(), 9).unwrap().epoch_from(2).next().unwrap();
        let [click, conversion, rating, ranked] = [0, 1, 2, 4];
        // Some clicks and rankings are not known, as most ratings are not.
        (0..batch.len()).step_by(5).for_each(|row| batch.labels[click][row] = f32::NAN);
        (0..batch.len()).step_by(3).for_each(|row| batch.labels[ranked][row] = f32::NAN);
        assert!(batch.labels[rating].iter().any(|rating| rating.is_nan()));
        let expected = bits(&model, &batch, &known);
        assert!(expected.1.values().any(|gradient| gradient.is_some()));
        for nothing in [0xffc0_0000, 0x7fc0_beef, 0xff80_0001] {
            let mut other = batch.clone();
            for label in other.labels.iter_mut().flatten().filter(|label| label.is_nan()) {
                *label = f32::from_bits(nothing);
            }
            assert_eq!(bits(&model, &other, &known), expected, "{tasks:?} {nothing:x}");
        }
        // Nobody buys without a click, whatever was written down; and a ranking asks for positives alone.
        for written in [1.0, 0.0, f32::NAN] {
            let mut other = batch.clone();
            let without = (0..batch.len()).filter(|row| batch.labels[click][*row] == 0.0);
            without.for_each(|row| other.labels[conversion][row] = written);
            (0..batch.len()).step_by(3).for_each(|row| other.labels[ranked][row] = 0.0);
            assert_eq!(bits(&model, &other, &known), expected, "{tasks:?} {written}");
        }
        // Ratings alone reach neither the other towers nor, where they are not known, anything else.
        let mut silent = batch.clone();
        [click, conversion, 3, ranked].iter().for_each(|k| silent.labels[*k].fill(f32::NAN));
        let (_, gradients) = bits(&model, &silent, &known);
        for (name, gradient) in gradients.iter().filter(|(name, _)| name.starts_with("towers.")) {
            assert_eq!(gradient.is_some(), name.starts_with("towers.satisfaction."), "{tasks:?}: {name}");
        }
    }
}
