//! Whole runs: the same bytes whatever the threads, the best weights, errors that say what happened.

use std::{collections::BTreeMap, process::Command};

use candle_core::Tensor;
use paretune_optim::Method;
use paretune_recommender::Recommender;
use paretune_train::{
    BalanceConfig, Balancer, GradientCut, HistoryMode, Silent, TrainError, TrainEvent, Trainer, TrainingConfig,
    evaluation::Monitor,
};

use crate::world::{Diary, World, bits, digest, short};

const CHILD: &str = "PARETUNE_TEST_DIGEST";

fn digest_of_a_run() -> u64 {
    let world = World::new();
    let config = TrainingConfig { history: HistoryMode::Trained, accumulate: 2, ..short() };
    let balancer = world.balancer(Method::Mgda, GradientCut::Shared, &[1.0; 4]);
    let (model, outcome) = world.train(&config, balancer, None, &mut Silent);
    outcome.unwrap();
    digest(&model)
}

/// Speaks only when [`the_same_bytes_whatever_the_threads`] asks.
#[test]
fn prints_its_digest() {
    if std::env::var_os(CHILD).is_some() {
        println!("digest={:016x}", digest_of_a_run());
    }
}

#[test]
fn the_same_bytes_whatever_the_threads() {
    let within = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(digest_of_a_run)
    };
    let first = within(1);
    assert_eq!(first, within(2));
    // Matrix products ask for the process's number of threads rather than the pool's.
    for threads in ["1", "2", "3"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "run::prints_its_digest", "--nocapture"]);
        let output = child.env(CHILD, "1").env("RAYON_NUM_THREADS", threads).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(&format!("digest={first:016x}")), "{threads} threads: {said}");
    }
}

#[test]
fn training_helps_and_leaves_the_best_weights() {
    let world = World::new();
    for learning_rate in [1e-2, 0.5] {
        // The second rate is far too large: what comes first is best, and is what stays.
        let config = TrainingConfig { learning_rate, epochs: 4, validations: 3.0, patience: 0, warmup: 0.0, ..short() };
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let mut diary = Diary::default();
        let (model, outcome) = world.train(&config, balancer, None, &mut diary);
        let outcome = outcome.unwrap();
        let monitors: Vec<(f64, bool)> = diary
            .0
            .iter()
            .filter_map(|event| match event {
                TrainEvent::Validation { monitor, best, .. } => Some((*monitor, *best)),
                _ => None,
            })
            .collect();
        let highest = monitors.iter().fold(f64::NEG_INFINITY, |highest, (monitor, _)| highest.max(*monitor));
        assert_eq!(outcome.best, Some(highest));
        assert_eq!(monitors.iter().rev().find(|(_, best)| *best).unwrap().0, highest);
        let measure = |model: &Recommender| {
            let monitor = Monitor::new(&world.corpus, &world.objectives, &BTreeMap::new(), 0, 300, 9).unwrap();
            let known = model.embed(&world.corpus.tokens, None).unwrap();
            let metrics = monitor.measure(model, &world.corpus, &world.objectives, &known).unwrap();
            monitor.combine(&metrics, &world.objectives, &[true; 4]).unwrap()
        };
        assert_eq!(measure(&model), highest);
        if learning_rate < 0.1 {
            assert!(highest > measure(&world.model()) + 0.02, "{highest} after, {} before", measure(&world.model()));
        } else {
            assert!(monitors.last().unwrap().0 < highest, "the last weights are not the best");
        }
    }
}

#[test]
fn early_stopping_waits_for_its_patience() {
    let world = World::new();
    // Nothing moves, so nothing improves on the first validation.
    let frozen = TrainingConfig { learning_rate: 1e-30, backbone_learning_rate: 1e-30, ..short() };
    let config = TrainingConfig { epochs: 5, validations: 4.0, patience: 2, ..frozen };
    let balancer = || world.balancer(Method::Uncertainty, GradientCut::Shared, &[1.0; 4]);
    let mut diary = Diary::default();
    let (_, outcome) = world.train(&config, balancer(), None, &mut diary);
    let outcome = outcome.unwrap();
    let validations: Vec<bool> = diary
        .0
        .iter()
        .filter_map(|event| if let TrainEvent::Validation { best, .. } = event { Some(*best) } else { None })
        .collect();
    assert_eq!(validations, [true, false, false]);
    assert!(outcome.stopped_early);
    assert_eq!(diary.0.last(), Some(&TrainEvent::End { step: outcome.steps, stopped_early: true }));
    let (_, patient) = world.train(&TrainingConfig { patience: 0, ..config }, balancer(), None, &mut Silent);
    assert!(patient.unwrap().steps > outcome.steps);
}

