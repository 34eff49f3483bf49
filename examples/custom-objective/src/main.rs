//! A recommender with a loss of one's own: how many screens of 20 seconds a visit will fill, as a Poisson count beside clicks, on the simulated
//! marketplace; against the same model with a squared error, and against the mean of the training rows.
//!
//! usage: cargo run --release -p custom-objective

mod poisson;

use std::{path::Path, sync::Arc};

use candle_core::Device;
use paretune_data::{
    Dataset, Part, Split, SplitStrategy,
    simulator::{Simulation, SimulationConfig},
};
use paretune_eval::report::{Cell, Table};
use paretune_eval::rmse;
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_recommender::{
    Corpus, CorpusConfig, ItemVectors, RankingLoss, Recommender, RecommenderConfig, UserConfig, UserKind,
};
use paretune_train::evaluation::{Rows, predict};
use paretune_train::{BalanceConfig, Balancer, Silent, Trainer, TrainingConfig};
use poisson::{Poisson, deviance};

fn main() -> anyhow::Result<()> {
    println!("{}", run(&SimulationConfig { items: 1000, users: 1500, ..SimulationConfig::default() }, 4)?.0);
    Ok(())
}

/// Simulates, trains both models for so many passes, and measures them on the newest events: a table, and the deviances of its rows.
fn run(marketplace: &SimulationConfig, epochs: usize) -> anyhow::Result<(Table, Vec<f64>)> {
    let corpus = corpus(marketplace)?;
    // Configurations know the kind "custom", and code says what it means.
    let set = |kind| {
        Objectives::new(vec![
            Objective::new("click", Kind::Binary, "click"),
            Objective::new("screens", kind, "screens"),
        ])
    };
    let counts = set(Kind::Custom)?.with_custom("screens", Arc::new(Poisson))?;
    let numbers = set(Kind::Regression)?;

    let test = Rows::new(&corpus, &counts, Part::Test, 0, usize::MAX, 1)?;
    let train = &train_labels(&corpus, &counts)[1];
    let seen: Vec<f32> = train.iter().copied().filter(|count| !count.is_nan()).collect();
    let mean = seen.iter().sum::<f32>() / seen.len().max(1) as f32;

    let mut rows = vec![("mean of the training rows", vec![mean; test.len()])];
    for (name, objectives) in [("squared error", &numbers), ("Poisson", &counts)] {
        let model = trained(&corpus, objectives, epochs)?;
        let known = model.embed(&corpus.tokens, None)?;
        rows.push((name, predict(&model, &corpus, &known, &test)?.swap_remove(1)));
    }
    let labels = &test.labels[1];
    let visits = labels.iter().filter(|count| !count.is_nan()).count();
    let mut table = Table::new("Screens of a visit", ["loss", "deviance", "RMSE", "predicts less than 0"])
        .note(format!("{visits} visits of the test part, {:.2} screens in a visit of training.", mean));
    let mut deviances = Vec::new();
    for (name, predictions) in &rows {
        let below = predictions.iter().filter(|count| **count < 0.0).count();
        deviances.push(deviance(predictions, labels));
        let error = rmse(predictions, labels).map_or(Cell::Empty, |error| Cell::number(error, 3));
        table =
            table.row([Cell::from(*name), Cell::number(deviances[deviances.len() - 1], 3), error, Cell::count(below)]);
    }
    Ok((table, deviances))
}

/// The marketplace with a column of counts, as a model reads it.
fn corpus(marketplace: &SimulationConfig) -> anyhow::Result<Corpus> {
    let (mut dataset, _truth): (Dataset, _) = Simulation::new(marketplace.clone()).run()?;
    let screens = dataset.events.feedback["dwell_seconds"].iter().map(|seconds| (seconds / 20.0).floor()).collect();
    dataset.events.feedback.insert("screens".into(), screens);
    let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.2 })?;
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: vec!["click".into(), "screens".into()],
        history: 20,
        reading: UserKind::Attention.reading(),
        template: "{title}".into(),
        search: false,
        features: Vec::new(),
    };
    let files = ModelFiles::local(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/builtin"))?;
    Ok(Corpus::new(dataset, split, &TextTokenizer::load(&files, Some(32))?, config)?)
}

fn train_labels(corpus: &Corpus, objectives: &Objectives) -> Vec<Vec<f32>> {
    let (rows, feedback) = (corpus.split.rows(Part::Train), &corpus.dataset.events.feedback);
    objectives.iter().map(|o| rows.iter().map(|&row| feedback[&o.column][row as usize]).collect()).collect()
}

/// Items known by an id; with [`ItemVectors::Text`], by what a text encoder reads.
fn vectors(corpus: &Corpus) -> anyhow::Result<ItemVectors> {
    Ok(ItemVectors::ids(corpus.dataset.items.len(), DIM, 1, &Device::Cpu)?)
}

const DIM: usize = 32;

fn trained(corpus: &Corpus, objectives: &Objectives, epochs: usize) -> anyhow::Result<Recommender> {
    let sizes = RecommenderConfig {
        dim: DIM,
        user: UserConfig { kind: UserKind::Attention, ..UserConfig::default() },
        history: corpus.config.history,
        users: corpus.dataset.users.len(),
        items: corpus.dataset.items.len(),
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
    let mut model = Recommender::new(sizes, vectors(corpus)?, objectives, 1, &Device::Cpu)?;
    model.fit(&train_labels(corpus, objectives))?;
    let config = TrainingConfig { epochs, batch: 256, learning_rate: 3e-3, ..TrainingConfig::default() };
    let balancer = Balancer::new(&BalanceConfig::default(), objectives, &vec![1.0; objectives.len()])?;
    Trainer::new(&model, corpus, objectives, &config, balancer, None, 1)?.run(&mut Silent)?;
    Ok(model)
}

#[cfg(test)]
mod tests;
