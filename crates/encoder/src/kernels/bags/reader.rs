//! An entry of a bag as attention sees it.

use super::Bags;
use crate::kernels::simd::{add, add_scaled, dot, sum};

/// Makes `n_t` of entries, but for the norm's scale and shift.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) bags: &'a Bags,
    pub(super) table: &'a [f32],
    pub(super) width: usize,
    /// Without, rows of the table are what they are, normalized already.
    pub(super) described: Option<Described<'a>>,
}

/// What is added to rows before they are normalized, and the norm.
#[derive(Clone, Copy)]
pub(super) struct Described<'a> {
    /// `[T, count]`.
    pub(super) features: &'a [f32],
    pub(super) count: usize,
    /// `[count, width]`.
    pub(super) layer: &'a [f32],
    /// `[width]`, as the following.
    pub(super) bias: &'a [f32],
    pub(super) scale: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) epsilon: f32,
}

impl Described<'_> {
    #[inline(always)]
    pub(super) fn of(&self, entry: usize) -> &[f32] {
        &self.features[entry * self.count..][..self.count]
    }
}

impl Reader<'_> {
    /// Writes an entry to `out` `[width]`, with mean 0 and variance 1 if it is described; answers with what it was multiplied with.
    #[inline(always)]
    pub(super) fn read(&self, entry: usize, out: &mut [f32]) -> f32 {
        let row = &self.table[self.bags.rows[entry] as usize * self.width..][..self.width];
        let Some(described) = &self.described else {
            out.copy_from_slice(row);
            return 1.0;
        };
        out.iter_mut().zip(row).zip(described.bias).for_each(|((out, row), bias)| *out = row + bias);
        for (feature, layer) in described.of(entry).iter().zip(described.layer.chunks_exact(self.width)) {
            add_scaled(out, layer, *feature);
        }
        let share = 1.0 / self.width as f32;
        let mean = sum(out) * share;
        out.iter_mut().for_each(|value| *value -= mean);
        let factor = 1.0 / (dot(out, out) * share + described.epsilon).sqrt();
        out.iter_mut().for_each(|value| *value *= factor);
        factor
    }
}

/// The slope of an entry before its norm, in place, from that of what [`Reader::read`] made of it.
#[inline(always)]
pub(super) fn through_norm(slope: &mut [f32], normalized: &[f32], factor: f32) {
    let share = 1.0 / slope.len() as f32;
    let (mean, along) = (sum(slope) * share, dot(slope, normalized) * share);
    slope.iter_mut().zip(normalized).for_each(|(slope, value)| *slope = factor * (*slope - mean - value * along));
}

/// `sums += slope`, and for each feature `sums += feature · slope`: the bias's row, then those of the layer.
#[inline(always)]
pub(super) fn add_to_layer(bias: &mut [f32], layer: &mut [f32], features: &[f32], slope: &[f32]) {
    add(bias, slope);
    layer.chunks_exact_mut(slope.len()).zip(features).for_each(|(layer, feature)| add_scaled(layer, slope, *feature));
}
