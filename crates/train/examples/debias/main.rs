//! Naive and debiased estimates where truth is known: models trained on simulated logs, held against what the logs came from.
//!
//! usage: cargo run --release -p paretune-train --example debias -- [--ways naive,ips,…] [--seeds N] [--first SEED] [--items N] [--users N]
//! [--requests N] [--eta η] [--epochs N]
//!
//! For each seed a marketplace is simulated whose log is biased by position (`rank^-eta`), by a policy that shows what it believes in and what large
//! providers sell, and by who rates at all. Each way trains one model for click, conversion given a click and satisfaction. Prints a line of JSON
//! for each model: how far its predictions for all pairs of user and item are from the truth, how well they order them, what the ten items it
//! puts first are truly worth; and what the log says that these ten would earn (off-policy).

mod policy;
mod ways;

use std::error::Error;
use std::path::Path;

use candle_core::Device;
use paretune_data::simulator::{Simulation, SimulationConfig, Truth};
use paretune_data::{Dataset, Part, Split, SplitStrategy};
use paretune_eval::top_k;
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objectives};
use paretune_recommender::{
    BatchBuilder, Corpus, CorpusConfig, Encode, ItemVectors, RankingLoss, Reading, Recommender, RecommenderConfig,
    UserConfig, Viewer,
};
use paretune_train::distill::spearman;
use paretune_train::{BalanceConfig, Balancer, Silent, Trainer, TrainingConfig};
use serde_json::{Value, json};

use ways::{CLICKED, Way};

type Fallible<T> = Result<T, Box<dyn Error>>;

struct Options {
    ways: Vec<Way>,
    seeds: u64,
    first: u64,
    items: usize,
    users: usize,
    requests: f64,
    eta: f64,
    epochs: usize,
}

impl Options {
    fn parse() -> Fallible<Self> {
        let mut options = Self {
            ways: Way::ALL.to_vec(),
            seeds: 1,
            first: 1,
            items: 300,
            users: 1000,
            requests: 10.0,
            eta: 1.0,
            epochs: 4,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--ways" => options.ways = value()?.split(',').map(Way::named).collect::<Result<_, _>>()?,
                "--seeds" => options.seeds = value()?.parse()?,
                "--first" => options.first = value()?.parse()?,
                "--items" => options.items = value()?.parse::<usize>()?.max(20),
                "--users" => options.users = value()?.parse::<usize>()?.max(10),
                "--requests" => options.requests = value()?.parse()?,
                "--eta" => options.eta = value()?.parse()?,
                "--epochs" => options.epochs = value()?.parse::<usize>()?.max(1),
                other => return Err(format!("unknown `{other}`; the head of this file says what there is").into()),
            }
        }
        Ok(options)
    }

    /// A marketplace whose items are all there from the beginning, so that every item can be shown at any time.
    fn world(&self, seed: u64) -> Fallible<(Dataset, Truth)> {
        let config = SimulationConfig {
            items: self.items,
            users: self.users,
            providers: 40,
            requests_per_user: self.requests,
            late_share: 0.0,
            position_bias: self.eta,
            seed,
            ..SimulationConfig::default()
        };
        let (mut dataset, truth) = Simulation::new(config).run()?;
        let feedback = &dataset.events.feedback;
        let clicked = |(click, bought): (&f32, &f32)| if *click > 0.0 { *bought } else { f32::NAN };
        let column = feedback["click"].iter().zip(&feedback["conversion"]).map(clicked).collect();
        dataset.events.feedback.insert(CLICKED.to_owned(), column);
        // What no log knows, for whoever is to be told.
        let events = &mut dataset.events;
        let positions = events.position.clone().unwrap_or_default();
        let shown = || events.user.iter().zip(&events.item).zip(&positions);
        let click = |((user, item), at): ((&u32, &u32), &u16)| truth.examination(*at) * truth.click(*user, *item);
        let clicks: Vec<f32> = shown().map(|row| click(row) as f32).collect();
        let rated: Vec<f32> = shown().map(|row| (click(row) * truth.rated(*row.0.0, *row.0.1)) as f32).collect();
        let logged = events.propensity.clone().unwrap_or_default();
        let pair =
            |labels: &[f32]| labels.iter().zip(&logged).map(|(label, shown)| label * shown).collect::<Vec<f32>>();
        let columns = [pair(&clicks), pair(&rated), clicks, rated];
        events.feedback.extend(ways::TRUE.map(str::to_owned).into_iter().zip(columns));
        Ok((dataset, truth))
    }
}

fn main() -> Fallible<()> {
    let options = Options::parse()?;
    for seed in options.first..options.first + options.seeds {
        let (dataset, truth) = options.world(seed)?;
        let corpus = corpus(dataset)?;
        for &way in &options.ways {
            println!("{}", measure(way, &corpus, &truth, &options, seed)?);
        }
    }
    Ok(())
}

fn corpus(dataset: Dataset) -> Fallible<Corpus> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let tokenizer = TextTokenizer::load(&ModelFiles::unweighted(folder), None)?;
    let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.05, test: 0.2 })?;
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: vec!["click".into(), "rating".into()],
        history: 20,
        reading: Reading::Each,
        template: "{title}".into(),
        search: false,
        features: Vec::new(),
    };
    Ok(Corpus::new(dataset, split, &tokenizer, config)?)
}

