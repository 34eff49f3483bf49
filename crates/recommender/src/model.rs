//! The composed model.

use candle_core::{D, Device, Tensor, Var};
use paretune_features::Tokenized;
use paretune_objectives::{Conditioning, Labels, Modulation, Objectives, Outputs, TaskTowers, TowerConfig};
use serde::{Deserialize, Serialize};

use crate::{Batch, Encode, ItemTower, ItemVectors, RecommenderError, UserTower};

/// Sizes of everything above the item vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecommenderConfig {
    /// Width of the shared representation.
    pub dim: usize,
    /// Attention heads of the user tower; divides `dim`.
    pub heads: usize,
    /// Width of the hidden layer of each task tower.
    pub tower: usize,
    /// Dropout in the task towers.
    pub dropout: f64,
    /// Item features, from [`crate::Corpus::item_width`].
    pub item_features: usize,
    /// User and context features, from [`crate::Corpus::user_width`].
    pub user_features: usize,
    /// Features of a past event, from [`crate::Corpus::event_width`].
    pub event_features: usize,
    /// Whether the model takes the preference between its objectives as an input.
    #[serde(default, skip_serializing_if = "Conditioning::is_none")]
    pub conditioning: Conditioning,
}

/// The representation all objectives share: where a multi-objective step cuts the graph.
#[derive(Debug, Clone)]
pub struct Shared {
    /// `[samples, dim]`.
    pub items: Tensor,
    /// `[requests, dim]`.
    pub users: Tensor,
}

/// Trainable parameters by their part in the model, each in a fixed order.
pub struct Parameters {
    /// The text encoder, or the id table.
    pub backbone: Vec<(String, Var)>,
    /// Item tower and user tower.
    pub shared: Vec<(String, Var)>,
    /// Task towers.
    pub towers: Vec<(String, Var)>,
}

impl Parameters {
    /// All of them: backbone, shared, towers.
    pub fn all(&self) -> Vec<(String, Var)> {
        [&self.backbone, &self.shared, &self.towers].into_iter().flatten().cloned().collect()
    }
}

/// Item vectors, towers, task towers.
///
/// With [`RecommenderConfig::conditioning`] the shared representation and the task towers are functions of a preference, which a
/// [`Batch`] carries; a batch without one is answered for the model's own ([`Recommender::prefer`]).
pub struct Recommender {
    pub(crate) config: RecommenderConfig,
    pub(crate) vectors: ItemVectors,
    pub(crate) item_tower: ItemTower,
    pub(crate) user_tower: UserTower,
    pub(crate) towers: TaskTowers,
    /// What moves the outputs of the item and the user tower with the preference.
    pub(crate) modulations: Option<[Modulation; 2]>,
    pub(crate) device: Device,
}

impl Recommender {
    /// The text encoder, if items are known by their text.
    pub fn encoder(&self) -> Option<&paretune_encoder::Encoder> {
        match &self.vectors {
            ItemVectors::Text(encoder) => Some(encoder),
            ItemVectors::Ids(_) => None,
        }
    }

    /// A model with fresh towers over the given item vectors; the same `seed` gives the same weights.
    ///
    /// # Errors
    /// When `heads` does not divide `dim`, a model with conditioning has no objective of positive weight, or the device is out of
    /// memory.
    pub fn new(
        config: RecommenderConfig,
        vectors: ItemVectors,
        objectives: &Objectives,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        if config.heads == 0 || config.dim == 0 || !config.dim.is_multiple_of(config.heads) {
            return Err(RecommenderError::Shape {
                field: "heads",
                value: config.heads,
                problem: format!("must divide dim, which is {}", config.dim),
            });
        }
        let width = vectors.width();
        let item_tower = ItemTower::new(width, config.item_features, config.dim, seed.wrapping_add(100), device)?;
        let user_tower = UserTower::new(
            width,
            config.event_features,
            config.user_features,
            config.dim,
            config.heads,
            seed.wrapping_add(200),
            device,
        )?;
        let tower = TowerConfig {
            input: 3 * config.dim + 1,
            hidden: config.tower,
            dropout: config.dropout as f32,
            seed: seed.wrapping_add(300),
            conditioning: config.conditioning,
        };
        let towers = TaskTowers::new(objectives, &tower, device)?;
        let modulation = |name| {
            let seed = seed.wrapping_add(400);
            Modulation::new(name, config.conditioning, objectives.len(), config.dim, seed, device)
        };
        let modulations = modulation("items")?.zip(modulation("users")?).map(|(items, users)| [items, users]);
        Ok(Self { config, vectors, item_tower, user_tower, towers, modulations, device: device.clone() })
    }

