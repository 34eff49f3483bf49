//! The sum of word, position and segment embeddings, normalized: one node of Candle's graph.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, Var, bail};
use rayon::prelude::*;

use crate::graph::{Gradient, Outbox, tie};
use crate::kernels::buffers::Buffer;
use crate::kernels::dropout::{Mask, masked};
use crate::kernels::linear::column_sums;
use crate::kernels::norm::{Norm, NormKind, Saved, Summands};
use crate::kernels::simd::vectorized;
use crate::kernels::slices::{Floats, ROWS, tensor};
use crate::parameter::{Parameter, Pass};

/// Word, position and segment tables, then scale and shift of the layer norm.
#[derive(Debug, Clone)]
pub(crate) struct Parameters(pub(crate) [Parameter; 5]);

impl Parameters {
    /// Their names in a Hub file.
    pub(crate) const NAMES: [&str; 5] = [
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.LayerNorm.weight",
        "embeddings.LayerNorm.bias",
    ];

    pub(crate) fn is_trained(&self) -> bool {
        self.0.iter().any(|parameter| parameter.var().is_some())
    }

    pub(crate) fn read<R>(&self, work: impl FnOnce([&[f32]; 5]) -> R) -> Result<R> {
        let tensors = self.0.each_ref().map(|parameter| parameter.get(Pass::INFERENCE));
        let floats = tensors.iter().map(|tensor| Floats::of("embeddings", tensor)).collect::<Result<Vec<_>>>()?;
        Ok(work(std::array::from_fn(|place| &floats[place][..])))
    }
}

/// `words[id] + positions[position] + segments[0]` for each token; the tables are `width` wide.
pub(crate) fn sum(tables: [&[f32]; 3], ids: &[u32], places: &[u32], width: usize, out: &mut [f32]) {
    let [words, positions, segments] = tables;
    let segment = &segments[..width];
    let tokens = ids.par_chunks(ROWS).zip(places.par_chunks(ROWS));
    out.par_chunks_mut(ROWS * width).zip(tokens).for_each(|(rows, (ids, places))| {
        vectorized(
            #[inline(always)]
            || {
                for ((row, &id), &place) in rows.chunks_exact_mut(width).zip(ids).zip(places) {
                    let word = &words[id as usize * width..][..width];
                    let position = &positions[place as usize * width..][..width];
                    for (((target, word), position), segment) in row.iter_mut().zip(word).zip(position).zip(segment) {
                        *target = word + segment + position;
                    }
                }
            },
        );
    });
}

struct Embeddings {
    parameters: Parameters,
    ids: Arc<[u32]>,
    places: Arc<[u32]>,
    width: usize,
    epsilon: f32,
    mask: Option<Mask>,
    first_token: usize,
    keep: bool,
    saved: OnceLock<Saved>,
    outbox: Arc<Outbox>,
}

impl CustomOp1 for Embeddings {
    fn name(&self) -> &'static str {
        "embeddings"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = tracing::trace_span!("embeddings").entered();
        let (tokens, width) = (self.ids.len(), self.width);
        let out = self.parameters.read(|[words, positions, segments, scale, shift]| {
            let within = |ids: &[u32], table: &[f32]| ids.iter().all(|&id| (id as usize) < table.len() / width);
            if width == 0 || !within(&self.ids, words) || !within(&self.places, positions) || segments.len() < width {
                bail!("embeddings: an id or a position is past the end of its table")
            }
            let mut total = Buffer::take(tokens * width);
            sum([words, positions, segments], &self.ids, &self.places, width, &mut total);
            let norm = Norm { scale, shift: Some(shift), kind: NormKind::Layer, epsilon: self.epsilon };
            let summands = Summands { x: &total, residual: None, mask: None, first_row: 0 };
            let mut out = vec![0f32; tokens * width];
            if self.keep {
                let _ = self.saved.set(norm.forward_saving(summands, &mut out));
            } else {
                norm.forward(summands, &mut out);
            }
            if let Some(mask) = self.mask {
                total.copy_from_slice(&out);
                masked(&total, &mut out, width, mask, self.first_token);
            }
            Ok(out)
        })??;
        Ok((CpuStorage::F32(out), Shape::from((tokens, width))))
    }

    fn bwd(&self, handle: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = tracing::trace_span!("embeddings-backward").entered();
        let Some(saved) = self.saved.get() else {
            bail!("embeddings: backward without a forward pass that was tracked")
        };
        let width = self.width;
        let source = grad.contiguous()?;
        let source = Floats::of(self.name(), &source)?;
        let mut grad = vec![0f32; source.len()];
        match self.mask {
            Some(mask) => masked(&source, &mut grad, width, mask, self.first_token),
            None => grad.copy_from_slice(&source),
        }
        let (scale, shift) = self.parameters.read(|[_, _, _, scale, shift]| {
            Norm { scale, shift: Some(shift), kind: NormKind::Layer, epsilon: self.epsilon }.backward(saved, &mut grad)
        })?;
        let [words, positions, segments, scale_var, shift_var] = self.parameters.0.each_ref().map(|p| p.var().cloned());
        let mut gradients: Vec<(Var, Gradient)> = Vec::new();
        let dense =
            |values: Vec<f32>, var: &Var| Ok::<_, candle_core::Error>(Gradient::Dense(tensor(values, var.shape())?));
        for (var, values) in [(scale_var, scale), (shift_var, shift)] {
            if let Some(var) = var {
                let gradient = dense(values, &var)?;
                gradients.push((var, gradient));
            }
        }
        if let Some(var) = segments {
            let mut values = column_sums(&grad, width);
            values.resize(var.elem_count(), 0.0);
            let gradient = dense(values, &var)?;
            gradients.push((var, gradient));
        }
        if let Some(var) = positions {
            let mut values = vec![0f32; var.elem_count()];
            for (row, &place) in grad.chunks_exact(width).zip(&*self.places) {
                let sums = &mut values[place as usize * width..][..width];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            let gradient = dense(values, &var)?;
            gradients.push((var, gradient));
        }
        if let Some(var) = words {
            gradients.push((var, Gradient::Rows { rows: Arc::clone(&self.ids), values: grad }));
        }
        self.outbox.put(gradients)?;
        Ok(if handle.track_op() { Some(handle.zeros_like()?) } else { None })
    }
}

/// The normalized sum for each token, `[tokens, width]`. The tokens have been checked.
pub(crate) fn embeddings(
    parameters: &Parameters,
    (width, epsilon): (usize, f32),
    ids: &[u32],
    places: &[u32],
    mask: Option<Mask>,
    pass: Pass,
) -> Result<Tensor> {
    let outbox = Arc::new(Outbox::default());
    let trained: Vec<Var> = parameters.0.iter().filter_map(|parameter| parameter.var().cloned()).collect();
    let handle = tie(if pass.track { &trained } else { &[] }, &outbox)?;
    handle.apply_op1(Embeddings {
        parameters: parameters.clone(),
        ids: ids.into(),
        places: places.into(),
        width,
        epsilon,
        mask,
        first_token: pass.first_token,
        keep: handle.track_op(),
        saved: OnceLock::new(),
        outbox,
    })
}
