//! Samples without a label: they help where labels are few, and do nothing where nothing is asked for.

use candle_core::{Device, Tensor};
use paretune_objectives::{
    Again, Kind, Labels, Objective, ObjectiveError, Objectives, Outputs, Semi, TaskTowers, TowerConfig,
};
use paretune_optim::Method;
use paretune_train::{GradientCut, Silent, TrainingConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::tasks::Adam;
use crate::world::{World, digest, objectives, short};

/// Columns of a sample.
const WIDTH: usize = 20;

struct Clouds {
    x: Tensor,
    labels: Vec<f32>,
}

/// Two clouds around opposite means of length 2, one for each label, in turn.
fn clouds(mean: &[f64], rows: usize, random: &mut ChaCha8Rng) -> Clouds {
    let labels: Vec<f32> = (0..rows).map(|row| (row % 2) as f32).collect();
    let value = |(label, mean): (f32, f64), random: &mut ChaCha8Rng| {
        let (u, v) = (random.random::<f64>().max(1e-12), random.random::<f64>());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        (normal + if label > 0.5 { mean } else { -mean }) as f32
    };
    let values: Vec<f32> =
        labels.iter().flat_map(|label| mean.iter().map(|mean| (*label, *mean))).map(|at| value(at, random)).collect();
    Clouds { x: Tensor::from_vec(values, (rows, WIDTH), &Device::Cpu).unwrap(), labels }
}

/// The share of 2,000 new samples that towers get right which have learned from 8 labels and 504 samples without.
fn right(semi: Option<Semi>, seed: u64) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let direction: Vec<f64> = (0..WIDTH).map(|_| random.random_range(-1.0..1.0)).collect();
    let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mean: Vec<f64> = direction.iter().map(|x| 2.0 * x / length).collect();
    let (train, test) = (clouds(&mean, 512, &mut random), clouds(&mean, 2000, &mut random));

    let objective = Objective { semi, ..Objective::new("kind", Kind::Binary, "kind") };
    let objectives = Objectives::new(vec![objective]).unwrap();
    let config = TowerConfig { input: WIDTH, hidden: 16, dropout: 0.5, seed, ..TowerConfig::default() };
    let towers = TaskTowers::new(&objectives, &config, &Device::Cpu).unwrap();
    let column = train.labels.iter().enumerate().map(|(row, label)| if row < 8 { *label } else { f32::NAN });
    let labels = Labels::new(&objectives, towers.scalers(), &[column.collect()], &Device::Cpu).unwrap();
    let mut adam = Adam::new(towers.parameters().into_iter().map(|(_, var)| var).collect());
    for step in 0..300u64 {
        let outputs = towers.forward(&train.x, Some(step)).unwrap();
        let mut losses = outputs.losses(&labels).unwrap();
        let again = |which| -> Result<Outputs, ObjectiveError> {
            towers.forward(&train.x, if which == Again::Plain { None } else { Some(step + 1_000_000) })
        };
        outputs.add_unlabelled(&labels, step as usize / 60, again, &mut losses).unwrap();
        adam.step(&losses[0].loss.backward().unwrap(), 0.02);
    }
    let predicted = towers.forward(&test.x, None).unwrap().predictions().unwrap().remove(0);
    let hits = predicted.iter().zip(&test.labels).filter(|(p, label)| (**p > 0.5) == (**label > 0.5)).count();
    hits as f64 / test.labels.len() as f64
}

#[test]
fn unlabelled_samples_help_where_labels_are_few() {
    let seeds = 1..=4;
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let alone: Vec<f64> = seeds.clone().map(|seed| right(None, seed)).collect();
    for semi in [
        Semi::PseudoLabel { threshold: 0.9, weight: 1.0, from_epoch: 1 },
        Semi::Consistency { weight: 10.0, from_epoch: 1 },
    ] {
        let with: Vec<f64> = seeds.clone().map(|seed| right(Some(semi), seed)).collect();
        eprintln!("{semi:?}: {with:?} against {alone:?}");
        assert!(with.iter().zip(&alone).all(|(with, alone)| with > alone), "{semi:?}: {with:?} against {alone:?}");
        assert!(mean(&with) > mean(&alone) + 0.01, "{semi:?}: {with:?} against {alone:?}");
    }
}

/// The weights after a short training whose conversions and ratings also learn from samples without a label.
fn trained(semi: Option<Semi>) -> u64 {
    let mut all: Vec<Objective> = objectives().into();
    all[1].semi = semi;
    all[2].semi = semi;
    let world = World { objectives: Objectives::new(all).unwrap(), ..World::new() };
    let training = TrainingConfig { epochs: 2, ..short() };
    let balancer = world.balancer(Method::Mgda, GradientCut::Shared, &[1.0; 4]);
    let (model, outcome) = world.train(&training, balancer, None, &mut Silent);
    outcome.unwrap();
    digest(&model)
}

#[test]
fn training_without_their_weight_is_training_without_them() {
    let plain = trained(None);
    for none in [
        Semi::PseudoLabel { threshold: 0.9, weight: 0.0, from_epoch: 0 },
        Semi::Consistency { weight: 0.0, from_epoch: 0 },
        // There is no third pass.
        Semi::PseudoLabel { threshold: 0.9, weight: 1.0, from_epoch: 2 },
        Semi::Consistency { weight: 5.0, from_epoch: 2 },
    ] {
        assert_eq!(trained(Some(none)), plain, "{none:?}");
    }
    let mut found = vec![plain];
    for some in [
        Semi::PseudoLabel { threshold: 0.6, weight: 1.0, from_epoch: 1 },
        Semi::Consistency { weight: 5.0, from_epoch: 0 },
        Semi::Consistency { weight: 5.0, from_epoch: 1 },
    ] {
        let own = trained(Some(some));
        assert_eq!(own, trained(Some(some)), "{some:?} by one seed");
        assert!(!found.contains(&own), "{some:?} changes nothing");
        found.push(own);
    }
}