    /// The sizes it was built with.
    pub fn config(&self) -> &RecommenderConfig {
        &self.config
    }

    /// What maps items to vectors.
    pub fn vectors(&self) -> &ItemVectors {
        &self.vectors
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
        let scalers = self.objectives().fit_scalers(columns)?;
        let rates = self.objectives().base_rates(&scalers, columns)?;
        self.towers.set_scalers(scalers)?;
        Ok(self.towers.set_prior(&rates)?)
    }

    /// The labels of a batch, as the losses need them.
    ///
    /// # Errors
    /// A label its objective cannot mean.
    pub fn labels(&self, batch: &Batch) -> Result<Labels, RecommenderError> {
        Ok(Labels::new(self.objectives(), self.towers.scalers(), &batch.labels, &self.device)?)
    }

    /// The device its tensors live on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every trainable parameter.
    pub fn parameters(&self) -> Parameters {
        let mut shared = self.item_tower.parameters();
        shared.extend(self.user_tower.parameters());
        shared.extend(self.modulations.iter().flatten().flat_map(Modulation::parameters));
        Parameters { backbone: self.vectors.parameters(), shared, towers: self.towers.parameters() }
    }

    /// Vectors of the whole catalogue `[items, width]`, without a graph: what histories look up and what serving scores.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn embed(&self, tokens: &Tokenized, progress: Option<&dyn Fn(usize)>) -> Result<Tensor, RecommenderError> {
        match &self.vectors {
            ItemVectors::Text(encoder) => {
                let values = encoder.embed(tokens, TOKEN_BUDGET, progress)?;
                Ok(Tensor::from_vec(values, (tokens.len(), encoder.hidden_size()), &self.device)?)
            }
            ItemVectors::Ids(table) => Ok(table.table().as_tensor().detach().copy()?),
        }
    }

    /// From a batch to the shared representation, for the batch's preference: [`Self::trunk`], then [`Self::condition`]. `known` are the catalogue's vectors `[items, width]` (see [`Self::embed`]),
    /// looked up for whatever the batch does not encode; not read with [`Encode::ShownAndHistory`].
    /// `dropout` is the seed of this step's dropout; `None` for evaluation.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn represent(&self, batch: &Batch, known: &Tensor, dropout: Option<u64>) -> Result<Shared, RecommenderError> {
        self.represent_with(batch, known, dropout, &mut Ok)
    }

    /// As [`Self::represent`], with a hand on what passes from layer to layer of the backbone and from there to the towers: `cut` is
    /// given the values and answers with those to go on with (see [`paretune_encoder::Encoder::encode_with`]).
    ///
    /// # Errors
    /// When shapes do not fit, and those of `cut`.
    pub fn represent_with(
        &self,
        batch: &Batch,
        known: &Tensor,
        dropout: Option<u64>,
        cut: &mut dyn FnMut(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Shared, RecommenderError> {
        self.condition(self.trunk_with(batch, known, dropout, cut)?, batch)
    }

    /// The part of [`Self::represent`] that is the same for every preference: whoever asks for several of them needs it once.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn trunk(&self, batch: &Batch, known: &Tensor, dropout: Option<u64>) -> Result<Shared, RecommenderError> {
        self.trunk_with(batch, known, dropout, &mut Ok)
    }

    fn trunk_with(
        &self,
        batch: &Batch,
        known: &Tensor,
        dropout: Option<u64>,
        cut: &mut dyn FnMut(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Shared, RecommenderError> {
        let vectors = match batch.encode {
            Encode::Nothing => known.index_select(&Tensor::new(batch.items.as_slice(), &self.device)?, 0)?,
            Encode::Shown | Encode::ShownAndHistory => {
                let vectors = self.vectors.forward(&batch.items, &batch.packed, dropout, cut)?;
                cut(vectors)?
            }
        };
        let projected = self.item_tower.project(&vectors)?;
        let slots = Tensor::new(batch.slots.as_slice(), &self.device)?;
        let features = self.rows(&batch.item_features, batch.len(), self.config.item_features)?;
        let items = self.item_tower.forward(&projected.index_select(&slots, 0)?, &features)?;
        let users = self.users(batch, if batch.encode == Encode::ShownAndHistory { &vectors } else { known })?;
        Ok(Shared { items, users })
    }

    /// What the batch's preference makes of the trunk's representation; the same without conditioning.
    ///
    /// # Errors
    /// When shapes do not fit, or the preference is not one for this model.
    pub fn condition(&self, trunk: Shared, batch: &Batch) -> Result<Shared, RecommenderError> {
        let shares = self.towers.resolve(batch.preference.as_deref())?;
        Ok(match (&self.modulations, shares) {
            (Some([items, users]), Some(shares)) => {
                Shared { items: items.forward(&trunk.items, &shares)?, users: users.forward(&trunk.users, &shares)? }
            }
            _ => trunk,
        })
    }

    /// The requests of a batch `[requests, dim]`, before the preference moves them, histories looked up in `vectors`.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn users(&self, batch: &Batch, vectors: &Tensor) -> Result<Tensor, RecommenderError> {
        let shape = (batch.viewers, batch.length);
        let width = vectors.dim(D::Minus1)?;
        let features = self.rows(&batch.user_features, batch.viewers, self.config.user_features)?;
        let (history, events, mask) = if batch.length == 0 {
            let empty = Tensor::zeros((batch.viewers, 0, 1), candle_core::DType::F32, &self.device)?;
            (empty.clone(), empty.clone(), empty)
        } else {
            let ids = Tensor::new(batch.history.as_slice(), &self.device)?;
            let events = (shape.0, shape.1, self.config.event_features);
            (
                vectors.index_select(&ids, 0)?.reshape((shape.0, shape.1, width))?,
                Tensor::from_slice(&batch.events, events, &self.device)?,
                Tensor::from_slice(&batch.mask, shape, &self.device)?,
            )
        };
        self.user_tower.forward(&history, &events, &mask, &features)
    }

    /// From the shared representation to one output for each objective and sample.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn outputs(&self, shared: &Shared, batch: &Batch, dropout: Option<u64>) -> Result<Outputs, RecommenderError> {
        let requests = Tensor::new(batch.requests.as_slice(), &self.device)?;
        let users = shared.users.index_select(&requests, 0)?;
        let positions = Tensor::from_slice(&batch.positions, (batch.len(), 1), &self.device)?;
        self.head(&shared.items, &users, &positions, batch.preference.as_deref(), dropout)
    }

    /// `[u; i; u∘i; position]` through the task towers.
    pub(crate) fn head(
        &self,
        items: &Tensor,
        users: &Tensor,
        positions: &Tensor,
        preference: Option<&[f64]>,
        dropout: Option<u64>,
    ) -> Result<Outputs, RecommenderError> {
        let joint = Tensor::cat(&[users, items, &(users * items)?, positions], 1)?;
        Ok(self.towers.forward_for(&joint, preference, dropout)?)
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
