//! Chains with two ways, towers of their own sizes and a teacher, through a whole training.

use candle_core::Tensor;
use paretune_data::Part;
use paretune_objectives::{Distill, Kind, Objective, Objectives, TowerShape};
use paretune_optim::Method;
use paretune_train::{GradientCut, Plan, evaluation::Rows, step::balanced_gradients};

use crate::world::{Diary, TIME, World, bits, corpus_of, dataset, short, values};

/// A marketplace in which another model said of every second event how likely a click is.
fn world(share: f64) -> World {
    let mut dataset = dataset();
    let clicks = &dataset.events.feedback["click"];
    let said = clicks.iter().enumerate().map(|(row, click)| match row % 2 {
        0 => 0.1 + 0.8 * click,
        _ => f32::NAN,
    });
    let said = said.collect();
    dataset.events.feedback.insert("teacher".into(), said);
    // Every third purchase came by way of a cart, and some carts came to nothing.
    let bought = &dataset.events.feedback["conversion"];
    let carts = bought.iter().enumerate().map(|(row, bought)| match row % 3 {
        0 => *bought,
        1 => 0.0,
        _ => f32::from(u8::from(row % 5 == 0)),
    });
    let carts = carts.collect();
    dataset.events.feedback.insert("cart".into(), carts);
    let distill = Distill { share, temperature: Some(3.0), ..Distill::new("teacher") };
    let own = TowerShape { hidden: Some(vec![8, 6]), dropout: Some(0.0) };
    let objectives = Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click").distill(distill),
        Objective::new("conversion", Kind::Conditional, "conversion").given("click").through("cart").tower(own),
        Objective::new("cart", Kind::Conditional, "cart").given("click"),
        Objective::new("dwell", Kind::LogRegression, "dwell_seconds").less(),
    ]);
    World { corpus: corpus_of(dataset, &TIME), objectives: objectives.unwrap(), ..World::new() }
}

#[test]
fn every_parameter_learns_and_what_is_given_bounds_what_follows() {
    let world = world(0.5);
    let model = world.model();
    let parameters = model.parameters();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let batch = Plan::new(&world.corpus, &world.objectives, &short(), 9).unwrap().epoch_from(1).next().unwrap();
    assert_eq!(batch.labels.len(), 5);
    let mut balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
    let step = balanced_gradients(&model, &parameters, &batch, &known, &mut balancer, 7).unwrap();
    assert_eq!(step.gradients.len(), parameters.all().len());
    for (name, gradient) in &step.gradients {
        let slopes = values(&gradient.dense().unwrap());
        assert!(slopes.iter().all(|slope| slope.is_finite()) && slopes.iter().any(|slope| *slope != 0.0), "{name}");
    }
    assert!(parameters.towers.iter().any(|(name, _)| name == "towers.conversion.other.2.weight"));

    let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
    let (model, outcome) = world.train(&short(), balancer, None, &mut Diary::default());
    outcome.unwrap();
    let rows = Rows::new(&world.corpus, &world.objectives, Part::Test, 0, 500, 1).unwrap();
    // Labels that are measured follow the chain as those of training do.
    for (click, later) in rows.labels[0].iter().zip(rows.labels[1].iter().zip(&rows.labels[2])) {
        assert!(*click != 0.0 || (*later.0 == 0.0 && *later.1 == 0.0));
    }
    let known: Tensor = model.embed(&world.corpus.tokens, None).unwrap();
    let said = paretune_train::evaluation::predict(&model, &world.corpus, &known, &rows).unwrap();
    assert!(said[0].iter().zip(said[1].iter().zip(&said[2])).all(|(click, (buy, cart))| buy <= click && cart <= click));
}

#[test]
fn the_teacher_teaches_as_much_as_its_share_says() {
    let trained = |share: f64| {
        let world = world(share);
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let (model, outcome) = world.train(&short(), balancer, None, &mut Diary::default());
        outcome.unwrap();
        bits(&model)
    };
    let without = {
        let mut world = world(0.0);
        let all = world.objectives.iter().map(|objective| Objective { distill: None, ..objective.clone() });
        world.objectives = Objectives::new(all.collect()).unwrap();
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        let (model, outcome) = world.train(&short(), balancer, None, &mut Diary::default());
        outcome.unwrap();
        bits(&model)
    };
    assert_eq!(trained(0.0), without, "a teacher without a share says nothing");
    assert_ne!(trained(0.5), without);
}
