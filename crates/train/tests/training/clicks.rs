//! A small log of clicks in order, and models that rank by it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use paretune_data::{Dataset, Events, Items, Split, SplitStrategy, Users};
use paretune_encoder::{BertConfig, Encoder, Pooling};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_recommender::{
    Corpus, CorpusConfig, GraphConfig, Inputs, ItemVectors, RankingLoss, Recommender, RecommenderConfig, UserConfig,
    UserKind,
};

pub(crate) const ITEMS: u32 = 40;
pub(crate) const USERS: u32 = 240;

/// A log of clicks: each user's items in order.
pub(crate) fn dataset(of: impl Fn(u32) -> Vec<u32>) -> Dataset {
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

/// Four groups of users with ten items each, in any order.
pub(crate) fn groups() -> Dataset {
    dataset(|user| (0..8).map(|at| (user % 4) * 10 + (user * 3 + at * 7) % 10).collect())
}

/// The log as a model of this kind reads it.
pub(crate) fn corpus(kind: UserKind, dataset: Dataset, strategy: &SplitStrategy) -> Corpus {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let tokenizer = TextTokenizer::load(&ModelFiles::unweighted(tokenizer), Some(16)).unwrap();
    let split = Split::new(&dataset, strategy).unwrap();
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: vec!["click".into()],
        history: 10,
        reading: kind.reading(),
        template: "{title}".into(),
        search: false,
        features: Vec::new(),
    };
    Corpus::new(dataset, split, &tokenizer, config).unwrap()
}

pub(crate) fn objectives() -> Objectives {
    Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")]).unwrap()
}

pub(crate) fn loss(name: &str) -> RankingLoss {
    serde_json::from_value(name.into()).unwrap()
}

pub(crate) fn ids() -> ItemVectors {
    ItemVectors::ids(ITEMS as usize, 16, 1, &Device::Cpu).unwrap()
}

pub(crate) fn text() -> ItemVectors {
    let config = BertConfig {
        vocab_size: 62,
        hidden_size: 16,
        num_attention_heads: 2,
        intermediate_size: 32,
        ..BertConfig::tiny()
    };
    ItemVectors::Text(Box::new(Encoder::random(config, Pooling::Mean, 3, &Device::Cpu).unwrap()))
}

pub(crate) fn model(corpus: &Corpus, vectors: ItemVectors, kind: UserKind, loss: RankingLoss) -> Recommender {
    let config = RecommenderConfig {
        dim: 16,
        user: UserConfig { kind, heads: 2, dropout: 0.0, events: false, features: false, ..UserConfig::default() },
        history: 10,
        users: USERS as usize,
        items: ITEMS as usize,
        hide_ids: 0.0,
        ranking: loss,
        repeats: true,
        search: false,
        tasks: Architecture::SharedBottom,
        tower: 8,
        dropout: 0.0,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
        features: None,
    };
    let inputs = match kind {
        UserKind::Graph => {
            let graph = GraphConfig::default();
            Inputs::with_graph(vectors, corpus.graph(&graph).unwrap(), graph)
        }
        _ => vectors.into(),
    };
    Recommender::new(config, inputs, &objectives(), 1, &Device::Cpu).unwrap()
}
