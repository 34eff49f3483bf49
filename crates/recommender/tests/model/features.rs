//! Features of columns: in batches, in scores, in gradients and in files.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use paretune_data::{Dataset, FeatureSpec, Part, Split};
use paretune_features::TextTokenizer;
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{
    Arrangement, Batch, BatchBuilder, Corpus, CorpusConfig, Encode, FeatureConfig, FeatureNetwork, Inputs, Recommender,
    RecommenderConfig, UserKind, Viewer,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::world::{self, assert_near, values};

/// Something of each side, of both, and of the past.
fn specs() -> Vec<FeatureSpec> {
    let specs = json!([
        { "name": "price", "kind": "numeric", "of": "item", "column": "price", "normalise": "log" },
        { "name": "brand", "kind": "category", "of": "item", "column": "brand", "vocabulary": 20 },
        { "name": "region", "kind": "category", "of": "user", "column": "region", "vocabulary": 20 },
        { "name": "age", "kind": "numeric", "of": "user", "column": "size" },
        { "name": "hour", "kind": "bucket", "of": "event-context", "column": "hour", "buckets": 6 },
        { "name": "clock", "kind": "numeric", "of": "event-context", "column": "hour" },
        { "name": "who likes what", "kind": "cross", "of": ["region", "brand"], "hash": 50 },
        { "name": "when", "kind": "cross", "of": ["hour", "brand"], "hash": 50 },
        { "name": "lately", "kind": "recent", "column": "brand", "last": 3, "vocabulary": 20 },
    ]);
    serde_json::from_value(specs).unwrap()
}

/// The small world with brands of items and sizes of users, which nothing but features reads.
fn dataset() -> Dataset {
    let mut dataset = world::dataset();
    let brand = |item: usize| (!item.is_multiple_of(11)).then(|| format!("brand {}", (item * 7 + item / 9) % 5));
    dataset.items.text.insert("brand".into(), (0..120).map(brand).collect());
    let size = |user: usize| (!user.is_multiple_of(7)).then_some((user % 13) as f64);
    dataset.users.columns.insert("size".into(), paretune_data::UserColumn::Numeric((0..60).map(size).collect()));
    dataset
}

fn corpus_of(dataset: Dataset, kind: UserKind, features: Vec<FeatureSpec>) -> Corpus {
    let split = Split::new(&dataset, &world::TIME).unwrap();
    let tokenizer = TextTokenizer::load(&world::files(), Some(16)).unwrap();
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: ["click", "conversion", "dwell_seconds", "rating"].map(String::from).to_vec(),
        history: 8,
        reading: kind.reading(),
        template: "{title}".into(),
        search: false,
        features,
    };
    Corpus::new(dataset, split, &tokenizer, config).unwrap()
}

fn corpus(kind: UserKind) -> Corpus {
    corpus_of(dataset(), kind, specs())
}

fn network(kind: FeatureNetwork) -> FeatureConfig {
    FeatureConfig { kind, dim: 5, hidden: vec![7], dropout: 0.0, ..FeatureConfig::default() }
}

fn mixed() -> Objectives {
    Objectives::new(vec![
        Objective::new("click", Kind::Ranking, "click"),
        Objective::new("satisfaction", Kind::Regression, "rating"),
    ])
    .unwrap()
}

fn model_of(corpus: &Corpus, kind: UserKind, objectives: &Objectives, features: FeatureConfig) -> Recommender {
    let config = RecommenderConfig { features: Some(features), ..world::config(corpus, kind) };
    let mut model = Recommender::new(config, inputs(corpus, kind), objectives, 5, &Device::Cpu).unwrap();
    let rows = corpus.split.rows(Part::Train);
    let column = |objective: &Objective| {
        let column = &corpus.dataset.events.feedback[&objective.column];
        rows.iter().map(|&row| column[row as usize]).collect()
    };
    model.fit(&objectives.iter().map(column).collect::<Vec<_>>()).unwrap();
    model
}

fn inputs(corpus: &Corpus, kind: UserKind) -> Inputs {
    world::inputs(corpus, world::ids(corpus), kind).with_features(corpus.transforms().cloned())
}

/// Late training rows, of all objectives.
fn batch(corpus: &Corpus, objectives: &Objectives, n: usize) -> Batch {
    let events = &corpus.dataset.events;
    let mut builder = BatchBuilder::new(corpus, objectives.len());
    for row in world::late_rows(corpus, n) {
        let row = row as usize;
        let viewer = Viewer::Known { user: events.user[row], clock: corpus.split.clock[row], train_only: true };
        let request = builder.request(&viewer);
        let label = |objective: &Objective| events.feedback[&objective.column][row];
        builder.sample(request, events.item[row], 0, objectives.iter().map(label));
    }
    (0..120).step_by(5).for_each(|item| builder.negative(item));
    builder.build(Encode::Nothing)
}

