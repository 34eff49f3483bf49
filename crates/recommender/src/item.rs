//! Items: a vector from text, from an id, from what was made elsewhere, or from several of them, then a tower that adds the item's
//! features.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{Embedding, Encoder, LayerNorm, Linear};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Combine, Fusion, GivenVectors, Hide, Modality, RecommenderError, given};

/// What an item's vector is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemSource {
    /// The text encoder reads the item's text: new items work from their first day.
    #[default]
    Text,
    /// One learned row for each item id, as in matrix factorization. The baseline that shows what text is worth.
    Ids,
    /// Both, added up. The row of an item that training has not met counts as zero, and training hides rows now and then, so that new
    /// items work.
    Hybrid,
    /// Neither: vectors made elsewhere alone ([`GivenVectors`]), which stand beside the other sources too.
    Vectors,
}

impl ItemSource {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Ids => "ids",
            Self::Hybrid => "hybrid",
            Self::Vectors => "vectors",
        }
    }
}

/// What items are known by.
pub enum ItemVectors {
    /// Text through the encoder.
    Text(Box<Encoder>),
    /// A table.
    Ids {
        /// `[items, width]`.
        ids: Embedding,
        /// Which items training meets: the rows of the others count as zero. `None` where every row counts.
        met: Option<Vec<bool>>,
    },
    /// Text and a table.
    Hybrid {
        /// Reads the texts.
        text: Box<Encoder>,
        /// `[items, width]`.
        ids: Embedding,
        /// Which items training meets: the rows of the others count as zero.
        met: Vec<bool>,
    },
    /// Nothing but the vectors of [`Inputs::with_vectors`](crate::Inputs::with_vectors).
    Given,
}

/// Size of a fresh table's numbers: small beside what training makes of them.
const DEVIATION: f64 = 0.05;

impl ItemVectors {
    /// A fresh id table `[items, width]`, drawn from N(0, 0.05²) by `seed`.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn ids(items: usize, width: usize, seed: u64, device: &Device) -> Result<Self, RecommenderError> {
        Ok(Self::Ids { ids: Embedding::normal(items, width, DEVIATION, seed ^ 0x1d5, device)?, met: None })
    }

    /// As [`Self::ids`], for the items that training meets: beside vectors made elsewhere, the others have no id's row.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn met_ids(met: Vec<bool>, width: usize, seed: u64, device: &Device) -> Result<Self, RecommenderError> {
        let ids = Embedding::normal(met.len(), width, DEVIATION, seed ^ 0x1d5, device)?;
        Ok(Self::Ids { ids, met: Some(met) })
    }

    /// Text with a fresh id table `[items, width]` beside it, for the items that training meets.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn hybrid(
        text: Box<Encoder>,
        met: Vec<bool>,
        width: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        Ok(Self::Hybrid { text, ids: Embedding::normal(met.len(), width, DEVIATION, seed ^ 0x1d5, device)?, met })
    }

    /// Length of what [`Recommender::embed`](crate::Recommender::embed) gives for one item: the encoder's, or a row of the table; 0 for
    /// vectors made elsewhere.
    pub fn width(&self) -> usize {
        match self {
            Self::Text(encoder) | Self::Hybrid { text: encoder, .. } => encoder.hidden_size(),
            Self::Ids { ids, .. } => ids.table().dims().get(1).copied().unwrap_or(0),
            Self::Given => 0,
        }
    }

    /// The text encoder, if texts are read.
    pub fn encoder(&self) -> Option<&Encoder> {
        match self {
            Self::Text(encoder) | Self::Hybrid { text: encoder, .. } => Some(encoder),
            Self::Ids { .. } | Self::Given => None,
        }
    }

    /// The id table, if there is one.
    pub fn table(&self) -> Option<&Embedding> {
        match self {
            Self::Text(_) | Self::Given => None,
            Self::Ids { ids, .. } | Self::Hybrid { ids, .. } => Some(ids),
        }
    }

    /// Which items have a row of their own in the id table; `None` where all of them do.
    pub(crate) fn met(&self) -> Option<&[bool]> {
        match self {
            Self::Text(_) | Self::Given => None,
            Self::Ids { met, .. } => met.as_deref(),
            Self::Hybrid { met, .. } => Some(met),
        }
    }

    /// The same, to be set.
    pub(crate) fn met_mut(&mut self) -> Option<&mut Vec<bool>> {
        match self {
            Self::Text(_) | Self::Given => None,
            Self::Ids { met, .. } => met.as_mut(),
            Self::Hybrid { met, .. } => Some(met),
        }
    }

    /// Whether each of these items has a row of its own.
    fn met_of(&self, items: &[u32]) -> Vec<bool> {
        let met = self.met();
        let one = |item: &u32| met.is_none_or(|met| met.get(*item as usize).copied().unwrap_or(false));
        items.iter().map(one).collect()
    }
}

