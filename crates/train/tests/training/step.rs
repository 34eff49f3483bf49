//! The gradients of one batch.

use candle_core::{Device, Tensor, Var};
use paretune_objectives::TaskLoss;
use paretune_optim::{Gradients, Method, Setting};
use paretune_recommender::{Batch, Recommender, Sequences};
use paretune_train::{
    BalanceConfig, Balancer, GradientCut, Plan, TrainError,
    step::{Cuts, Graph, StepGradients, balanced_gradients, gradients_with_weights},
};

use crate::world::{World, short, values};

const KINDS: [(Method, GradientCut); 4] = [
    (Method::WeightedSum, GradientCut::Shared),
    (Method::Uncertainty, GradientCut::Shared),
    (Method::Mgda, GradientCut::Shared),
    (Method::Mgda, GradientCut::Full),
];

/// One model, one batch.
struct Bench {
    world: World,
    model: Recommender,
    known: Tensor,
    batch: Batch,
}

impl Bench {
    fn new(world: World) -> Self {
        let model = world.model();
        let known = model.embed(&world.corpus.tokens, None).unwrap();
        let batch = Plan::new(&world.corpus, &world.objectives, &short(), 9).unwrap().epoch_from(2).next().unwrap();
        Self { world, model, known, batch }
    }

    fn try_step(&self, method: Method, cut: GradientCut, weights: &[f64]) -> Result<StepGradients, TrainError> {
        self.try_with(&mut self.world.balancer(method, cut, weights))
    }

    fn try_with(&self, balancer: &mut Balancer) -> Result<StepGradients, TrainError> {
        balanced_gradients(&self.model, &self.model.parameters(), &self.batch, &self.known, balancer, 77)
    }

    /// With the lines of a `[balance]` table.
    fn with(&self, text: &str) -> StepGradients {
        self.try_with(&mut self.world.balancer_of(text, &[1.0; 4])).unwrap()
    }

    fn step(&self, method: Method, cut: GradientCut, weights: &[f64]) -> StepGradients {
        self.try_step(method, cut, weights).unwrap()
    }

    /// The gradient of each objective alone.
    fn separate(&self) -> Vec<Gradients> {
        let k = self.world.objectives.len();
        let only = |one: usize| (0..k).map(|other| f64::from(u8::from(one == other))).collect::<Vec<f64>>();
        (0..k).map(|one| self.step(Method::WeightedSum, GradientCut::Shared, &only(one)).gradients).collect()
    }

    /// Names below the cut, and of the towers.
    fn names(&self) -> [Vec<String>; 2] {
        let parameters = self.model.parameters();
        let names = |part: &[(String, candle_core::Var)]| part.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        [[names(&parameters.backbone), names(&parameters.shared)].concat(), names(&parameters.towers)]
    }

    fn set_labels(&mut self, objective: &str, value: f32) {
        let k = self.world.objectives.index_of(objective).unwrap();
        self.batch.labels[k].fill(value);
    }
}

/// `Σ w_k g_k` as one long vector over `names`.
fn combined(gradients: &[Gradients], weights: &[f64], names: &[String], model: &Recommender) -> Vec<f64> {
    let all = model.parameters().all();
    let size = |name: &String| all.iter().find(|(other, _)| other == name).unwrap().1.elem_count();
    let mut flat = Vec::new();
    for name in names {
        let mut sum = vec![0.0; size(name)];
        for (gradients, weight) in gradients.iter().zip(weights) {
            if let Some(gradient) = gradients.get(name) {
                sum.iter_mut()
                    .zip(values(&gradient.dense().unwrap()))
                    .for_each(|(sum, g)| *sum += weight * f64::from(g));
            }
        }
        flat.extend(sum);
    }
    flat
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    let difference: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    let relative = (dot(&difference, &difference) / dot(expected, expected)).sqrt();
    assert!(relative < tolerance, "off by {relative:e} of the norm");
}