#[test]
fn every_parameter_learns() {
    for kind in [UserKind::Attention, UserKind::Sasrec, UserKind::Graph] {
        let corpus = corpus(kind);
        for (network, objectives) in [
            (network(FeatureNetwork::Linear), mixed()),
            (network(FeatureNetwork::Mlp), world::objectives()),
            (network(FeatureNetwork::Dcn), mixed()),
            (
                FeatureConfig {
                    rank: 2,
                    arrangement: Arrangement::Stacked,
                    dropout: 0.2,
                    ..network(FeatureNetwork::Dcn)
                },
                mixed(),
            ),
            (network(FeatureNetwork::Dcn), mixed().select(&["click"]).unwrap()),
        ] {
            let what = format!("{kind:?}, {network:?}");
            let model = model_of(&corpus, kind, &objectives, network);
            let known = model.embed(&corpus.tokens, None).unwrap();
            let batch = batch(&corpus, &objectives, 120);
            let store = world::loss(&model, &batch, &known, Some(3)).backward().unwrap();
            let mut features = 0;
            for (name, var) in model.parameters().all() {
                let gradient = values(store.get(&var).unwrap_or_else(|| panic!("{what}: {name} has no gradient")));
                let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
                assert!(gradient.iter().all(|g| g.is_finite()), "{what}: {name}");
                let exempt = name.contains("key.bias");
                assert!(exempt || largest > 1e-9, "{what}: the gradient of {name} is zero");
                features += usize::from(name.starts_with("features."));
            }
            // Four tables of users and moments, items and pairs at least, and three networks.
            assert!(features >= 8, "{what}: {features}");
        }
    }
}

/// Along a direction `d`, `(L(θ + εd) − L(θ − εd)) / 2ε` is `⟨∇L, d⟩`.
#[test]
fn gradients_are_those_of_finite_differences() {
    let corpus = corpus(UserKind::Attention);
    for network in
        [FeatureConfig { hidden: Vec::new(), ..network(FeatureNetwork::Dcn) }, network(FeatureNetwork::Linear)]
    {
        let model = model_of(&corpus, UserKind::Attention, &world::objectives(), network);
        let batch = batch(&corpus, &world::objectives(), 60);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let loss = || f64::from(world::loss(&model, &batch, &known, None).to_scalar::<f32>().unwrap());
        let store = world::loss(&model, &batch, &known, None).backward().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        for (name, var) in model.parameters().shared.into_iter().filter(|(name, _)| name.starts_with("features.")) {
            let gradient = values(store.get(&var).unwrap());
            let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            let spread = 1.0 / (gradient.len() as f32).sqrt();
            let direction: Vec<f32> =
                gradient.iter().map(|g| g / norm + spread * (rng.random::<f32>() - 0.5)).collect();
            let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let before = var.as_tensor().copy().unwrap();
            let step = Tensor::from_vec(direction, var.shape(), var.device()).unwrap();
            let at = |epsilon: f64| {
                var.set(&(&before + (&step * epsilon).unwrap()).unwrap()).unwrap();
                let value = loss();
                var.set(&before).unwrap();
                value
            };
            let found = (at(5e-3) - at(-5e-3)) / 1e-2;
            assert!((found - expected).abs() < 0.02 * expected.abs() + 3e-4, "{name}: {found} and {expected}");
        }
    }
}

#[test]
fn scoring_the_catalogue_is_predicting_its_pairs() {
    let corpus = corpus(UserKind::Attention);
    let clock = corpus.split.boundary();
    for kind in [FeatureNetwork::Linear, FeatureNetwork::Mlp, FeatureNetwork::Dcn] {
        let model = model_of(&corpus, UserKind::Attention, &world::objectives(), network(kind));
        let known = model.embed(&corpus.tokens, None).unwrap();
        let mut builder = BatchBuilder::new(&corpus, 0);
        for user in [3, 8, 21] {
            let request = builder.request(&Viewer::Known { user, clock, train_only: false });
            (0..120).for_each(|item| builder.sample(request, item, 0, []));
        }
        let batch = builder.build(Encode::Nothing);
        let shared = model.represent(&batch, &known, None).unwrap();
        assert!(shared.joint.is_some());
        let pairs = model.outputs(&shared, &batch, None).unwrap().predictions().unwrap();
        let scores = model.score(&model.catalogue(&corpus, &known, clock).unwrap(), &batch, &known).unwrap();
        for (request, of_request) in scores.iter().enumerate() {
            for (objective, of_objective) in of_request.iter().enumerate() {
                assert_near(of_objective, &pairs[objective][request * 120..(request + 1) * 120], 1e-5);
            }
        }
    }
}

