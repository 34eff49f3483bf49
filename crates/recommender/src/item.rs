//! Items: a vector from text, from an id, or from both, then a tower that adds the item's features.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{Embedding, Encoder, LayerNorm, Linear};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::RecommenderError;

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
}

impl ItemSource {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Ids => "ids",
            Self::Hybrid => "hybrid",
        }
    }
}

/// What items are known by.
pub enum ItemVectors {
    /// Text through the encoder.
    Text(Box<Encoder>),
    /// A table `[items, width]`.
    Ids(Embedding),
    /// Text and a table.
    Hybrid {
        /// Reads the texts.
        text: Box<Encoder>,
        /// `[items, width]`.
        ids: Embedding,
        /// Which items training meets: the rows of the others count as zero.
        met: Vec<bool>,
    },
}

/// Size of a fresh table's numbers: small beside what training makes of them.
const DEVIATION: f64 = 0.05;

impl ItemVectors {
    /// A fresh id table `[items, width]`, drawn from N(0, 0.05²) by `seed`.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn ids(items: usize, width: usize, seed: u64, device: &Device) -> Result<Self, RecommenderError> {
        Ok(Self::Ids(Embedding::normal(items, width, DEVIATION, seed ^ 0x1d5, device)?))
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

    /// Length of what [`Recommender::embed`](crate::Recommender::embed) gives for one item: the encoder's, or a row of the table.
    pub fn width(&self) -> usize {
        match self {
            Self::Text(encoder) | Self::Hybrid { text: encoder, .. } => encoder.hidden_size(),
            Self::Ids(table) => table.table().dims().get(1).copied().unwrap_or(0),
        }
    }

    /// The text encoder, if texts are read.
    pub fn encoder(&self) -> Option<&Encoder> {
        match self {
            Self::Text(encoder) | Self::Hybrid { text: encoder, .. } => Some(encoder),
            Self::Ids(_) => None,
        }
    }

    /// The id table, if there is one.
    pub fn table(&self) -> Option<&Embedding> {
        match self {
            Self::Text(_) => None,
            Self::Ids(ids) | Self::Hybrid { ids, .. } => Some(ids),
        }
    }
}

/// From what items are known by to the vectors that users are compared with and histories are made of:
///
/// ```text
/// v = P t            text t, through the encoder
/// v = W p            row p of the id table; W is left out where the row is as wide as the result
/// v = P t + m W p    both; m is 0 where training has not met the item, and where training hides its id
/// ```
pub(crate) struct ItemModel {
    text: Option<Linear>,
    ids: Option<Linear>,
    /// Share of the items whose id training hides.
    hide: f64,
}

impl ItemModel {
    pub(crate) fn new(
        vectors: &ItemVectors,
        dim: usize,
        hide: f64,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let text = vectors.encoder().map(|encoder| Linear::new(encoder.hidden_size(), dim, seed, device));
        let width = vectors.table().and_then(|table| table.table().dims().get(1).copied()).unwrap_or(dim);
        let ids = (width != dim).then(|| Linear::new(width, dim, seed.wrapping_add(3), device));
        Ok(Self { text: text.transpose()?, ids: ids.transpose()?, hide })
    }

    /// `[n, dim]` vectors of items, of which `texts` `[n, width]` are what the encoder says. `dropout` is the seed of a training step.
    pub(crate) fn forward(
        &self,
        vectors: &ItemVectors,
        items: &[u32],
        texts: Option<&Tensor>,
        dropout: Option<u64>,
    ) -> Result<Tensor, RecommenderError> {
        let mut sum = match (&self.text, texts) {
            (Some(project), Some(texts)) => Some(project.forward(texts)?),
            _ => None,
        };
        if let Some(table) = vectors.table() {
            let rows = self.rows(table, items)?;
            sum = Some(match sum {
                Some(text) => (text + rows.broadcast_mul(&self.shown(vectors, items, dropout, &rows)?)?)?,
                None => rows,
            });
        }
        // Text or a table: one of them there is.
        sum.ok_or(RecommenderError::NeedsText)
    }

    /// What texts `[n, width]` of items say and what their ids do, `[n, dim]` each; ids that training hides are
    /// shown here. `None` of items that are not known by both.
    pub(crate) fn sides(
        &self,
        vectors: &ItemVectors,
        items: &[u32],
        texts: Option<&Tensor>,
    ) -> Result<Option<[Tensor; 2]>, RecommenderError> {
        let (Some(project), Some(texts), Some(table)) = (&self.text, texts, vectors.table()) else { return Ok(None) };
        Ok(Some([project.forward(texts)?, self.rows(table, items)?]))
    }

    /// `W p`.
    fn rows(&self, table: &Embedding, items: &[u32]) -> Result<Tensor, RecommenderError> {
        let rows = table.forward(items)?;
        Ok(if let Some(project) = &self.ids { project.forward(&rows)? } else { rows })
    }

    /// `[n, dim]` vectors of items that have no id yet, by their texts `[n, width]`.
    pub(crate) fn new_items(&self, texts: &Tensor) -> Result<Tensor, RecommenderError> {
        let project = self.text.as_ref().ok_or(RecommenderError::NeedsText)?;
        Ok(project.forward(texts)?)
    }

    /// `[n, 1]`: 0 for ids that do not count.
    fn shown(
        &self,
        vectors: &ItemVectors,
        items: &[u32],
        dropout: Option<u64>,
        like: &Tensor,
    ) -> Result<Tensor, RecommenderError> {
        let met = |item: &u32| match vectors {
            ItemVectors::Hybrid { met, .. } => met.get(*item as usize).copied().unwrap_or(false),
            ItemVectors::Text(_) | ItemVectors::Ids(_) => true,
        };
        let mut random = dropout.map(|seed| ChaCha8Rng::seed_from_u64(seed ^ 0x1d_d209));
        let hidden =
            |random: &mut Option<ChaCha8Rng>| random.as_mut().is_some_and(|random| random.random::<f64>() < self.hide);
        let mask: Vec<f32> = items.iter().map(|item| f32::from(u8::from(!hidden(&mut random) && met(item)))).collect();
        Ok(Tensor::from_vec(mask, (items.len(), 1), like.device())?)
    }

    pub(crate) fn parameters(&self, vectors: &ItemVectors) -> Vec<(String, Var)> {
        let mut all: Vec<(String, Var)> =
            vectors.table().map(|table| ("items.table".to_owned(), table.table().clone())).into_iter().collect();
        all.extend(self.text.iter().flat_map(|linear| linear.parameters("items.text")));
        all.extend(self.ids.iter().flat_map(|linear| linear.parameters("items.ids")));
        all
    }
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
