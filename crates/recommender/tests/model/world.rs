//! A small world: 120 items, 60 users, four objectives, an encoder of width 16.

use std::path::Path;

use candle_core::{Device, Tensor};
use paretune_data::{
    Dataset, Part, Split, SplitStrategy,
    simulator::{Simulation, SimulationConfig},
};
use paretune_encoder::{BertConfig, Encoder, Pooling};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_recommender::{
    Batch, BatchBuilder, Corpus, CorpusConfig, Encode, GraphConfig, Inputs, ItemVectors, RankingLoss, Reading,
    Recommender, RecommenderConfig, UserConfig, UserKind, Viewer,
};

/// Words of the test tokenizer, so that texts differ by more than their number of unknown words.
const WORDS: [&str; 12] =
    ["comedy", "drama", "fantasy", "great", "horror", "life", "love", "movie", "night", "toy", "war", "world"];

pub(crate) const TIME: SplitStrategy = SplitStrategy::Time { valid: 0.15, test: 0.15 };

pub(crate) fn dataset() -> Dataset {
    let config = SimulationConfig { items: 120, users: 60, providers: 8, ..SimulationConfig::default() };
    let (mut dataset, _truth) = Simulation::new(config).run().unwrap();
    let word = |at: usize| WORDS[at % WORDS.len()];
    let title = |item: usize| format!("{} {} {}", word(item), word(item / 12), word(item * 5 + item / 30));
    dataset.items.text.insert("title".into(), (0..120).map(|item| Some(title(item))).collect());
    dataset
}

pub(crate) fn files() -> ModelFiles {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    ModelFiles::unweighted(dir)
}

pub(crate) fn corpus_of(dataset: Dataset, split: Split) -> Corpus {
    corpus_with(dataset, split, Reading::Each)
}

fn corpus_with(dataset: Dataset, split: Split, reading: Reading) -> Corpus {
    corpus_that(dataset, split, reading, false)
}

/// With what users searched for.
pub(crate) fn searched(dataset: Dataset, split: Split, reading: Reading) -> Corpus {
    corpus_that(dataset, split, reading, true)
}

fn corpus_that(dataset: Dataset, split: Split, reading: Reading, search: bool) -> Corpus {
    let tokenizer = TextTokenizer::load(&files(), Some(16)).unwrap();
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: ["click", "conversion", "dwell_seconds", "rating"].map(String::from).to_vec(),
        history: 8,
        reading,
        template: "{title}".into(),
        search,
        features: Vec::new(),
    };
    Corpus::new(dataset, split, &tokenizer, config).unwrap()
}

pub(crate) fn corpus() -> Corpus {
    let dataset = dataset();
    let split = Split::new(&dataset, &TIME).unwrap();
    corpus_of(dataset, split)
}

/// The corpus as a model of this kind reads it.
pub(crate) fn corpus_for(kind: UserKind) -> Corpus {
    let dataset = dataset();
    let split = Split::new(&dataset, &TIME).unwrap();
    corpus_with(dataset, split, kind.reading())
}

pub(crate) fn objectives() -> Objectives {
    Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click"),
        Objective::new("conversion", Kind::Conditional, "conversion").given("click"),
        Objective::new("satisfaction", Kind::Regression, "rating"),
        Objective::new("dwell", Kind::LogRegression, "dwell_seconds"),
    ])
    .unwrap()
}

pub(crate) fn text() -> ItemVectors {
    ItemVectors::Text(encoder())
}

/// Text and ids, of which the last ten items have none.
pub(crate) fn hybrid() -> ItemVectors {
    ItemVectors::hybrid(encoder(), (0..120).map(|item| item < 110).collect(), 16, 3, &Device::Cpu).unwrap()
}

fn encoder() -> Box<Encoder> {
    let config = BertConfig {
        vocab_size: 62,
        hidden_size: 16,
        num_attention_heads: 2,
        intermediate_size: 32,
        ..BertConfig::tiny()
    };
    Box::new(Encoder::random(config, Pooling::Mean, 3, &Device::Cpu).unwrap())
}

pub(crate) fn ids(corpus: &Corpus) -> ItemVectors {
    ItemVectors::ids(corpus.dataset.items.len(), 16, 3, &Device::Cpu).unwrap()
}

pub(crate) fn model(corpus: &Corpus, vectors: ItemVectors) -> Recommender {
    conditioned(corpus, vectors, Conditioning::None)
}

