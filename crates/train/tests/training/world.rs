//! A small world: 120 items, 60 users, four objectives, an encoder of width 16.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use candle_core::{Device, Tensor};
use paretune_data::{
    Dataset, Part, Split, SplitStrategy,
    simulator::{Simulation, SimulationConfig},
};
use paretune_encoder::{BertConfig, Encoder, Kernels, LoadOptions, Pooling};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{
    Architecture, Conditioning, CrossStitchConfig, ExpertsConfig, Goal, Kind, LevelsConfig, ListGoal, Objective,
    Objectives, TransferConfig,
};
use paretune_optim::Method;
use paretune_recommender::{
    Corpus, CorpusConfig, ItemVectors, ListFacts, RankingLoss, Reading, Recommender, RecommenderConfig, UserConfig,
};
use paretune_train::{
    BalanceConfig, Balancer, GradientCut, Observer, Outcome, TrainError, TrainEvent, Trainer, TrainingConfig,
};

pub(crate) struct World {
    pub(crate) corpus: Corpus,
    pub(crate) objectives: Objectives,
    pub(crate) conditioning: Conditioning,
    pub(crate) tasks: Architecture,
    pub(crate) kernels: Kernels,
}

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

pub(crate) fn corpus_of(dataset: Dataset, strategy: &SplitStrategy) -> Corpus {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let files = ModelFiles::unweighted(dir);
    let tokenizer = TextTokenizer::load(&files, Some(16)).unwrap();
    let split = Split::new(&dataset, strategy).unwrap();
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: dataset.events.feedback.keys().cloned().collect(),
        history: 8,
        reading: Reading::Each,
        template: "{title}".into(),
        search: false,
        features: Vec::new(),
    };
    Corpus::new(dataset, split, &tokenizer, config).unwrap()
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

impl World {
    pub(crate) fn new() -> Self {
        Self {
            corpus: corpus_of(dataset(), &TIME),
            objectives: objectives(),
            conditioning: Conditioning::None,
            tasks: Architecture::SharedBottom,
            kernels: Kernels::Fused,
        }
    }

    pub(crate) fn with_only(names: &[&str]) -> Self {
        Self { objectives: objectives().select(names).unwrap(), ..Self::new() }
    }

    /// Clicks and ratings, and two goals for the lists that clicks make.
    pub(crate) fn with_goals() -> Self {
        let goal = |name: Goal| Objective::list(name.name(), ListGoal::new(name));
        let objectives = Objectives::new(vec![
            Objective::new("click", Kind::Binary, "click"),
            Objective::new("satisfaction", Kind::Regression, "rating"),
            goal(Goal::Coverage),
            goal(Goal::Novelty),
        ]);
        Self { objectives: objectives.unwrap(), ..Self::new() }
    }

    pub(crate) fn with_tasks(tasks: Architecture) -> Self {
        Self { tasks, ..Self::new() }
    }

    pub(crate) fn conditioned(conditioning: Conditioning) -> Self {
        Self { conditioning, ..Self::new() }
    }

    /// The same model at every call.
    pub(crate) fn model(&self) -> Recommender {
        let bert = BertConfig {
            vocab_size: 62,
            hidden_size: 16,
            num_attention_heads: 2,
            intermediate_size: 32,
            ..BertConfig::tiny()
        };
        let encoder = self.with_kernels(Encoder::random(bert, Pooling::Mean, 3, &Device::Cpu).unwrap());
        let config = RecommenderConfig {
            dim: 12,
            user: UserConfig { heads: 3, ..UserConfig::default() },
            history: self.corpus.config.history,
            users: self.corpus.dataset.users.len(),
            items: self.corpus.dataset.items.len(),
            hide_ids: 0.0,
            ranking: RankingLoss::default(),
            repeats: true,
            search: false,
            tasks: self.tasks.clone(),
            tower: 10,
            dropout: 0.1,
            item_features: self.corpus.item_width(),
            user_features: self.corpus.user_width(),
            event_features: self.corpus.event_width(),
            conditioning: self.conditioning,
            features: None,
        };
        let vectors = ItemVectors::Text(Box::new(encoder));
        let mut model = Recommender::new(config, vectors, &self.objectives, 5, &Device::Cpu).unwrap();
        let rows = self.corpus.split.rows(Part::Train);
        let column = |objective: &Objective| self.corpus.dataset.events.feedback.get(&objective.column);
        let label = |objective: &Objective, row: &u32| column(objective).map_or(f32::NAN, |all| all[*row as usize]);
        let labels: Vec<Vec<f32>> =
            self.objectives.iter().map(|objective| rows.iter().map(|row| label(objective, row)).collect()).collect();
        model.fit(&labels).unwrap();
        let vectors = model.embed(&self.corpus.tokens, None).unwrap();
        let facts = ListFacts::new(&self.corpus, &self.objectives, Some(&vectors), &Device::Cpu).unwrap();
        model.with_list_facts(facts)
    }

