//! The composed model.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use paretune_features::Tokenized;
use paretune_objectives::{
    CustomObjective, GateReport, Kind, Modulation, Objectives, Outputs, TaskTowers, TowerConfig,
};

use crate::features::{FeatureSizes, Features};
use crate::goals::ListFacts;
use crate::item::{ItemModel, ItemTower};
use crate::prior::Prior;
use crate::propagation::{Inputs, Propagation};
use crate::search::Search;
use crate::users::{self, UserKind, UserModel, Widths};
use crate::width::WidthGates;
use crate::{Auxiliary, Batch, FeatureNames, ItemVectors, RecommenderConfig, RecommenderError};

/// The representation all objectives share: where a multi-objective step cuts the graph.
#[derive(Debug, Clone)]
pub struct Shared {
    /// `[samples, dim]`: the items shown with their features. Absent where all objectives are rankings.
    pub items: Option<Tensor>,
    /// `[requests, dim]`.
    pub users: Tensor,
    /// `[distinct items of the batch, dim]`, with a prior one column more: what rankings compare users with. Absent where no objective is one.
    pub candidates: Option<Tensor>,
    /// `[2 V, dim]`: the first views of `V` histories, then the second ones. Absent without contrast.
    pub views: Option<Tensor>,
    /// `[2 n, dim]`: what the texts of `n` items say, then what their ids do. Absent without alignment.
    pub aligned: Option<Tensor>,
    /// `[samples, dim]`: what features of request and item say together. Absent without such features, or where all objectives are rankings.
    pub joint: Option<Tensor>,
    /// `[dim]`: how much each column of items and users is worth, as log-odds of [width gates](crate::Recommender::kept_width). Absent where width has
    /// no price.
    pub gates: Option<Tensor>,
}

/// Samples as the task towers are shown them, all `[samples, …]`.
pub(crate) struct Shown<'a> {
    pub(crate) items: &'a Tensor,
    pub(crate) joint: Option<&'a Tensor>,
    pub(crate) positions: &'a Tensor,
}

impl Shown<'_> {
    /// What task towers read of samples of these users: `[u; i; u∘i; joint; position]`.
    pub(crate) fn read(&self, users: &Tensor) -> candle_core::Result<Tensor> {
        let product = (users * self.items)?;
        let parts = [Some(users), Some(self.items), Some(&product), self.joint, Some(self.positions)];
        Tensor::cat(&parts.into_iter().flatten().collect::<Vec<_>>(), 1)
    }
}

/// Trainable parameters by their part in the model, each in a fixed order.
pub struct Parameters {
    /// The text encoder.
    pub backbone: Vec<(String, Var)>,
    /// Item vectors above the encoder, the id table, the item tower and the user model.
    pub shared: Vec<(String, Var)>,
    /// What task towers share above the shared representation: experts, gates and their like.
    pub tasks: Vec<(String, Var)>,
    /// Task towers.
    pub towers: Vec<(String, Var)>,
}

impl Parameters {
    /// All of them: backbone, shared, tasks, towers.
    pub fn all(&self) -> Vec<(String, Var)> {
        [&self.backbone, &self.shared, &self.tasks, &self.towers].into_iter().flatten().cloned().collect()
    }
}

/// Item vectors, towers, task towers.
///
/// With [`RecommenderConfig::conditioning`] the shared representation and the task towers are functions of a preference, which a
/// [`Batch`] carries; a batch without one is answered for the model's own ([`Recommender::prefer`]).
pub struct Recommender {
    pub(crate) config: RecommenderConfig,
    pub(crate) vectors: ItemVectors,
    pub(crate) items: ItemModel,
    pub(crate) item_tower: ItemTower,
    /// What passes vectors along the edges of a graph.
    pub(crate) propagation: Option<Propagation>,
    /// From a query's text to the space of users.
    pub(crate) search: Option<Search>,
    /// What rankings add for popularity.
    pub(crate) prior: Option<Prior>,
    /// Absent where users are nodes of the graph.
    pub(crate) user_model: Option<Box<dyn UserModel>>,
    pub(crate) towers: TaskTowers,
    /// What moves the outputs of the item and the user tower with the preference.
    pub(crate) modulations: Option<[Modulation; 2]>,
    /// What training adds to the loss of a ranking.
    pub(crate) auxiliary: Auxiliary,
    /// What shuts columns of the shared representation.
    pub(crate) gates: Option<WidthGates>,
    /// What goals of lists look at.
    pub(crate) list_facts: Option<ListFacts>,
    /// What its features are called, where that was said.
    pub(crate) feature_names: FeatureNames,
    /// What columns say beside histories and texts.
    pub(crate) features: Option<Features>,
    pub(crate) device: Device,
}

