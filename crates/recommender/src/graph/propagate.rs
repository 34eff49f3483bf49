//! Graph convolution without weights: every node becomes the mean of what its surroundings are.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::adjacency::Adjacency;
use super::{Graph, GraphError, composed};

/// Rows that one task computes.
const ROWS: usize = 32;

/// `1/(L + 1) · Σ_{l=0}^{L} Âˡ x` for `x [nodes, d]` and `L` layers: the propagation of LightGCN (He et al. 2020, "LightGCN:
/// simplifying and powering graph convolution network for recommendation", equations 3, 4 and 8), differentiable in `x`.
///
/// On the CPU the layers are one operation of `f32` or `f64`, evaluated from the inside (`y ← x + Â y`), so that it holds two matrices
/// `[nodes, d]` however many layers there are. `Â` is symmetric: the backward pass is the same product. Each row is summed in the order
/// of its neighbours; results are the same bits whatever the number of threads. Other devices take Candle's own operations.
///
/// A node without edges keeps its vector: its row of `Â` is a 1 on the diagonal. (With a row of zeros, as LightGCN's authors have it, the
/// mean would divide the vector by `L + 1`, and every score of a new item with it.)
///
/// ```
/// use candle_core::{Device, Tensor};
/// use paretune_recommender::{Graph, propagate};
///
/// // A user, an item, and an item that nobody knows.
/// let graph = Graph::interactions(1, 2, [(0, 0)])?;
/// let x = Tensor::new(&[[1f32, 0.0], [0.0, 2.0], [5.0, 5.0]], &Device::Cpu)?;
/// let y = propagate(&x, &graph, 1)?.to_vec2::<f32>()?;
/// assert_eq!(y, [[0.5, 1.0], [0.5, 1.0], [5.0, 5.0]]);
/// # Ok::<(), paretune_recommender::GraphError>(())
/// ```
///
/// # Errors
/// When `x` has not a row for every node, or is of another type than `f32` or `f64`.
pub fn propagate(x: &Tensor, graph: &Graph, layers: usize) -> std::result::Result<Tensor, GraphError> {
    if x.rank() != 2 || x.dims()[0] != graph.nodes() {
        return Err(GraphError::Shape {
            what: "the vectors of the nodes",
            found: x.dims().to_vec(),
            rows: graph.nodes(),
            width: "any width".to_owned(),
        });
    }
    if layers == 0 {
        return Ok(x.clone());
    }
    Ok(match x.device().is_cpu() {
        true => x.contiguous()?.apply_op1(Propagate { adjacency: Arc::clone(&graph.adjacency), layers })?,
        false => composed::mean_of_layers(x, &graph.adjacency, layers)?,
    })
}

struct Propagate {
    adjacency: Arc<Adjacency>,
    layers: usize,
}

impl CustomOp1 for Propagate {
    fn name(&self) -> &'static str {
        "propagate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (nodes, width) = layout.shape().dims2()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("propagate needs contiguous tensors, got strides {:?}; call contiguous() first", layout.stride())
        };
        if nodes != self.adjacency.nodes() {
            bail!("propagate: {nodes} rows for a graph of {} nodes", self.adjacency.nodes())
        }
        let out = match storage {
            CpuStorage::F32(x) => CpuStorage::F32(mean_of_layers(&x[start..end], &self.adjacency, width, self.layers)),
            CpuStorage::F64(x) => CpuStorage::F64(mean_of_layers(&x[start..end], &self.adjacency, width, self.layers)),
            other => bail!("propagate takes {:?} or {:?}, got {:?}", DType::F32, DType::F64, other.dtype()),
        };
        Ok((out, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(self)?))
    }
}

