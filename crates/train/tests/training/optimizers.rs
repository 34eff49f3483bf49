//! Runs with each optimizer, schedule, SAM and averaged weights.

use std::collections::BTreeMap;

use candle_core::Tensor;
use paretune_optim::{Decay, Gradients, Method, OptimizerConfig, Sam};
use paretune_recommender::Recommender;
use paretune_train::{
    Balancer, GradientCut, Plan, Silent, TrainEvent, TrainingConfig,
    evaluation::Monitor,
    step::{balanced_gradients, gradients_with_weights},
};

use crate::world::{Diary, World, bits, digest, short, values};

/// Each optimizer with a learning rate of its own.
fn every_optimizer() -> Vec<TrainingConfig> {
    let config = |name: &str, rate: f64| {
        let optimizer: OptimizerConfig = serde_json::from_value(serde_json::Value::from(name)).unwrap();
        TrainingConfig { optimizer, learning_rate: rate, backbone_learning_rate: rate / 2.0, ..short() }
    };
    vec![config("adamw", 1e-2), config("lamb", 2e-2), config("adafactor", 1e-2), config("sgd", 0.1)]
}

fn score(world: &World, model: &Recommender) -> f64 {
    let monitor = Monitor::new(&world.corpus, &world.objectives, &BTreeMap::new(), 0, 300, 9).unwrap();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let metrics = monitor.measure(model, &world.corpus, &world.objectives, &known).unwrap();
    monitor.combine(&metrics, &world.objectives, &[true; 4]).unwrap()
}

#[test]
fn each_of_them_moves_every_parameter_and_helps() {
    let world = World::new();
    let before = bits(&world.model());
    for config in every_optimizer() {
        for sam in [None, Some(Sam::default())] {
            let config = TrainingConfig { sam, epochs: 4, ..config.clone() };
            let balancer = world.balancer(Method::Mgda, GradientCut::Shared, &[1.0; 4]);
            let (model, outcome) = world.train(&config, balancer, None, &mut Silent);
            outcome.unwrap();
            for (name, bits) in bits(&model) {
                assert!(bits != before[&name], "{name} stands still under {:?}", config.optimizer);
            }
            let (now, then) = (score(&world, &model), score(&world, &world.model()));
            assert!(now > then + 0.02, "{:?} {sam:?}: {now} after, {then} before", config.optimizer);
        }
    }
}

#[test]
fn the_same_bytes_whatever_the_threads() {
    let world = World::new();
    for config in every_optimizer() {
        let config = TrainingConfig { sam: Some(Sam::default()), ema: 0.9, accumulate: 2, ..config };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let balancer = world.balancer(Method::Mgda, GradientCut::Shared, &[1.0; 4]);
            let (model, outcome) = pool.install(|| world.train(&config, balancer, None, &mut Silent));
            outcome.unwrap();
            digest(&model)
        };
        assert_eq!(run(1), run(3), "{:?}", config.optimizer);
    }
}

#[test]
fn schedules_reach_the_optimizer() {
    let world = World::new();
    let rates = |schedule| {
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let mut diary = Diary::default();
        let config = TrainingConfig { schedule, warmup: 0.5, max_steps: 8, learning_rate: 1e-3, ..short() };
        world.train(&config, balancer, None, &mut diary).1.unwrap();
        let rate = |event: &TrainEvent| match event {
            TrainEvent::Step { learning_rate, .. } => Some((learning_rate * 1e6).round()),
            _ => None,
        };
        diary.0.iter().filter_map(rate).collect::<Vec<f64>>()
    };
    let rise = [250.0, 500.0, 750.0, 1000.0];
    for (schedule, fall) in [
        (Decay::Constant, [1000.0, 1000.0, 1000.0, 1000.0]),
        (Decay::Linear, [1000.0, 750.0, 500.0, 250.0]),
        (Decay::Cosine, [1000.0, 854.0, 500.0, 146.0]),
        (Decay::InverseRoot, [1000.0, 894.0, 816.0, 756.0]),
    ] {
        assert_eq!(rates(schedule), [rise, fall].concat(), "{schedule:?}");
    }
    assert_eq!(rates(Decay::OneCycle), [40.0, 280.0, 760.0, 1000.0, 854.0, 500.0, 146.0, 0.0]);
}

#[test]
fn averaged_weights_are_validated_and_kept() {
    let world = World::new();
    // Large steps to the very end: single weights are worse than their average.
    let run = |ema| {
        let config = TrainingConfig {
            ema,
            learning_rate: 0.03,
            schedule: Decay::Constant,
            epochs: 3,
            validations: 1.0,
            patience: 0,
            ..short()
        };
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let (model, outcome) = world.train(&config, balancer, None, &mut Silent);
        assert_eq!(outcome.unwrap().best, Some(score(&world, &model)), "what was best is what is left");
        bits(&model)
    };
    let (plain, averaged) = (run(0.0), run(0.9));
    assert!(plain.iter().all(|(name, bits)| averaged[name] != *bits));
}

