//! Every user model learns a small log by heart.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use paretune_data::{Dataset, Events, Items, Part, Split, SplitStrategy, Users};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Conditioning, Kind, Objective, Objectives};
use paretune_recommender::{
    Corpus, CorpusConfig, GraphConfig, Inputs, ItemVectors, RankingLoss, Recommender, RecommenderConfig, UserConfig,
    UserKind,
};
use paretune_train::evaluation::Ranking;
use paretune_train::{BalanceConfig, Balancer, Silent, Trainer, TrainingConfig};

const ITEMS: u32 = 40;
const USERS: u32 = 240;

/// A log of clicks: each user's items in order.
fn dataset(of: impl Fn(u32) -> Vec<u32>) -> Dataset {
    let (mut user, mut item, mut time) = (Vec::new(), Vec::new(), Vec::new());
    for who in 0..USERS {
        for (at, what) in (0i64..).zip(of(who)) {
            user.push(who);
            item.push(what);
            time.push(at);
        }
    }
    let clicks = vec![1.0; user.len()];
    Dataset {
        name: "small".into(),
        items: Items {
            ids: (0..ITEMS).map(|item| format!("i{item}")).collect(),
            text: BTreeMap::from([("title".into(), vec![Some("toy".into()); ITEMS as usize])]),
            ..Items::default()
        },
        users: Users { ids: (0..USERS).map(|user| format!("u{user}")).collect(), ..Users::default() },
        events: Events {
            user,
            item,
            timestamp: Some(time),
            feedback: BTreeMap::from([("click".into(), clicks)]),
            ..Events::default()
        },
    }
}

/// What a model of this kind reaches on the test part after training: metrics of its rankings.
fn trained(kind: UserKind, loss: RankingLoss, dataset: Dataset, epochs: usize) -> BTreeMap<String, f64> {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let tokenizer = TextTokenizer::load(&ModelFiles::unweighted(tokenizer), Some(16)).unwrap();
    let split = Split::new(&dataset, &SplitStrategy::LeaveLast).unwrap();
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: vec!["click".into()],
        history: 10,
        reading: kind.reading(),
        template: "{title}".into(),
    };
    let corpus = Corpus::new(dataset, split, &tokenizer, config).unwrap();
    let objectives = Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")]).unwrap();
    let config = RecommenderConfig {
        dim: 16,
        user: UserConfig { kind, heads: 2, dropout: 0.0, events: false, features: false, ..UserConfig::default() },
        history: 10,
        users: USERS as usize,
        items: ITEMS as usize,
        hide_ids: 0.0,
        ranking: loss,
        tower: 8,
        dropout: 0.0,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
    };
    let ids = ItemVectors::ids(ITEMS as usize, 16, 1, &Device::Cpu).unwrap();
    let inputs = match kind {
        UserKind::Graph => {
            let graph = GraphConfig::default();
            Inputs::with_graph(ids, corpus.graph(&graph).unwrap(), graph)
        }
        _ => ids.into(),
    };
    let model = Recommender::new(config, inputs, &objectives, 1, &Device::Cpu).unwrap();
    let training = TrainingConfig {
        epochs,
        batch: 100,
        learning_rate: 3e-3,
        weight_decay: 0.0,
        hide_past: 0.0,
        shared_negatives: 30,
        validations: 0.1,
        patience: 0,
        monitor: BTreeMap::from([("ndcg@10".into(), 1.0)]),
        ..TrainingConfig::default()
    };
    let balancer = Balancer::new(&BalanceConfig::default(), &objectives, &[1.0]).unwrap();
    let trainer = Trainer::new(&model, &corpus, &objectives, &training, balancer, None, 3).unwrap();
    trainer.run(&mut Silent).unwrap();
    let known = model.embed(&corpus.tokens, None).unwrap();
    let ranking = Ranking::new(&corpus, Part::Test, usize::MAX, &[1, 10]);
    ranking.model(&model, &objectives, &known, &[1.0], &[]).unwrap().ranking
}

fn loss(name: &str) -> RankingLoss {
    serde_json::from_value(name.into()).unwrap()
}

/// Which item comes next depends on the last one alone: whoever reads the order finds it, and nobody else can.
#[test]
fn those_who_read_the_order_learn_what_follows_what() {
    for kind in UserKind::ALL {
        // Of several lengths: the longest of them train the places that the others are asked at.
        let next =
            |user: u32| (0..5 + user % 5).map(|at| (user * 7 + user / 40 + at * 3) % ITEMS).collect::<Vec<u32>>();
        // Cloze asks for a fifth of what the others are asked for.
        let epochs = if kind == UserKind::Bert4rec { 150 } else { 40 };
        let found = trained(kind, RankingLoss::default(), dataset(next), epochs)["recall@1"];
        match kind {
            UserKind::Gru | UserKind::Lstm | UserKind::Sasrec | UserKind::Bert4rec => {
                assert!(found > 0.7, "{kind:?}: {found}");
            }
            UserKind::Factors | UserKind::Graph => assert!(found < 0.5, "{kind:?}: {found}"),
            // Three items apart are also a set: pooling may find it, and need not.
            UserKind::Attention | UserKind::Mean | UserKind::TwoTower => {}
        }
    }
}

/// Four groups of users with ten items each, in any order.
#[test]
fn every_kind_learns_who_likes_what() {
    let mixed = |user: u32| (0..8).map(|at| (user % 4) * 10 + (user * 3 + at * 7) % 10).collect::<Vec<u32>>();
    for kind in UserKind::ALL {
        let found = trained(kind, RankingLoss::default(), dataset(mixed), 30)["recall@10"];
        assert!(found > 0.85, "{kind:?}: {found}");
    }
    for name in ["bpr", "bce", "gbce", "softmax", "in-batch"] {
        let found = trained(UserKind::Sasrec, loss(name), dataset(mixed), 30)["recall@10"];
        assert!(found > 0.8, "{name}: {found}");
    }
}
