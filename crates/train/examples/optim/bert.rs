//! The recommender of this project.

use std::path::Path;

use candle_core::{Device, Tensor};
use paretune_data::{
    Part, Split, SplitStrategy,
    simulator::{Simulation, SimulationConfig},
};
use paretune_encoder::{BertConfig, Encoder, LoadOptions, Pooling};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_optim::{AdamW, AdamWConfig, Groups};
use paretune_recommender::{
    Batch, Corpus, CorpusConfig, ItemVectors, Parameters, RankingLoss, Reading, Recommender, RecommenderConfig,
    UserConfig,
};
use paretune_train::{Balancer, Plan, TrainingConfig, step::balanced_gradients};

use crate::{Fallible, Options, SIZES, forms, take_turns, tell};

/// A loaded encoder, or a random one with the tokenizer of the tests.
fn encoder(options: &Options) -> Fallible<(Encoder, TextTokenizer)> {
    if let Some(dir) = &options.model {
        let files = ModelFiles::local(dir)?;
        return Ok((Encoder::load(&files, &LoadOptions::default())?, TextTokenizer::load(&files, Some(64))?));
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let files = ModelFiles::unweighted(dir);
    let config = BertConfig { vocab_size: 62, hidden_size: 128, intermediate_size: 512, ..BertConfig::tiny() };
    let encoder = Encoder::random(config, Pooling::Mean, 1, &Device::Cpu)?;
    Ok((encoder, TextTokenizer::load(&files, Some(32))?))
}

/// Four objectives that a shop has, then four that are reckoned from the same feedback.
fn objectives(k: usize) -> Fallible<Objectives> {
    let mut all = vec![
        Objective::new("click", Kind::Binary, "click"),
        Objective::new("satisfaction", Kind::Regression, "rating"),
        Objective::new("conversion", Kind::Conditional, "conversion").given("click"),
        Objective::new("dwell", Kind::LogRegression, "dwell_seconds"),
        Objective::new("liked", Kind::Binary, "liked"),
        Objective::new("read", Kind::Binary, "read"),
        Objective::new("bounced", Kind::Binary, "bounced"),
        Objective::new("disliked", Kind::Binary, "disliked"),
    ];
    all.truncate(k);
    Ok(Objectives::new(all)?)
}

fn corpus(tokenizer: &TextTokenizer) -> Fallible<Corpus> {
    let config = SimulationConfig { items: 1500, users: 1000, ..SimulationConfig::default() };
    let (mut dataset, _truth) = Simulation::new(config).run()?;
    let feedback = &mut dataset.events.feedback;
    for (name, from, holds) in [
        ("liked", "rating", (|v| v >= 4.0) as fn(f32) -> bool),
        ("disliked", "rating", |v| v <= 2.0),
        ("read", "dwell_seconds", |v| v >= 60.0),
        ("bounced", "dwell_seconds", |v| v <= 10.0),
    ] {
        let source = feedback.get(from).ok_or("the simulator logs ratings and dwell times")?;
        let flag = |value: &f32| if value.is_nan() { f32::NAN } else { f32::from(u8::from(holds(*value))) };
        let column = source.iter().map(flag).collect();
        feedback.insert(name.into(), column);
    }
    let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: ["click", "rating", "conversion", "dwell_seconds"].map(str::to_owned).to_vec(),
        history: 20,
        reading: Reading::Each,
        template: "{title}. {description}".into(),
        search: false,
        features: Vec::new(),
    };
    Ok(Corpus::new(dataset, split, tokenizer, config)?)
}

fn model(encoder: Encoder, corpus: &Corpus, objectives: &Objectives) -> Fallible<Recommender> {
    let config = RecommenderConfig {
        dim: 64,
        user: UserConfig::default(),
        history: corpus.config.history,
        users: corpus.dataset.users.len(),
        items: corpus.dataset.items.len(),
        hide_ids: 0.0,
        ranking: RankingLoss::default(),
        repeats: true,
        search: false,
        tasks: Architecture::SharedBottom,
        tower: 64,
        dropout: 0.1,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
        features: None,
    };
    let mut model = Recommender::new(config, ItemVectors::Text(Box::new(encoder)), objectives, 1, &Device::Cpu)?;
    let rows = corpus.split.rows(Part::Train);
    let column = |objective: &Objective| &corpus.dataset.events.feedback[&objective.column];
    let labels: Vec<Vec<f32>> =
        objectives.iter().map(|objective| rows.iter().map(|&row| column(objective)[row as usize]).collect()).collect();
    model.fit(&labels)?;
    Ok(model)
}

/// One form's own copy of everything that moves.
struct Lane {
    model: Recommender,
    parameters: Parameters,
    balancer: Balancer,
    optimizer: AdamW,
    known: Tensor,
}

pub(crate) fn run(options: &Options) -> Fallible<()> {
    let (first, tokenizer) = encoder(options)?;
    let corpus = corpus(&tokenizer)?;
    if !options.json {
        let (width, layers) = (first.hidden_size(), first.config().layers());
        println!("shop: text encoder of {layers} layers, {width} wide");
    }
    for k in SIZES {
        let objectives = objectives(k)?;
        let training = TrainingConfig { batch: options.batch, epochs: 1_000_000, ..TrainingConfig::default() };
        let plan = Plan::new(&corpus, &objectives, &training, 1)?;
        let batches = (0..).flat_map(|epoch| plan.epoch_from(epoch * plan.steps_per_epoch()));
        let batches: Vec<Batch> = batches.take(crate::WARM + options.steps).collect();
        let forms = forms();
        let mut lanes = Vec::new();
        for form in &forms {
            let model = model(encoder(options)?.0, &corpus, &objectives)?;
            let parameters = model.parameters();
            lanes.push(Lane {
                balancer: Balancer::new(&form.config, &objectives, &vec![1.0; k])?,
                optimizer: AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.all())?,
                known: model.embed(&corpus.tokens, None)?,
                parameters,
                model,
            });
        }
        let times = take_turns(forms.len(), options.steps, |form, number| {
            let lane = &mut lanes[form];
            let (model, parameters, seed) = (&lane.model, &lane.parameters, number as u64);
            let batch = &batches[number];
            let step = balanced_gradients(model, parameters, batch, &lane.known, &mut lane.balancer, seed)?;
            lane.optimizer.step_clipped(&step.gradients, 1e-4, 1.0)?;
            Ok(())
        })?;
        tell(options, "shop", k, &forms, &times);
    }
    Ok(())
}
