//! Training on a log that is larger than memory: one phase at a time, each in a process of its own, so that its peak memory can be told.
//!
//! usage: cargo run --release -p paretune-train --example scale -- --phase write|shard|train|memory --folder DIR [--items N] [--events N]
//! [--shards N] [--steps N] [--batch SEQUENCES] [--history N] [--dim N] [--users N] [--threads N]
//!
//! `write` makes a log with a known structure, a file of half a million events at a time: items lie in clusters of a hundred with Zipf's
//! popularity inside, and each of a user's hundred events stays in the cluster of the one before, mostly. `shard` deals it out, `train` trains
//! SASRec on ids with sampled softmax for some steps, reading the shards; `memory` trains the same with the log in memory. Each prints a line of
//! JSON with its seconds and its peak resident memory.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use paretune_data::{Dataset, Events, Items, Part, Shards, Split, SplitStrategy, Users};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_recommender::{
    Corpus, CorpusConfig, ItemVectors, RankingLoss, Recommender, RecommenderConfig, UserConfig, UserKind,
};
use paretune_train::evaluation::{Ranking, baselines};
use paretune_train::{BalanceConfig, Balancer, Observer, Stream, TrainEvent, Trainer, TrainingConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use serde_json::{Value, json};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Events of a user.
const EACH: usize = 100;
/// Items of a cluster.
const CLUSTER: usize = 100;
/// Events of a file.
const FILE: usize = 500_000;

struct Options {
    phase: String,
    folder: PathBuf,
    items: usize,
    events: usize,
    shards: usize,
    steps: usize,
    batch: usize,
    history: usize,
    dim: usize,
    users: usize,
    threads: usize,
}

impl Options {
    fn parse() -> Fallible<Self> {
        let mut options = Self {
            phase: String::new(),
            folder: PathBuf::new(),
            items: 100_000,
            events: 1_000_000,
            shards: 64,
            steps: 300,
            batch: 128,
            history: 50,
            dim: 64,
            users: 2_000,
            threads: 0,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--phase" => options.phase = value,
                "--folder" => options.folder = value.into(),
                "--items" => options.items = value.parse::<usize>()?.max(CLUSTER),
                "--events" => options.events = value.parse::<usize>()?.max(EACH),
                "--shards" => options.shards = value.parse()?,
                "--steps" => options.steps = value.parse::<usize>()?.max(1),
                "--batch" => options.batch = value.parse::<usize>()?.max(1),
                "--history" => options.history = value.parse::<usize>()?.max(2),
                "--dim" => options.dim = value.parse()?,
                "--users" => options.users = value.parse()?,
                "--threads" => options.threads = value.parse()?,
                other => return Err(format!("unknown `{other}`; the head of this file says what there is").into()),
            }
        }
        Ok(options)
    }

    fn tables(&self) -> PathBuf {
        self.folder.join("tables")
    }

    fn write(&self) -> Fallible<Value> {
        let clusters = self.items / CLUSTER;
        let (of_clusters, of_items) = (Zipf::new(clusters as f64, 1.0)?, Zipf::new(CLUSTER as f64, 1.1)?);
        let items = Items { ids: (0..self.items).map(|item| format!("i{item}")).collect(), ..Items::default() };
        let tables = self.tables();
        fs::create_dir_all(tables.join("events"))?;
        let users = self.events / EACH;
        for (file, first) in (0..users).step_by(FILE / EACH).enumerate() {
            let mut random = ChaCha8Rng::seed_from_u64(1);
            random.set_stream(file as u64);
            let count = (FILE / EACH).min(users - first);
            let mut events = Events { timestamp: Some(Vec::new()), ..Events::default() };
            for user in 0..count as u32 {
                let mut cluster = 0;
                for at in 0..EACH as i64 {
                    if at == 0 || random.random::<f64>() < 0.05 {
                        cluster = of_clusters.sample(&mut random) as usize - 1;
                    }
                    let item = cluster * CLUSTER + of_items.sample(&mut random) as usize - 1;
                    events.user.push(user);
                    events.item.push(item as u32);
                    let start = 1_600_000_000 + i64::from(user % 1000) * 3_600;
                    events.timestamp.iter_mut().for_each(|times| times.push(start + at * 7_200));
                }
            }
            events.feedback.insert("click".into(), vec![1.0; events.user.len()]);
            let ids = (first..first + count).map(|user| format!("u{user}")).collect();
            let users = Users { ids, ..Users::default() };
            let dataset = Dataset { name: "scale".into(), items: items.clone(), users, events };
            let beside = self.folder.join("part");
            dataset.write(&beside)?;
            fs::rename(beside.join("events.parquet"), tables.join(format!("events/{file:05}.parquet")))?;
            fs::rename(beside.join("items.parquet"), tables.join("items.parquet"))?;
            fs::remove_dir_all(beside)?;
        }
        Ok(json!({ "users": users }))
    }

    fn shard(&self) -> Fallible<Value> {
        let shards = Shards::from_folder(&self.tables(), &self.folder.join("shards"), self.shards, None)?;
        let bytes: u64 =
            fs::read_dir(self.folder.join("shards"))?.flatten().flat_map(|file| file.metadata()).map(|m| m.len()).sum();
        Ok(json!({ "users": shards.users(), "shards": shards.count(), "bytes": bytes }))
    }

    fn reads(&self) -> CorpusConfig {
        CorpusConfig {
            engaged: "click".into(),
            feedback: vec!["click".into()],
            history: self.history,
            reading: UserKind::Sasrec.reading(),
            template: "item".into(),
            search: false,
            features: Vec::new(),
        }
    }

    fn model(&self, corpus: &Corpus, objectives: &Objectives) -> Fallible<Recommender> {
        let user =
            UserConfig { kind: UserKind::Sasrec, heads: 2, events: false, features: false, ..UserConfig::default() };
        let config = RecommenderConfig {
            dim: self.dim,
            user,
            history: self.history,
            users: corpus.dataset.users.len(),
            items: self.items,
            hide_ids: 0.0,
            ranking: RankingLoss::default(),
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
        let ids = ItemVectors::ids(self.items, self.dim, 1, &Device::Cpu)?;
        Ok(Recommender::new(config, ids, objectives, 1, &Device::Cpu)?)
    }

    /// Trains on shards, or on the same log in memory.
    fn train(&self, streamed: bool) -> Fallible<Value> {
        let start = Instant::now();
        let objectives = Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")])?;
        let stream = match streamed {
            true => {
                let shards = Shards::open(&self.folder.join("shards"))?;
                Some(Stream::new(shards, &SplitStrategy::LeaveLast, self.reads(), None, self.users)?)
            }
            false => None,
        };
        let memory = match &stream {
            Some(_) => None,
            None => Some(self.in_memory()?),
        };
        let corpus: &Corpus = match (&stream, &memory) {
            (Some(stream), _) => stream.sample(),
            (None, Some(memory)) => memory,
            (None, None) => return Err("there is no log".into()),
        };
        let opened = start.elapsed().as_secs_f64();
        let before = peak();
        let model = self.model(corpus, &objectives)?;
        let config = TrainingConfig {
            epochs: 1_000,
            max_steps: self.steps,
            batch: self.batch * self.history,
            learning_rate: 3e-3,
            backbone_learning_rate: 3e-3,
            hide_past: 0.0,
            shared_negatives: 512,
            validations: 1e-3,
            validation_users: 1,
            monitor: BTreeMap::from([("ndcg@10".into(), 1.0)]),
            ..TrainingConfig::default()
        };
        let balancer = Balancer::new(&BalanceConfig::default(), &objectives, &[1.0])?;
        let trainer = match &stream {
            Some(stream) => Trainer::streamed(&model, stream, &objectives, &config, balancer, None, 1)?,
            None => Trainer::new(&model, corpus, &objectives, &config, balancer, None, 1)?,
        };
        let mut watch = Watch::default();
        trainer.run(&mut watch)?;
        let known = model.embed(&corpus.tokens, None)?;
        let ranking = Ranking::new(corpus, Part::Test, 1_000, &[10]);
        let found = ranking.model(&model, &objectives, &known, &[1.0], &[])?;
        let popular = ranking.fixed(&baselines::popularity_scores(corpus), &[])?;
        let times = &watch.times[watch.times.len().min(10)..];
        let trained = times.last().zip(times.first()).map_or(f64::NAN, |(last, first)| (*last - *first).as_secs_f64());
        let samples: usize = watch.samples.iter().skip(watch.times.len().min(10) + 1).sum();
        Ok(json!({
            "open_s": opened, "open_peak_mib": before, "steps": watch.samples.len(), "samples_per_s": samples as f64 / trained,
            "loss_first": watch.losses.first(), "loss_last": watch.losses.last(), "users": found.users,
            "ndcg": found.ranking["ndcg@10"], "ndcg_popularity": popular.ranking["ndcg@10"],
        }))
    }

    fn in_memory(&self) -> Fallible<Corpus> {
        let tables = self.folder.join("memory");
        fs::create_dir_all(&tables)?;
        let files: Vec<PathBuf> =
            fs::read_dir(self.tables().join("events"))?.flatten().map(|file| file.path()).collect();
        let [file] = &files[..] else { return Err("`memory` reads a log of one file (half a million events)".into()) };
        fs::copy(file, tables.join("events.parquet"))?;
        fs::copy(self.tables().join("items.parquet"), tables.join("items.parquet"))?;
        let dataset = Dataset::read(&tables)?;
        let split = Split::new(&dataset, &SplitStrategy::LeaveLast)?;
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
        let tokenizer = TextTokenizer::load(&ModelFiles::unweighted(tokenizer), Some(16))?;
        Ok(Corpus::new(dataset, split, &tokenizer, self.reads())?)
    }
}

/// Loss, samples and time of every step.
#[derive(Default)]
struct Watch {
    losses: Vec<f64>,
    samples: Vec<usize>,
    times: Vec<std::time::Duration>,
    start: Option<Instant>,
}

impl Observer for Watch {
    fn observe(&mut self, event: &TrainEvent) {
        let start = *self.start.get_or_insert_with(Instant::now);
        if let TrainEvent::Step { losses, samples, .. } = event {
            self.losses.extend(losses.values().copied());
            self.samples.push(*samples);
            self.times.push(start.elapsed());
        }
    }
}

/// The most memory that this process has held so far, in MiB; `NaN` where the system does not say.
fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| (kib / 1024.0).round())
}

fn main() -> Fallible<()> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let start = Instant::now();
    let mut said = match options.phase.as_str() {
        "write" => options.write()?,
        "shard" => options.shard()?,
        "train" => options.train(true)?,
        "memory" => options.train(false)?,
        other => return Err(format!("no phase `{other}`; there are write, shard, train and memory").into()),
    };
    let seconds = start.elapsed().as_secs_f64();
    said["figure"] = "scale".into();
    said["phase"] = options.phase.clone().into();
    said["items"] = options.items.into();
    said["events"] = (options.events / EACH * EACH).into();
    said["seconds"] = seconds.into();
    said["events_per_s"] = (options.events as f64 / seconds).round().into();
    said["peak_mib"] = peak().into();
    println!("{said}");
    Ok(())
}
