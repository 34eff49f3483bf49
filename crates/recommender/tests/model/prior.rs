//! What rankings add for popularity.

use candle_core::{Device, Tensor};
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{
    Batch, BatchBuilder, Corpus, Encode, Inputs, ItemVectors, RankingLoss, Recommender, RecommenderConfig, Scoring,
    UserKind, Viewer,
};

use crate::world;

const WEIGHT: &str = "items.popularity";

fn click() -> Objectives {
    Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")]).unwrap()
}

fn build(corpus: &Corpus, vectors: ItemVectors, ranking: RankingLoss, prior: bool) -> Recommender {
    let config = RecommenderConfig { ranking, ..world::config(corpus, UserKind::Attention) };
    let inputs = Inputs::from(vectors);
    let inputs = if prior { inputs.with_popularity(corpus.summary().engagement().to_vec()) } else { inputs };
    Recommender::new(config, inputs, &click(), 5, &Device::Cpu).unwrap()
}

fn requests(corpus: &Corpus) -> Batch {
    let mut builder = BatchBuilder::new(corpus, 0);
    builder.request(&Viewer::Known { user: 8, clock: i64::MAX, train_only: false });
    builder.request(&Viewer::New { history: vec![5, 90] });
    builder.request(&Viewer::New { history: Vec::new() });
    builder.build(Encode::Nothing)
}

fn scores(model: &Recommender, corpus: &Corpus, batch: &Batch) -> Vec<Vec<f32>> {
    let known = model.embed(&corpus.tokens, None).unwrap();
    let catalogue = model.catalogue(corpus, &known, i64::MAX).unwrap();
    model.retrieve(&catalogue, batch, &known).unwrap().to_vec2().unwrap()
}

fn set_weight(model: &Recommender, weight: f32) {
    let (_, var) = model.parameters().shared.into_iter().find(|(name, _)| name == WEIGHT).unwrap();
    var.set(&Tensor::new(&[weight], &Device::Cpu).unwrap()).unwrap();
}

#[test]
fn scores_are_products_and_the_logarithm_of_counts() {
    let corpus = world::corpus();
    let (batch, counts) = (requests(&corpus), corpus.summary().engagement().to_vec());
    assert!(counts.contains(&0) && counts.iter().any(|count| *count > 5));
    for cosine in [false, true] {
        let ranking = RankingLoss::SampledSoftmax(Scoring { temperature: 0.3, cosine });
        let with = build(&corpus, world::ids(&corpus), ranking, true);
        set_weight(&with, 0.7);
        let plain = scores(&build(&corpus, world::ids(&corpus), ranking, false), &corpus, &batch);
        for (with, plain) in scores(&with, &corpus, &batch).iter().zip(&plain) {
            let expected: Vec<f32> =
                plain.iter().zip(&counts).map(|(score, n)| score + 0.7 * f64::from(*n).ln_1p() as f32).collect();
            world::assert_near(with, &expected, 1e-5);
        }
    }
}

/// Left out, it is as if its weight were nothing; training goes on with it.
#[test]
fn catalogues_can_leave_popularity_out() {
    let corpus = world::corpus();
    let batch = requests(&corpus);
    let mut model = build(&corpus, world::ids(&corpus), RankingLoss::default(), true);
    let with = scores(&model, &corpus, &batch);
    let bits = |scores: &[Vec<f32>]| scores.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    set_weight(&model, 0.0);
    let without = scores(&model, &corpus, &batch);
    set_weight(&model, 1.0);
    model.leave_popularity_out();
    let left_out = scores(&model, &corpus, &batch);
    assert_eq!(bits(&left_out), bits(&without));
    assert_ne!(bits(&left_out), bits(&with));
    let known = model.embed(&corpus.tokens, None).unwrap();
    let shared = model.represent(&batch, &known, None).unwrap();
    let column = shared.candidates.unwrap().narrow(1, 12, 1).unwrap();
    assert!(world::values(&column).iter().any(|prior| *prior > 0.0), "training has lost it");
}

