//! Weights travel from the log to the losses.

use paretune_data::Part;
use paretune_objectives::{Bias, Debias, DebiasMethod, Kind, Objective, Objectives, Propensity};
use paretune_optim::Method;
use paretune_recommender::{Batch, Corpus};
use paretune_train::{
    GradientCut, Plan, Silent, TrainingConfig,
    debias::{Propensities, PropensityModel},
    step::balanced_gradients,
};

use crate::world::{self, World, short, values};

/// Click debiased by one way, satisfaction by another.
fn world(click: Objective, satisfaction: Option<Debias>) -> World {
    let rating = Objective { debias: satisfaction, ..Objective::new("satisfaction", Kind::Regression, "rating") };
    World { objectives: Objectives::new(vec![click, rating]).unwrap(), ..World::new() }
}

fn click() -> Objective {
    Objective::new("click", Kind::Binary, "click")
}

fn first_batch(world: &World, config: &TrainingConfig) -> Batch {
    let plan = Plan::new(&world.corpus, &world.objectives, config, 4).unwrap();
    plan.epoch_from(0).next().unwrap()
}

/// The rows of the log that a sample can be: those of its user with that item at that place.
fn rows_of(corpus: &Corpus, batch: &Batch, sample: usize) -> Vec<u32> {
    let item = batch.items[batch.slots[sample] as usize];
    let user = batch.users[batch.requests[sample] as usize];
    let events = &corpus.dataset.events;
    let same = |row: &u32| {
        let at = *row as usize;
        events.item[at] == item
            && Some(events.user[at]) == user
            && events.position.as_ref().unwrap()[at] == batch.places[sample]
    };
    corpus.split.rows(Part::Train).into_iter().filter(same).collect()
}

#[test]
fn logged_propensities_weigh_against_showing_every_item_alike() {
    let world = world(click().debias(Debias::new(DebiasMethod::Snips, Propensity::Column)), None);
    let batch = first_batch(&world, &TrainingConfig { negatives: 2, ..short() });
    let weights = batch.weights[0].as_ref().unwrap();
    assert!(batch.weights[1].is_none());
    let logged = world.corpus.dataset.events.propensity.as_ref().unwrap();
    let (mut rows, mut drawn) = (0, 0);
    for sample in 0..batch.len() {
        if batch.places[sample] == 0 {
            // Drawn by chance: it has no label, and stands for the catalogue.
            assert!(weights.inverse[sample].is_nan() && batch.labels[0][sample].is_nan());
            assert!(weights.population.contains(&(sample as u32)));
            drawn += 1;
        } else {
            let right = |row: &u32| {
                let expected = 1.0 / (120.0 * logged[*row as usize]);
                (weights.inverse[sample] - expected).abs() < 1e-5 * expected
            };
            assert!(rows_of(&world.corpus, &batch, sample).iter().any(right), "{}", weights.inverse[sample]);
            rows += 1;
        }
    }
    assert!(drawn > 0);
    assert_eq!((weights.base, weights.population.len()), (rows, drawn));
    // The mean weight of a whole log is 1, as far as chance allows.
    let all = Propensities::new(&world.corpus, &world.objectives).unwrap();
    let all = all.inverse(0).unwrap();
    let mean = all.iter().sum::<f32>() / all.len() as f32;
    assert!((0.7..1.4).contains(&mean), "{mean}");
}

/// A column of the labels' own propensities weighs the rows of the log.
#[test]
fn a_named_column_holds_the_propensities_of_one_label() {
    let mut dataset = world::dataset();
    let rows = dataset.events.len();
    dataset.events.feedback.insert("left".into(), (0..rows).map(|row| 1.0 / (1 + row % 4) as f32).collect());
    let debias =
        |name: &str| Debias { column: Some(name.into()), ..Debias::new(DebiasMethod::Ips, Propensity::Column) };
    let corpus = world::corpus_of(dataset, &world::TIME);
    let objectives = |name: &str| world(click(), Some(debias(name))).objectives;
    let found = Propensities::new(&corpus, &objectives("left")).unwrap();
    let found = found.inverse(1).unwrap();
    assert!((0..rows).all(|row| (found[row] - (1 + row % 4) as f32).abs() < 1e-6));
    let refused = |name: &str| Propensities::new(&corpus, &objectives(name)).unwrap_err().to_string();
    assert!(refused("right").contains("`right`") && refused("right").contains("rating"), "{}", refused("right"));
    assert!(refused("dwell_seconds").contains("above 0 and at most 1"));
}

#[test]
fn positions_and_popularity_have_their_formulas() {
    let position = Debias { eta: Some(0.5), ..Debias::new(DebiasMethod::Ips, Propensity::Position) };
    let popular = Debias { power: Some(0.7), ..Debias::new(DebiasMethod::Ips, Propensity::Popularity) };
    let shown = world(click().debias(position), Some(popular.clone()));
    let batch = first_batch(&shown, &TrainingConfig { negatives: 1, ..short() });
    let counts = shown.corpus.summary().engagement();
    let power = |n: u32| f64::from(n.max(1)).powf(0.7);
    let mean = counts.iter().map(|n| power(*n)).sum::<f64>() / counts.len() as f64;
    let most = power(*counts.iter().max().unwrap());
    let exposure = world(click().debias(popular), None);
    let exposed = Propensities::new(&exposure.corpus, &exposure.objectives).unwrap();
    for sample in 0..batch.len() {
        let place = batch.places[sample];
        let found = [0, 1].map(|k| batch.weights[k].as_ref().unwrap().inverse[sample]);
        if place == 0 {
            assert!(found[0].is_nan() && batch.labels[0][sample] == 0.0 && batch.labels[1][sample].is_nan());
            continue;
        }
        assert!((found[0] - f32::from(place).sqrt()).abs() < 1e-5, "{place}: {}", found[0]);
        let own = power(counts[batch.items[batch.slots[sample] as usize] as usize]);
        assert!((f64::from(found[1]) - mean / own).abs() < 1e-5 * mean / own);
        let row = rows_of(&shown.corpus, &batch, sample)[0];
        let theta = f64::from(exposed.inverse(0).unwrap()[row as usize]);
        assert!((theta - most / own).abs() < 1e-5 * most / own && theta >= 1.0);
    }
}

