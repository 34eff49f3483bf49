//! A model with conditioning: trained on a fresh preference at every step, by any method that preferences steer.

use std::collections::BTreeMap;

use paretune_data::Part;
use paretune_objectives::Conditioning;
use paretune_optim::Method;
use paretune_recommender::Recommender;
use paretune_train::{
    GradientCut, Silent, TrainError, TrainEvent, TrainingConfig,
    evaluation::{Monitor, Rows, predict},
};

use crate::world::{Diary, World, bits, short};

const BOTH: [Conditioning; 2] = [Conditioning::Film, Conditioning::Hypernetwork];

/// Predictions of the first objective.
fn predictions(world: &World, model: &Recommender) -> Vec<f32> {
    let rows = Rows::new(&world.corpus, &world.objectives, Part::Test, 0, 500, 1).unwrap();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    predict(model, &world.corpus, &known, &rows).unwrap().remove(0)
}

#[test]
fn every_method_that_preferences_steer_trains_it_and_others_are_refused() {
    let world = World::conditioned(Conditioning::Film);
    let config = TrainingConfig { max_steps: 2, ..short() };
    for &method in Method::ALL.iter().filter(|method| method.reads_preferences()) {
        let cut = if method == Method::UpGrad { GradientCut::Full } else { GradientCut::Shared };
        let before = bits(&world.model());
        let (model, outcome) = world.train(&config, world.balancer(method, cut, &[1.0; 4]), None, &mut Silent);
        assert_eq!(outcome.unwrap_or_else(|error| panic!("{method}: {error}")).steps, 2);
        let after = bits(&model);
        // Both sides of the cut move, and what reads the preference there; Chebyshev moves the tower of the worst objective only.
        let moves = |part: &str| before.keys().any(|name| name.contains(part) && before[name] != after[name]);
        let towers =
            |name: &String| name.starts_with("towers.") && name.contains(".film.") && before[name] != after[name];
        assert!(before.keys().any(towers), "{method}");
        for part in ["items.film.0.weight", "users.film.1.bias", "items.text.weight"] {
            assert!(moves(part), "{method}: {part}");
        }
    }
    for &method in Method::ALL.iter().filter(|method| !method.reads_preferences()) {
        let balance = match method {
            Method::Constant => "method = \"constant\"\nweights = [1, 1, 1, 1]".to_owned(),
            method => format!("method = \"{method}\""),
        };
        let balancer = world.balancer_of(&balance, &[1.0; 4]);
        let refused = world.train(&config, balancer, None, &mut Silent).1.unwrap_err();
        assert!(matches!(refused, TrainError::NotSteered { .. }), "{refused}");
        assert!(
            refused.to_string().contains(method.name()) && refused.to_string().contains("weighted-sum"),
            "{refused}"
        );
    }
}

#[test]
fn weights_that_are_kept_from_step_to_step_are_refused() {
    let world = World::conditioned(Conditioning::Film);
    for balance in ["method = \"nash-mtl\"\nupdate_every = 3", "method = \"upgrad\"\nrefresh = 2"] {
        let refused = world.train(&short(), world.balancer_of(balance, &[1.0; 4]), None, &mut Silent).1.unwrap_err();
        assert!(refused.to_string().contains("leave it at 1"), "{refused}");
    }
}

#[test]
fn settings_that_leave_nothing_to_choose_are_refused() {
    let world = World::conditioned(Conditioning::Hypernetwork);
    let refused = |config: &TrainingConfig, weights: [f64; 4]| {
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &weights);
        world.train(config, balancer, None, &mut Silent).1.unwrap_err().to_string()
    };
    let message = refused(&short(), [0.0, 0.0, 2.0, 0.0]);
    assert!(message.contains("hypernetwork") && message.contains("at least two objectives"), "{message}");
    for dirichlet in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let message = refused(&TrainingConfig { dirichlet, ..short() }, [1.0; 4]);
        assert!(message.contains("training.dirichlet"), "{message}");
    }
}

#[test]
fn each_step_has_a_preference_of_its_own_over_what_is_trained() {
    let world = World::conditioned(Conditioning::Film);
    let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0, 0.0, 5.0, 1.0]);
    let mut diary = Diary::default();
    world.train(&short(), balancer, None, &mut diary).1.unwrap();
    let weights: Vec<&BTreeMap<String, f64>> = diary
        .0
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Step { weights, .. } => Some(weights),
            _ => None,
        })
        .collect();
    assert!(weights.len() > 10);
    for (step, drawn) in weights.iter().enumerate() {
        assert!((drawn.values().sum::<f64>() - 3.0).abs() < 1e-9, "{drawn:?}");
        assert_eq!(drawn["conversion"].to_bits(), 0.0_f64.to_bits());
        assert!(weights[..step].iter().all(|earlier| earlier != drawn));
    }
}

#[test]
fn it_learns_and_what_is_asked_for_changes_the_answer() {
    for conditioning in BOTH {
        let world = World::conditioned(conditioning);
        let config = TrainingConfig { learning_rate: 1e-2, epochs: 4, ..short() };
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let mut diary = Diary::default();
        let (mut model, outcome) = world.train(&config, balancer, None, &mut diary);
        let outcome = outcome.unwrap();
        // The chosen weights are those of the highest validation over the whole front.
        let validations: Vec<f64> = diary
            .0
            .iter()
            .filter_map(|event| match event {
                TrainEvent::Validation { monitor, .. } => Some(*monitor),
                _ => None,
            })
            .collect();
        assert_eq!(outcome.best, validations.iter().copied().reduce(f64::max));
        let monitor = Monitor::new(&world.corpus, &world.objectives, &BTreeMap::new(), 0, 300, 9).unwrap();
        let skill = |model: &Recommender| {
            let known = model.embed(&world.corpus.tokens, None).unwrap();
            let metrics = monitor.measure(model, &world.corpus, &world.objectives, &known).unwrap();
            monitor.combine(&metrics, &world.objectives, &[true; 4]).unwrap()
        };
        let untrained = skill(&world.model());
        let mut skills = Vec::new();
        let mut asked = Vec::new();
        for preference in [[1.0; 4], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]] {
            model.prefer(&preference).unwrap();
            asked.push(predictions(&world, &model));
            skills.push(skill(&model));
        }
        assert!(skills[0] > untrained + 0.02, "{conditioning:?}: {} after, {untrained} before", skills[0]);
        assert_ne!(asked[0], asked[1]);
        assert_ne!(asked[1], asked[2]);
    }
}