#[test]
fn an_objective_of_weight_0_keeps_its_tower() {
    let world = World::new();
    for (method, cut) in [(Method::WeightedSum, GradientCut::Shared), (Method::Mgda, GradientCut::Full)] {
        let balancer = world.balancer(method, cut, &[1.0, 1.0, 0.0, 1.0]);
        let (model, outcome) = world.train(&TrainingConfig { max_steps: 4, ..short() }, balancer, None, &mut Silent);
        outcome.unwrap();
        for ((name, after), (_, before)) in bits(&model).iter().zip(&bits(&world.model())) {
            assert_eq!(after == before, name.starts_with("towers.satisfaction."), "{name}");
        }
    }
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_with_its_batch() {
    let world = World::new();
    let model = world.model();
    let towers = model.parameters().towers;
    let (_, bias) = towers.iter().find(|(name, _)| name == "towers.satisfaction.1.bias").unwrap();
    bias.set(&Tensor::new(&[f32::INFINITY], bias.device()).unwrap()).unwrap();
    let config = short();
    let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
    let trainer = Trainer::new(&model, &world.corpus, &world.objectives, &config, balancer, None, 9).unwrap();
    let error = trainer.run(&mut Silent).unwrap_err();
    let TrainError::NotFinite { what, objective, step, samples, examples, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*what, objective.as_str(), *step), ("the loss", "satisfaction", 1));
    // The examples are items with their ratings.
    let (item, rating) = examples.split(", ").next().unwrap().split_once('=').unwrap();
    assert!(*samples > 50 && world.corpus.item(item).is_ok());
    assert!((1.0..=5.0).contains(&rating.parse::<f32>().unwrap()));
    assert!(error.to_string().contains("at step 1") && error.to_string().contains("learning_rate"), "{error}");
}

#[test]
fn a_learning_rate_that_explodes_is_told() {
    let world = World::new();
    for (method, cut) in [(Method::WeightedSum, GradientCut::Shared), (Method::Mgda, GradientCut::Shared)] {
        let config = TrainingConfig { learning_rate: 1e25, warmup: 0.0, ..short() };
        let (_, outcome) = world.train(&config, world.balancer(method, cut, &[1.0; 4]), None, &mut Silent);
        let error = outcome.unwrap_err();
        assert!(matches!(error, TrainError::NotFinite { step: 2.., .. }), "{error:?}");
    }
}

#[test]
fn an_unknown_metric_is_refused_before_training() {
    let world = World::new();
    let refused = |name: &str| {
        let config = TrainingConfig { monitor: BTreeMap::from([(name.to_owned(), 1.0)]), ..short() };
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let (_, outcome) = world.train(&config, balancer, None, &mut Silent);
        outcome.map_err(|error| error.to_string())
    };
    let message = refused("click.acu").unwrap_err();
    for there_is in ["`click.acu`", "click.auc", "conversion.log_loss", "satisfaction.r2", "dwell.log_rmse", "ndcg@10"]
    {
        assert!(message.contains(there_is), "{message}");
    }
    assert!(refused("ndcg@7").is_err());
    for known in ["dwell.r2", "satisfaction.rmse", "click.gauc", "recall@20"] {
        refused(known).unwrap();
    }
}

