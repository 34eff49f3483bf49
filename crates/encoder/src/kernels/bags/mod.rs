//! Sets of rows of a table ("bags") and one vector for each of them: their mean, or what attention makes of them.
//!
//! Entries of a bag are numbers of rows, so that a row which a thousand bags hold lies in memory once: what an entry costs is a read of
//! its row, never a copy of it, forward and backward. Every entry may carry features of its own, which a linear layer adds to its row:
//!
//! ```text
//! x_t = table[row_t] + W f_t + b
//! ```
//!
//! The mean of these is the mean of the rows beside `W` times the mean of the features. Attention computes `x_t` where it needs it, in the
//! backward pass once more.

mod attend;
pub(super) mod composed;
mod gradient;
mod mean;
mod reader;
mod scatter;
mod values;

use std::ops::Range;
use std::sync::Arc;

#[cfg(test)]
pub(super) use attend::attend as attend_parts;
use candle_core::{DType, Result, Tensor, bail};
#[cfg(test)]
pub(super) use mean::mean as mean_parts;

use crate::layers::{LayerNorm, Linear};

/// Sets of rows of a table: entries end to end, and which of them each bag holds. Bags may share entries and may be empty.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use paretune_encoder::Bags;
///
/// let table = Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu)?;
/// let bags = Bags::new(&[2, 0, 2], &[0..2, 0..0, 1..3])?;
/// assert_eq!(bags.mean(&table, None)?.to_vec2::<f32>()?, [[3.0, 4.0], [0.0, 0.0], [3.0, 4.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bags {
    /// `[T]`: the row of each entry.
    rows: Arc<[u32]>,
    /// `[bags]`: the entries of each bag.
    ranges: Arc<[Range<u32>]>,
    /// `[bags + 1]`: how many entries the bags before hold, an entry of two bags counted twice.
    starts: Arc<[usize]>,
}

/// What entries of bags say beside their rows, and the layer that reads it.
#[derive(Debug, Clone, Copy)]
pub struct EntryFeatures<'a> {
    /// `[T, features]`; they get no gradient.
    pub values: &'a Tensor,
    /// From features to the width of the table.
    pub layer: &'a Linear,
}

/// Attention pooling with learned queries (Lin et al. 2017, "A structured self-attentive sentence embedding"). With `h` heads, the vector
/// of a bag is, for entries `t` of it,
///
/// ```text
/// n_t = norm(x_t)
/// a_i = softmax_t(query_i · n_t / √width)
/// y   = [V_1 Σ_t a_1t n_t + b_1; …; V_h Σ_t a_ht n_t + b_h]      V_i, b_i: the i-th part of `value`'s outputs
/// ```
///
/// Weights sum to one, so that values are those of the sum rather than the sum of values.
#[derive(Debug, Clone, Copy)]
pub struct BagAttention<'a> {
    /// Features of entries.
    pub features: Option<EntryFeatures<'a>>,
    /// Of rows of the table's width.
    pub norm: &'a LayerNorm,
    /// `[heads, width]`.
    pub query: &'a Tensor,
    /// From the table's width to a multiple of the number of heads.
    pub value: &'a Linear,
}

/// The tensors of a [`BagAttention`].
pub(super) struct Parts {
    /// `[T, k]`, with the weight `[width, k]` and bias `[width]` of their layer.
    pub(super) features: Option<[Tensor; 3]>,
    /// `[width]` each.
    pub(super) norm: [Tensor; 2],
    pub(super) epsilon: f64,
    /// `[heads, width]`.
    pub(super) query: Tensor,
    /// `[outputs, width]` and `[outputs]`.
    pub(super) value: [Tensor; 2],
}

impl Bags {
    /// Bags of entries `[T]`, numbers of rows of a table.
    ///
    /// # Errors
    /// If a range is not one of entries.
    pub fn new(rows: &[u32], ranges: &[Range<u32>]) -> Result<Self> {
        let count = rows.len();
        if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end as usize > count) {
            bail!("a bag of the entries {}..{} does not fit {count} entries", range.start, range.end)
        }
        let mut starts = vec![0];
        let mut end = 0;
        starts.extend(ranges.iter().map(|range| {
            end += range.len();
            end
        }));
        Ok(Self { rows: rows.into(), ranges: ranges.into(), starts: starts.into() })
    }

    /// Number of bags.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is no bag.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The mean of each bag's `x_t`, `[bags, width]`; zero of an empty one. `table` is `[rows, width]`.
    ///
    /// # Errors
    /// If an entry is no row of the table, or the features do not fit.
    pub fn mean(&self, table: &Tensor, features: Option<EntryFeatures<'_>>) -> Result<Tensor> {
        let width = self.width(table)?;
        if self.rows.is_empty() || self.is_empty() {
            return Tensor::zeros((self.len(), width), table.dtype(), table.device());
        }
        let features = features.map(|features| self.features(features, width)).transpose()?;
        match fused(table) {
            true => mean::mean(self, table, features.as_ref()),
            false => composed::mean(self, table, features.as_ref()),
        }
    }

    /// What attention makes of each bag, `[bags, outputs of value]`; zero of an empty one. `table` is `[rows, width]`.
    ///
    /// # Errors
    /// If an entry is no row of the table, or widths do not fit.
    pub fn attend(&self, table: &Tensor, attention: &BagAttention<'_>) -> Result<Tensor> {
        let width = self.width(table)?;
        let (heads, wide) = attention.query.dims2()?;
        let (inputs, outputs) = (attention.value.inputs(), attention.value.outputs());
        if wide != width || inputs != width || heads == 0 || !outputs.is_multiple_of(heads) {
            bail!(
                "attention over rows of {width} needs queries and values of that width, and as many outputs for each head; got {heads} \
                 queries of {wide} and values from {inputs} to {outputs}"
            )
        }
        if self.rows.is_empty() || self.is_empty() {
            return Tensor::zeros((self.len(), outputs), table.dtype(), table.device());
        }
        let (norm, epsilon) = attention.norm.tensors();
        let parts = Parts {
            features: attention.features.map(|features| self.features(features, width)).transpose()?,
            norm,
            epsilon,
            query: attention.query.clone(),
            value: attention.value.tensors(),
        };
        match fused(table) {
            true => attend::attend(self, table, &parts),
            false => composed::attend(self, table, &parts),
        }
    }

    /// The table's width, if it has all rows.
    fn width(&self, table: &Tensor) -> Result<usize> {
        let (height, width) = table.dims2()?;
        if let Some(row) = self.rows.iter().find(|&&row| row as usize >= height) {
            bail!("an entry of row {row} is in none of the {height} rows of the table")
        }
        if width == 0 {
            bail!("the table has no columns")
        }
        Ok(width)
    }

    /// The features with the weight and the bias of their layer.
    fn features(&self, features: EntryFeatures<'_>, width: usize) -> Result<[Tensor; 3]> {
        let (inputs, outputs) = (features.layer.inputs(), features.layer.outputs());
        if features.values.dims() != [self.rows.len(), inputs] || outputs != width {
            bail!(
                "features {:?} and a layer from {inputs} to {outputs} do not fit {} entries of rows of {width}",
                features.values.dims(),
                self.rows.len()
            )
        }
        let [weight, bias] = features.layer.tensors();
        Ok([features.values.contiguous()?.detach(), weight, bias])
    }

    /// The entries of a bag.
    #[inline(always)]
    fn entries(&self, bag: usize) -> Range<usize> {
        let range = &self.ranges[bag];
        range.start as usize..range.end as usize
    }
}

fn fused(table: &Tensor) -> bool {
    table.device().is_cpu() && table.dtype() == DType::F32
}
