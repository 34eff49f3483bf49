//! What towers share: every parameter of it follows the objectives' weights, and experts learn what one layer cannot.

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use paretune_data::Part;
use paretune_objectives::{Architecture, ExpertsConfig, Kind, Labels, Objective, Objectives, TaskTowers, TowerConfig};
use paretune_optim::{Gradients, Method};
use paretune_train::{
    GradientCut, Plan,
    evaluation::{Rows, gates},
    step::{balanced_gradients, gradients_with_weights},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::{World, architectures, short, values};

/// The values of the parameters of these names, weighted and added.
fn sum(gradients: &[Gradients], weights: &[f64], names: &[String]) -> Vec<f64> {
    let mut flat = Vec::new();
    for name in names {
        let mut total: Vec<f64> = Vec::new();
        for (gradients, weight) in gradients.iter().zip(weights) {
            let Some(gradient) = gradients.get(name) else { continue };
            let own = values(&gradient.dense().unwrap());
            total.resize(own.len(), 0.0);
            total.iter_mut().zip(own).for_each(|(sum, value)| *sum += weight * f64::from(value));
        }
        flat.extend(total);
    }
    flat
}

#[track_caller]
fn near(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let off: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    assert!(norm(&off) < 1e-4 * norm(expected), "{what}: off by {:e} of {:e}", norm(&off), norm(expected));
}

#[test]
fn what_towers_share_follows_the_weights_and_towers_do_not() {
    for tasks in architectures() {
        let world = World::with_tasks(tasks.clone());
        let model = world.model();
        let parameters = model.parameters();
        let known = model.embed(&world.corpus.tokens, None).unwrap();
        let batch = Plan::new(&world.corpus, &world.objectives, &short(), 9).unwrap().epoch_from(2).next().unwrap();
        let names = |part: &[(String, Var)]| part.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let (shared, towers) = (names(&parameters.tasks), names(&parameters.towers));
        assert!(!shared.is_empty(), "{tasks:?}");
        let step = |method, cut, weights: &[f64]| {
            let mut balancer = world.balancer(method, cut, weights);
            balanced_gradients(&model, &parameters, &batch, &known, &mut balancer, 77).unwrap()
        };
        let alone = |k: usize| {
            let weights: Vec<f64> = (0..4).map(|other| f64::from(u8::from(other == k))).collect();
            step(Method::WeightedSum, GradientCut::Shared, &weights).gradients
        };
        let separate: Vec<Gradients> = (0..4).map(alone).collect();

        let weights = [0.7, 0.2, 1.3, 0.4];
        let summed = step(Method::WeightedSum, GradientCut::Shared, &weights).gradients;
        assert_eq!(summed.len(), parameters.all().len(), "{tasks:?}: every parameter has a gradient");
        for (name, gradient) in &summed {
            let values = values(&gradient.dense().unwrap());
            assert!(values.iter().all(|value| value.is_finite()), "{name}");
            // A bias of the keys adds the same to all scores of a query; one task of several may be cut off by a unit that rests.
            assert!(name.contains("key.bias") || values.iter().any(|value| *value != 0.0), "{tasks:?}: {name}");
        }
        near("weighted sum", &sum(&[summed], &[1.0], &shared), &sum(&separate, &weights, &shared));

        for cut in [GradientCut::Shared, GradientCut::Full] {
            let found = step(Method::Mgda, cut, &[1.0; 4]);
            let one = |names: &[String]| sum(std::slice::from_ref(&found.gradients), &[1.0], names);
            near("shared", &one(&shared), &sum(&separate, &found.weights, &shared));
            near("towers", &one(&towers), &sum(&separate, &[1.0; 4], &towers));
        }
        let balancer = world.balancer(Method::Mgda, GradientCut::Shared, &[1.0; 4]);
        let again = gradients_with_weights(&model, &parameters, &batch, &known, &weights, &balancer, 77).unwrap();
        near("known weights", &sum(&[again], &[1.0], &shared), &sum(&separate, &weights, &shared));
        // A direction that is no weighted sum leaves them the plain one.
        let dropped = step(Method::GradDrop, GradientCut::Shared, &[1.0; 4]);
        assert!(dropped.weights.is_empty());
        near("graddrop", &sum(&[dropped.gradients], &[1.0], &shared), &sum(&separate, &[1.0; 4], &shared));
    }
}

#[test]
fn what_objectives_listen_to_is_the_mean_over_all_rows() {
    for tasks in architectures() {
        let world = World::with_tasks(tasks.clone());
        let model = world.model();
        let known = model.embed(&world.corpus.tokens, None).unwrap();
        let rows = Rows::new(&world.corpus, &world.objectives, Part::Test, 0, 100_000, 1).unwrap();
        let found = gates(&model, &world.corpus, &known, &rows).unwrap();
        let names: Vec<&str> = found.iter().map(|gate| gate.gate.as_str()).collect();
        let all = ["click", "conversion", "satisfaction", "dwell"];
        match &tasks {
            Architecture::Omoe(_) => assert_eq!(names, ["shared"]),
            Architecture::Mmoe(_) => assert_eq!(names, all),
            Architecture::Ple(levels) if levels.levels == 1 => assert_eq!(names, all),
            Architecture::Ple(_) => assert_eq!(names, [&all[..], &["shared"], &all[..]].concat()),
            Architecture::CrossStitch(_) => assert_eq!(names, [all, all].concat()),
            Architecture::Aitm(_) => assert_eq!(names, all[1..]),
            Architecture::SharedBottom => unreachable!(),
        }
        for gate in &found {
            assert!((gate.weights.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{gate:?}");
            let constant = matches!(tasks, Architecture::CrossStitch(_));
            assert_eq!(gate.chosen.is_empty(), constant);
            assert!(constant || (gate.chosen.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{gate:?}");
        }
        // More than one batch; rows of one request see what rows of all requests see.
        let few = Rows::new(&world.corpus, &world.objectives, Part::Test, 0, 40, 1).unwrap();
        assert!(few.len() < rows.len());
        let one = gates(&model, &world.corpus, &known, &few).unwrap();
        assert_eq!(one.len(), found.len());
        assert_eq!(one == found, matches!(tasks, Architecture::CrossStitch(_)), "{tasks:?}");
    }
    let world = World::new();
    let model = world.model();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let rows = Rows::new(&world.corpus, &world.objectives, Part::Test, 0, 40, 1).unwrap();
    assert!(gates(&model, &world.corpus, &known, &rows).unwrap().is_empty());
}

/// Adam (Kingma and Ba 2015), for a toy.
pub(crate) struct Adam {
    parameters: Vec<Var>,
    moments: Vec<[Tensor; 2]>,
    steps: i32,
}

impl Adam {
    pub(crate) fn new(parameters: Vec<Var>) -> Self {
        let moments = parameters.iter().map(|var| [var.zeros_like().unwrap(), var.zeros_like().unwrap()]).collect();
        Self { parameters, moments, steps: 0 }
    }

    pub(crate) fn step(&mut self, gradients: &GradStore, rate: f64) {
        self.steps += 1;
        for (var, [first, second]) in self.parameters.iter().zip(&mut self.moments) {
            let Some(gradient) = gradients.get(var) else { continue };
            *first = ((&*first * 0.9).unwrap() + (gradient * 0.1).unwrap()).unwrap();
            *second = ((&*second * 0.99).unwrap() + (gradient.sqr().unwrap() * 0.01).unwrap()).unwrap();
            let mean = (&*first / (1.0 - 0.9f64.powi(self.steps))).unwrap();
            let size = ((&*second / (1.0 - 0.99f64.powi(self.steps))).unwrap().sqrt().unwrap() + 1e-8).unwrap();
            var.set(&(var.as_tensor() - ((mean / size).unwrap() * rate).unwrap()).unwrap()).unwrap();
        }
    }
}

/// Two tasks that want opposite signs of one feature, each by a feature of its own: `y_1 = sign(x_1) x_0` and `y_2 = sign(x_2) x_0`. A gate for
/// each task switches experts; one shared layer of as many units has to be everything to both.
#[test]
fn gates_learn_what_a_shared_layer_of_the_same_size_cannot() {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let rows: Vec<[f32; 3]> =
        (0..512).map(|_| std::array::from_fn(|_| random.random_range(-1.0f32..1.0) * 1.5)).collect();
    let sign = |switch: f32, value: f32| if switch > 0.0 { value } else { -value };
    let columns: Vec<Vec<f32>> =
        [1, 2].iter().map(|by| rows.iter().map(|row| sign(row[*by], row[0])).collect()).collect();
    let objectives = Objectives::new(vec![
        Objective::new("first", Kind::Regression, "first"),
        Objective::new("second", Kind::Regression, "second"),
    ])
    .unwrap();
    let x = Tensor::from_vec(rows.concat(), (512, 3), &Device::Cpu).unwrap();
    let loss = |architecture: Architecture, seed: u64| -> f32 {
        let config = TowerConfig { input: 3, hidden: 0, dropout: 0.0, seed, architecture, ..TowerConfig::default() };
        let mut towers = TaskTowers::new(&objectives, &config, &Device::Cpu).unwrap();
        towers.fit(&columns).unwrap();
        let labels = Labels::new(&objectives, towers.scalers(), &columns, &Device::Cpu).unwrap();
        let all = [towers.shared_parameters(), towers.parameters()].concat();
        let mut adam = Adam::new(all.into_iter().map(|(_, var)| var).collect());
        let mut last = f32::NAN;
        for step in 0..600 {
            let losses = towers.forward(&x, None).unwrap().losses(&labels).unwrap();
            let total = (&losses[0].loss + &losses[1].loss).unwrap();
            last = total.to_scalar().unwrap();
            adam.step(&total.backward().unwrap(), if step < 400 { 0.03 } else { 0.01 });
        }
        last / 2.0
    };
    for seed in 1..4 {
        // Four units each.
        let bottom = loss(Architecture::Omoe(ExpertsConfig { experts: 1, width: 4 }), seed);
        let gated = loss(Architecture::Mmoe(ExpertsConfig { experts: 2, width: 2 }), seed);
        assert!(gated < 0.5 * bottom, "seed {seed}: {gated} with gates, {bottom} without");
    }
}