/// What a batch says of requests and samples, without behaviour and histories.
fn described(batch: &Batch, corpus: &Corpus) -> (Vec<u32>, Vec<u32>, Vec<f32>, Vec<f32>) {
    let tail = |all: &[f32], width: usize, n: usize| -> Vec<f32> {
        all.chunks(width).flat_map(|row| row[width - n..].to_vec()).collect()
    };
    let users = tail(&batch.user_features, corpus.user_width(), 4);
    let items = tail(&batch.item_features, corpus.item_width(), 2);
    (batch.user_categories.clone(), batch.pair_categories.clone(), users, items)
}

#[test]
fn batches_hold_what_the_transforms_say() {
    let corpus = corpus(UserKind::Attention);
    let transforms = corpus.transforms().unwrap();
    let (user, item, clock) = (8, 17, corpus.split.boundary());
    let mut builder = BatchBuilder::new(&corpus, 0);
    let request = builder.request(&Viewer::Known { user, clock, train_only: true });
    builder.sample(request, item, 0, []);
    builder.sample_as_new(request, item, 0, []);
    let batch = builder.build(Encode::Nothing);
    let (users, pairs, of_user, of_item) = described(&batch, &corpus);
    let (mut numbers, mut categories) = (Vec::new(), Vec::new());
    transforms.apply(user, item, clock, &mut numbers, &mut categories);
    // region, three of lately, | brand, | hour, | two crosses.
    assert_eq!(users, [&categories[..4], &categories[5..6]].concat());
    assert_eq!(pairs[..2], categories[6..]);
    // age and clock with flags around those of the price.
    assert_eq!(of_user, [&numbers[..2], &numbers[4..]].concat());
    assert_eq!(of_item[..2], numbers[2..4]);
    // An item whose past is hidden keeps its attributes.
    assert_eq!((&pairs[2..], &of_item[2..]), (&pairs[..2], &of_item[..2]));
    assert_ne!(batch.item_features[..corpus.item_width()], batch.item_features[corpus.item_width()..]);
    // As long as rows of numbers and indices are those of the sizes that models are told.
    assert_eq!(batch.user_features.len(), corpus.user_width());
}

#[test]
fn what_was_met_lately_is_what_the_request_may_see() {
    let corpus = corpus(UserKind::Attention);
    let events = &corpus.dataset.events;
    let lately = |user, clock, train_only| {
        let mut builder = BatchBuilder::new(&corpus, 0);
        builder.request(&Viewer::Known { user, clock, train_only });
        builder.build(Encode::Nothing).user_categories[1..4].to_vec()
    };
    let mut differ = 0;
    for user in 0..60 {
        let newest = corpus.histories.before(user, i64::MAX, 3, false);
        let mut builder = BatchBuilder::new(&corpus, 0);
        let history = newest.iter().map(|row| events.item[*row as usize]).collect();
        builder.request(&Viewer::New { history });
        let told = builder.build(Encode::Nothing).user_categories[1..4].to_vec();
        assert_eq!(lately(user, i64::MAX, false), told, "the newest events, or those that somebody new tells of");
        differ += usize::from(lately(user, i64::MAX, true) != told);
        assert_eq!(lately(user, i64::MIN, false), [0, 0, 0]);
    }
    assert!(differ > 5, "training does not see what was held out: {differ}");
}