impl Recommender {
    /// The text encoder, if items are known by their text.
    pub fn encoder(&self) -> Option<&paretune_encoder::Encoder> {
        self.vectors.encoder()
    }

    /// A model with fresh towers over the given item vectors (and graph); the same `seed` gives the same weights.
    ///
    /// # Errors
    /// When users are to be nodes of a graph that is not there, vectors made elsewhere are not for this catalogue, features are set and there
    /// are none, the heads do not divide `dim`, a setting is out of range, a model with conditioning has no objective of positive weight, or the device is out of
    /// memory.
    pub fn new(
        mut config: RecommenderConfig,
        inputs: impl Into<Inputs>,
        objectives: &Objectives,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        config.user.check(config.dim)?;
        config.ranking.check()?;
        if !(0.0..=1.0).contains(&config.hide_ids) {
            let (field, rule) = ("hide_ids", "must be a share, from 0 to 1");
            return Err(RecommenderError::Setting { field, value: config.hide_ids, rule });
        }
        let Inputs { vectors, given, combine, graph, popularity, features } = inputs.into();
        let propagation = graph.map(|graph| Propagation::new(graph, config.dim, seed.wrapping_add(500), device));
        let propagation = propagation.transpose()?;
        if config.user.kind == UserKind::Graph && propagation.is_none() {
            return Err(RecommenderError::NeedsGraph);
        }
        let prior = popularity.map(|counts| match counts.len() == config.items {
            true => Prior::new(counts, device),
            false => {
                let problem = format!("items, but popularity was counted for {}", counts.len());
                Err(RecommenderError::Shape { field: "items", value: config.items, problem })
            }
        });
        if prior.is_some() && !objectives.iter().any(|objective| objective.kind == Kind::Ranking) {
            return Err(RecommenderError::NeedsRanking);
        }
        let (beside, sizes) = ((given, combine), (config.items, config.dim));
        let items = ItemModel::new(&vectors, beside, sizes, config.hide_ids, seed.wrapping_add(100), device)?;
        let item_tower = ItemTower::new(config.item_features, config.dim, seed.wrapping_add(100), device)?;
        let widths = Widths {
            dim: config.dim,
            events: config.event_features,
            features: config.user_features,
            longest: config.history,
            users: config.users,
        };
        let search = match (config.search, vectors.encoder()) {
            (false, _) => None,
            (true, Some(encoder)) => {
                Some(Search::new(encoder.hidden_size(), config.dim, seed.wrapping_add(600), device)?)
            }
            (true, None) => return Err(RecommenderError::NeedsEncoder),
        };
        let user_model = users::build(&config.user, widths, seed.wrapping_add(200), device)?;
        let towers = objectives.iter().any(|objective| objective.kind.has_tower());
        let features = match (features, &config.features) {
            (None, Some(_)) => return Err(RecommenderError::NeedsFeatures),
            (None, None) => None,
            (Some(transforms), own) => {
                let (dim, items) = (config.dim, config.items);
                let (user_features, item_features) = (config.user_features, config.item_features);
                let sizes = FeatureSizes { dim, items, user_features, item_features, towers };
                let own = own.clone().unwrap_or_default();
                let features = Features::new(&own, transforms, sizes, seed.wrapping_add(700), device)?;
                config.features = Some(own);
                Some(features)
            }
        };
        let joins = features.as_ref().is_some_and(Features::joins);
        let tower = TowerConfig {
            input: 3 * config.dim + 1 + if joins { config.dim } else { 0 },
            hidden: config.tower,
            dropout: config.dropout as f32,
            seed: seed.wrapping_add(300),
            architecture: config.tasks.clone(),
            conditioning: config.conditioning,
        };
        let towers = TaskTowers::new(objectives, &tower, device)?;
        let costs = objectives.iter().any(|objective| objective.kind == Kind::Cost);
        let gates = costs.then(|| WidthGates::new(config.dim, device)).transpose()?;
        let modulation = |name| {
            let seed = seed.wrapping_add(400);
            Modulation::new(name, config.conditioning, objectives.len(), config.dim, seed, device)
        };
        let modulations = modulation("items")?.zip(modulation("users")?).map(|(items, users)| [items, users]);
        Ok(Self {
            config,
            vectors,
            items,
            item_tower,
            propagation,
            prior: prior.transpose()?,
            search,
            user_model,
            towers,
            modulations,
            auxiliary: Auxiliary::default(),
            gates,
            list_facts: None,
            feature_names: FeatureNames::default(),
            features,
            device: device.clone(),
        })
    }

