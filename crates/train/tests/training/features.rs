//! A label that is a cross of what users and items are, learned by training as a run does it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use paretune_data::{Dataset, Events, FeatureSpec, Items, Part, Split, SplitStrategy, UserColumn, Users};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_optim::Method;
use paretune_recommender::{
    Corpus, CorpusConfig, FeatureConfig, FeatureNetwork, Inputs, ItemVectors, RankingLoss, Recommender,
    RecommenderConfig, UserConfig, UserKind,
};
use paretune_train::evaluation::{Rows, predict};
use paretune_train::step::balanced_gradients;
use paretune_train::{BalanceConfig, Balancer, GradientCut, Plan, Silent, Trainer, TrainingConfig};
use serde_json::json;

const USERS: u32 = 90;
const ITEMS: u32 = 60;
const NAMES: u32 = 6;

/// Users of six sides meet items of six brands and like every other combination. Who is who, ids and histories do not say at once: each
/// user meets ten items.
fn dataset() -> Dataset {
    let (mut user, mut item, mut time, mut liked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for who in 0..USERS {
        for at in 0..10 {
            let what = (who * 7 + at * 13 + who / NAMES) % ITEMS;
            user.push(who);
            item.push(what);
            time.push(i64::from(who * 10 + at));
            liked.push(((who % NAMES + what / 10 % NAMES) % 2) as f32);
        }
    }
    let name = |prefix: &str, number: u32| Some(format!("{prefix} {number}"));
    Dataset {
        name: "crossed".into(),
        items: Items {
            ids: (0..ITEMS).map(|item| format!("i{item}")).collect(),
            text: BTreeMap::from([
                ("title".into(), vec![Some("toy".into()); ITEMS as usize]),
                ("brand".into(), (0..ITEMS).map(|item| name("brand", item / 10 % NAMES)).collect()),
            ]),
            ..Items::default()
        },
        users: Users {
            ids: (0..USERS).map(|user| format!("u{user}")).collect(),
            columns: BTreeMap::from([(
                "side".into(),
                UserColumn::Categorical((0..USERS).map(|user| name("side", user % NAMES)).collect()),
            )]),
        },
        events: Events {
            user,
            item,
            timestamp: Some(time),
            feedback: BTreeMap::from([("liked".into(), liked.clone()), ("stars".into(), liked)]),
            ..Events::default()
        },
    }
}

fn corpus() -> Corpus {
    let dataset = dataset();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let tokenizer = TextTokenizer::load(&ModelFiles::unweighted(tokenizer), Some(16)).unwrap();
    let split = Split::new(&dataset, &SplitStrategy::Random { valid: 0.1, test: 0.2, seed: 1 }).unwrap();
    let features: Vec<FeatureSpec> = serde_json::from_value(json!([
        { "name": "side", "kind": "category", "of": "user", "column": "side", "vocabulary": 20 },
        { "name": "brand", "kind": "category", "of": "item", "column": "brand", "vocabulary": 20 },
        { "name": "both", "kind": "cross", "of": ["side", "brand"], "hash": 400 },
    ]))
    .unwrap();
    let config = CorpusConfig {
        engaged: "liked".into(),
        feedback: vec!["liked".into()],
        history: 5,
        reading: UserKind::Mean.reading(),
        template: "{title}".into(),
        search: false,
        features,
    };
    Corpus::new(dataset, split, &tokenizer, config).unwrap()
}

fn objectives() -> Objectives {
    Objectives::new(vec![
        Objective::new("liked", Kind::Binary, "liked"),
        Objective::new("stars", Kind::Regression, "stars"),
    ])
    .unwrap()
}

fn model(corpus: &Corpus, features: FeatureConfig) -> Recommender {
    let config = RecommenderConfig {
        dim: 8,
        user: UserConfig { kind: UserKind::Mean, heads: 2, ..UserConfig::default() },
        history: 5,
        users: USERS as usize,
        items: ITEMS as usize,
        hide_ids: 0.0,
        ranking: RankingLoss::default(),
        repeats: true,
        search: false,
        tasks: Architecture::SharedBottom,
        tower: 16,
        dropout: 0.0,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
        features: Some(features),
    };
    let vectors = ItemVectors::ids(ITEMS as usize, 8, 1, &Device::Cpu).unwrap();
    let inputs = Inputs::from(vectors).with_features(corpus.transforms().cloned());
    let mut model = Recommender::new(config, inputs, &objectives(), 1, &Device::Cpu).unwrap();
    let rows = corpus.split.rows(Part::Train);
    let column = |name: &str| rows.iter().map(|&row| corpus.dataset.events.feedback[name][row as usize]).collect();
    model.fit(&[column("liked"), column("stars")]).unwrap();
    model
}

fn training() -> TrainingConfig {
    TrainingConfig {
        epochs: 40,
        batch: 64,
        learning_rate: 1e-2,
        hide_past: 0.0,
        validations: 0.1,
        patience: 0,
        ..TrainingConfig::default()
    }
}

fn balancer(method: Method, cut: GradientCut) -> Balancer {
    let config = BalanceConfig { method, gradients: Some(cut), ..BalanceConfig::default() };
    Balancer::new(&config, &objectives(), &[1.0, 1.0]).unwrap()
}

#[test]
fn a_label_that_is_a_cross_is_learned() {
    let corpus = corpus();
    let features = |kind| FeatureConfig { kind, dim: 8, hidden: vec![16], dropout: 0.0, ..FeatureConfig::default() };
    for kind in [FeatureNetwork::Linear, FeatureNetwork::Dcn] {
        let model = model(&corpus, features(kind));
        let balancer = balancer(Method::WeightedSum, GradientCut::Shared);
        let (objectives, training) = (objectives(), training());
        let trainer = Trainer::new(&model, &corpus, &objectives, &training, balancer, None, 1).unwrap();
        trainer.run(&mut Silent).unwrap();
        let known = model.embed(&corpus.tokens, None).unwrap();
        let rows = Rows::new(&corpus, &objectives, Part::Test, 0, usize::MAX, 1).unwrap();
        let predicted = predict(&model, &corpus, &known, &rows).unwrap();
        let surprise = |(label, p): (&f32, &f32)| {
            let said = if *label > 0.5 { *p } else { 1.0 - *p };
            -f64::from(said).max(1e-9).ln()
        };
        let loss = rows.labels[0].iter().zip(&predicted[0]).map(surprise).sum::<f64>() / rows.len() as f64;
        assert!(rows.len() > 100 && loss < 0.1, "{kind:?}: {loss} on {} rows held out", rows.len());
    }
}

#[test]
fn features_are_shared_wherever_the_graph_is_cut() {
    let corpus = corpus();
    let model = model(&corpus, FeatureConfig { kind: FeatureNetwork::Dcn, ..FeatureConfig::default() });
    let known = model.embed(&corpus.tokens, None).unwrap();
    let parameters = model.parameters();
    let (objectives, training) = (objectives(), training());
    let plan = Plan::new(&corpus, &objectives, &training, 3).unwrap();
    let batch = plan.epoch_from(0).next().unwrap();
    for (method, cut) in [
        (Method::WeightedSum, GradientCut::Shared),
        (Method::Mgda, GradientCut::Shared),
        (Method::Mgda, GradientCut::Full),
    ] {
        let found = balanced_gradients(&model, &parameters, &batch, &known, &mut balancer(method, cut), 7).unwrap();
        for (name, _) in parameters.shared.iter().filter(|(name, _)| name.starts_with("features.")) {
            let gradient = found.gradients.get(name).unwrap_or_else(|| panic!("{method} {cut:?}: {name} has none"));
            let size = gradient.dot(gradient).unwrap();
            assert!(size.is_finite() && size > 0.0, "{method} {cut:?}: {name} {size}");
        }
    }
}