fn train(way: Way, corpus: &Corpus, objectives: &Objectives, epochs: usize, seed: u64) -> Fallible<Recommender> {
    let (users, items) = (corpus.dataset.users.len(), corpus.dataset.items.len());
    let sizes = RecommenderConfig {
        dim: 32,
        user: UserConfig { heads: 2, ..UserConfig::default() },
        history: corpus.config.history,
        users,
        items,
        hide_ids: 0.0,
        ranking: RankingLoss::default(),
        repeats: true,
        search: false,
        tasks: Architecture::SharedBottom,
        tower: 32,
        dropout: 0.1,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
        features: None,
    };
    let vectors = ItemVectors::ids(items, 32, seed, &Device::Cpu)?;
    let mut model = Recommender::new(sizes, vectors, objectives, seed, &Device::Cpu)?;
    let rows = corpus.split.rows(Part::Train);
    let feedback = &corpus.dataset.events.feedback;
    let labels = |name: &str| rows.iter().map(|&row| feedback[name][row as usize]).collect::<Vec<f32>>();
    model.fit(&objectives.iter().map(|objective| labels(&objective.column)).collect::<Vec<_>>())?;
    let training = TrainingConfig {
        epochs,
        backbone_learning_rate: 2e-3,
        negatives: way.negatives(),
        negative_pool: 0,
        // What validation measures is as biased as the log: the last weights are taken.
        validations: 1e-6,
        ..TrainingConfig::default()
    };
    let balancer = Balancer::new(&BalanceConfig::default(), objectives, &vec![1.0; objectives.len()])?;
    Trainer::new(&model, corpus, objectives, &training, balancer, None, seed)?.run(&mut Silent)?;
    Ok(model)
}

/// Predicted and true values of one objective over all pairs.
#[derive(Default)]
struct Pairs {
    predicted: Vec<f64>,
    truth: Vec<f64>,
    /// Mean truth of each user's first ten.
    tops: Vec<f64>,
}

impl Pairs {
    fn add(&mut self, predicted: &[f32], truth: &[f64]) {
        let top = top_k(predicted, 10, &[]);
        self.tops.push(top.iter().map(|item| truth[*item as usize]).sum::<f64>() / top.len() as f64);
        self.predicted.extend(predicted.iter().map(|value| f64::from(*value)));
        self.truth.extend(truth);
    }

    fn report(&self) -> Value {
        let n = self.truth.len() as f64;
        let pairs = || self.predicted.iter().zip(&self.truth);
        json!({
            "rmse": (pairs().map(|(p, t)| (p - t).powi(2)).sum::<f64>() / n).sqrt(),
            "bias": pairs().map(|(p, t)| p - t).sum::<f64>() / n,
            "order": spearman(&self.predicted, &self.truth),
            "top10": self.tops.iter().sum::<f64>() / self.tops.len().max(1) as f64,
        })
    }
}

fn measure(way: Way, corpus: &Corpus, truth: &Truth, options: &Options, seed: u64) -> Fallible<Value> {
    let objectives = way.objectives(options.eta)?;
    let model = train(way, corpus, &objectives, options.epochs, seed)?;
    let known = model.embed(&corpus.tokens, None)?;
    let clock = corpus.split.boundary();
    let catalogue = model.catalogue(corpus, &known, clock)?;
    let items = corpus.dataset.items.len() as u32;
    let conditional = objectives.as_slice()[1].kind == Kind::Conditional;
    let mut pairs = [Pairs::default(), Pairs::default(), Pairs::default()];
    let mut shown = [Pairs::default(), Pairs::default(), Pairs::default()];
    let mut met = vec![Vec::new(); corpus.dataset.users.len()];
    for row in corpus.split.rows(Part::Test) {
        met[corpus.dataset.events.user[row as usize] as usize].push(corpus.dataset.events.item[row as usize]);
    }
    let mut lists = Vec::new();
    for user in 0..corpus.dataset.users.len() as u32 {
        let mut builder = BatchBuilder::new(corpus, 0);
        builder.request(&Viewer::Known { user, clock, train_only: false });
        let mut scores = model.score(&catalogue, &builder.build(Encode::Nothing), &known)?.remove(0);
        if conditional {
            // Of both, and given the click.
            let given: Vec<f32> =
                scores[1].iter().zip(&scores[0]).map(|(both, click)| both / click.max(1e-9)).collect();
            scores[1] = given;
        }
        let of = |value: &dyn Fn(u32) -> f64| (0..items).map(value).collect::<Vec<f64>>();
        let truths = [
            of(&|item| truth.click(user, item)),
            of(&|item| truth.conversion(user, item)),
            of(&|item| truth.rating(user, item)),
        ];
        for ((pairs, scores), truths) in pairs.iter_mut().zip(&scores).zip(&truths) {
            pairs.add(scores, truths);
        }
        for ((pairs, scores), truths) in shown.iter_mut().zip(&scores).zip(&truths) {
            let items = &met[user as usize];
            pairs.predicted.extend(items.iter().map(|item| f64::from(scores[*item as usize])));
            pairs.truth.extend(items.iter().map(|item| truths[*item as usize]));
        }
        lists.push((top_k(&scores[0], 10, &[]), scores.swap_remove(0)));
    }
    let curve = model.examination()?.pop().map(|(_, curve)| curve);
    Ok(json!({
        "way": way.name(),
        "seed": seed,
        "click": pairs[0].report(),
        "conversion": pairs[1].report(),
        "satisfaction": pairs[2].report(),
        "shown": { "click": shown[0].report(), "conversion": shown[1].report(), "satisfaction": shown[2].report() },
        "examination": curve,
        "examination_truth": (1..=10u16).map(|position| truth.examination(position)).collect::<Vec<_>>(),
        "off_policy": policy::estimates(corpus, truth, &lists)?,
    }))
}