#[test]
fn the_average_changes_nothing_but_what_is_validated() {
    let world = World::new();
    let losses = |ema| {
        let balancer = world.balancer(Method::Uncertainty, GradientCut::Shared, &[1.0; 4]);
        let mut diary = Diary::default();
        world.train(&TrainingConfig { ema, validations: 3.0, ..short() }, balancer, None, &mut diary).1.unwrap();
        let loss = |event: &TrainEvent| match event {
            TrainEvent::Step { losses, .. } => Some(losses.clone()),
            _ => None,
        };
        diary.0.iter().filter_map(loss).collect::<Vec<_>>()
    };
    assert_eq!(losses(0.0), losses(0.5));
}

fn flat(gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
    gradients.iter().map(|(name, gradient)| (name.clone(), values(&gradient.dense().unwrap()))).collect()
}

#[test]
fn gradients_with_the_methods_own_weights_are_the_methods() {
    let world = World::new();
    let model = world.model();
    let parameters = model.parameters();
    let known: Tensor = model.embed(&world.corpus.tokens, None).unwrap();
    let batch = Plan::new(&world.corpus, &world.objectives, &short(), 9).unwrap().epoch_from(2).next().unwrap();
    for (method, cut, weights) in [
        (Method::WeightedSum, GradientCut::Shared, [0.7, 0.0, 1.3, 0.4]),
        (Method::Uncertainty, GradientCut::Shared, [1.0; 4]),
        (Method::Mgda, GradientCut::Shared, [1.0, 1.0, 0.0, 1.0]),
        (Method::Mgda, GradientCut::Full, [1.0; 4]),
        (Method::ExcessMtl, GradientCut::Full, [1.0; 4]),
    ] {
        let mut balancer: Balancer = world.balancer(method, cut, &weights);
        let found = balanced_gradients(&model, &parameters, &batch, &known, &mut balancer, 77).unwrap();
        let again =
            |weights: &[f64]| gradients_with_weights(&model, &parameters, &batch, &known, weights, &balancer, 77);
        let (expected, found) = (flat(&found.gradients), flat(&again(&found.weights).unwrap()));
        assert!(expected.keys().eq(found.keys()), "{method:?}");
        for (name, expected) in &expected {
            let length = expected.iter().map(|x| x * x).sum::<f32>().sqrt();
            let apart = expected.iter().zip(&found[name]).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            assert!(apart <= 1e-4 * length.max(1e-3), "{method:?} {name}: {apart} of {length}");
        }
        assert!(again(&[1.0]).is_err());
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let world = World::new();
    let json = |value: &str| serde_json::from_str::<TrainingConfig>(value).unwrap();
    for (config, part) in [
        (json(r#"{"optimizer": {"name": "sgd", "momentum": 1.5}}"#), "training.optimizer.momentum = 1.5"),
        (json(r#"{"optimizer": {"name": "lamb", "eps": 0}}"#), "training.optimizer.eps = 0"),
        (json(r#"{"sam": {"rho": 0}}"#), "training.sam.rho = 0"),
        (json(r#"{"ema": 1}"#), "training.ema"),
        (json(r#"{"ema": -0.5}"#), "training.ema"),
        (json(r#"{"warmup": 1.5}"#), "training.warmup = 1.5"),
        (json(r#"{"weight_decay": -1}"#), "weight_decay = -1"),
    ] {
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let refused = world.train(&config, balancer, None, &mut Silent).1.unwrap_err().to_string();
        assert!(refused.contains(part), "{refused}");
    }
    let config = TrainingConfig { sam: Some(Sam::default()), ..short() };
    let balancer = world.balancer(Method::GradDrop, GradientCut::Shared, &[1.0; 4]);
    let refused = world.train(&config, balancer, None, &mut Silent).1.unwrap_err().to_string();
    assert!(refused.contains("training.sam = set: graddrop"), "{refused}");
    for (text, part) in [
        (r#"{"sam": {"radius": 1}}"#, "unknown field `radius`"),
        (r#"{"optimizer": {"name": "lamb", "momentum": 1}}"#, "unknown field `momentum`"),
        (r#"{"schedule": "step"}"#, "unknown variant `step`"),
    ] {
        let refused = serde_json::from_str::<TrainingConfig>(text).unwrap_err().to_string();
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn what_the_page_on_training_shows_can_be_run() {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shown {
        training: TrainingConfig,
    }
    let page = include_str!("../../../../docs/training.md");
    let blocks: Vec<&str> =
        page.split("```toml\n").skip(1).map(|part| part.split("```").next().expect("the block ends")).collect();
    assert!(blocks.len() >= 6);
    let world = World::new();
    let mut names = Vec::new();
    for block in blocks {
        let training = toml::from_str::<Shown>(block).unwrap_or_else(|error| panic!("{block}: {error}")).training;
        names.push(training.optimizer.name());
        let config = TrainingConfig { max_steps: 2, ..training };
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        world.train(&config, balancer, None, &mut Silent).1.unwrap();
        // A run writes its configuration down, to be resumed with.
        assert_eq!(toml::from_str::<TrainingConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
    assert!(["adamw", "lamb", "adafactor"].iter().all(|name| names.contains(name)));
}
