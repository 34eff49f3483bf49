//! The same of Candle's own operations, for other devices and types: bags padded to the longest.

use candle_core::{Result, Tensor};

use super::{Bags, Parts};
use crate::network::composed::{linear, norm};

/// Bags as one block `[bags, L, …]`, padded behind. `L` is the longest.
struct Padded {
    length: usize,
    /// `[bags · L]`: the entry of each cell; any entry for padding.
    entries: Tensor,
    /// `[bags, L]`: 1 for an entry, 0 for padding.
    mask: Tensor,
}

impl Padded {
    fn new(bags: &Bags, like: &Tensor) -> Result<Self> {
        let length = bags.ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let mut entries = vec![0u32; bags.len() * length];
        let mut mask = vec![0f32; bags.len() * length];
        for (bag, range) in bags.ranges.iter().enumerate() {
            for (cell, entry) in (bag * length..).zip(range.clone()) {
                entries[cell] = entry;
                mask[cell] = 1.0;
            }
        }
        let mask = Tensor::from_vec(mask, (bags.len(), length), like.device())?.to_dtype(like.dtype())?;
        Ok(Self { length, entries: Tensor::new(entries, like.device())?, mask })
    }

    /// Rows of `[T, width]` as `[bags · L, width]`.
    fn rows(&self, entries: &Tensor) -> Result<Tensor> {
        entries.index_select(&self.entries, 0)
    }
}

/// `x_t` of all entries, `[T, width]`.
fn entries(bags: &Bags, table: &Tensor, features: Option<&[Tensor; 3]>) -> Result<Tensor> {
    let rows = table.index_select(&Tensor::new(&*bags.rows, table.device())?, 0)?;
    match features {
        Some([values, weight, bias]) => rows + linear(values, weight, bias)?,
        None => Ok(rows),
    }
}

pub(crate) fn mean(bags: &Bags, table: &Tensor, features: Option<&[Tensor; 3]>) -> Result<Tensor> {
    let padded = Padded::new(bags, table)?;
    if padded.length == 0 {
        return Tensor::zeros((bags.len(), table.dim(1)?), table.dtype(), table.device());
    }
    let counts = padded.mask.sum_keepdim(1)?.clamp(1.0, f64::MAX)?;
    let shares = padded.mask.broadcast_div(&counts)?.unsqueeze(2)?;
    let rows = padded.rows(&entries(bags, table, features)?)?;
    rows.reshape((bags.len(), padded.length, table.dim(1)?))?.broadcast_mul(&shares)?.sum(1)
}

pub(crate) fn attend(bags: &Bags, table: &Tensor, parts: &Parts) -> Result<Tensor> {
    let padded = Padded::new(bags, table)?;
    let (heads, width) = parts.query.dims2()?;
    let [weight, bias] = &parts.value;
    let outputs = weight.dim(0)?;
    let (count, length) = (bags.len(), padded.length);
    if length == 0 {
        return Tensor::zeros((count, outputs), table.dtype(), table.device());
    }
    let [scale, shift] = &parts.norm;
    let x = norm(&entries(bags, table, parts.features.as_ref())?, scale, Some(shift), parts.epsilon)?;
    let x = padded.rows(&x)?;
    let values = linear(&x, weight, bias)?.reshape((count, length, heads, outputs / heads))?;
    let scores = (x.matmul(&parts.query.t()?)? / (width as f64).sqrt())?.reshape((count, length, heads))?;
    // Padding is pushed down before the maximum is taken and cut to an exact zero after the exponential.
    let mask = padded.mask.unsqueeze(2)?;
    let scores = scores.broadcast_add(&((&mask - 1.0)? * 1e4)?)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(1)?.detach())?.exp()?.broadcast_mul(&mask)?;
    let total = (weights.sum_keepdim(1)? + 1e-30)?;
    let weights = weights.broadcast_div(&total)?.unsqueeze(3)?;
    values.broadcast_mul(&weights)?.sum(1)?.reshape((count, outputs))
}