/// Every loss over vectors and over lists, and its gradient in the weight, against central differences.
#[test]
fn losses_see_what_scores_say() {
    let corpus = world::corpus();
    let named = |name: &str| -> RankingLoss {
        let table = serde_json::json!({ "name": name, "temperature": 0.4 });
        serde_json::from_value(table).unwrap()
    };
    let cosine = RankingLoss::Softmax(Scoring { temperature: 0.2, cosine: true });
    let losses = ["bpr", "bce", "gbce", "softmax", "sampled-softmax", "in-batch", "listnet"].map(named);
    for ranking in losses.into_iter().chain([cosine]) {
        let model = build(&corpus, world::ids(&corpus), ranking, true);
        let rows = world::late_rows(&corpus, 60);
        let events = &corpus.dataset.events;
        let mut builder = BatchBuilder::new(&corpus, 1);
        for &row in &rows {
            let row = row as usize;
            let viewer = Viewer::Known { user: events.user[row], clock: corpus.split.clock[row], train_only: true };
            let request = builder.request(&viewer);
            builder.sample(request, events.item[row], 0, [events.feedback["click"][row]]);
            builder.sample(request, (events.item[row] * 7 + 3) % 120, 0, [0.0]);
        }
        if !matches!(ranking, RankingLoss::InBatch(_) | RankingLoss::ListNet(_)) {
            (0..120).for_each(|item| builder.negative(item));
        }
        let batch = builder.build(Encode::Nothing);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let loss = |weight: f32| {
            set_weight(&model, weight);
            world::loss(&model, &batch, &known, None)
        };
        let value = |weight: f32| f64::from(loss(weight).to_scalar::<f32>().unwrap());
        let (_, var) = model.parameters().shared.into_iter().find(|(name, _)| name == WEIGHT).unwrap();
        let gradients = loss(0.8).backward().unwrap();
        let found = f64::from(gradients.get(&var).unwrap().to_vec1::<f32>().unwrap()[0]);
        let step = 0.02;
        let expected = (value(0.8 + step) - value(0.8 - step)) / (2.0 * f64::from(step));
        assert!((found - expected).abs() < 2e-3 * (1.0 + expected.abs()), "{ranking:?}: {found}, not {expected}");
        assert!(expected.abs() > 1e-3, "{ranking:?}: the weight matters");
    }
}

#[test]
fn who_is_unknown_is_ranked_for_by_popularity() {
    let corpus = world::corpus();
    let model = build(&corpus, world::text(), RankingLoss::default(), true);
    // Vectors of nothing leave the prior alone.
    for (name, var) in model.parameters().shared {
        if name.starts_with("items.text") {
            var.set(&var.zeros_like().unwrap()).unwrap();
        }
    }
    let batch = requests(&corpus);
    let counts = corpus.summary().engagement().to_vec();
    for scores in scores(&model, &corpus, &batch) {
        let mut order: Vec<usize> = (0..120).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        assert!(order.windows(2).all(|pair| counts[pair[0]] >= counts[pair[1]]));
    }
    // A new item has no past, and a prior of zero.
    let known = model.embed(&corpus.tokens, None).unwrap();
    let new = model.new_items(&corpus, &corpus.tokens).unwrap();
    let of_new = model.retrieve(&new, &batch, &known).unwrap().to_vec2::<f32>().unwrap();
    assert!(of_new.iter().flatten().all(|score| *score == 0.0));
}

#[test]
fn it_is_saved_and_refused_where_it_means_nothing() {
    let (dir, corpus) = (tempfile::tempdir().unwrap(), world::corpus());
    let model = build(&corpus, world::ids(&corpus), RankingLoss::default(), true);
    set_weight(&model, 0.37);
    model.save(dir.path(), &world::files()).unwrap();
    // The counts are those that it was trained with, whatever is counted now.
    let inputs = Inputs::from(world::ids(&corpus)).with_popularity(vec![9; 120]);
    let again = Recommender::load(dir.path(), inputs, &Device::Cpu).unwrap();
    let batch = requests(&corpus);
    assert_eq!(scores(&model, &corpus, &batch), scores(&again, &corpus, &batch));

    let config = || world::config(&corpus, UserKind::Attention);
    let counted = |counts: Vec<u32>, objectives: &Objectives| {
        let inputs = Inputs::from(world::ids(&corpus)).with_popularity(counts);
        Recommender::new(config(), inputs, objectives, 5, &Device::Cpu).err().unwrap().to_string()
    };
    assert!(counted(vec![1; 119], &click()).contains("counted for 119"));
    assert!(counted(vec![1; 120], &world::objectives()).contains("model.popularity"));
}
