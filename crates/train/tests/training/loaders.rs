//! A loader for each objective, taking turns.

use std::collections::BTreeSet;

use paretune_optim::Method;
use paretune_recommender::Batch;
use paretune_train::{GradientCut, Loaders, Plan, Silent, TrainingConfig, step::balanced_gradients};

use crate::world::{World, bits, short};

fn alternate() -> TrainingConfig {
    TrainingConfig { loaders: Loaders::Alternate, ..short() }
}

/// What of a batch tells it from others.
fn shape(batch: &Batch) -> (Option<usize>, Vec<u32>, Vec<Option<u32>>, Vec<u32>) {
    let shown = batch.slots.iter().map(|&slot| batch.items[slot as usize]).collect();
    (batch.only, shown, batch.users.clone(), batch.requests.clone())
}

#[test]
fn objectives_take_turns_with_requests_of_their_own() {
    let world = World::new();
    let plan = Plan::new(&world.corpus, &world.objectives, &alternate(), 9).unwrap();
    let mixed = Plan::new(&world.corpus, &world.objectives, &short(), 9).unwrap();
    assert_eq!(plan.steps(), mixed.steps(), "as many steps as without turns");
    let batches: Vec<Batch> = plan.epoch_from(0).collect();
    for (step, batch) in batches.iter().enumerate() {
        let only = batch.only.unwrap();
        assert_eq!(only, step % 4);
        // Every request has a label of whose turn it is.
        let labelled: BTreeSet<u32> =
            (0..batch.len()).filter(|&at| !batch.labels[only][at].is_nan()).map(|at| batch.requests[at]).collect();
        assert_eq!(labelled.len(), batch.viewers(), "step {step}");
    }
    // Ratings are rare: their turns hold more of them than any batch of all.
    let ratings = |batch: &Batch| batch.labels[2].iter().filter(|label| !label.is_nan()).count();
    let most = mixed.epoch_from(0).map(|batch| ratings(&batch)).max().unwrap();
    assert!(ratings(&batches[2]) > most, "{} and {most}", ratings(&batches[2]));
    // Going on in the middle meets the same batches.
    let again: Vec<_> = plan.epoch_from(5).map(|batch| shape(&batch)).collect();
    assert_eq!(again, batches[5..].iter().map(shape).collect::<Vec<_>>());
    // The turns go on from one epoch to the next.
    let longer = Plan::new(&world.corpus, &world.objectives, &TrainingConfig { epochs: 2, ..alternate() }, 9).unwrap();
    let next = longer.epoch_from(longer.steps_per_epoch()).next().unwrap();
    assert_eq!(next.only, Some(longer.steps_per_epoch() % 4));
}

#[test]
fn a_turn_moves_its_own_tower_alone() {
    let world = World::new();
    let model = world.model();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let plan = Plan::new(&world.corpus, &world.objectives, &alternate(), 9).unwrap();
    for batch in plan.epoch_from(0).take(4) {
        let only = batch.only.unwrap();
        for method in [Method::WeightedSum, Method::UpGrad] {
            let mut balancer = world.balancer(method, GradientCut::Shared, &[1.0; 4]);
            let found = balanced_gradients(&model, &model.parameters(), &batch, &known, &mut balancer, 77).unwrap();
            assert!(
                found.losses.iter().enumerate().all(|(k, loss)| loss.is_nan() == (k != only)),
                "{:?}",
                found.losses
            );
            let own = format!("towers.{}.", world.objectives.names().nth(only).unwrap());
            let towers: Vec<&String> = found.gradients.keys().filter(|name| name.starts_with("towers.")).collect();
            // A conversion moves the click it is given, too.
            let may = |name: &&&String| name.starts_with(&own) || (only == 1 && name.starts_with("towers.click."));
            assert!(!towers.is_empty() && towers.iter().all(|name| may(&name)), "{only}: {towers:?}");
        }
    }
}

#[test]
fn a_training_in_turns_reproduces() {
    let world = World::new();
    let trained = || {
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let (model, outcome) = world.train(&alternate(), balancer, None, &mut Silent);
        outcome.unwrap();
        bits(&model)
    };
    assert_eq!(trained(), trained());
}

#[test]
fn an_objective_without_labels_has_no_turn() {
    let mut world = World::new();
    for label in world.corpus.dataset.events.feedback.get_mut("rating").unwrap() {
        *label = f32::NAN;
    }
    let refused = Plan::new(&world.corpus, &world.objectives, &alternate(), 9).err().unwrap().to_string();
    assert!(refused.contains("`satisfaction`") && refused.contains("training.loaders"), "{refused}");
}