#[test]
fn one_pass_from_the_weighted_sum_is_the_sum_of_all_passes() {
    let bench = Bench::new(World::new());
    let weights = [0.7, 0.2, 1.3, 0.4];
    let found = bench.step(Method::WeightedSum, GradientCut::Shared, &weights);
    assert_eq!(found.weights, weights);
    for names in bench.names() {
        let one = combined(std::slice::from_ref(&found.gradients), &[1.0], &names, &bench.model);
        assert_close(&one, &combined(&bench.separate(), &weights, &names, &bench.model), 1e-5);
    }
}

#[test]
fn below_the_cut_the_combined_gradient_is_the_chain_rules() {
    let bench = Bench::new(World::new());
    let separate = bench.separate();
    for cut in [GradientCut::Shared, GradientCut::Full] {
        let found = bench.step(Method::Mgda, cut, &[1.0; 4]);
        let [below, towers] = bench.names();
        let one = |names: &[String]| combined(std::slice::from_ref(&found.gradients), &[1.0], names, &bench.model);
        assert_close(&one(&below), &combined(&separate, &found.weights, &below, &bench.model), 1e-4);
        // Towers are not shared: each follows its own losses, unweighted.
        assert_close(&one(&towers), &combined(&separate, &[1.0; 4], &towers, &bench.model), 1e-4);
        let all: usize = bench.names().iter().map(Vec::len).sum();
        assert_eq!(found.gradients.len(), all, "every parameter has a gradient");
    }
}

/// The Gramian at the cut is not that of all shared parameters: an objective with few labels has short sums of long gradients, whose
/// samples do not cancel at the cut as they do in the parameters, so it weighs less there. Both ways give weights on the simplex and a
/// direction that lessens every loss, and the two directions agree by and large.
#[test]
fn balancing_at_the_cut_is_near_balancing_over_all_parameters() {
    let bench = Bench::new(World::new());
    let [below, _] = bench.names();
    let separate = bench.separate();
    let directions = [GradientCut::Shared, GradientCut::Full].map(|cut| {
        let found = bench.step(Method::Mgda, cut, &[1.0; 4]);
        assert!(found.weights.iter().all(|weight| *weight >= 0.0));
        assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let direction = combined(&[found.gradients], &[1.0], &below, &bench.model);
        let alone = |k: usize| combined(&separate[k..=k], &[1.0], &below, &bench.model);
        let cosines: Vec<f64> = (0..4).map(|k| cosine(&direction, &alone(k))).collect();
        eprintln!("{cut:?}: weights {:.3?}, cosine with each gradient {cosines:.3?}", found.weights);
        (direction, cosines, found.weights)
    });
    let between = cosine(&directions[0].0, &directions[1].0);
    eprintln!("cosine between the two directions: {between:.3}");
    assert!(between > 0.6, "{between}");
    let [(_, shared, _), (_, full, weights)] = directions;
    assert!(shared.iter().all(|cosine| *cosine > 0.0), "{shared:?}");
    // The shortest combination of unit gradients makes the same angle with all that have weight, and none that is wider with the others.
    let narrowest = full.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(narrowest > 0.0, "{full:?}");
    for (cosine, weight) in full.iter().zip(weights) {
        assert!(weight < 1e-6 || cosine - narrowest < 1e-3, "{full:?}");
    }
}

#[test]
fn an_objective_of_weight_0_leaves_no_trace() {
    let (all, three) = (Bench::new(World::new()), Bench::new(World::with_only(&["click", "conversion", "dwell"])));
    for (method, cut) in KINDS {
        let found = all.step(method, cut, &[1.0, 0.5, 0.0, 2.0]);
        let expected = three.step(method, cut, &[1.0, 0.5, 2.0]);
        assert_eq!(found.weights[2], 0.0);
        assert!(found.losses[2].is_finite(), "its loss is told all the same");
        assert!(found.gradients.keys().eq(expected.gradients.keys()), "{method}: nothing for its tower");
        let names: Vec<String> = expected.gradients.keys().cloned().collect();
        let flat = |bench: &Bench, step: &StepGradients| {
            combined(std::slice::from_ref(&step.gradients), &[1.0], &names, &bench.model)
        };
        assert_close(&flat(&all, &found), &flat(&three, &expected), 1e-6);
    }
}

