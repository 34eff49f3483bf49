//! What a step with many texts costs in time and memory, all texts at once or in chunks (gradient caching, Gao et al. 2021).
//!
//! ```sh
//! cargo run --release -p paretune-train --example chunks -- MODEL 1024 0     # all texts at once
//! cargo run --release -p paretune-train --example chunks -- MODEL 1024 64    # in chunks of 64
//! ```
//!
//! `MODEL` is a folder with a pretrained model. One request each for so many items, with the other requests' items as negatives; texts of 24 tokens.
//! Prints one line of JSON: milliseconds of the second and the third step, and the process' largest resident memory (Linux).

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use paretune_data::{Dataset, Events, Items, Split, SplitStrategy, Users};
use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_recommender::{
    Corpus, CorpusConfig, ItemVectors, RankingLoss, Recommender, RecommenderConfig, Scoring, UserConfig, UserKind,
};
use paretune_train::step::{StepOptions, balanced_gradients};
use paretune_train::{BalanceConfig, Balancer, Plan, TrainingConfig};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Everyday words, so that tokenizers of any vocabulary know them.
const WORDS: [&str; 16] = [
    "red", "small", "house", "water", "light", "hand", "paper", "green", "stone", "music", "garden", "winter", "glass",
    "letter", "market", "river",
];

/// Each of `items` items is clicked by two users, each of which clicked another one before.
fn dataset(items: u32) -> Dataset {
    let text = |item: u32| {
        let words = (0..22).map(|at| WORDS[((item * 31 + at * at * 7 + item / 16 * at) % 16) as usize]);
        Some(words.collect::<Vec<_>>().join(" "))
    };
    let users = 2 * items;
    let pairs = (0..users).flat_map(|user| [(user, (user + 1) % items, 0), (user, user % items, 1)]);
    let (user, rest): (Vec<u32>, Vec<(u32, i64)>) = pairs.map(|(user, item, time)| (user, (item, time))).unzip();
    let (item, time): (Vec<u32>, Vec<i64>) = rest.into_iter().unzip();
    Dataset {
        name: "synthetic".into(),
        items: Items {
            ids: (0..items).map(|item| format!("i{item}")).collect(),
            text: BTreeMap::from([("title".into(), (0..items).map(text).collect())]),
            ..Items::default()
        },
        users: Users { ids: (0..users).map(|user| format!("u{user}")).collect(), ..Users::default() },
        events: Events {
            feedback: BTreeMap::from([("click".into(), vec![1.0; user.len()])]),
            user,
            item,
            timestamp: Some(time),
            ..Events::default()
        },
    }
}

/// The largest resident memory of this process so far, in MiB.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? / 1024)
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, texts, chunk] = arguments.as_slice() else {
        return Err("usage: chunks MODEL TEXTS CHUNK (0: all at once)".into());
    };
    let (texts, chunk): (usize, usize) = (texts.parse()?, chunk.parse()?);
    let files = ModelFiles::local(Path::new(folder))?;
    let dataset = dataset(texts as u32);
    let split = Split::new(&dataset, &SplitStrategy::Random { valid: 0.01, test: 0.01, seed: 1 })?;
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: vec!["click".into()],
        history: 4,
        reading: UserKind::Mean.reading(),
        template: "{title}".into(),
        search: false,
        features: Vec::new(),
    };
    let corpus = Corpus::new(dataset, split, &TextTokenizer::load(&files, Some(24))?, config)?;
    let encoder = Encoder::load(&files, &LoadOptions::default())?;
    let objectives = Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")])?;
    let sizes = RecommenderConfig {
        dim: 64,
        user: UserConfig { kind: UserKind::Mean, ..UserConfig::default() },
        history: corpus.config.history,
        users: corpus.dataset.users.len(),
        items: texts,
        hide_ids: 0.0,
        ranking: RankingLoss::InBatch(Scoring { temperature: 0.05, cosine: true }),
        repeats: true,
        search: false,
        tasks: Architecture::SharedBottom,
        tower: 64,
        dropout: 0.0,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
        features: None,
    };
    let model = Recommender::new(sizes, ItemVectors::Text(Box::new(encoder)), &objectives, 1, &Device::Cpu)?;
    let known = model.embed(&corpus.tokens, None)?;
    // Every item once in four samples: a batch of all of them reads all texts.
    let training = TrainingConfig { batch: 4 * texts, chunk, ..TrainingConfig::default() };
    let plan = Plan::new(&corpus, &objectives, &training, 1)?.for_model(&model, &training);
    let batch = plan.epoch_from(0).next().ok_or("a plan without a batch")?;
    let mut balancer = Balancer::new(&BalanceConfig::default(), &objectives, &[1.0])?;
    let parameters = model.parameters();
    let (before, mut times) = (peak(), Vec::new());
    for _ in 0..3 {
        let start = Instant::now();
        let options = StepOptions { dropout: 1, chunk };
        balanced_gradients(&model, &parameters, &batch, &known, &mut balancer, options)?;
        times.push(start.elapsed().as_millis() as u64);
    }
    println!(
        "{}",
        serde_json::json!({
            "texts": batch.encoded, "tokens": batch.packed.tokens(), "chunk": chunk, "ms": &times[1..],
            "mib_before": before, "mib": peak(),
        })
    );
    Ok(())
}