    /// With the meaning of an objective of kind `custom`, of a model that was [loaded](Self::load): files do not hold it. A model that is made of
    /// objectives that know it ([`Objectives::with_custom`]) needs no other word.
    ///
    /// # Errors
    /// There is no objective of that name, or it is of another kind.
    pub fn with_custom(mut self, name: &str, custom: Arc<dyn CustomObjective>) -> Result<Self, RecommenderError> {
        self.towers = self.towers.with_custom(name, custom)?;
        Ok(self)
    }

    /// Says what the columns of features mean ([`Corpus::feature_names`](crate::Corpus::feature_names)). It goes into the model's file, so
    /// that a model for other data can [begin](crate::Start) with what they have in common.
    pub fn name_features(&mut self, names: FeatureNames) {
        self.feature_names = names;
    }

    /// The sizes it was built with.
    pub fn config(&self) -> &RecommenderConfig {
        &self.config
    }

    /// What maps items to vectors.
    pub fn vectors(&self) -> &ItemVectors {
        &self.vectors
    }

    /// The vectors made elsewhere, if there are any.
    pub fn given(&self) -> &[crate::GivenVectors] {
        self.items.given()
    }

    /// The objectives it predicts, in order.
    pub fn objectives(&self) -> &Objectives {
        self.towers.objectives()
    }

    /// The preference that a batch without one is answered for, as shares; `None` for a model without conditioning.
    pub fn preference(&self) -> Option<&[f64]> {
        self.towers.preference()
    }

    /// Sets that preference, one weight for each objective, of which only the shares count. It is that of the objectives' weights
    /// at first, and goes into the model's file.
    ///
    /// # Errors
    /// The model has no conditioning, not one weight for each objective, one that is negative or not finite, or none above 0.
    pub fn prefer(&mut self, weights: &[f64]) -> Result<(), RecommenderError> {
        Ok(self.towers.prefer(weights)?)
    }

    /// Fits scales and base rates on training labels, one column for each objective with `NaN` where not observed: regressions
    /// then train in standard units, and an average sample starts at the average prediction.
    ///
    /// # Errors
    /// A regression without labels, or a label its objective cannot mean.
    pub fn fit(&mut self, columns: &[Vec<f32>]) -> Result<(), RecommenderError> {
        Ok(self.towers.fit(columns)?)
    }

    /// The device its tensors live on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether some objective is a ranking.
    pub(crate) fn ranks(&self) -> bool {
        self.objectives().iter().any(|objective| objective.kind == Kind::Ranking)
    }

    /// Whether some objective has a task tower.
    pub(crate) fn has_towers(&self) -> bool {
        self.objectives().iter().any(|objective| objective.kind.has_tower())
    }

    /// Every trainable parameter. What no objective asks for, the item tower of a model that only ranks, is not among them.
    pub fn parameters(&self) -> Parameters {
        let mut shared = self.items.parameters(&self.vectors);
        if self.has_towers() {
            shared.extend(self.item_tower.parameters());
        }
        shared.extend(self.propagation.iter().flat_map(|propagation| propagation.parameters("graph")));
        shared.extend(self.search.iter().flat_map(Search::parameters));
        shared.extend(self.prior.iter().flat_map(Prior::parameters));
        shared.extend(self.user_model.iter().flat_map(|users| users.parameters()));
        shared.extend(self.modulations.iter().flatten().flat_map(Modulation::parameters));
        shared.extend(self.features.iter().flat_map(Features::parameters));
        shared.extend(self.gates.iter().flat_map(WidthGates::parameters));
        let backbone = self.encoder().map_or_else(Vec::new, paretune_encoder::Encoder::parameters);
        Parameters { backbone, shared, tasks: self.towers.shared_parameters(), towers: self.towers.parameters() }
    }