#[test]
fn an_objective_without_labels_in_a_batch_says_nothing() {
    let mut bench = Bench::new(World::new());
    bench.set_labels("satisfaction", f32::NAN);
    let mut three = Bench::new(World::with_only(&["click", "conversion", "dwell"]));
    three.batch = bench.batch.clone();
    three.batch.labels.remove(2);
    for (method, cut) in KINDS {
        let found = bench.step(method, cut, &[1.0; 4]);
        let expected = three.step(method, cut, &[1.0; 3]);
        assert!(found.losses[2].is_nan() && found.losses[0].is_finite());
        assert!(found.gradients.keys().eq(expected.gradients.keys()), "{method}");
        let names: Vec<String> = expected.gradients.keys().cloned().collect();
        let flat = |bench: &Bench, step: &StepGradients| {
            combined(std::slice::from_ref(&step.gradients), &[1.0], &names, &bench.model)
        };
        assert_close(&flat(&bench, &found), &flat(&three, &expected), 1e-6);
    }
}

#[test]
fn a_batch_without_any_label_moves_nothing() {
    let mut bench = Bench::new(World::new());
    bench.batch.labels.iter_mut().for_each(|column| column.fill(f32::NAN));
    for (method, cut) in KINDS {
        let found = bench.step(method, cut, &[1.0; 4]);
        assert!(found.gradients.is_empty() && found.losses.iter().all(|loss| loss.is_nan()), "{method}");
    }
}

#[test]
fn what_a_batch_does_not_touch_has_no_gradient() {
    let mut bench = Bench::new(World::new());
    // Nobody has a history: what reads histories is not touched.
    let seen = vec![0..0; bench.batch.viewers()];
    bench.batch.histories = Sequences { offsets: vec![0], seen, ..Sequences::default() };
    for (method, cut) in KINDS {
        let found = bench.step(method, cut, &[1.0; 4]);
        assert!(!found.gradients.contains_key("users.query") && !found.gradients.contains_key("users.value.weight"));
        assert!(found.gradients.contains_key("users.features.weight"), "{method}");
    }
}

#[test]
fn a_loss_that_is_not_a_number_is_named() {
    let bench = Bench::new(World::new());
    let towers = bench.model.parameters().towers;
    let (_, bias) = towers.iter().find(|(name, _)| name == "towers.dwell.1.bias").unwrap();
    bias.set(&Tensor::new(&[f32::NAN], bias.device()).unwrap()).unwrap();
    for (method, cut) in KINDS {
        let refused = bench.try_step(method, cut, &[1.0; 4]).err().unwrap().to_string();
        assert!(refused.contains("the loss of objective dwell is NaN"), "{method}: {refused}");
    }
}

#[test]
fn every_method_moves_every_parameter_towards_finite_values() {
    let bench = Bench::new(World::new());
    let all: usize = bench.names().iter().map(Vec::len).sum();
    for &method in Method::ALL {
        let mut config = BalanceConfig { method, ..BalanceConfig::default() };
        if method == Method::Constant {
            config.parameters.insert(
                "weights".into(),
                vec![1.0, 2.0, 0.5, 1.0].into_iter().map(Setting::from).collect::<Vec<_>>().into(),
            );
        }
        let mut balancer = Balancer::new(&config, &bench.world.objectives, &[1.0, 0.5, 1.0, 2.0]).unwrap();
        let found = bench.try_with(&mut balancer).unwrap_or_else(|error| panic!("{method}: {error}"));
        assert!(found.weights.iter().all(|weight| weight.is_finite()), "{method}: {:?}", found.weights);
        // The largest term alone moves the parameters that its objective reaches.
        let partial = matches!(method, Method::Chebyshev);
        assert!(
            partial || found.gradients.len() == all,
            "{method}: {} of {all} have a gradient",
            found.gradients.len()
        );
        for (name, gradient) in &found.gradients {
            let values = values(&gradient.dense().unwrap());
            assert!(values.iter().all(|value| value.is_finite()), "{method}: {name}");
        }
    }
}

