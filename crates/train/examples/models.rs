//! What a training step of each user model costs, on synthetic histories of items that are known by their ids or by their texts.
//!
//! usage: cargo run --release -p paretune-train --example models -- [--kinds sasrec,gru,…] [--batch SEQUENCES] [--length EVENTS] [--ragged]
//! [--texts] [--features] [--items N] [--dim N] [--layers N] [--heads N] [--negatives N] [--threads N] [--runs N]
//!
//! A step is the forward pass over a batch, the softmax of each event's successor against shared negatives, the backward pass, and AdamW. A
//! sample is one event that is predicted: a batch of 128 sequences of 50 events has 6,400. With `--ragged` sequences are as long as those of a
//! short log (most of them short, 7 events on average). With `--texts` items are what the built-in encoder, which is trained, says of titles of
//! 6 to 14 words; with `--features` what came of events and when enters beside the items. `graph` is LightGCN with two layers over
//! the training interactions. Prints a line of JSON for each model.

mod titles;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use paretune_data::{Dataset, Events, Items, Split, SplitStrategy, Users};
use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_optim::{Groups, OptimizerConfig};
use paretune_recommender::{
    Batch, Corpus, CorpusConfig, GraphConfig, Inputs, ItemVectors, RankingLoss, Recommender, RecommenderConfig,
    UserConfig, UserKind,
};
use paretune_train::step::balanced_gradients;
use paretune_train::{BalanceConfig, Balancer, Plan, TrainingConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Fallible<T> = Result<T, Box<dyn Error>>;

struct Options {
    kinds: Vec<UserKind>,
    batch: usize,
    length: usize,
    ragged: bool,
    texts: bool,
    features: bool,
    items: usize,
    dim: usize,
    layers: usize,
    heads: usize,
    negatives: usize,
    threads: usize,
    runs: usize,
}

impl Options {
    fn parse() -> Fallible<Self> {
        let mut options = Self {
            kinds: UserKind::ALL.to_vec(),
            batch: 128,
            length: 50,
            ragged: false,
            texts: false,
            features: false,
            items: 12_101,
            dim: 64,
            layers: 1,
            heads: 2,
            negatives: 256,
            threads: 0,
            runs: 9,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--kinds" => {
                    let kind = |name: &str| serde_json::from_value(name.into());
                    options.kinds = value()?.split(',').map(kind).collect::<Result<_, _>>()?;
                }
                "--ragged" => options.ragged = true,
                "--texts" => options.texts = true,
                "--features" => options.features = true,
                "--batch" => options.batch = value()?.parse::<usize>()?.max(1),
                "--length" => options.length = value()?.parse::<usize>()?.max(2),
                "--items" => options.items = value()?.parse::<usize>()?.max(2),
                "--dim" => options.dim = value()?.parse()?,
                "--layers" => options.layers = value()?.parse()?,
                "--heads" => options.heads = value()?.parse()?,
                "--negatives" => options.negatives = value()?.parse()?,
                "--threads" => options.threads = value()?.parse()?,
                "--runs" => options.runs = value()?.parse::<usize>()?.max(1),
                other => return Err(format!("unknown `{other}`; the head of this file says what there is").into()),
            }
        }
        Ok(options)
    }

    /// As many users as the timed batches need, each with a history and the two events that are held out.
    fn dataset(&self) -> Dataset {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let users = self.batch * 4;
        let (mut user, mut item, mut time) = (Vec::new(), Vec::new(), Vec::new());
        for of in 0..users as u32 {
            let length = match self.ragged {
                // One event and a geometric number of further ones, six on average.
                true => {
                    let draw = random.random::<f64>().max(1e-12).ln() / (6.0f64 / 7.0).ln();
                    1 + (draw as usize).min(self.length - 1)
                }
                false => self.length,
            };
            for at in 0..(length + 2) as i64 {
                user.push(of);
                item.push(random.random_range(0..self.items as u32));
                time.push(at);
            }
        }
        let clicks = vec![1.0; user.len()];
        Dataset {
            name: "synthetic".into(),
            items: Items {
                ids: (0..self.items).map(|item| format!("i{item}")).collect(),
                text: BTreeMap::from([("title".into(), self.titles())]),
                ..Items::default()
            },
            users: Users { ids: (0..users).map(|user| format!("u{user}")).collect(), ..Users::default() },
            events: Events {
                user,
                item,
                timestamp: Some(time),
                feedback: BTreeMap::from([("click".into(), clicks)]),
                ..Events::default()
            },
        }
    }

    fn titles(&self) -> Vec<Option<String>> {
        match self.texts {
            true => titles::titles(self.items),
            false => vec![Some("toy".to_owned()); self.items],
        }
    }

    /// The built-in encoder's folder.
    fn encoder() -> Fallible<ModelFiles> {
        Ok(ModelFiles::local(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/builtin"))?)
    }

    fn corpus(&self, kind: UserKind) -> Fallible<Corpus> {
        let files = match self.texts {
            true => Self::encoder()?,
            false => ModelFiles::unweighted(Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny")),
        };
        let tokenizer = TextTokenizer::load(&files, Some(if self.texts { 64 } else { 16 }))?;
        let dataset = self.dataset();
        let split = Split::new(&dataset, &SplitStrategy::LeaveLast)?;
        let config = CorpusConfig {
            engaged: "click".into(),
            feedback: vec!["click".into()],
            history: self.length,
            reading: kind.reading(),
            template: "{title}".into(),
            search: false,
            features: Vec::new(),
        };
        Ok(Corpus::new(dataset, split, &tokenizer, config)?)
    }

    fn model(&self, corpus: &Corpus, kind: UserKind, objectives: &Objectives) -> Fallible<Recommender> {
        let user = UserConfig {
            kind,
            layers: self.layers,
            heads: self.heads,
            events: self.features,
            features: false,
            ..UserConfig::default()
        };
        let config = RecommenderConfig {
            dim: self.dim,
            user,
            history: self.length,
            users: corpus.dataset.users.len(),
            items: corpus.dataset.items.len(),
            hide_ids: 0.0,
            ranking: RankingLoss::default(),
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
        let vectors = match self.texts {
            true => ItemVectors::Text(Box::new(Encoder::load(&Self::encoder()?, &LoadOptions::default())?)),
            false => ItemVectors::ids(self.items, self.dim, 1, &Device::Cpu)?,
        };
        let inputs = match kind {
            UserKind::Graph => {
                let graph = GraphConfig::default();
                Inputs::with_graph(vectors, corpus.graph(&graph)?, graph)
            }
            _ => vectors.into(),
        };
        Ok(Recommender::new(config, inputs, objectives, 1, &Device::Cpu)?)
    }

    fn measure(&self, kind: UserKind) -> Fallible<serde_json::Value> {
        let corpus = self.corpus(kind)?;
        let objectives = Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")])?;
        let model = self.model(&corpus, kind, &objectives)?;
        let samples = corpus.split.rows(paretune_data::Part::Train).len() as f64 / 4.0;
        let training = TrainingConfig {
            batch: samples.round() as usize,
            epochs: 1_000_000,
            hide_past: 0.0,
            shared_negatives: self.negatives,
            ..TrainingConfig::default()
        };
        let plan = Plan::new(&corpus, &objectives, &training, 1)?;
        let plan = plan.for_model(&model, &training);
        let warm = self.runs.div_ceil(3);
        let batches = (0..).flat_map(|epoch| plan.epoch_from(epoch * plan.steps_per_epoch()));
        let start = Instant::now();
        let batches: Vec<Batch> = batches.take(warm + self.runs).collect();
        let made = start.elapsed().as_secs_f64() / batches.len() as f64;
        let parameters = model.parameters();
        let mut balancer = Balancer::new(&BalanceConfig::default(), &objectives, &[1.0])?;
        let mut optimizer = OptimizerConfig::default().build(&Groups::default(), parameters.all())?;
        let known = model.embed(&corpus.tokens, None)?;
        let (mut times, mut predicted) = (Vec::new(), 0);
        for (number, batch) in batches.iter().enumerate() {
            let start = Instant::now();
            let step = balanced_gradients(&model, &parameters, batch, &known, &mut balancer, number as u64)?;
            optimizer.step_clipped(&step.gradients, 1e-3, 1.0)?;
            if number >= warm {
                times.push(start.elapsed().as_secs_f64());
                predicted += batch.len();
            }
        }
        let total: f64 = times.iter().sum();
        times.sort_by(f64::total_cmp);
        Ok(serde_json::json!({
            "figure": "step", "peer": "paretune", "model": kind,
            "ms": (times[times.len() / 2] * 1e6).round() / 1e3, "batch_ms": (made * 1e6).round() / 1e3,
            "samples": predicted as f64 / self.runs as f64,
            "samples_per_s": (predicted as f64 / total).round(),
            "batch": self.batch, "length": self.length, "ragged": self.ragged, "items": self.items,
            "texts": self.texts, "features": self.features,
        }))
    }
}

fn main() -> Fallible<()> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    for kind in &options.kinds {
        println!("{}", options.measure(*kind)?);
    }
    Ok(())
}
