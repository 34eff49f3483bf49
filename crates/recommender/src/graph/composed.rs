//! The same propagation of Candle's own operations, for other devices and as the kernel's twin in tests.

use candle_core::{Device, Result, Tensor};

use super::adjacency::Adjacency;

/// `1/(layers + 1) · Σ Âˡ x` on the device of `x`, in its type. Holds `layers` matrices `[entries, d]` for the backward pass.
pub(super) fn mean_of_layers(x: &Tensor, adjacency: &Adjacency, layers: usize) -> Result<Tensor> {
    let device = x.device();
    let gain = 1.0 / (layers + 1) as f64;
    if adjacency.neighbours().is_empty() {
        return x * gain;
    }
    let rows = (0..adjacency.nodes()).flat_map(|row| adjacency.row(row).map(move |_| row as u32));
    let rows = Tensor::new(rows.collect::<Vec<u32>>(), device)?;
    let neighbours = Tensor::new(adjacency.neighbours(), device)?;
    // Not every device has `f64`.
    let entries = adjacency.exact();
    let entries = Tensor::from_vec(entries, (adjacency.neighbours().len(), 1), &Device::Cpu)?;
    let entries = entries.to_dtype(x.dtype())?.to_device(device)?;
    let x = x.contiguous()?;
    let mut y = x.clone();
    for _ in 0..layers {
        let messages = y.index_select(&neighbours, 0)?.broadcast_mul(&entries)?;
        y = x.index_add(&rows, &messages, 0)?;
    }
    y * gain
}
