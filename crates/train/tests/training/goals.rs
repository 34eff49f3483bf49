//! Goals of lists are reached by training, and chosen by what lists are worth.

use paretune_data::Part;
use paretune_objectives::{Goal, Kind, ListGoal, Objective, Objectives};
use paretune_optim::Method;
use paretune_train::evaluation::{Ranking, list_metric_at, rank_weights};
use paretune_train::{GradientCut, Plan, TrainEvent, TrainingConfig};

use crate::world::{Diary, World, short};

/// What lists ranked by clicks are like after a training with these weights, and what validations saw.
fn trained(weights: &[f64; 4]) -> (Vec<f64>, Vec<TrainEvent>) {
    let world = World::with_goals();
    let config = TrainingConfig { epochs: 3, patience: 0, ..short() };
    let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, weights);
    let mut diary = Diary::default();
    let (model, outcome) = world.train(&config, balancer, None, &mut diary);
    outcome.unwrap();
    let ranking = Ranking::new(&world.corpus, Part::Test, 60, &[5]).with_goals(&world.objectives).unwrap();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let ranked = ranking.model(&model, &world.objectives, &known, &[1.0, 0.0, 0.0, 0.0], &[]).unwrap();
    let goals = world.objectives.iter().filter_map(|objective| list_metric_at(objective, 5));
    (goals.map(|name| ranked.list[&name]).collect(), diary.0)
}

#[test]
fn lists_become_what_the_goals_want() {
    let (without, _) = trained(&[1.0, 1.0, 0.0, 0.0]);
    let (with, events) = trained(&[1.0, 1.0, 3.0, 3.0]);
    assert!(with[0] > without[0] + 0.05, "coverage: {with:?}, without goals {without:?}");
    assert!(with[1] > without[1] + 1.0, "novelty: {with:?}, without goals {without:?}");
    let seen = events.iter().find_map(|event| match event {
        TrainEvent::Validation { metrics, .. } => Some(metrics),
        _ => None,
    });
    let seen = seen.expect("a validation");
    for name in ["coverage.coverage", "novelty.novelty"] {
        assert!((0.0..=1.0).contains(&seen[name]), "{name} {seen:?}");
    }
}

/// Negatives of single rows are for towers: a ranking beside a goal shares its own, as one by itself does.
#[test]
fn a_ranking_with_a_goal_draws_no_negatives_of_rows() {
    let world = World::new();
    let click = Objective::new("click", Kind::Ranking, "click");
    let goal = Objective::list("breadth", ListGoal::new(Goal::Coverage));
    let config = TrainingConfig { negatives: 4, ..short() };
    let samples = |all: Vec<Objective>| -> Vec<usize> {
        let world = World { objectives: Objectives::new(all).unwrap(), ..World::new() };
        let model = world.model();
        let plan = Plan::new(&world.corpus, &world.objectives, &config, 9).unwrap().for_model(&model, &config);
        plan.epoch_from(0).map(|batch| batch.len()).collect()
    };
    let alone = samples(vec![click.clone()]);
    assert_eq!(samples(vec![click.clone(), goal.clone()]), alone);
    assert_eq!(alone.iter().sum::<usize>(), world.corpus.split.rows(Part::Train).len());
    let tower = Objective::new("rating", Kind::Regression, "rating");
    assert!(samples(vec![click, goal, tower]).iter().sum::<usize>() > alone.iter().sum());
}

#[test]
fn a_goal_alone_ranks_by_what_it_is_about() {
    let world = World::with_goals();
    assert_eq!(rank_weights(&world.objectives, &[0.5, 2.0, 7.0, 1.0]), [0.5, 2.0, 0.0, 0.0]);
    assert_eq!(rank_weights(&world.objectives, &[0.0, 0.0, 0.0, 4.0]), [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(rank_weights(&world.objectives, &[0.0; 4]), [0.0; 4]);
}
