//! Items: a vector from text (or from an id), then a tower that adds the item's features.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{Embedding, Encoder, LayerNorm, Linear};
use paretune_features::Packed;
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
}

/// Maps items to vectors, differentiably.
pub enum ItemVectors {
    /// Text through the encoder.
    Text(Box<Encoder>),
    /// A table `[items, width]`.
    Ids(Embedding),
}

impl ItemVectors {
    /// A fresh id table `[items, width]`, drawn from N(0, 0.05²) by `seed`.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn ids(items: usize, width: usize, seed: u64, device: &Device) -> Result<Self, RecommenderError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x1d5);
        // A sum of twelve uniforms less six is normal enough for an initial value.
        let values: Vec<f32> =
            (0..items * width).map(|_| ((0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0) * 0.05).collect();
        Ok(Self::Ids(Embedding::from_table(Var::from_vec(values, (items, width), device)?)?))
    }

    /// Length of one vector.
    pub fn width(&self) -> usize {
        match self {
            Self::Text(encoder) => encoder.hidden_size(),
            Self::Ids(table) => table.table().dims().get(1).copied().unwrap_or(0),
        }
    }

    /// Vectors `[items.len(), width]` of the given items, whose texts are `packed` in the same order; `cut` stands between the layers
    /// of the text encoder.
    pub(crate) fn forward(
        &self,
        items: &[u32],
        packed: &Packed,
        dropout: Option<u64>,
        cut: &mut dyn FnMut(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor, RecommenderError> {
        match self {
            Self::Text(encoder) => Ok(encoder.encode_with(packed, dropout, cut)?),
            Self::Ids(table) => Ok(table.forward(items)?),
        }
    }

    /// Trainable parameters in a fixed order.
    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        match self {
            Self::Text(encoder) => encoder.parameters(),
            Self::Ids(table) => vec![("items.table".into(), table.table().clone())],
        }
    }
}

/// `LayerNorm(W v + F f)`: the item's vector `v` and its features `f` (counts, rates, price, age) as of the moment of the request.
pub struct ItemTower {
    vector: Linear,
    features: Linear,
    norm: LayerNorm,
}

impl ItemTower {
    pub(crate) fn new(
        width: usize,
        features: usize,
        dim: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        Ok(Self {
            vector: Linear::new(width, dim, seed, device)?,
            features: Linear::new(features.max(1), dim, seed.wrapping_add(1), device)?,
            norm: LayerNorm::new(dim, 1e-5, device)?,
        })
    }

    /// `projected [samples, dim]` (see [`Self::project`]), `features [samples, features]` to `[samples, dim]`.
    pub(crate) fn forward(&self, projected: &Tensor, features: &Tensor) -> Result<Tensor, RecommenderError> {
        Ok(self.norm.forward(&(projected + self.features.forward(features)?)?)?)
    }

    /// `W v` for distinct items `[n, width]` to `[n, dim]`, shared by all samples that show the item.
    pub(crate) fn project(&self, vectors: &Tensor) -> Result<Tensor, RecommenderError> {
        Ok(self.vector.forward(vectors)?)
    }

    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.vector.parameters("items.vector");
        all.extend(self.features.parameters("items.features"));
        all.extend(self.norm.parameters("items.norm"));
        all
    }
}