/// Columns of the past, and an intercept: the fitted probabilities have the mean of what was observed.
#[test]
fn a_model_says_which_ratings_were_left() {
    let debias = Debias::new(DebiasMethod::DoublyRobust, Propensity::Model);
    let world = world(click(), Some(debias));
    let fitted = PropensityModel::fit(&world.corpus, &world.objectives.as_slice()[1]).unwrap();
    let rows = fitted.rows().len() as f64;
    let share = fitted.observed().iter().filter(|seen| **seen).count() as f64 / rows;
    let mean = fitted.probabilities().iter().sum::<f64>() / rows;
    assert!((share - mean).abs() < 1e-6, "{share} {mean}");
    // Of what is higher up more is rated.
    let position = fitted.covariates().position(|(name, _)| name == "log position").unwrap();
    assert!(fitted.logistic().coefficients()[position] < -0.1);
    let batch = first_batch(&world, &short());
    let weights = batch.weights[1].as_ref().unwrap();
    assert_eq!((weights.base, weights.population.len()), (batch.len(), batch.len()));
    assert!(weights.inverse.iter().all(|weight| *weight >= 1.0));
    // Clicks are all observed: there is nothing to fit.
    let error = PropensityModel::fit(&world.corpus, &world.objectives.as_slice()[0]).unwrap_err().to_string();
    assert!(error.contains("\"click\"") && error.contains("no label"), "{error}");
}

/// From the configuration's words to gradients of every parameter, the imputation's and the examination's among them; and to a trained model.
#[test]
fn every_parameter_of_debiased_objectives_learns() {
    let column = |method| Debias::new(method, Propensity::Column);
    let robust = Debias::new(DebiasMethod::DoublyRobust, Propensity::Model);
    for (click, rating) in [
        (click().examined(10), robust.clone()),
        (click().debias(column(DebiasMethod::DoublyRobust)), Debias { clip: Some(20.0), ..robust }),
        (click().debias(column(DebiasMethod::Snips)), Debias::new(DebiasMethod::Snips, Propensity::Popularity)),
    ] {
        let world = world(click, Some(rating));
        let config = TrainingConfig { negatives: 1, ..short() };
        let batch = first_batch(&world, &config);
        let model = world.model();
        let known = model.embed(&world.corpus.tokens, None).unwrap();
        let parameters = model.parameters();
        for method in [Method::WeightedSum, Method::Mgda] {
            let mut balancer = world.balancer(method, GradientCut::Shared, &[1.0, 1.0]);
            let found = balanced_gradients(&model, &parameters, &batch, &known, &mut balancer, 3).unwrap();
            for (name, var) in &parameters.towers {
                let gradient = found.gradients.get(name).unwrap_or_else(|| panic!("{name} has no gradient"));
                let gradient = values(&gradient.dense().unwrap());
                assert_eq!(gradient.len(), var.elem_count());
                assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0), "{name}");
            }
        }
        let before = world::digest(&model);
        let (trained, outcome) = world.train(
            &config,
            world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0, 1.0]),
            None,
            &mut Silent,
        );
        outcome.unwrap();
        assert_ne!(before, world::digest(&trained));
        assert!(trained.examination().unwrap().iter().all(|(_, curve)| curve.len() == 10 && curve[0] == 1.0));
    }
}

/// What a position does is the examination model's to say: the same item is as relevant everywhere.
#[test]
fn relevance_knows_no_position() {
    let world = world(click().examined(5), None);
    let model = world.model();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let mut batch = first_batch(&world, &short());
    let predict = |batch: &Batch| {
        let shared = model.represent(batch, &known, None).unwrap();
        model.outputs(&shared, batch, None).unwrap().predictions().unwrap()
    };
    let before = predict(&batch);
    batch.positions.iter_mut().for_each(|position| *position = 3.0);
    assert_eq!(before, predict(&batch));
}

#[test]
fn what_the_log_does_not_have_is_refused() {
    let refused = |click: Objective, rating: Option<Debias>, change: fn(&mut paretune_data::Dataset), part: &str| {
        let mut dataset = world::dataset();
        change(&mut dataset);
        let world = World { corpus: world::corpus_of(dataset, &world::TIME), ..world(click, rating) };
        let error = Plan::new(&world.corpus, &world.objectives, &short(), 1).map(drop).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let of = Debias::new;
    refused(
        click().debias(of(DebiasMethod::Ips, Propensity::Column)),
        None,
        |data| data.events.propensity = None,
        "column `propensity`",
    );
    let position = Debias { eta: Some(1.0), ..of(DebiasMethod::Ips, Propensity::Position) };
    refused(click().debias(position), None, |data| data.events.position = None, "column `position`");
    refused(click().examined(10), None, |data| data.events.position = None, "examination");
    refused(click(), Some(of(DebiasMethod::DoublyRobust, Propensity::Column)), |_| {}, "training.negatives");
    let selected = Debias { bias: Some(Bias::Selection), ..of(DebiasMethod::Ips, Propensity::Model) };
    refused(click().debias(selected), None, |_| {}, "no label");
}
