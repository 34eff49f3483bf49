//! Attention pooling: scores of learned queries, softmax within a bag, sums weighted by it.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::gradient::Gradient;
use super::reader::{Described, Reader};
use super::values::head_linear;
use super::{Bags, Parts};
use crate::kernels::norm::layer_norm;
use crate::kernels::simd::{add_scaled, dot, exp, max, sum, vectorized};
use crate::kernels::slices::{Floats, contiguous, tensor};

/// Bags that one task takes. Fixed, so that sums do not depend on the number of threads.
pub(super) const BAGS: usize = 16;

/// From the table and a matrix of parameters, whose rows are the queries and, with features, the norm's scale and shift, the bias of the
/// features' layer and its transposed weight.
struct AttendOp {
    bags: Bags,
    /// `[T, k]`.
    features: Option<Tensor>,
    epsilon: f32,
    heads: usize,
    /// Whether a backward pass may follow.
    keep: bool,
    /// For each bag `[heads, entries]`, end to end.
    weights: OnceLock<Vec<f32>>,
}

/// Where things lie among the rows of the parameters, of `width` numbers each.
pub(super) struct Rows<'a> {
    /// `[heads, width]`: queries times the norm's scale over the square root of the width.
    pub(super) scaled: Vec<f32>,
    pub(super) queries: &'a [f32],
    pub(super) factor: f32,
}

impl AttendOp {
    fn reader<'a>(
        &'a self,
        table: &'a [f32],
        width: usize,
        parameters: &'a [f32],
        features: Option<&'a [f32]>,
    ) -> Reader<'a> {
        let described = features.map(|features| {
            let mut rows = parameters.chunks_exact(width).skip(self.heads);
            let mut next = || rows.next().unwrap_or_default();
            let (scale, shift, bias) = (next(), next(), next());
            let layer = &parameters[(self.heads + 3) * width..];
            let count = layer.len() / width;
            Described { features, count, layer, bias, scale, shift, epsilon: self.epsilon }
        });
        Reader { bags: &self.bags, table, width, described }
    }

    fn rows<'a>(&self, reader: &Reader<'_>, parameters: &'a [f32]) -> Rows<'a> {
        let width = reader.width;
        let factor = 1.0 / (width as f32).sqrt();
        let queries = &parameters[..self.heads * width];
        let mut scaled: Vec<f32> = queries.iter().map(|query| query * factor).collect();
        if let Some(described) = &reader.described {
            for query in scaled.chunks_exact_mut(width) {
                query.iter_mut().zip(described.scale).for_each(|(query, scale)| *query *= scale);
            }
        }
        Rows { scaled, queries, factor }
    }

    fn check(&self, width: usize, parameters: &Layout) -> Result<()> {
        let expected =
            self.heads + self.features.as_ref().map_or(Ok(0), |values| values.dim(1).map(|count| count + 3))?;
        if parameters.dims() != [expected, width] {
            bail!("bag-attention: parameters {:?}, expected {:?}", parameters.dims(), [expected, width])
        }
        Ok(())
    }
}

/// What one bag's forward pass writes to `weights` `[heads, entries]` and `out` `[heads, width]`, zeros before; `rows` is scratch.
#[inline(always)]
fn one(reader: &Reader<'_>, queries: &[f32], bag: usize, weights: &mut [f32], rows: &mut Vec<f32>, out: &mut [f32]) {
    let (width, entries) = (reader.width, reader.bags.entries(bag));
    let count = entries.len();
    if count == 0 {
        return;
    }
    rows.resize(count * width, 0.0);
    for ((place, entry), row) in entries.enumerate().zip(rows.chunks_exact_mut(width)) {
        reader.read(entry, row);
        for (head, query) in queries.chunks_exact(width).enumerate() {
            weights[head * count + place] = dot(query, row);
        }
    }
    for (weights, out) in weights.chunks_exact_mut(count).zip(out.chunks_exact_mut(width)) {
        let highest = max(weights);
        weights.iter_mut().for_each(|weight| *weight = exp(*weight - highest));
        let share = 1.0 / sum(weights);
        weights.iter_mut().for_each(|weight| *weight *= share);
        for (row, weight) in rows.chunks_exact(width).zip(&*weights) {
            add_scaled(out, row, *weight);
        }
        if let Some(described) = &reader.described {
            for ((out, scale), shift) in out.iter_mut().zip(described.scale).zip(described.shift) {
                *out = *out * scale + shift;
            }
        }
    }
}