/// From what items are known by to the vectors that users are compared with and histories are made of:
///
/// ```text
/// v = P t              text t, through the encoder
/// v = W p              row p of the id table; W is left out where the row is as wide as the result
/// v = Q g              vectors g made elsewhere; 0 where the item has none
/// v = P t + m W p + …  several; m is 0 where training has not met the item, and where training hides its id
/// v = fusion(t, p, …)  several with gates, ids there where m is 1: see `Fusion`
/// ```
pub(crate) struct ItemModel {
    layers: Layers,
    given: Vec<GivenVectors>,
    /// Share of the items whose id training hides.
    hide: f64,
}

enum Layers {
    Sum { text: Option<Linear>, ids: Option<Linear>, given: Vec<Linear> },
    Gate(Fusion),
}

/// Number of a step's random stream that hides ids.
const HIDE: u64 = 0x1d_d209;

impl ItemModel {
    pub(crate) fn new(
        vectors: &ItemVectors,
        (given, combine): (Vec<GivenVectors>, Combine),
        (items, dim): (usize, usize),
        hide: f64,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        given::check(&given, items)?;
        if matches!(vectors, ItemVectors::Given) && given.is_empty() {
            return Err(RecommenderError::NeedsVectors);
        }
        let text = vectors.encoder().map(Encoder::hidden_size);
        let table = vectors.table().map(|table| table.table().dims().get(1).copied().unwrap_or(dim));
        let layers = match combine {
            Combine::Sum => {
                let linear = |width, offset| Linear::new(width, dim, seed.wrapping_add(offset), device);
                let each = given.iter().zip(10..).map(|(given, offset)| linear(given.width(), offset));
                Layers::Sum {
                    text: text.map(|width| linear(width, 0)).transpose()?,
                    ids: table.filter(|width| *width != dim).map(|width| linear(width, 3)).transpose()?,
                    given: each.collect::<candle_core::Result<_>>()?,
                }
            }
            Combine::Gate => {
                let widths: Vec<usize> =
                    text.into_iter().chain(table).chain(given.iter().map(GivenVectors::width)).collect();
                if widths.len() < 2 {
                    return Err(RecommenderError::NothingToGate);
                }
                Layers::Gate(Fusion::new(&widths, dim, seed.wrapping_add(10), device)?)
            }
        };
        Ok(Self { layers, given, hide })
    }

    /// The vectors that were made elsewhere.
    pub(crate) fn given(&self) -> &[GivenVectors] {
        &self.given
    }

    /// How vectors become one.
    pub(crate) fn combine(&self) -> Combine {
        match self.layers {
            Layers::Sum { .. } => Combine::Sum,
            Layers::Gate(_) => Combine::Gate,
        }
    }

    /// `[n, dim]` vectors of items, of which `texts` `[n, width]` are what the encoder says. `dropout` is the seed of a training step.
    pub(crate) fn forward(
        &self,
        vectors: &ItemVectors,
        items: &[u32],
        texts: Option<&Tensor>,
        dropout: Option<u64>,
    ) -> Result<Tensor, RecommenderError> {
        match &self.layers {
            Layers::Sum { text, ids, given } => {
                let mut parts = Vec::new();
                if let (Some(project), Some(texts)) = (text, texts) {
                    parts.push(project.forward(texts)?);
                }
                if let Some(table) = vectors.table() {
                    let rows = table.forward(items)?;
                    let rows = if let Some(project) = ids { project.forward(&rows)? } else { rows };
                    let all = parts.is_empty() && vectors.met().is_none() && self.given.is_empty();
                    parts.push(match all {
                        true => rows,
                        false => rows.broadcast_mul(&self.shown(vectors, items, texts.is_some(), dropout, &rows)?)?,
                    });
                }
                for (given, project) in self.given.iter().zip(given) {
                    let rows = project.forward(&given.rows(items)?)?;
                    let present = mask(&given.present_of(items), &rows)?;
                    parts.push(rows.broadcast_mul(&present)?);
                }
                let sum = parts.into_iter().map(Ok).reduce(|sum, part| sum? + part?);
                // Text, a table or other vectors: one of them there is.
                Ok(sum.ok_or(RecommenderError::NeedsText)??)
            }
            Layers::Gate(fusion) => self.gated(fusion, vectors, items, texts, dropout),
        }
    }

    /// `[n, dim]` with a gate for each of what the items are known by.
    fn gated(
        &self,
        fusion: &Fusion,
        vectors: &ItemVectors,
        items: &[u32],
        texts: Option<&Tensor>,
        dropout: Option<u64>,
    ) -> Result<Tensor, RecommenderError> {
        let met = vectors.met_of(items);
        let present: Vec<Vec<bool>> = self.given.iter().map(|given| given.present_of(items)).collect();
        let mut modalities = Vec::with_capacity(fusion.widths().len());
        modalities.extend(texts.map(|texts| Modality { values: texts.clone(), present: None }));
        let mut hide = None;
        if let Some(table) = vectors.table() {
            let modality = modalities.len();
            let seed = dropout.filter(|_| self.hide > 0.0);
            hide = seed.map(|seed| Hide { modality, probability: self.hide, seed: seed ^ HIDE });
            modalities.push(Modality { values: table.forward(items)?, present: Some(&met) });
        }
        for (given, present) in self.given.iter().zip(&present) {
            modalities.push(Modality { values: given.rows(items)?, present: Some(present) });
        }
        Ok(fusion.forward(&modalities, hide)?)
    }

