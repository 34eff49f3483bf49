//! Vectors of items that were made elsewhere, and how they join what items are otherwise known by.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use paretune_data::VectorTable;
use serde::{Deserialize, Serialize};

use crate::RecommenderError;

/// How an item's vectors (of its text, of its id, those made elsewhere) become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Each goes through a layer of its own, and the results are added.
    #[default]
    Sum,
    /// A gate for each column of the result weighs them: [`Fusion`](crate::Fusion).
    Gate,
}

impl Combine {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Gate => "gate",
        }
    }

    pub(crate) fn is_sum(&self) -> bool {
        *self == Self::Sum
    }
}

/// Vectors made elsewhere for the items of a catalogue: of images, of sound. They are inputs and are never trained.
///
/// ```
/// use candle_core::Device;
/// use paretune_data::VectorTable;
/// use paretune_recommender::{Combine, GivenVectors, Inputs, ItemVectors};
///
/// // Three items, of which the second has no image.
/// let table = VectorTable::from_rows(&[Some(&[0.5, 1.0]), None, Some(&[0.0, -1.0])])?;
/// let images = GivenVectors::new("image", table, &Device::Cpu)?;
/// assert_eq!((images.width(), images.present()), (2, &[true, false, true][..]));
/// let met = vec![true, true, false]; // in training
/// let inputs = Inputs::from(ItemVectors::met_ids(met, 16, 1, &Device::Cpu)?).with_vectors(vec![images], Combine::Gate);
/// # drop(inputs);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct GivenVectors {
    name: String,
    /// `[items, width]`, zeros for items without a vector.
    values: Tensor,
    present: Arc<[bool]>,
    checksum: String,
}

impl GivenVectors {
    /// The vectors of a table under a name, on the device of the model.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(name: impl Into<String>, table: VectorTable, device: &Device) -> Result<Self, RecommenderError> {
        let (checksum, width) = (table.checksum().to_owned(), table.width());
        let (values, present) = table.into_parts();
        let values = Tensor::from_vec(values, (present.len(), width), device)?;
        Ok(Self { name: name.into(), values, present: present.into(), checksum })
    }

    /// What they are of.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.values.dims().get(1).copied().unwrap_or(0)
    }

    /// Whether each item has a vector.
    pub fn present(&self) -> &[bool] {
        &self.present
    }

    /// [`VectorTable::checksum`] of what they were made from: a saved model takes no others.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// `[items, width]` of the whole catalogue.
    pub fn all(&self) -> &Tensor {
        &self.values
    }

    /// `[n, width]` of these items.
    pub(crate) fn rows(&self, items: &[u32]) -> candle_core::Result<Tensor> {
        // The whole catalogue, as propagation over a graph asks for it, is there already.
        match items.len() == self.present.len() && (0u32..).zip(items).all(|(at, item)| at == *item) {
            true => Ok(self.values.clone()),
            false => self.values.index_select(&Tensor::new(items, self.values.device())?, 0),
        }
    }

    /// Whether each of these items has a vector.
    pub(crate) fn present_of(&self, items: &[u32]) -> Vec<bool> {
        items.iter().map(|item| self.present.get(*item as usize).copied().unwrap_or(false)).collect()
    }
}

/// Whether vectors fit a catalogue of so many items, and have names of their own.
pub(crate) fn check(given: &[GivenVectors], items: usize) -> Result<(), RecommenderError> {
    for (place, vectors) in given.iter().enumerate() {
        let name = vectors.name.clone();
        if name.is_empty() || given[..place].iter().any(|other| other.name == name) {
            let problem = "the name is empty or taken; give each file of vectors a name of its own".to_owned();
            return Err(RecommenderError::Vectors { name, problem });
        }
        if vectors.present.len() != items {
            let problem = format!("they are for {} items, and the catalogue has {items}", vectors.present.len());
            return Err(RecommenderError::Vectors { name, problem });
        }
    }
    Ok(())
}