    /// The same weights in the network of `self.kernels`.
    fn with_kernels(&self, encoder: Encoder) -> Encoder {
        if self.kernels == encoder.kernels() {
            return encoder;
        }
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
        encoder.save(folder.path(), &ModelFiles::unweighted(tokenizer)).unwrap();
        let options = LoadOptions { kernels: self.kernels, ..LoadOptions::default() };
        Encoder::load(&ModelFiles::local(folder.path()).unwrap(), &options).unwrap()
    }

    /// From the lines of a `[balance]` table.
    pub(crate) fn balancer_of(&self, text: &str, weights: &[f64]) -> Balancer {
        Balancer::new(&toml::from_str(text).unwrap(), &self.objectives, weights).unwrap()
    }

    pub(crate) fn balancer(&self, method: Method, cut: GradientCut, weights: &[f64]) -> Balancer {
        let config = BalanceConfig { method, gradients: Some(cut), ..BalanceConfig::default() };
        Balancer::new(&config, &self.objectives, weights).unwrap()
    }

    /// Trains a fresh model and returns it, whatever became of it.
    pub(crate) fn train(
        &self,
        config: &TrainingConfig,
        balancer: Balancer,
        checkpoints: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> (Recommender, Result<Outcome, TrainError>) {
        let model = self.model();
        let outcome = Trainer::new(&model, &self.corpus, &self.objectives, config, balancer, checkpoints, 9)
            .and_then(|trainer| trainer.run(observer));
        (model, outcome)
    }
}

/// All that stands between the shared representation and the towers.
pub(crate) fn architectures() -> [Architecture; 6] {
    let experts = ExpertsConfig { experts: 3, width: 6 };
    let levels = |levels| LevelsConfig { levels, shared: 2, own: 1, width: 6 };
    [
        Architecture::Omoe(experts.clone()),
        Architecture::Mmoe(experts),
        Architecture::Ple(levels(1)),
        Architecture::Ple(levels(2)),
        Architecture::CrossStitch(CrossStitchConfig { layers: 2, width: 6 }),
        Architecture::Aitm(TransferConfig { width: 6 }),
    ]
}

/// A short run: 13 steps of about 100 samples in an epoch.
pub(crate) fn short() -> TrainingConfig {
    TrainingConfig {
        epochs: 1,
        batch: 100,
        learning_rate: 5e-3,
        backbone_learning_rate: 1e-3,
        ..TrainingConfig::default()
    }
}

/// Keeps everything that happened.
#[derive(Default)]
pub(crate) struct Diary(pub(crate) Vec<TrainEvent>);

impl Observer for Diary {
    fn observe(&mut self, event: &TrainEvent) {
        self.0.push(event.clone());
    }
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Every parameter by name, as bits.
pub(crate) fn bits(model: &Recommender) -> BTreeMap<String, Vec<u32>> {
    let all = model.parameters().all();
    all.iter().map(|(name, var)| (name.clone(), values(var).into_iter().map(f32::to_bits).collect())).collect()
}

pub(crate) fn digest(model: &Recommender) -> u64 {
    let mut hasher = DefaultHasher::new();
    bits(model).hash(&mut hasher);
    hasher.finish()
}
