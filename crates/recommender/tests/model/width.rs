//! What a score costs: gates that shut columns, and what is left.

use candle_core::{Device, Tensor, Var};
use paretune_data::Part;
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{BatchBuilder, Corpus, Encode, Inputs, Recommender, RecommenderConfig, UserKind, Viewer};

use crate::world::{self, values};

fn objectives() -> Objectives {
    Objectives::new(vec![
        Objective::new("click", Kind::Ranking, "click"),
        Objective::new("rating", Kind::Regression, "rating"),
        Objective::cost("cost"),
    ])
    .unwrap()
}

fn model(corpus: &Corpus, popularity: bool) -> Recommender {
    let config = RecommenderConfig { repeats: true, ..world::config(corpus, UserKind::Attention) };
    let mut inputs = Inputs::from(world::ids(corpus));
    if popularity {
        inputs = inputs.with_popularity(corpus.summary().engagement().to_vec());
    }
    let mut model = Recommender::new(config, inputs, &objectives(), 5, &Device::Cpu).unwrap();
    let rows = corpus.split.rows(Part::Train);
    let column = |name: &str| -> Vec<f32> {
        let feedback = corpus.dataset.events.feedback.get(name);
        rows.iter().map(|&row| feedback.map_or(f32::NAN, |column| column[row as usize])).collect()
    };
    model.fit(&[column("click"), column("rating"), column("")]).unwrap();
    model
}

fn gate(model: &Recommender) -> Var {
    let all = model.parameters().shared;
    all.into_iter().find(|(name, _)| name == "gates.width").unwrap().1
}

/// Shuts every third column and leaves the others in part open.
fn shut_some(model: &Recommender) {
    let odds: Vec<f32> =
        (0..12).map(|column| if column % 3 == 0 { -0.1 } else { 0.02 * column as f32 - 0.1 }).collect();
    let own = gate(model);
    own.set(&Tensor::new(odds, &Device::Cpu).unwrap()).unwrap();
}

#[test]
fn shut_columns_are_read_by_no_score() {
    let corpus = world::corpus();
    for popularity in [false, true] {
        let model = model(&corpus, popularity);
        assert_eq!(model.kept_width().unwrap(), Some(1.0), "at first all are open");
        shut_some(&model);
        let share = model.kept_width().unwrap().unwrap();
        assert!((0.3..0.7).contains(&share), "{share}");
        let mut builder = BatchBuilder::new(&corpus, 0);
        builder.request(&Viewer::New { history: vec![5, 6, 90] });
        builder.request(&Viewer::Known { user: 8, clock: i64::MAX, train_only: false });
        let batch = builder.build(Encode::Nothing);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
        let scored = model.score(&catalogue, &batch, &known).unwrap();
        let retrieved = model.retrieve(&catalogue, &batch, &known).unwrap().to_vec2::<f32>().unwrap();
        for (scored, retrieved) in scored.iter().zip(&retrieved) {
            world::assert_near(&scored[0], retrieved, 1e-5);
        }
        // What a shut column of the users holds makes no difference to a score.
        let users = model.users(&batch, &known).unwrap();
        assert_eq!(users.dims(), [2, 12]);
        let gates: Vec<f32> = values(gate(&model).as_tensor())
            .into_iter()
            .map(|odds| {
                let open = 1.0 / (1.0 + (-50.0 * f64::from(odds)).exp());
                (open * 1.2 - 0.1).clamp(0.0, 1.0) as f32
            })
            .collect();
        assert_eq!(gates.iter().filter(|gate| **gate > 0.0).count() as f64 / 12.0, share);
        if popularity {
            continue;
        }
        let items = values(&known).chunks(16).map(<[f32]>::to_vec).collect::<Vec<_>>();
        assert_eq!(items.len(), 120);
        let before = retrieved[0].clone();
        let raw = values(&users);
        let projected = values(&project(&model, &corpus, &known));
        for (item, score) in before.iter().enumerate() {
            let expected: f32 = (0..12).map(|j| raw[j] * projected[item * 12 + j] * gates[j] * gates[j]).sum::<f32>()
                / temperature(&model);
            assert!((score - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{item}: {score} and {expected}");
        }
    }
}

/// Vectors of all items in the space of users.
fn project(model: &Recommender, corpus: &Corpus, known: &Tensor) -> Tensor {
    let mut builder = BatchBuilder::new(corpus, 3);
    let request = builder.request(&Viewer::New { history: vec![1] });
    (0..120).for_each(|item| builder.sample(request, item, 0, [1.0, f32::NAN, f32::NAN]));
    let batch = builder.build(Encode::Nothing);
    let shared = model.represent(&batch, known, None).unwrap();
    let slots = Tensor::new(batch.slots.as_slice(), &Device::Cpu).unwrap();
    shared.candidates.unwrap().index_select(&slots, 0).unwrap()
}

fn temperature(model: &Recommender) -> f32 {
    // By what the configuration says of the ranking.
    let text = serde_json::to_value(model.config().ranking).unwrap();
    text["temperature"].as_f64().unwrap_or(1.0) as f32
}

#[test]
fn gates_learn_from_what_they_shut_and_from_their_price() {
    let corpus = world::corpus();
    let model = model(&corpus, false);
    shut_some(&model);
    let rows = world::late_rows(&corpus, 60);
    let events = &corpus.dataset.events;
    let mut builder = BatchBuilder::new(&corpus, 3);
    for &row in &rows {
        let (user, clock) = (events.user[row as usize], corpus.split.clock[row as usize]);
        let request = builder.request(&Viewer::Known { user, clock, train_only: false });
        let label = |name: &str| events.feedback[name][row as usize];
        builder.sample(request, events.item[row as usize], 0, [label("click"), label("rating"), f32::NAN]);
    }
    let batch = builder.build(Encode::Shown);
    let known = model.embed(&corpus.tokens, None).unwrap();
    let shared = model.represent(&batch, &known, Some(7)).unwrap();
    let losses = model.losses(&shared, &batch, Some(7)).unwrap();
    let price = losses[2].loss.to_scalar::<f32>().unwrap();
    let odds = values(gate(&model).as_tensor());
    let expected: f64 = odds
        .iter()
        .map(|odds| 1.0 / (1.0 + (-(50.0 * f64::from(*odds) - 2.0 / 3.0 * (0.1f64 / 1.1).ln())).exp()) / 12.0)
        .sum();
    assert!((f64::from(price) - expected).abs() < 1e-5, "{price} and {expected}");
    for loss in &losses {
        let found = loss.loss.backward().unwrap();
        let slopes = values(found.get(&gate(&model)).unwrap());
        assert!(slopes.iter().all(|slope| slope.is_finite()) && slopes.iter().any(|slope| slope.abs() > 1e-6));
    }
    // The price alone moves gates and nothing else.
    let found = losses[2].loss.backward().unwrap();
    let moved: Vec<String> = model
        .parameters()
        .all()
        .into_iter()
        .filter(|(_, var)| found.get(var).is_some())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(moved, ["gates.width"]);
}

#[test]
fn a_saved_model_keeps_what_is_open() {
    let corpus = world::corpus();
    let model = model(&corpus, false);
    shut_some(&model);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), &world::files()).unwrap();
    let again = Recommender::load(folder.path(), world::ids(&corpus), &Device::Cpu).unwrap();
    assert_eq!(again.kept_width().unwrap(), model.kept_width().unwrap());
    assert_eq!(values(gate(&again).as_tensor()), values(gate(&model).as_tensor()));
}
