//! A model that reads queries finds what was searched for.

use std::collections::BTreeMap;
use std::path::Path;

use paretune_data::{Part, Split, SplitStrategy};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_recommender::{Corpus, CorpusConfig, Recommender, RecommenderConfig, UserKind};
use paretune_train::evaluation::Ranking;
use paretune_train::{BalanceConfig, Balancer, Silent, Trainer, TrainingConfig};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::clicks::{self, ITEMS};

/// Eight words of the test tokenizer, each of which names five items.
const WORDS: [&str; 8] = ["comedy", "drama", "fantasy", "horror", "love", "night", "toy", "war"];

/// Users click whatever they search for, and their pasts say nothing of it.
fn corpus(search: bool) -> Corpus {
    let mut dataset = clicks::dataset(|user| {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(user));
        (0..6).map(|_| random.random_range(0..ITEMS)).collect()
    });
    let word = |item: u32| WORDS[item as usize % WORDS.len()].to_owned();
    dataset.items.text.insert("title".into(), (0..ITEMS).map(|item| Some(word(item))).collect());
    dataset.events.query = Some(dataset.events.item.iter().map(|&item| Some(word(item))).collect());
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let tokenizer = TextTokenizer::load(&ModelFiles::unweighted(tokenizer), Some(16)).unwrap();
    let split = Split::new(&dataset, &SplitStrategy::LeaveLast).unwrap();
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: vec!["click".into()],
        history: 10,
        reading: UserKind::Mean.reading(),
        template: "{title}".into(),
        search,
        features: Vec::new(),
    };
    Corpus::new(dataset, split, &tokenizer, config).unwrap()
}

/// Recall of the first five, where five items answer a query.
fn recall(search: bool) -> f64 {
    let corpus = corpus(search);
    let plain = clicks::model(&corpus, clicks::text(), UserKind::Mean, clicks::loss("softmax"));
    let config = RecommenderConfig { search, ..plain.config().clone() };
    let (objectives, device) = (clicks::objectives(), plain.device().clone());
    let model = Recommender::new(config, clicks::text(), &objectives, 1, &device).unwrap();
    let training = TrainingConfig {
        epochs: 20,
        batch: 64,
        learning_rate: 1e-2,
        backbone_learning_rate: 1e-3,
        weight_decay: 0.0,
        hide_past: 0.0,
        validations: 0.1,
        patience: 0,
        monitor: BTreeMap::from([("ndcg@10".into(), 1.0)]),
        ..TrainingConfig::default()
    };
    let balancer = Balancer::new(&BalanceConfig::default(), &objectives, &[1.0]).unwrap();
    let trainer = Trainer::new(&model, &corpus, &objectives, &training, balancer, None, 1).unwrap();
    trainer.run(&mut Silent).unwrap();
    let known = model.embed(&corpus.tokens, None).unwrap();
    let ranking = Ranking::new(&corpus, Part::Test, usize::MAX, &[5]);
    ranking.model(&model, &objectives, &known, &[1.0], &[]).unwrap().ranking["recall@5"]
}

#[test]
fn queries_say_what_pasts_do_not() {
    let (with, without) = (recall(true), recall(false));
    assert!(with > 0.9, "{with}");
    assert!(without < 0.4, "{without}");
}