impl CustomOp2 for AttendOp {
    fn name(&self) -> &'static str {
        "bag-attention"
    }

    fn cpu_fwd(
        &self,
        table: &CpuStorage,
        table_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = tracing::trace_span!("bag-attention").entered();
        let (_, width) = table_layout.shape().dims2()?;
        self.check(width, parameters_layout)?;
        let table = contiguous(self.name(), table, table_layout)?;
        let parameters = contiguous(self.name(), parameters, parameters_layout)?;
        let features = self.features.as_ref().map(|values| Floats::of(self.name(), values)).transpose()?;
        let reader = self.reader(table, width, parameters, features.as_deref());
        let queries = self.rows(&reader, parameters).scaled;
        let (heads, starts) = (self.heads, &self.bags.starts);
        let wide = heads * width;
        let mut out = vec![0f32; self.bags.len() * wide];
        let mut weights = vec![0f32; starts[self.bags.len()] * heads];
        let mut tasks = Vec::new();
        let mut rest = weights.as_mut_slice();
        for (chunk, out) in out.chunks_mut(BAGS * wide).enumerate() {
            let first = chunk * BAGS;
            let entries = starts[first + out.len() / wide] - starts[first];
            let (own, others) = std::mem::take(&mut rest).split_at_mut(entries * heads);
            rest = others;
            tasks.push((first, own, out));
        }
        tasks.into_par_iter().for_each(|(first, weights, out)| {
            let mut rows = Vec::new();
            vectorized(
                #[inline(always)]
                || {
                    for (bag, out) in (first..).zip(out.chunks_exact_mut(wide)) {
                        let start = (starts[bag] - starts[first]) * heads;
                        let weights = &mut weights[start..][..(starts[bag + 1] - starts[bag]) * heads];
                        one(&reader, &queries, bag, weights, &mut rows, out);
                    }
                },
            );
        });
        if self.keep {
            let _ = self.weights.set(weights);
        }
        Ok((CpuStorage::F32(out), Shape::from((self.bags.len(), wide))))
    }

    fn bwd(
        &self,
        table: &Tensor,
        parameters: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = tracing::trace_span!("bag-attention-backward").entered();
        let Some(weights) = self.weights.get() else {
            bail!("bag-attention: backward without a forward pass that was tracked")
        };
        let (height, width) = table.dims2()?;
        let grad = grad.contiguous()?;
        let (values, matrix) = (Floats::of(self.name(), table)?, Floats::of(self.name(), parameters)?);
        let (grad, features) = (
            Floats::of(self.name(), &grad)?,
            self.features.as_ref().map(|values| Floats::of(self.name(), values)).transpose()?,
        );
        let reader = self.reader(&values, width, &matrix, features.as_deref());
        let rows = self.rows(&reader, &matrix);
        let gradient = Gradient { reader, rows: &rows, weights, grad: &grad, heads: self.heads };
        let (table_slope, parameter_slope) = gradient.compute(table.track_op(), matrix.len());
        let table_slope = table_slope.map(|slope| tensor(slope, (height, width))).transpose()?;
        let parameter_slope = parameters.track_op().then(|| tensor(parameter_slope, parameters.shape().clone()));
        Ok((table_slope, parameter_slope.transpose()?))
    }
}

/// `[rows, width]` to `[bags, outputs]`.
pub(in crate::kernels) fn attend(bags: &Bags, table: &Tensor, parts: &Parts) -> Result<Tensor> {
    let heads = parts.query.dim(0)?;
    let [scale, shift] = &parts.norm;
    let (table, parameters, features) = match &parts.features {
        // Rows are the same for all entries: they are normalized once.
        None => (layer_norm(table, scale, Some(shift), parts.epsilon)?, parts.query.clone(), None),
        Some([values, weight, bias]) => {
            let [scale, shift, bias] = [scale, shift, bias].map(|row| row.unsqueeze(0));
            let rows = [parts.query.clone(), scale?, shift?, bias?, weight.t()?.contiguous()?];
            (table.clone(), Tensor::cat(&rows, 0)?, Some(values.clone()))
        }
    };
    let op = AttendOp {
        bags: bags.clone(),
        features,
        epsilon: parts.epsilon as f32,
        heads,
        keep: table.track_op() || parameters.track_op(),
        weights: OnceLock::new(),
    };
    let sums = table.contiguous()?.apply_op2(&parameters.contiguous()?, op)?;
    let empty: Arc<[bool]> = bags.ranges.iter().map(ExactSizeIterator::len).map(|count| count == 0).collect();
    head_linear(&sums, &parts.value, heads, empty)
}