pub(crate) fn conditioned(corpus: &Corpus, vectors: ItemVectors, conditioning: Conditioning) -> Recommender {
    let config = RecommenderConfig { conditioning, ..config(corpus, UserKind::Attention) };
    let mut model = Recommender::new(config, vectors, &objectives(), 5, &Device::Cpu).unwrap();
    model.fit(&labels(corpus, &corpus.split.rows(Part::Train))).unwrap();
    model
}

/// A model with another user model, for the corpus that [`corpus_for`] makes.
pub(crate) fn of_kind(corpus: &Corpus, vectors: ItemVectors, kind: UserKind, objectives: &Objectives) -> Recommender {
    let inputs = inputs(corpus, vectors, kind);
    let mut model = Recommender::new(config(corpus, kind), inputs, objectives, 5, &Device::Cpu).unwrap();
    let rows = corpus.split.rows(Part::Train);
    let columns = objectives.iter().map(|objective| &corpus.dataset.events.feedback[&objective.column]);
    let labels: Vec<Vec<f32>> = columns.map(|column| rows.iter().map(|&row| column[row as usize]).collect()).collect();
    model.fit(&labels).unwrap();
    model
}

/// With the graph that users of this kind are nodes of.
pub(crate) fn inputs(corpus: &Corpus, vectors: ItemVectors, kind: UserKind) -> Inputs {
    if kind != UserKind::Graph {
        return vectors.into();
    }
    let config = GraphConfig { attributes: 0.5, ..GraphConfig::default() };
    Inputs::with_graph(vectors, corpus.graph(&config).unwrap(), config)
}

pub(crate) fn config(corpus: &Corpus, kind: UserKind) -> RecommenderConfig {
    RecommenderConfig {
        dim: 12,
        user: UserConfig { kind, heads: 3, ..UserConfig::default() },
        history: corpus.config.history,
        users: corpus.dataset.users.len(),
        items: corpus.dataset.items.len(),
        hide_ids: 0.1,
        ranking: RankingLoss::default(),
        repeats: true,
        search: false,
        tasks: Architecture::SharedBottom,
        tower: 10,
        dropout: 0.1,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
        features: None,
    }
}

fn labels(corpus: &Corpus, rows: &[u32]) -> Vec<Vec<f32>> {
    let column = |objective: &Objective| &corpus.dataset.events.feedback[&objective.column];
    objectives().iter().map(|objective| rows.iter().map(|&row| column(objective)[row as usize]).collect()).collect()
}

/// Rows of the log as samples; consecutive rows of one request share it.
pub(crate) fn batch(corpus: &Corpus, rows: &[u32], encode: Encode) -> Batch {
    let columns = labels(corpus, rows);
    let events = &corpus.dataset.events;
    let mut builder = BatchBuilder::new(corpus, columns.len());
    let (mut request, mut last) = (0, None);
    for (at, &row) in rows.iter().enumerate() {
        let row = row as usize;
        let (user, clock) = (events.user[row], corpus.split.clock[row]);
        if last.replace((user, clock)) != Some((user, clock)) {
            request = builder.request(&Viewer::Known { user, clock, train_only: false });
        }
        let position = events.position.as_ref().map_or(0, |positions| positions[row]);
        builder.sample(request, events.item[row], position, columns.iter().map(|column| column[at]));
    }
    builder.build(encode)
}

/// The last `n` training rows: their users have histories.
pub(crate) fn late_rows(corpus: &Corpus, n: usize) -> Vec<u32> {
    let mut rows = corpus.split.rows(Part::Train);
    rows.sort_by_key(|&row| (corpus.split.clock[row as usize], row));
    rows.split_off(rows.len() - n)
}

/// The sum of all losses.
pub(crate) fn loss(model: &Recommender, batch: &Batch, known: &Tensor, dropout: Option<u64>) -> Tensor {
    let shared = model.represent(batch, known, dropout).unwrap();
    let losses = model.losses(&shared, batch, dropout).unwrap();
    losses.iter().fold(Tensor::zeros((), candle_core::DType::F32, &Device::Cpu).unwrap(), |sum, loss| {
        (sum + &loss.loss).unwrap()
    })
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
pub(crate) fn assert_near(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (at, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * (1.0 + x.abs()), "value {at}: {x} and {y}");
    }
}
