//! What a training step costs with each architecture between the shared representation and the task towers, and how much of it lies above that
//! representation, on synthetic impressions with four objectives.
//!
//! usage: cargo run --release -p paretune-train --example tasks -- [--tasks mmoe,ple,…] [--model FOLDER] [--batch SAMPLES] [--history EVENTS]
//! [--items N] [--dim N] [--threads N] [--runs N]
//!
//! A step is the forward pass over a batch of impressions (an item shown to a user with a history), the losses of click, conversion, rating and
//! dwell time, the backward pass, and AdamW. Items are known by their ids, or, with `--model`, by what that text encoder, which is trained, says of
//! titles of 6 to 14 words. `above_ms` is the forward and backward pass of what lies above the shared representation alone: experts,
//! gates and towers with their losses. Prints a line of JSON for each architecture.

mod titles;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use paretune_data::{Dataset, Events, Items, Part, Split, SplitStrategy, Users};
use paretune_encoder::{Encoder, LoadOptions, backward};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_optim::{Groups, OptimizerConfig};
use paretune_recommender::{
    Batch, Corpus, CorpusConfig, ItemVectors, RankingLoss, Reading, Recommender, RecommenderConfig, Shared, UserConfig,
};
use paretune_train::step::balanced_gradients;
use paretune_train::{BalanceConfig, Balancer, Plan, TrainingConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// All of them.
const TASKS: [&str; 6] = ["shared-bottom", "omoe", "mmoe", "ple", "cross-stitch", "aitm"];

struct Options {
    tasks: Vec<String>,
    model: Option<PathBuf>,
    batch: usize,
    history: usize,
    items: usize,
    dim: usize,
    threads: usize,
    runs: usize,
}

impl Options {
    fn parse() -> Fallible<Self> {
        let mut options = Self {
            tasks: TASKS.map(str::to_owned).to_vec(),
            model: None,
            batch: 512,
            history: 20,
            items: 12_101,
            dim: 64,
            threads: 0,
            runs: 9,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--tasks" => options.tasks = value()?.split(',').map(str::to_owned).collect(),
                "--model" => options.model = Some(value()?.into()),
                "--batch" => options.batch = value()?.parse::<usize>()?.max(1),
                "--history" => options.history = value()?.parse::<usize>()?.max(1),
                "--items" => options.items = value()?.parse::<usize>()?.max(2),
                "--dim" => options.dim = value()?.parse()?,
                "--threads" => options.threads = value()?.parse()?,
                "--runs" => options.runs = value()?.parse::<usize>()?.max(1),
                other => return Err(format!("unknown `{other}`; the head of this file says what there is").into()),
            }
        }
        Ok(options)
    }

    /// Impressions of users who click on one of three, so that the later ones have full histories.
    fn dataset(&self) -> Dataset {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (users, each) = (self.batch.div_ceil(4).max(64), 12 * self.history);
        let (mut user, mut item, mut time) = (Vec::new(), Vec::new(), Vec::new());
        let mut feedback: [Vec<f32>; 4] = Default::default();
        for of in 0..users as u32 {
            for at in 0..each as i64 {
                user.push(of);
                item.push(random.random_range(0..self.items as u32));
                time.push(at);
                let clicked = random.random_range(0..3) == 0;
                let seen = |value: f32| if clicked { value } else { f32::NAN };
                let values = [
                    f32::from(u8::from(clicked)),
                    f32::from(u8::from(clicked && random.random_range(0..4) == 0)),
                    seen(random.random_range(1.0..5.0)),
                    seen(random.random_range(1.0..300.0)),
                ];
                feedback.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
            }
        }
        Dataset {
            name: "synthetic".into(),
            items: Items {
                ids: (0..self.items).map(|item| format!("i{item}")).collect(),
                text: BTreeMap::from([("title".into(), titles::titles(self.items))]),
                ..Items::default()
            },
            users: Users { ids: (0..users).map(|user| format!("u{user}")).collect(), ..Users::default() },
            events: Events {
                user,
                item,
                timestamp: Some(time),
                feedback: ["click", "bought", "rating", "seconds"]
                    .map(str::to_owned)
                    .into_iter()
                    .zip(feedback)
                    .collect(),
                ..Events::default()
            },
        }
    }

    fn corpus(&self) -> Fallible<Corpus> {
        let files = match &self.model {
            Some(folder) => ModelFiles::local(folder)?,
            None => ModelFiles::unweighted(Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny")),
        };
        let tokenizer = TextTokenizer::load(&files, Some(if self.model.is_some() { 64 } else { 16 }))?;
        let dataset = self.dataset();
        let split = Split::new(&dataset, &SplitStrategy::LeaveLast)?;
        let config = CorpusConfig {
            engaged: "click".into(),
            feedback: dataset.events.feedback.keys().cloned().collect(),
            history: self.history,
            reading: Reading::Each,
            template: "{title}".into(),
            search: false,
            features: Vec::new(),
        };
        Ok(Corpus::new(dataset, split, &tokenizer, config)?)
    }

    fn model(&self, corpus: &Corpus, tasks: Architecture, objectives: &Objectives) -> Fallible<Recommender> {
        let config = RecommenderConfig {
            dim: self.dim,
            user: UserConfig::default(),
            history: self.history,
            users: corpus.dataset.users.len(),
            items: corpus.dataset.items.len(),
            hide_ids: 0.0,
            ranking: RankingLoss::default(),
            repeats: true,
            search: false,
            tasks,
            tower: 64,
            dropout: 0.1,
            item_features: corpus.item_width(),
            user_features: corpus.user_width(),
            event_features: corpus.event_width(),
            conditioning: Conditioning::None,
            features: None,
        };
        let vectors = match &self.model {
            Some(folder) => {
                ItemVectors::Text(Box::new(Encoder::load(&ModelFiles::local(folder)?, &LoadOptions::default())?))
            }
            None => ItemVectors::ids(self.items, self.dim, 1, &Device::Cpu)?,
        };
        let mut model = Recommender::new(config, vectors, objectives, 1, &Device::Cpu)?;
        let rows = corpus.split.rows(Part::Train);
        let column = |objective: &Objective| {
            let values = &corpus.dataset.events.feedback[&objective.column];
            rows.iter().map(|&row| values[row as usize]).collect()
        };
        model.fit(&objectives.iter().map(column).collect::<Vec<Vec<f32>>>())?;
        Ok(model)
    }

    fn measure(&self, corpus: &Corpus, name: &str) -> Fallible<serde_json::Value> {
        let objectives = Objectives::new(vec![
            Objective::new("click", Kind::Binary, "click"),
            Objective::new("conversion", Kind::Conditional, "bought").given("click"),
            Objective::new("satisfaction", Kind::Regression, "rating"),
            Objective::new("dwell", Kind::LogRegression, "seconds"),
        ])?;
        let tasks = serde_json::from_value(serde_json::json!({ "name": name }))?;
        let model = self.model(corpus, tasks, &objectives)?;
        let training =
            TrainingConfig { batch: self.batch, epochs: 1_000_000, hide_past: 0.0, ..TrainingConfig::default() };
        let plan = Plan::new(corpus, &objectives, &training, 1)?.for_model(&model, &training);
        // Steps over ids are short: the first of them also warm the processor up.
        let warm = if self.model.is_some() { self.runs.div_ceil(3) } else { self.runs.max(20) };
        let batches = (0..).flat_map(|epoch| plan.epoch_from(epoch * plan.steps_per_epoch()));
        let batches: Vec<Batch> = batches.filter(|batch| batch.len() == self.batch).take(warm + self.runs).collect();
        let parameters = model.parameters();
        let mut balancer = Balancer::new(&BalanceConfig::default(), &objectives, &[1.0; 4])?;
        let mut optimizer = OptimizerConfig::default().build(&Groups::default(), parameters.all())?;
        let known = model.embed(&corpus.tokens, None)?;
        let mut whole = |number: usize, batch: &Batch| -> Fallible<f64> {
            let start = Instant::now();
            let step = balanced_gradients(&model, &parameters, batch, &known, &mut balancer, number as u64)?;
            optimizer.step_clipped(&step.gradients, 1e-3, 1.0)?;
            Ok(start.elapsed().as_secs_f64())
        };
        let above = |number: usize, batch: &Batch| -> Fallible<f64> {
            let shared = leaves(model.represent(batch, &known, Some(number as u64))?)?;
            let start = Instant::now();
            let (losses, _) = model.losses_with_auxiliary(&shared, batch, Some(number as u64))?;
            let mut total = losses[0].loss.clone();
            for loss in &losses[1..] {
                total = (total + &loss.loss)?;
            }
            let gradients = backward(&total)?;
            let time = start.elapsed().as_secs_f64();
            drop(gradients);
            Ok(time)
        };
        let (first, rest) = batches.split_at(warm);
        for (number, batch) in first.iter().enumerate() {
            whole(number, batch)?;
            above(number, batch)?;
        }
        let numbered = || rest.iter().enumerate().map(|(at, batch)| (warm + at, batch));
        let mut times = numbered().map(|(number, batch)| whole(number, batch)).collect::<Fallible<Vec<f64>>>()?;
        let mut parts = numbered().map(|(number, batch)| above(number, batch)).collect::<Fallible<Vec<f64>>>()?;
        let own: usize =
            [&parameters.tasks, &parameters.towers].into_iter().flatten().map(|(_, var)| var.elem_count()).sum();
        let (whole, part) = (median(&mut times), median(&mut parts));
        Ok(serde_json::json!({
            "figure": "step", "peer": "paretune", "tasks": name,
            "ms": (whole * 1e6).round() / 1e3, "above_ms": (part * 1e6).round() / 1e3, "above_share": part / whole,
            "samples_per_s": (self.batch as f64 / whole).round(), "parameters_above": own,
            "batch": self.batch, "history": self.history, "items": self.items, "texts": self.model.is_some(),
        }))
    }
}

/// The same values, from which gradients go no further.
fn leaves(shared: Shared) -> Fallible<Shared> {
    let leaf = |value: &Tensor| Ok::<_, candle_core::Error>(Var::from_tensor(&value.detach())?.as_tensor().clone());
    let part = |value: &Option<Tensor>| value.as_ref().map(leaf).transpose();
    Ok(Shared {
        items: part(&shared.items)?,
        users: leaf(&shared.users)?,
        candidates: part(&shared.candidates)?,
        views: part(&shared.views)?,
        aligned: part(&shared.aligned)?,
        joint: part(&shared.joint)?,
        gates: None,
    })
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Fallible<()> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let corpus = options.corpus()?;
    for tasks in &options.tasks {
        println!("{}", options.measure(&corpus, tasks)?);
    }
    Ok(())
}