/// Of gradients that never point against each other in any coordinate, GradDrop keeps all; of others some part of each coordinate.
#[test]
fn methods_that_look_at_coordinates_combine_what_the_objectives_gave() {
    let bench = Bench::new(World::new());
    let [below, towers] = bench.names();
    let separate = bench.separate();
    let one = |found: &StepGradients, names: &[String]| {
        combined(std::slice::from_ref(&found.gradients), &[1.0], names, &bench.model)
    };
    let excess = bench.with("method = \"excess-mtl\"");
    assert_eq!(excess.weights.len(), 4);
    assert_close(&one(&excess, &below), &combined(&separate, &excess.weights, &below, &bench.model), 1e-4);
    assert_close(&one(&excess, &towers), &combined(&separate, &[1.0; 4], &towers, &bench.model), 1e-4);
    let dropped = bench.with("method = \"graddrop\"\ngradients = \"full\"");
    assert!(dropped.weights.is_empty());
    let alone: Vec<Vec<f64>> = (0..4).map(|k| combined(&separate[k..=k], &[1.0], &below, &bench.model)).collect();
    let mut both = [0, 0];
    for (i, found) in one(&dropped, &below).into_iter().enumerate() {
        let sum = |sign: f64| alone.iter().map(|row| row[i] * sign).filter(|g| *g > 0.0).sum::<f64>() * sign;
        let (up, down) = (sum(1.0), sum(-1.0));
        let near = |other: f64| (found - other).abs() <= 1e-4 * (up - down).abs() + 1e-9;
        assert!(near(up) || near(down), "coordinate {i}: {found} is neither {up} nor {down}");
        both[usize::from(near(up))] += 1;
    }
    assert!(both[0] > 100 && both[1] > 100, "{both:?}");
    let at_cut = bench.with("method = \"graddrop\"");
    assert!(cosine(&one(&at_cut, &below), &combined(&separate, &[1.0; 4], &below, &bench.model)) > 0.3);
}

#[test]
fn kept_weights_serve_until_they_are_refreshed() {
    for cut in ["shared", "full"] {
        let mut bench = Bench::new(World::new());
        let mut balancer =
            bench.world.balancer_of(&format!("method = \"mgda\"\nrefresh = 100\ngradients = \"{cut}\""), &[1.0; 4]);
        let mut step = |bench: &Bench| bench.try_with(&mut balancer).unwrap();
        let first = step(&bench);
        // Other labels, the same weights; the gradient is that of the new labels.
        for column in &mut bench.batch.labels {
            column.rotate_left(7);
        }
        let second = step(&bench);
        assert_eq!(first.weights, second.weights);
        let [below, towers] = bench.names();
        let separate = bench.separate();
        let one = |names: &[String]| combined(std::slice::from_ref(&second.gradients), &[1.0], names, &bench.model);
        assert_close(&one(&below), &combined(&separate, &second.weights, &below, &bench.model), 1e-4);
        assert_close(&one(&towers), &combined(&separate, &[1.0; 4], &towers, &bench.model), 1e-4);
    }
    // One that had no labels when the weights were made has none: new ones are made when it has.
    let mut bench = Bench::new(World::new());
    let labels = bench.batch.labels.clone();
    let mut balancer = bench.world.balancer_of("method = \"upgrad\"\nrefresh = 100", &[1.0; 4]);
    bench.set_labels("satisfaction", f32::NAN);
    assert_eq!(bench.try_with(&mut balancer).unwrap().weights[2], 0.0);
    bench.batch.labels = labels;
    assert!(bench.try_with(&mut balancer).unwrap().weights[2] > 0.0);
}