    /// What the whole catalogue is known by `[items, width]`, without a graph: what histories look up and what serving scores. The
    /// encoder's vectors, or the id table where there is no text, or the vectors made elsewhere where there is neither.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn embed(&self, tokens: &Tokenized, progress: Option<&dyn Fn(usize)>) -> Result<Tensor, RecommenderError> {
        match (self.encoder(), self.vectors.table()) {
            (Some(encoder), _) => {
                let values = encoder.embed(tokens, TOKEN_BUDGET, progress)?;
                Ok(Tensor::from_vec(values, (tokens.len(), encoder.hidden_size()), &self.device)?)
            }
            (None, Some(table)) => Ok(table.table().as_tensor().detach().copy()?),
            (None, None) => match self.items.given() {
                [only] => Ok(only.all().clone()),
                several => {
                    let all: Vec<&Tensor> = several.iter().map(crate::GivenVectors::all).collect();
                    Ok(Tensor::cat(&all, 1)?)
                }
            },
        }
    }

    /// From the shared representation to one output for each objective and sample.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn outputs(&self, shared: &Shared, batch: &Batch, dropout: Option<u64>) -> Result<Outputs, RecommenderError> {
        self.outputs_of(self.gated(shared, dropout)?.as_ref(), batch, dropout)
    }

    /// As [`Self::outputs`], of a representation behind its gates.
    pub(crate) fn outputs_of(
        &self,
        shared: &Shared,
        batch: &Batch,
        dropout: Option<u64>,
    ) -> Result<Outputs, RecommenderError> {
        let requests = Tensor::new(batch.requests.as_slice(), &self.device)?;
        let users = shared.users.index_select(&requests, 0)?;
        let scores = match &shared.candidates {
            Some(candidates) => {
                let slots = Tensor::new(batch.slots.as_slice(), &self.device)?;
                Some(self.pairs(&users, &candidates.index_select(&slots, 0)?)?)
            }
            None => None,
        };
        let positions = self.positions(batch)?;
        let joint = shared.joint.as_ref();
        let shown = shared.items.as_ref().map(|items| Shown { items, joint, positions: &positions });
        self.head(shown, &users, scores.as_ref(), batch.preference.as_deref(), dropout)
    }

    /// Which experts each objective listens to on a batch, of a model whose tasks share experts ([`Architecture`](paretune_objectives::Architecture)); nothing else.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn gates(&self, shared: &Shared, batch: &Batch) -> Result<Vec<GateReport>, RecommenderError> {
        let shared = self.gated(shared, None)?;
        let Some(items) = &shared.items else { return Ok(Vec::new()) };
        let requests = Tensor::new(batch.requests.as_slice(), &self.device)?;
        let users = shared.users.index_select(&requests, 0)?;
        let positions = self.positions(batch)?;
        let shown = Shown { items, joint: shared.joint.as_ref(), positions: &positions };
        Ok(self.towers.gates(&shown.read(&users)?)?)
    }

    /// The learned mixtures of a model whose tasks' networks are stitched together; nothing for others.
    ///
    /// # Errors
    /// When they cannot be read back from the device.
    pub fn mixtures(&self) -> Result<Vec<GateReport>, RecommenderError> {
        Ok(self.towers.mixtures()?)
    }

    /// How likely each position is looked at relative to the first, by objective with an examination model ([`TaskTowers::examination`]).
    ///
    /// # Errors
    /// When the parameters cannot be read.
    pub fn examination(&self) -> Result<Vec<(String, Vec<f64>)>, RecommenderError> {
        Ok(self.towers.examination()?)
    }

    /// What towers are told of positions `[samples, 1]`: nothing where an examination model says what a position does, so that relevance
    /// knows of none.
    fn positions(&self, batch: &Batch) -> Result<Tensor, RecommenderError> {
        let shape = (batch.len(), 1);
        Ok(match self.objectives().iter().any(|objective| objective.examination > 0) {
            true => Tensor::zeros(shape, candle_core::DType::F32, &self.device)?,
            false => Tensor::from_slice(&batch.positions, shape, &self.device)?,
        })
    }

    /// `[u; i; u∘i; joint; position]` through the task towers, and the scores of rankings beside them.
    pub(crate) fn head(
        &self,
        shown: Option<Shown<'_>>,
        users: &Tensor,
        scores: Option<&Tensor>,
        preference: Option<&[f64]>,
        dropout: Option<u64>,
    ) -> Result<Outputs, RecommenderError> {
        let read = match shown {
            Some(shown) => Some(shown.read(users)?),
            None => None,
        };
        Ok(self.towers.forward_with(read.as_ref(), scores, preference, dropout)?)
    }

    /// A feature matrix; a data set without features gets one column of zeros, so that every tower keeps its shape.
    pub(crate) fn rows(&self, values: &[f32], rows: usize, width: usize) -> Result<Tensor, RecommenderError> {
        Ok(match width {
            0 => Tensor::zeros((rows, 1), candle_core::DType::F32, &self.device)?,
            _ => Tensor::from_slice(values, (rows, width), &self.device)?,
        })
    }
}

/// Tokens of one inference batch: enough to keep the matrix products busy, small enough to stay near the caches.
const TOKEN_BUDGET: usize = 4096;