#[test]
fn who_is_new_is_known_by_columns_and_by_the_moment() {
    let corpus = corpus(UserKind::Attention);
    let model = model_of(&corpus, UserKind::Attention, &mixed(), network(FeatureNetwork::Dcn));
    let known = model.embed(&corpus.tokens, None).unwrap();
    let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
    let scores = |region: Option<&str>, clock: i64| {
        let columns: BTreeMap<String, String> =
            region.map(|region| ("region".to_owned(), region.to_owned())).into_iter().collect();
        let mut builder = BatchBuilder::new(&corpus, 0);
        builder.request(&Viewer::Described { history: Vec::new(), columns, query: None, clock });
        model.score(&catalogue, &builder.build(Encode::Nothing), &known).unwrap().remove(0)
    };
    let paretune_data::UserColumn::Categorical(regions) = &corpus.dataset.users.columns["region"] else {
        unreachable!("regions are names")
    };
    let mut regions: Vec<&str> = regions.iter().flatten().map(String::as_str).collect();
    regions.sort_unstable();
    regions.dedup();
    let day = (corpus.split.boundary() / 86_400 - 1) * 86_400;
    let (morning, evening) = (day + 8 * 3_600, day + 20 * 3_600);
    let all = [
        scores(Some(regions[0]), morning),
        scores(Some(regions[1]), morning),
        scores(Some(regions[0]), evening),
        scores(None, morning),
        scores(Some("nowhere"), morning),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(one.iter().flatten().all(|score| score.is_finite()));
        // Both of the ranking, a product, and of the tower.
        assert!(all[..at].iter().all(|other| one[0] != other[0] && one[1] != other[1]), "{at}");
    }
    assert_eq!(all[4], scores(Some("elsewhere"), morning), "names that nobody has met are alike");
}

/// Everything that a saved model says, as bits.
fn bits(model: &Recommender, corpus: &Corpus) -> Vec<u32> {
    let known = model.embed(&corpus.tokens, None).unwrap();
    let catalogue = model.catalogue(corpus, &known, i64::MAX).unwrap();
    let mut builder = BatchBuilder::new(corpus, 0);
    for user in [3, 8, 21] {
        builder.request(&Viewer::Known { user, clock: i64::MAX, train_only: false });
    }
    builder.request(&Viewer::New { history: vec![5, 6, 90] });
    let scores = model.score(&catalogue, &builder.build(Encode::Nothing), &known).unwrap();
    scores.into_iter().flatten().flatten().map(f32::to_bits).collect()
}

fn saved(folder: &Path, kind: FeatureNetwork) -> (Corpus, Recommender) {
    let corpus = corpus(UserKind::Sasrec);
    let model = model_of(&corpus, UserKind::Sasrec, &mixed(), network(kind));
    for (_, var) in model.parameters().all() {
        var.set(&var.as_tensor().affine(1.01, 0.003).unwrap()).unwrap();
    }
    model.save(folder, &world::files()).unwrap();
    (corpus, model)
}

#[test]
fn a_saved_model_brings_its_features_along_whatever_became_of_the_tables() {
    for kind in [FeatureNetwork::Linear, FeatureNetwork::Mlp, FeatureNetwork::Dcn] {
        let folder = tempfile::tempdir().unwrap();
        let (corpus, model) = saved(folder.path(), kind);
        let load = |inputs: Inputs| Recommender::load(folder.path(), inputs, &Device::Cpu);
        let again = load(inputs(&corpus, UserKind::Sasrec)).unwrap();
        assert_eq!((bits(&again, &corpus), again.config()), (bits(&model, &corpus), model.config()));
        // Other brands, other sizes: fitted again, features would be others.
        let mut changed = dataset();
        changed.items.text.insert("brand".into(), (0..120).map(|item| Some(format!("b{}", item % 3))).collect());
        let other = corpus_of(changed.clone(), UserKind::Sasrec, specs());
        let features = Recommender::saved_features(folder.path()).unwrap().unwrap();
        let kept = corpus_of(changed, UserKind::Sasrec, Vec::new()).with_transforms(features).unwrap();
        assert_eq!((kept.config.features.clone(), kept.user_width()), (specs(), corpus.user_width()));
        assert_eq!(bits(&load(inputs(&kept, UserKind::Sasrec)).unwrap(), &kept), bits(&model, &corpus));
        // A model takes those of its file of its own accord, and no others.
        let own = load(world::ids(&corpus).into()).unwrap();
        assert_eq!(own.transforms(), corpus.transforms());
        assert_ne!(bits(&own, &other), bits(&model, &corpus));
        let refused = load(inputs(&other, UserKind::Sasrec)).err().unwrap().to_string();
        assert!(refused.contains("recommender.json") && refused.contains("features.json"), "{refused}");
    }
}