#[test]
fn events_tell_the_whole_run() {
    let world = World::new();
    let config = TrainingConfig { epochs: 2, validations: 1.0, ..short() };
    let balancer = world.balancer(Method::Mgda, GradientCut::Shared, &[1.0; 4]);
    let mut diary = Diary::default();
    let (_, outcome) = world.train(&config, balancer, None, &mut diary);
    let steps = outcome.unwrap().steps;
    assert_eq!(diary.0.first(), Some(&TrainEvent::Start { step: 0, steps }));
    let mut expected = 1;
    for event in &diary.0 {
        if let TrainEvent::Step { step, losses, weights, gradient_norm, samples, .. } = event {
            assert_eq!(*step, expected);
            expected += 1;
            assert!(losses.len() == 4 && *gradient_norm > 0.0 && *samples > 0);
            assert!((weights.values().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
    assert_eq!(expected, steps + 1);
    assert!(diary.0.windows(2).all(|pair| pair[0].step() <= pair[1].step()));
}

/// Weights of each step by objective.
fn weights(diary: &Diary, objective: &str) -> Vec<f64> {
    let weight = |event: &TrainEvent| match event {
        TrainEvent::Step { weights, .. } => weights.get(objective).copied(),
        _ => None,
    };
    diary.0.iter().filter_map(weight).collect()
}

#[test]
fn preferences_follow_the_clock_and_what_is_measured() {
    let world = World::new();
    let follow = |balance: &str, base: &[f64]| {
        let mut diary = Diary::default();
        let config = TrainingConfig { validations: 4.0, ..short() };
        world.train(&config, world.balancer_of(balance, base), None, &mut diary).1.unwrap();
        diary
    };
    let anneal = "method = \"sum\"\ncontrol = { kind = \"anneal\", to = { satisfaction = 3, dwell = 0 } }";
    let diary = follow(anneal, &[1.0, 1.0, 0.0, 1.0]);
    let (rising, falling) = (weights(&diary, "satisfaction"), weights(&diary, "dwell"));
    assert_eq!((rising[0], *rising.last().unwrap()), (0.0, 3.0));
    assert_eq!((falling[0], *falling.last().unwrap()), (1.0, 0.0));
    assert!(rising.is_sorted() && weights(&diary, "click").iter().all(|weight| *weight == 1.0));
    // Kept weights do not stop the clock.
    let kept =
        follow(&anneal.replace("sum", "upgrad").replace("\ncontrol", "\nrefresh = 4\ncontrol"), &[1.0, 1.0, 0.0, 1.0]);
    assert_eq!(weights(&kept, "satisfaction")[0], 0.0);
    let last = weights(&kept, "dwell");
    assert!(last[0] > 0.0 && *last.last().unwrap() < 0.35 * last[0], "{last:?}");
    // A floor that cannot be reached raises the weight at every validation; one that always is leaves it alone.
    let floors = "method = \"sum\"\ncontrol = { kind = \"target\", floors = { satisfaction = 5, click = -5 } }";
    let diary = follow(floors, &[1.0; 4]);
    let raised = weights(&diary, "satisfaction");
    let mut steps = raised.clone();
    steps.dedup();
    assert!(raised.is_sorted() && steps.len() >= 2 && *raised.last().unwrap() < 100.1, "{steps:?}");
    assert!(weights(&diary, "click").iter().all(|weight| *weight == 1.0));
}

/// DWA in the paper's form looks at whole epochs: its weights move at the third one.
#[test]
fn methods_hear_of_the_end_of_an_epoch() {
    let world = World::new();
    let mut diary = Diary::default();
    let config = TrainingConfig { epochs: 3, patience: 0, ..short() };
    let balancer = world.balancer_of("method = \"dwa\"\nwindow = 0", &[1.0; 4]);
    world.train(&config, balancer, None, &mut diary).1.unwrap();
    let found = weights(&diary, "click");
    let epoch = found.len() / 3;
    assert!(found[..2 * epoch].iter().all(|weight| *weight == 1.0));
    assert!(found[2 * epoch] != 1.0 && found[2 * epoch..].iter().all(|weight| *weight == found[2 * epoch]));
}

#[test]
fn what_the_page_on_balancing_shows_can_be_run() {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shown {
        balance: BalanceConfig,
    }
    let page = include_str!("../../../../docs/balancing.md");
    let blocks: Vec<&str> =
        page.split("```toml\n").skip(1).map(|part| part.split("```").next().expect("the block ends")).collect();
    assert!(blocks.len() >= 3);
    let world = World::new();
    for block in blocks {
        let balance = toml::from_str::<Shown>(block).unwrap_or_else(|error| panic!("{block}: {error}")).balance;
        let balancer = Balancer::new(&balance, &world.objectives, &[1.0; 4]).unwrap();
        world.train(&TrainingConfig { max_steps: 2, ..short() }, balancer, None, &mut Silent).1.unwrap();
        // A run writes its configuration down, to be resumed with.
        assert_eq!(toml::from_str::<BalanceConfig>(&toml::to_string(&balance).unwrap()).unwrap(), balance);
    }
}
