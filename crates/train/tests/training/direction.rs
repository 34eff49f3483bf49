//! Objectives of which less is wanted, wherever predictions order items.

use std::collections::BTreeMap;

use paretune_data::Part;
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_optim::Method;
use paretune_train::GradientCut;
use paretune_train::evaluation::{Ensemble, Metrics, Monitor, Ranking, Rows, utilities};

use crate::world::{Diary, World, bits, short};

/// Dwell first, so that it is what validation ranks by, and clicks.
fn world(less: bool) -> World {
    let dwell = Objective::new("dwell", Kind::LogRegression, "dwell_seconds");
    let dwell = if less { dwell.less() } else { dwell };
    let objectives = Objectives::new(vec![dwell, Objective::new("click", Kind::Binary, "click")]).unwrap();
    World { objectives, ..World::new() }
}

#[test]
fn scores_turn_and_nothing_else_does() {
    let (more, less) = (world(false), world(true));
    let trained = |world: &World| {
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 2]);
        let (model, outcome) = world.train(&short(), balancer, None, &mut Diary::default());
        outcome.unwrap();
        model
    };
    let (model, other) = (trained(&more), trained(&less));
    // Training is the same to the last bit: the monitor measures predictions.
    assert_eq!(bits(&model), bits(&other));

    let predictions = [vec![3.0f32, 10.0, 100.0, 31.0], vec![0.2, 0.9, 0.5, 0.4]];
    let scores = |world: &World, weights: [f64; 2]| utilities(&world.objectives, &predictions, &weights);
    let turned = |scores: Vec<f32>| scores.into_iter().map(|score| -score).collect::<Vec<_>>();
    assert_eq!(scores(&less, [1.0, 0.0]), turned(scores(&more, [1.0, 0.0])));
    assert_eq!(scores(&less, [0.0, 1.0]), scores(&more, [0.0, 1.0]));
    assert_eq!(scores(&less, [0.5, 1.0]), scores(&more, [-0.5, 1.0]));

    let known = model.embed(&more.corpus.tokens, None).unwrap();
    let ranking = Ranking::new(&more.corpus, Part::Test, 30, &[5, 10]);
    let ranked =
        |world: &World, weight: f64| ranking.model(&model, &world.objectives, &known, &[weight, 0.0], &[]).unwrap();
    let (up, down) = (ranked(&more, 1.0), ranked(&less, 1.0));
    assert_ne!(up.ranking, down.ranking);
    assert_ne!(up.list, down.list);
    let opposite = ranked(&more, -1.0);
    assert_eq!((&down.ranking, &down.list), (&opposite.ranking, &opposite.list));
    let members = [(&model, &more.corpus, &known), (&other, &less.corpus, &known)];
    let both = ranking.ensemble(&members, Ensemble::Scores, &less.objectives, &[1.0, 0.0], &[]).unwrap();
    assert_eq!(both.ranking, down.ranking);

    let weights = BTreeMap::from([("ndcg@10".to_owned(), 1.0)]);
    let validated = |world: &World| {
        let monitor = Monitor::new(&world.corpus, &world.objectives, &weights, 0, 30, 1).unwrap();
        monitor.measure(&model, &world.corpus, &world.objectives, &known).unwrap()
    };
    let (up, down) = (validated(&more), validated(&less));
    assert_ne!(up["ndcg@10"], down["ndcg@10"]);
    assert_eq!(up["dwell.log_rmse"], down["dwell.log_rmse"]);
}

#[test]
fn what_was_shown_is_asked_for_what_is_not_bad() {
    let set = |bad: Objective| Objectives::new(vec![bad]).unwrap();
    let world = World::new();
    let click = || Objective::new("click", Kind::Binary, "click");
    let shown = |objectives: &Objectives, say: fn(f32) -> f32| {
        let rows = Rows::new(&world.corpus, objectives, Part::Test, 0, 2000, 1).unwrap();
        let predictions = rows.labels[0].iter().map(|label| say(*label)).collect();
        let mut metrics = Metrics::default();
        metrics.add("model", objectives, &rows, &[Some(predictions)]);
        (metrics.shown["ndcg@5"]["model"], metrics.objectives["click"]["auc"]["model"])
    };
    let right = |y: f32| 0.1 + 0.8 * y;
    let wrong = |y: f32| 0.9 - 0.8 * y;
    let (more, less) = (set(click()), set(click().less()));
    // Who knows everything orders everything; who has it the wrong way round is wrong either way.
    assert_eq!((shown(&more, right), shown(&less, right)), ((1.0, 1.0), (1.0, 1.0)));
    assert!(shown(&more, wrong).0 < 0.6 && shown(&less, wrong).0 < 1.0);
    assert_eq!((shown(&more, wrong).1, shown(&less, wrong).1), (0.0, 0.0));
}
