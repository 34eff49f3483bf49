//! A symmetric sparse matrix in compressed rows, normalised by degrees.

use std::ops::Range;

use super::dropout::dropped;

/// An undirected edge, `low < high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Edge {
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) weight: f32,
}

/// `Â = D^-½ A D^-½` with `D_ii = Σ_j A_ij`, every edge in the rows of both its ends, neighbours ascending.
///
/// A node without edges is its own neighbour with `Â_ii = 1`, so that propagation leaves it as it is.
#[derive(Debug)]
pub(super) struct Adjacency {
    /// `[nodes + 1]`: where each row begins.
    offsets: Vec<usize>,
    neighbours: Vec<u32>,
    /// `A_ij`.
    weights: Vec<f32>,
    /// `Â_ij`, computed in `f64` and rounded.
    coefficients: Vec<f32>,
    /// `[nodes]`: `D_ii`; 0 for a node without edges.
    degrees: Vec<f64>,
}

/// `D_ii^-½`, and 1 for a node without edges.
fn scale(degree: f64) -> f64 {
    if degree > 0.0 { 1.0 / degree.sqrt() } else { 1.0 }
}

impl Adjacency {
    /// `edges` are sorted by `(low, high)`, each pair once, all ends below `nodes`.
    pub(super) fn new(nodes: usize, edges: &[Edge]) -> Self {
        let mut offsets = vec![0usize; nodes + 1];
        for edge in edges {
            offsets[edge.low as usize + 1] += 1;
            offsets[edge.high as usize + 1] += 1;
        }
        let alone: Vec<bool> = offsets[1..].iter().map(|count| *count == 0).collect();
        let mut end = 0;
        for count in &mut offsets[1..] {
            end += (*count).max(1);
            *count = end;
        }
        let mut next = offsets[..nodes].to_vec();
        let mut neighbours = vec![0u32; end];
        let mut weights = vec![1f32; end];
        // Sorted edges fill each row with the lower neighbours first, then with the higher ones: ascending.
        for edge in edges {
            for (row, neighbour) in [(edge.low, edge.high), (edge.high, edge.low)] {
                let place = &mut next[row as usize];
                neighbours[*place] = neighbour;
                weights[*place] = edge.weight;
                *place += 1;
            }
        }
        let mut degrees = vec![0f64; nodes];
        for (row, (degree, alone)) in degrees.iter_mut().zip(alone).enumerate() {
            let places = offsets[row]..offsets[row + 1];
            if alone {
                neighbours[places.start] = row as u32;
            } else {
                *degree = weights[places].iter().map(|weight| f64::from(*weight)).sum();
            }
        }
        let mut matrix = Self { offsets, neighbours, weights, coefficients: Vec::new(), degrees };
        matrix.coefficients = matrix.exact().into_iter().map(|coefficient| coefficient as f32).collect();
        matrix
    }

    /// `Â_ij` in `f64`.
    pub(super) fn exact(&self) -> Vec<f64> {
        let scales: Vec<f64> = self.degrees.iter().map(|degree| scale(*degree)).collect();
        let mut coefficients = Vec::with_capacity(self.neighbours.len());
        for row in 0..self.nodes() {
            for place in self.row(row) {
                // The product of the scales comes first, so that both directions of an edge are the same bits.
                let scale = scales[row] * scales[self.neighbours[place] as usize];
                coefficients.push(f64::from(self.weights[place]) * scale);
            }
        }
        coefficients
    }

    pub(super) fn nodes(&self) -> usize {
        self.degrees.len()
    }

    /// Places of the entries of `row`.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }

    /// Columns of all entries, row by row.
    pub(super) fn neighbours(&self) -> &[u32] {
        &self.neighbours
    }

    /// `Â_ij` of all entries, row by row.
    pub(super) fn coefficients(&self) -> &[f32] {
        &self.coefficients
    }

    pub(super) fn degrees(&self) -> &[f64] {
        &self.degrees
    }

    /// Undirected edges.
    pub(super) fn edges(&self) -> usize {
        (0..self.nodes()).map(|row| self.neighbours[self.row(row)].iter().filter(|n| **n as usize > row).count()).sum()
    }

    /// Without the edges that `seed` drops with probability `p`, the others times `1 / (1 - p)`, so that the mean over seeds is this
    /// matrix. Degrees stay those of the whole graph.
    pub(super) fn thinned(&self, p: f64, seed: u64) -> Self {
        let gain = 1.0 / (1.0 - p);
        let mut offsets = Vec::with_capacity(self.offsets.len());
        let capacity = (self.neighbours.len() as f64 * (1.0 - p) * 1.02) as usize;
        let mut neighbours = Vec::with_capacity(capacity);
        let (mut weights, mut coefficients) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        offsets.push(0);
        for row in 0..self.nodes() {
            for place in self.row(row) {
                let neighbour = self.neighbours[place];
                let alone = neighbour as usize == row;
                if alone || !dropped(row as u32, neighbour, p, seed) {
                    let gain = if alone { 1.0 } else { gain };
                    neighbours.push(neighbour);
                    weights.push((f64::from(self.weights[place]) * gain) as f32);
                    coefficients.push((f64::from(self.coefficients[place]) * gain) as f32);
                }
            }
            offsets.push(neighbours.len());
        }
        Self { offsets, neighbours, weights, coefficients, degrees: self.degrees.clone() }
    }
}
