//! The composed recommender: a batch of requests in, a shared representation, losses and scores out.
//!
//! ```text
//! item text ─▶ encoder ─┬─▶ item vectors ─┬─▶ item tower (+ item features) ─▶ items [samples, dim] ──┐
//! item id ──▶ table ────┘                 ├─▶ user model (history, feedback, ─▶ users [requests, dim] ┼─ Shared ─▶ TaskTowers, rankings
//!                                         │    user and context features)                            │
//!                                         └─▶ candidates [distinct items, dim] ──────────────────────┘
//! ```
//!
//! [`Shared`] is where a multi-objective step cuts the graph: below it lies what all objectives share (the backbone and the two
//! towers), above it what is cheap to differentiate once for each objective.
//!
//! A [`Corpus`] turns the tables of `paretune-data` and the tokens of `paretune-features` into [`Batch`]es; the same code builds the
//! batches of training, of evaluation and of serving, so that features cannot drift apart. The crate knows nothing of loops,
//! optimizers or files other than the model's own.
//!
//! ```no_run
//! use candle_core::Device;
//! use paretune_data::{Dataset, Part, Split, SplitStrategy};
//! use paretune_encoder::{Encoder, LoadOptions};
//! use paretune_features::{ModelFiles, TextTokenizer};
//! use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
//! use paretune_recommender::{
//!     BatchBuilder, Corpus, CorpusConfig, Encode, ItemVectors, RankingLoss, Recommender, RecommenderConfig, UserConfig, UserKind, Viewer,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Tables and tokens.
//! let dataset = Dataset::read("datasets/marketplace".as_ref())?;
//! let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
//! let files = ModelFiles::local("models/all-MiniLM-L6-v2")?;
//! let tokenizer = TextTokenizer::load(&files, Some(64))?;
//! let columns = vec!["click".to_owned(), "rating".to_owned()];
//! let config = CorpusConfig {
//!     engaged: "click".into(),
//!     feedback: columns.clone(),
//!     history: 20,
//!     reading: UserKind::Attention.reading(),
//!     template: "{title}. {description}".into(),
//!     search: false,
//!     features: Vec::new(), // columns of users and items, described by `paretune_data::FeatureSpec`
//! };
//! let corpus = Corpus::new(dataset, split, &tokenizer, config)?;
//!
//! // A model with fresh towers that knows the scale of the training labels.
//! let objectives = Objectives::new(vec![
//!     Objective::new("click", Kind::Binary, "click"),
//!     Objective::new("satisfaction", Kind::Regression, "rating"),
//! ])?;
//! let encoder = Encoder::load(&files, &LoadOptions::default())?;
//! let sizes = RecommenderConfig {
//!     dim: 64,
//!     user: UserConfig { kind: UserKind::Attention, ..UserConfig::default() },
//!     history: corpus.config.history,
//!     users: corpus.dataset.users.len(),
//!     items: corpus.dataset.items.len(),
//!     hide_ids: 0.0,
//!     ranking: RankingLoss::default(),
//!     repeats: true,
//!     search: false,
//!     tasks: Architecture::SharedBottom,
//!     tower: 64,
//!     dropout: 0.1,
//!     item_features: corpus.item_width(),
//!     user_features: corpus.user_width(),
//!     event_features: corpus.event_width(),
//!     conditioning: Conditioning::None, // one balance; `Film` for every balance in one model
//!     features: None,                   // with features: `FeatureConfig`, and `Inputs::with_features`
//! };
//! let vectors = ItemVectors::Text(Box::new(encoder));
//! let mut model = Recommender::new(sizes, vectors, &objectives, 1, &Device::Cpu)?;
//! let train = corpus.split.rows(Part::Train);
//! let labels = |name: &String| train.iter().map(|&row| corpus.dataset.events.feedback[name][row as usize]).collect();
//! model.fit(&columns.iter().map(labels).collect::<Vec<_>>())?;
//!
//! // Every item for one user, now: `scores[request][objective][item]`.
//! let known = model.embed(&corpus.tokens, None)?;
//! let mut batch = BatchBuilder::new(&corpus, 0);
//! batch.request(&Viewer::Known { user: corpus.user("u17")?, clock: i64::MAX, train_only: false });
//! let catalogue = model.catalogue(&corpus, &known, i64::MAX)?;
//! let scores = model.score(&catalogue, &batch.build(Encode::Nothing), &known)?;
//! println!("{}: clicked with probability {}", corpus.title(0), scores[0][0][0]);
//!
//! model.save("my-model".as_ref(), &files)?;
//! # Ok(())
//! # }
//! ```

mod auxiliary;
mod batch;
mod classic;
mod config;
mod corpus;
mod error;
mod features;
mod fusion;

mod given;
mod goals;
mod graph;
mod item;
mod losses;
mod model;
mod prior;
mod propagation;
mod ranking;
mod represent;
mod retrieval;
mod score;
mod search;
mod soup;
mod start;
mod store;
mod summary;
mod unlabelled;
mod users;
mod width;

pub use auxiliary::{AlignConfig, Auxiliary, AuxiliaryLoss, ContrastConfig};
pub use batch::{Batch, BatchBuilder, Encode, Pool, Searched, Sequences, Viewer};
pub use classic::{ClassicError, Ease, EaseConfig, Interactions, ItemKnn, ItemKnnConfig, Mf, MfConfig, Scorer};
pub use config::RecommenderConfig;
pub use corpus::{Corpus, CorpusConfig, Reading};
pub use error::RecommenderError;
pub use features::{Arrangement, FeatureConfig, FeatureNetwork};
pub use fusion::{Fusion, FusionError, Hide, Modality};
pub use given::{Combine, GivenVectors};
pub use goals::{ItemGroups, ListFacts};
pub use graph::{
    Added, Attribute, EdgeDropout, Graph, GraphBuilder, GraphError, LightGcn, Missing, NodeVectors, Relation, Tail,
    propagate,
};
pub use item::{ItemSource, ItemVectors};
pub use model::{Parameters, Recommender, Shared};
pub use propagation::{GraphConfig, Inputs};
pub use ranking::{
    Augmentation, Augmentations, Calibrated, Listwise, Needs, Negatives, RankingBatch, RankingError, RankingLoss,
    Scoring, align, info_nce,
};
pub use score::Catalogue;
pub use start::{FeatureNames, Fresh, Start, Taken, TakenColumns};
pub use summary::{Summary, Totals};
pub use users::{UserConfig, UserKind};