#[test]
fn broken_or_missing_features_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, _) = saved(folder.path(), FeatureNetwork::Dcn);
    let path = folder.path().join("features.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let refused = || Recommender::load(folder.path(), world::ids(&corpus), &Device::Cpu).err().unwrap().to_string();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(refused().contains("features.json"), "{}", refused());
    std::fs::remove_file(&path).unwrap();
    assert!(refused().contains("needs features.json"), "{}", refused());
    assert_eq!(Recommender::saved_features(folder.path()).unwrap(), None);
    // A model without features does not take any.
    let plain = world::model(&world::corpus(), world::ids(&corpus));
    plain.save(folder.path(), &world::files()).unwrap();
    let given = world::inputs(&corpus, world::ids(&corpus), UserKind::Mean).with_features(corpus.transforms().cloned());
    let refused = Recommender::load(folder.path(), given, &Device::Cpu).err().unwrap().to_string();
    assert!(refused.contains("without features"), "{refused}");
}

#[test]
fn settings_and_batches_that_do_not_fit_are_refused() {
    let corpus = corpus(UserKind::Attention);
    let refused = |features: FeatureConfig| {
        let config = RecommenderConfig { features: Some(features), ..world::config(&corpus, UserKind::Attention) };
        let inputs = inputs(&corpus, UserKind::Attention);
        Recommender::new(config, inputs, &mixed(), 5, &Device::Cpu).err().unwrap().to_string()
    };
    let dcn = || network(FeatureNetwork::Dcn);
    assert!(refused(FeatureConfig { dim: 0, ..dcn() }).contains("model.features.dim = 0 must be at least 1"));
    assert!(refused(FeatureConfig { layers: 0, ..dcn() }).contains("model.features.layers = 0"));
    assert!(refused(FeatureConfig { hidden: vec![4, 0], ..dcn() }).contains("model.features.hidden = 0"));
    let none = FeatureConfig { hidden: Vec::new(), ..network(FeatureNetwork::Mlp) };
    assert!(refused(none).contains("hidden = [64]"));
    assert!(refused(FeatureConfig { dropout: 1.0, ..dcn() }).contains("model.features.dropout = 1"));

    let plain = world::corpus();
    let config = RecommenderConfig { features: Some(dcn()), ..world::config(&plain, UserKind::Attention) };
    let without = Recommender::new(config, world::ids(&plain), &mixed(), 5, &Device::Cpu).err().unwrap().to_string();
    assert!(without.contains("[[features]]"), "{without}");
    // Without settings the default ones.
    let config = world::config(&corpus, UserKind::Attention);
    let model = Recommender::new(config, inputs(&corpus, UserKind::Attention), &mixed(), 5, &Device::Cpu).unwrap();
    assert_eq!(model.config().features, Some(FeatureConfig::default()));
    // A batch of tables without features.
    let known = model.embed(&corpus.tokens, None).unwrap();
    let batch = Batch { user_categories: vec![1], ..batch(&corpus, &mixed(), 10) };
    let refused = model.represent(&batch, &known, None).err().unwrap().to_string();
    assert!(refused.contains("has 1 categories, expected"), "{refused}");
}

#[test]
fn requests_know_what_they_searched_for() {
    let mut dataset = dataset();
    let query = |row: usize| (!row.is_multiple_of(3)).then(|| ["tea", "coffee"][row % 2].to_owned());
    dataset.events.query = Some((0..dataset.events.len()).map(query).collect());
    let specs: Vec<FeatureSpec> = serde_json::from_value(json!([
        { "name": "search", "kind": "category", "of": "event-context", "column": "query", "vocabulary": 5 },
    ]))
    .unwrap();
    let corpus = corpus_of(dataset, UserKind::Attention, specs);
    let events = &corpus.dataset.events;
    let index = |viewer: Viewer| {
        let mut builder = BatchBuilder::new(&corpus, 0);
        builder.request(&viewer);
        builder.build(Encode::Nothing).user_categories[0]
    };
    let told = |query: Option<&str>| {
        let query = query.map(str::to_owned);
        index(Viewer::Described { history: Vec::new(), columns: BTreeMap::new(), query, clock: i64::MAX })
    };
    assert!(told(None) == 0 && told(Some("milk")) == 1 && told(Some("tea")) != told(Some("coffee")));
    // The first query of a request is that of the request.
    let mut first: BTreeMap<(u32, i64), &str> = BTreeMap::new();
    for row in 0..events.len() {
        if let Some(query) = &events.query.as_ref().unwrap()[row] {
            first.entry((events.user[row], corpus.split.clock[row])).or_insert(query);
        }
    }
    for row in corpus.split.rows(Part::Train).into_iter().step_by(17) {
        let (user, clock) = (events.user[row as usize], corpus.split.clock[row as usize]);
        let expected = told(first.get(&(user, clock)).copied());
        assert_eq!(index(Viewer::Known { user, clock, train_only: true }), expected);
    }
}
