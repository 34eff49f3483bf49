//! Measures a training step (forward, balanced backward, clipping, AdamW) by balancing method and number of objectives, on a simulated
//! marketplace: the median over the batches of a run.
//!
//! usage: cargo run --release -p paretune-train --example step_cost -- [MODEL_DIR] [--batch N] [--steps N] [--threads N] [--json]
//!
//! Without a model in Hub layout the text encoder is a random one of two layers, 128 wide. With `--json` every figure is one line of
//! JSON.

use std::{error::Error, path::Path, time::Instant};

use candle_core::Device;
use paretune_data::{
    Part, Split, SplitStrategy,
    simulator::{Simulation, SimulationConfig},
};
use paretune_encoder::{BertConfig, Encoder, LoadOptions, Pooling};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_optim::{AdamW, AdamWConfig, Groups, Method, clip_global_norm};
use paretune_recommender::{Batch, Corpus, CorpusConfig, ItemVectors, Recommender, RecommenderConfig};
use paretune_train::{BalanceConfig, Balancer, GradientCut, Plan, TrainingConfig, step::balanced_gradients};

const KINDS: [(Method, GradientCut, &str); 4] = [
    (Method::WeightedSum, GradientCut::Shared, "weighted-sum"),
    (Method::Uncertainty, GradientCut::Shared, "uncertainty"),
    (Method::Mgda, GradientCut::Shared, "mgda, shared"),
    (Method::Mgda, GradientCut::Full, "mgda, full"),
];
/// Steps before the clock runs.
const WARM: usize = 3;

struct Options {
    model: Option<String>,
    batch: usize,
    steps: usize,
    threads: usize,
    json: bool,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options = Self { model: None, batch: 512, steps: 15, threads: 0, json: false };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--batch" => options.batch = value()?.parse()?,
                "--steps" => options.steps = value()?.parse::<usize>()?.max(1),
                "--threads" => options.threads = value()?.parse()?,
                "--json" => options.json = true,
                other if other.starts_with("--") => {
                    return Err(format!("unknown `{other}`; there are --batch, --steps, --threads, --json").into());
                }
                _ => options.model = Some(name),
            }
        }
        Ok(options)
    }

    /// A loaded encoder, or a random one with the tokenizer of the tests.
    fn encoder(&self) -> Result<(Encoder, TextTokenizer), Box<dyn Error>> {
        if let Some(dir) = &self.model {
            let files = ModelFiles::local(dir)?;
            return Ok((Encoder::load(&files, &LoadOptions::default())?, TextTokenizer::load(&files, Some(64))?));
        }
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
        let files = ModelFiles::unweighted(dir);
        let config = BertConfig { vocab_size: 62, hidden_size: 128, intermediate_size: 512, ..BertConfig::tiny() };
        let encoder = Encoder::random(config, Pooling::Mean, 1, &Device::Cpu)?;
        Ok((encoder, TextTokenizer::load(&files, Some(32))?))
    }
}

fn objectives(k: usize) -> Result<Objectives, Box<dyn Error>> {
    let mut all = vec![
        Objective::new("click", Kind::Binary, "click"),
        Objective::new("satisfaction", Kind::Regression, "rating"),
        Objective::new("conversion", Kind::Conditional, "conversion").given("click"),
        Objective::new("dwell", Kind::LogRegression, "dwell_seconds"),
    ];
    all.truncate(k);
    Ok(Objectives::new(all)?)
}

fn corpus(tokenizer: &TextTokenizer) -> Result<Corpus, Box<dyn Error>> {
    let config = SimulationConfig { items: 1500, users: 1000, ..SimulationConfig::default() };
    let (dataset, _truth) = Simulation::new(config).run()?;
    let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: dataset.events.feedback.keys().cloned().collect(),
        history: 20,
        template: "{title}. {description}".into(),
    };
    Ok(Corpus::new(dataset, split, tokenizer, config)?)
}

fn model(encoder: Encoder, corpus: &Corpus, objectives: &Objectives) -> Result<Recommender, Box<dyn Error>> {
    let config = RecommenderConfig {
        dim: 64,
        heads: 4,
        tower: 64,
        dropout: 0.1,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
    };
    let mut model = Recommender::new(config, ItemVectors::Text(Box::new(encoder)), objectives, 1, &Device::Cpu)?;
    let rows = corpus.split.rows(Part::Train);
    let column = |objective: &Objective| &corpus.dataset.events.feedback[&objective.column];
    let labels: Vec<Vec<f32>> =
        objectives.iter().map(|objective| rows.iter().map(|&row| column(objective)[row as usize]).collect()).collect();
    model.fit(&labels)?;
    Ok(model)
}

/// Median milliseconds of a step.
fn time(
    options: &Options,
    corpus: &Corpus,
    objectives: &Objectives,
    method: Method,
    gradients: GradientCut,
) -> Result<f64, Box<dyn Error>> {
    let model = model(options.encoder()?.0, corpus, objectives)?;
    let config = BalanceConfig { method, gradients: Some(gradients), ..BalanceConfig::default() };
    let mut balancer = Balancer::new(&config, objectives, &vec![1.0; objectives.len()])?;
    let training = TrainingConfig { batch: options.batch, epochs: 1_000_000, ..TrainingConfig::default() };
    let plan = Plan::new(corpus, objectives, &training, 1)?;
    let parameters = model.parameters();
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.all())?;
    let known = model.embed(&corpus.tokens, None)?;
    let batches = (0..).flat_map(|epoch| plan.epoch_from(epoch * plan.steps_per_epoch()));
    let batches: Vec<Batch> = batches.take(WARM + options.steps).collect();
    let mut times = Vec::new();
    for (seed, batch) in (0u64..).zip(&batches) {
        let start = Instant::now();
        let mut step = balanced_gradients(&model, &parameters, batch, &known, &mut balancer, seed)?;
        clip_global_norm(&mut step.gradients, 1.0)?;
        optimizer.step(&step.gradients, 1e-4)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let mut timed = times.split_off(WARM);
    timed.sort_by(f64::total_cmp);
    Ok(timed[timed.len() / 2])
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let (encoder, tokenizer) = options.encoder()?;
    let corpus = corpus(&tokenizer)?;
    let threads = rayon::current_num_threads();
    if !options.json {
        let (width, layers) = (encoder.hidden_size(), encoder.config().num_hidden_layers);
        println!("{} samples a step, encoder {layers} × {width}, {threads} threads", options.batch);
        println!("{:<16}{:>4}{:>12}{:>12}", "method", "K", "ms/step", "relative");
    }
    for k in [2, 4] {
        let objectives = objectives(k)?;
        let mut base = None;
        for (method, gradients, name) in KINDS {
            let ms = time(&options, &corpus, &objectives, method, gradients)?;
            let relative = ms / *base.get_or_insert(ms);
            if options.json {
                let line = serde_json::json!({
                    "figure": "step", "method": name, "objectives": k, "ms": (ms * 100.0).round() / 100.0,
                    "relative": (relative * 1e3).round() / 1e3, "batch": options.batch, "threads": threads,
                });
                println!("{line}");
            } else {
                println!("{name:<16}{k:>4}{ms:>12.1}{relative:>12.2}");
            }
        }
    }
    Ok(())
}