/// An objective that joins late is measured by its own first labels, and does not take everything.
#[test]
fn an_objective_that_had_no_labels_at_first_joins_the_others() {
    let mut bench = Bench::new(World::new());
    let labels = bench.batch.labels.clone();
    let mut balancer = bench.world.balancer_of("method = \"excess-mtl\"", &[1.0; 4]);
    bench.set_labels("satisfaction", f32::NAN);
    bench.try_with(&mut balancer).unwrap();
    bench.batch.labels = labels;
    for _ in 0..3 {
        let weights = bench.try_with(&mut balancer).unwrap().weights;
        assert!(weights[2] > 0.0 && weights[2] < 0.9, "{weights:?}");
    }
}

#[test]
fn a_loss_that_goes_around_the_cut_is_refused() {
    let bench = Bench::new(World::new());
    let a = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    let mut cuts = Cuts::default();
    let [low] = cuts.at([(a.as_tensor() * 2.0).unwrap()]).unwrap();
    let [top] = cuts.at([low.sqr().unwrap()]).unwrap();
    let loss = |x: candle_core::Result<Tensor>| TaskLoss { loss: x.unwrap().sum_all().unwrap(), observed: 2 };
    let losses = [loss(top.sqr()), loss(&top + &low), loss(top.exp()), loss(top.tanh())];
    let names = ["a", "b", "c", "d"];
    let below = [("a".to_owned(), a)];
    let graph =
        Graph { names: &names, losses: &losses, cuts: &cuts, towers: &[], between: &[], below: &below, borrows: &[] };
    let mut balancer = bench.world.balancer(Method::UpGrad, GradientCut::Full, &[1.0; 4]);
    assert!(matches!(graph.balance(&mut balancer), Err(TrainError::AroundTheCut)));
    let straight = [loss(top.sqr()), loss(top.sqr()), loss(top.exp()), loss(top.tanh())];
    assert_eq!(Graph { losses: &straight, ..graph }.balance(&mut balancer).unwrap().gradients.len(), 1);
}

#[test]
fn settings_that_do_not_fit_each_other_are_refused() {
    let refused = |text: &str| toml::from_str::<BalanceConfig>(text).unwrap_err().to_string();
    assert!(refused("method = \"excess-mtl\"\ngradients = \"shared\"").contains("use \"full\""));
    assert!(refused("method = \"graddrop\"\nrefresh = 4").contains("no weights to keep"));
    assert!(refused("method = \"upgrad\"\nrefresh = 0").contains("at least 1"));
    assert!(refused("method = \"graddrop\"\ncontrol = { kind = \"anneal\", to = { click = 1 } }").contains("control"));
    assert!(refused("method = \"upgrad\"\ncontrol = { kind = \"anneal\", towards = 1 }").contains("towards"));
}

/// A goal of lists moves the tower that ranks by its weight, whatever way the gradient is computed; towers follow their own losses unweighted.
#[test]
fn a_tower_that_a_goal_borrows_follows_its_own_loss_and_the_goals_weight() {
    let bench = Bench::new(World::with_goals());
    let separate = bench.separate();
    let parameters = bench.model.parameters();
    for cut in [GradientCut::Shared, GradientCut::Full] {
        let found = bench.step(Method::UpGrad, cut, &[1.0; 4]);
        assert!(found.weights[2..].iter().all(|weight| *weight > 0.0), "{:?}", found.weights);
        let [below, towers] = bench.names();
        let one = |names: &[String]| combined(std::slice::from_ref(&found.gradients), &[1.0], names, &bench.model);
        let weights = [1.0, 1.0, found.weights[2], found.weights[3]];
        assert_close(&one(&towers), &combined(&separate, &weights, &towers, &bench.model), 1e-4);
        assert_close(&one(&below), &combined(&separate, &found.weights, &below, &bench.model), 1e-4);
        // Without asking the method again.
        let balancer = bench.world.balancer(Method::UpGrad, cut, &[1.0; 4]);
        let (model, batch, known) = (&bench.model, &bench.batch, &bench.known);
        let again = gradients_with_weights(model, &parameters, batch, known, &found.weights, &balancer, 77).unwrap();
        for names in [&below, &towers] {
            let again = combined(std::slice::from_ref(&again), &[1.0], names, &bench.model);
            assert_close(&one(names), &again, 1e-4);
        }
    }
}