    /// What texts `[n, width]` of items say and what their ids do, `[n, dim]` each; ids that training hides are
    /// shown here. `None` of items that are not known by both.
    pub(crate) fn sides(
        &self,
        vectors: &ItemVectors,
        items: &[u32],
        texts: Option<&Tensor>,
    ) -> Result<Option<[Tensor; 2]>, RecommenderError> {
        let (Some(texts), Some(table)) = (texts, vectors.table()) else { return Ok(None) };
        let rows = table.forward(items)?;
        Ok(match &self.layers {
            Layers::Sum { text: Some(project), ids, .. } => {
                let rows = if let Some(project) = ids { project.forward(&rows)? } else { rows };
                Some([project.forward(texts)?, rows])
            }
            Layers::Sum { text: None, .. } => None,
            // Text comes first, then the id.
            Layers::Gate(fusion) => Some([fusion.project(0, texts)?, fusion.project(1, &rows)?]),
        })
    }

    /// `[n, dim]` vectors of items that have nothing but their texts `[n, width]`.
    pub(crate) fn new_items(&self, texts: &Tensor) -> Result<Tensor, RecommenderError> {
        match &self.layers {
            Layers::Sum { text, .. } => Ok(text.as_ref().ok_or(RecommenderError::NeedsText)?.forward(texts)?),
            Layers::Gate(fusion) => {
                let rows = texts.dim(0)?;
                let absent = vec![false; rows];
                let mut modalities = vec![Modality { values: texts.clone(), present: None }];
                for width in &fusion.widths()[1..] {
                    let values = Tensor::zeros((rows, *width), texts.dtype(), texts.device())?;
                    modalities.push(Modality { values, present: Some(&absent) });
                }
                Ok(fusion.forward(&modalities, None)?)
            }
        }
    }

    /// `[n, 1]`: 0 for ids that do not count. What has nothing else keeps its id in training.
    fn shown(
        &self,
        vectors: &ItemVectors,
        items: &[u32],
        texts: bool,
        dropout: Option<u64>,
        like: &Tensor,
    ) -> Result<Tensor, RecommenderError> {
        let given: Vec<Vec<bool>> = self.given.iter().map(|given| given.present_of(items)).collect();
        let mut random = dropout.map(|seed| ChaCha8Rng::seed_from_u64(seed ^ HIDE));
        let met = vectors.met_of(items);
        let shown = |(row, met): (usize, bool)| {
            // Drawn for every row, so that what one row has does not move the draws of the next.
            let drawn = random.as_mut().is_some_and(|random| random.random::<f64>() < self.hide);
            met && !(drawn && (texts || given.iter().any(|given| given[row])))
        };
        mask(&met.into_iter().enumerate().map(shown).collect::<Vec<bool>>(), like)
    }

    pub(crate) fn parameters(&self, vectors: &ItemVectors) -> Vec<(String, Var)> {
        let mut all: Vec<(String, Var)> =
            vectors.table().map(|table| ("items.table".to_owned(), table.table().clone())).into_iter().collect();
        match &self.layers {
            Layers::Sum { text, ids, given } => {
                all.extend(text.iter().flat_map(|linear| linear.parameters("items.text")));
                all.extend(ids.iter().flat_map(|linear| linear.parameters("items.ids")));
                for (given, linear) in self.given.iter().zip(given) {
                    all.extend(linear.parameters(&format!("items.vectors.{}", given.name())));
                }
            }
            Layers::Gate(fusion) => all.extend(fusion.parameters("items.fusion")),
        }
        all
    }
}

/// `[n, 1]` of ones and zeros.
fn mask(rows: &[bool], like: &Tensor) -> Result<Tensor, RecommenderError> {
    let mask: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(*row))).collect();
    Ok(Tensor::from_vec(mask, (rows.len(), 1), like.device())?)
}

/// `LayerNorm(v + F f)`: the item's vector `v` and its features `f` (counts, rates, price, age) as of the moment of the request.
pub(crate) struct ItemTower {
    features: Linear,
    norm: LayerNorm,
}

impl ItemTower {
    pub(crate) fn new(features: usize, dim: usize, seed: u64, device: &Device) -> Result<Self, RecommenderError> {
        Ok(Self {
            features: Linear::new(features.max(1), dim, seed.wrapping_add(1), device)?,
            norm: LayerNorm::new(dim, 1e-5, device)?,
        })
    }

    /// `vectors [samples, dim]`, `features [samples, features]` to `[samples, dim]`.
    pub(crate) fn forward(&self, vectors: &Tensor, features: &Tensor) -> Result<Tensor, RecommenderError> {
        Ok(self.norm.forward(&(vectors + self.features.forward(features)?)?)?)
    }

    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.features.parameters("items.features");
        all.extend(self.norm.parameters("items.norm"));
        all
    }
}