/// The two types of numbers.
pub(super) trait Real: Copy + Send + Sync + std::ops::Mul<Output = Self> + 'static {
    const ZERO: Self;
    const ONE: Self;

    /// `self · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;

    /// `1 / count`.
    fn inverse(count: usize) -> Self;

    /// The entries of the matrix.
    fn entries(adjacency: &Adjacency) -> Cow<'_, [Self]>;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }

    fn inverse(count: usize) -> Self {
        1.0 / count as f32
    }

    fn entries(adjacency: &Adjacency) -> Cow<'_, [Self]> {
        Cow::Borrowed(adjacency.coefficients())
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f64::mul_add(self, a, b)
    }

    fn inverse(count: usize) -> Self {
        1.0 / count as f64
    }

    fn entries(adjacency: &Adjacency) -> Cow<'_, [Self]> {
        Cow::Owned(adjacency.exact())
    }
}

/// Horner's scheme: `y ← x + Â y`, begun with `y = x`, and divided by `layers + 1` in the last round. `layers` is at least 1.
pub(super) fn mean_of_layers<T: Real>(x: &[T], adjacency: &Adjacency, width: usize, layers: usize) -> Vec<T> {
    let entries = T::entries(adjacency);
    let matrix = Matrix { adjacency, entries: &entries, width };
    let gain = |layer: usize| if layer == layers { T::inverse(layers + 1) } else { T::ONE };
    let mut y = vec![T::ZERO; x.len()];
    matrix.round(x, x, &mut y, gain(1));
    let mut next = if layers > 1 { vec![T::ZERO; x.len()] } else { Vec::new() };
    for layer in 2..=layers {
        matrix.round(x, &y, &mut next, gain(layer));
        std::mem::swap(&mut y, &mut next);
    }
    y
}

struct Matrix<'a, T> {
    adjacency: &'a Adjacency,
    entries: &'a [T],
    width: usize,
}

impl<T: Real> Matrix<'_, T> {
    /// `out = gain · (x + Â y)`.
    fn round(&self, x: &[T], y: &[T], out: &mut [T], gain: T) {
        if self.width == 0 {
            return;
        }
        let blocks = out.par_chunks_mut(ROWS * self.width).enumerate();
        blocks.for_each(|(block, out)| {
            pulp::Arch::new().dispatch(Block { matrix: self, first: block * ROWS, x, y, out, gain });
        });
    }
}

/// Some rows of a round. A type of its own, not a closure: the call of a closure is not always inlined into the code that is compiled for
/// the processor's instruction set, and costs a call for each multiplication then.
struct Block<'a, T> {
    matrix: &'a Matrix<'a, T>,
    /// Row of the matrix where `out` begins.
    first: usize,
    x: &'a [T],
    y: &'a [T],
    out: &'a mut [T],
    gain: T,
}

impl<T: Real> WithSimd for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { matrix, first, x, y, out, gain } = self;
        for (row, out) in (first..).zip(out.chunks_exact_mut(matrix.width)) {
            let places = matrix.adjacency.row(row);
            let neighbours = &matrix.adjacency.neighbours()[places.clone()];
            let sums = Row { neighbours, entries: &matrix.entries[places], y, gain };
            let x = &x[row * matrix.width..][..matrix.width];
            let at = sums.columns::<64>(0, x, out);
            let at = sums.columns::<16>(at, x, out);
            let at = sums.columns::<4>(at, x, out);
            sums.columns::<1>(at, x, out);
        }
    }
}

/// One row of the matrix.
struct Row<'a, T> {
    neighbours: &'a [u32],
    entries: &'a [T],
    y: &'a [T],
    gain: T,
}

impl<T: Real> Row<'_, T> {
    /// As many times `N` columns of `out` as there are from `first`, their sums in registers; answers with the column after them.
    #[inline(always)]
    fn columns<const N: usize>(&self, first: usize, x: &[T], out: &mut [T]) -> usize {
        let width = out.len();
        let mut at = first;
        while at + N <= width {
            let mut sums = [T::ZERO; N];
            sums.copy_from_slice(&x[at..at + N]);
            for (neighbour, entry) in self.neighbours.iter().zip(self.entries) {
                let values = &self.y[*neighbour as usize * width + at..][..N];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = entry.mul_add(*value, *sum);
                }
            }
            for (out, sum) in out[at..at + N].iter_mut().zip(sums) {
                *out = sum * self.gain;
            }
            at += N;
        }
        at
    }
}
