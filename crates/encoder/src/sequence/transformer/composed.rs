//! What precedes the layers, of Candle's own operations: for other devices than the CPU, and as the twin that tests compare with.

use candle_core::{Result, Tensor};

use super::EPSILON;
use super::entry::{Entry, positions};
use crate::kernels::dropout::Mask;
use crate::network::composed::{drop, norm};

/// `dropout(norm(x + position))`.
pub(super) fn entry(x: &Tensor, entry: &Entry, offsets: &[u32], mask: Option<Mask>) -> Result<Tensor> {
    let places = Tensor::new(positions(offsets), x.device())?;
    let sum = (x + entry.table.index_select(&places, 0)?)?;
    let normalized = norm(&sum, &entry.scale, Some(entry.shift.as_tensor()), EPSILON)?;
    drop(&normalized, mask, 0..x.dim(0)? as u64)
}
