//! The sum of word, position and segment embeddings, scaled and normalized as the family does: one node of Candle's graph.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, Var, bail};
use rayon::prelude::*;

use crate::family::Architecture;
use crate::graph::{Gradient, Outbox, tie};
use crate::kernels::buffers::Buffer;
use crate::kernels::dropout::{Mask, masked};
use crate::kernels::linear::column_sums;
use crate::kernels::norm::{Norm, NormKind, Saved, Summands};
use crate::kernels::simd::vectorized;
use crate::kernels::slices::{Floats, ROWS, tensor};
use crate::parameter::{Parameter, Pass};

/// The tables, then scale and shift of the norm; what a family does not have is absent.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    pub(crate) words: Parameter,
    pub(crate) positions: Option<Parameter>,
    pub(crate) segments: Option<Parameter>,
    pub(crate) norm: Option<(Parameter, Option<Parameter>)>,
    pub(crate) width: usize,
    /// Row of the first position.
    pub(crate) first_position: usize,
    /// Factor of word embeddings.
    pub(crate) scale: f32,
    pub(crate) epsilon: f32,
}

/// The tables of [`Parameters`] as slices.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a> {
    words: &'a [f32],
    positions: Option<&'a [f32]>,
    segments: Option<&'a [f32]>,
    norm: Option<Norm<'a>>,
}

impl Parameters {
    pub(crate) fn new(architecture: &Architecture, named: &BTreeMap<String, Parameter>) -> Result<Self> {
        let names = &architecture.names;
        let take = |stem: &str, end: &str| match named.get(&format!("{stem}.{end}")) {
            Some(parameter) => Ok(parameter.clone()),
            None => bail!("no tensor `{stem}.{end}`"),
        };
        let norm = match names.embedding_norm {
            Some((stem, true)) => Some((take(stem, "weight")?, Some(take(stem, "bias")?))),
            Some((stem, false)) => Some((take(stem, "weight")?, None)),
            None => None,
        };
        Ok(Self {
            words: take(names.words, "weight")?,
            positions: names.positions.map(|stem| take(stem, "weight")).transpose()?,
            segments: names.segments.map(|stem| take(stem, "weight")).transpose()?,
            norm,
            width: architecture.hidden,
            first_position: architecture.first_position,
            scale: architecture.embedding_scale,
            epsilon: architecture.epsilon as f32,
        })
    }

    /// All of them.
    fn all(&self) -> impl Iterator<Item = &Parameter> {
        let norm = self.norm.iter().flat_map(|(scale, shift)| [Some(scale), shift.as_ref()]);
        let tables = [Some(&self.words), self.positions.as_ref(), self.segments.as_ref()];
        tables.into_iter().chain(norm).flatten()
    }

    fn vars(&self) -> Vec<Var> {
        self.all().filter_map(|parameter| parameter.var().cloned()).collect()
    }

    pub(crate) fn is_trained(&self) -> bool {
        self.all().any(|parameter| parameter.var().is_some())
    }

    /// Calls `work` with the tables as slices.
    pub(crate) fn read<R>(&self, work: impl FnOnce(Tables<'_>) -> R) -> Result<R> {
        let get = |parameter: &Parameter| parameter.get(Pass::INFERENCE);
        let (words, positions, segments) =
            (get(&self.words), self.positions.as_ref().map(get), self.segments.as_ref().map(get));
        let norm = self.norm.as_ref().map(|(scale, shift)| (get(scale), shift.as_ref().map(get)));
        let floats = |tensor| Floats::of("embeddings", tensor);
        let (words, positions, segments) =
            (floats(&words)?, positions.as_ref().map(floats).transpose()?, segments.as_ref().map(floats).transpose()?);
        let norm = match &norm {
            Some((scale, shift)) => Some((floats(scale)?, shift.as_ref().map(floats).transpose()?)),
            None => None,
        };
        Ok(work(Tables {
            words: &words,
            positions: positions.as_deref(),
            segments: segments.as_deref(),
            norm: norm.as_ref().map(|(scale, shift)| Norm {
                scale,
                shift: shift.as_deref(),
                kind: NormKind::Layer,
                epsilon: self.epsilon,
            }),
        }))
    }

    /// Calls `work` with all numbers.
    pub(crate) fn each(&self, mut work: impl FnMut(&[f32])) -> Result<()> {
        self.all().try_for_each(|parameter| {
            work(&Floats::of("embeddings", &parameter.get(Pass::INFERENCE))?);
            Ok(())
        })
    }

    /// The embeddings of tokens, without dropout; `total` is the sum that was normalized, and what that saved if it is to `keep`.
    pub(crate) fn forward(
        &self,
        tables: Tables<'_>,
        ids: &[u32],
        places: &[u32],
        out: &mut [f32],
        keep: bool,
    ) -> Option<Saved> {
        let Some(norm) = tables.norm else {
            self.sum(tables, ids, places, out);
            return None;
        };
        let mut total = Buffer::take(out.len());
        self.sum(tables, ids, places, &mut total);
        let summands = Summands { x: &total, residual: None, mask: None, first_row: 0 };
        if keep {
            return Some(norm.forward_saving(summands, out));
        }
        norm.forward(summands, out);
        None
    }

    /// `scale·words[id] + segments[0] + positions[position]` for each token.
    fn sum(&self, tables: Tables<'_>, ids: &[u32], places: &[u32], out: &mut [f32]) {
        let (width, scale) = (self.width, self.scale);
        let Tables { words, positions, segments, .. } = tables;
        let tokens = ids.par_chunks(ROWS).zip(places.par_chunks(ROWS));
        out.par_chunks_mut(ROWS * width).zip(tokens).for_each(|(rows, (ids, places))| {
            vectorized(
                #[inline(always)]
                || {
                    for ((row, &id), &place) in rows.chunks_exact_mut(width).zip(ids).zip(places) {
                        row.copy_from_slice(&words[id as usize * width..][..width]);
                        if scale != 1.0 {
                            row.iter_mut().for_each(|value| *value *= scale);
                        }
                        if let Some(segments) = segments {
                            row.iter_mut().zip(segments).for_each(|(value, segment)| *value += segment);
                        }
                        if let Some(positions) = positions {
                            let position = &positions[(self.first_position + place as usize) * width..][..width];
                            row.iter_mut().zip(position).for_each(|(value, position)| *value += position);
                        }
                    }
                },
            );
        });
    }

    /// Whether every token has its rows.
    fn holds(&self, tables: Tables<'_>, ids: &[u32], places: &[u32]) -> bool {
        let rows = |table: &[f32]| table.len() / self.width.max(1);
        let (words, positions) = (rows(tables.words), tables.positions.map(rows));
        self.width > 0
            && ids.iter().all(|&id| (id as usize) < words)
            && positions.is_none_or(|rows| places.iter().all(|&place| place as usize + self.first_position < rows))
            && tables.segments.is_none_or(|table| table.len() >= self.width)
    }
}

struct Embeddings {
    parameters: Parameters,
    ids: Arc<[u32]>,
    places: Arc<[u32]>,
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
        let (tokens, width) = (self.ids.len(), self.parameters.width);
        let out = self.parameters.read(|tables| {
            if !self.parameters.holds(tables, &self.ids, &self.places) {
                bail!("embeddings: an id or a position is past the end of its table")
            }
            let mut out = vec![0f32; tokens * width];
            if let Some(saved) = self.parameters.forward(tables, &self.ids, &self.places, &mut out, self.keep) {
                let _ = self.saved.set(saved);
            }
            if let Some(mask) = self.mask {
                let mut whole = Buffer::take(out.len());
                whole.copy_from_slice(&out);
                masked(&whole, &mut out, width, mask, self.first_token);
            }
            Ok(out)
        })??;
        Ok((CpuStorage::F32(out), Shape::from((tokens, width))))
    }

    fn bwd(&self, handle: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = tracing::trace_span!("embeddings-backward").entered();
        let parameters = &self.parameters;
        let width = parameters.width;
        let source = grad.contiguous()?;
        let source = Floats::of(self.name(), &source)?;
        let mut grad = vec![0f32; source.len()];
        match self.mask {
            Some(mask) => masked(&source, &mut grad, width, mask, self.first_token),
            None => grad.copy_from_slice(&source),
        }
        let mut gradients: Vec<(Var, Gradient)> = Vec::new();
        let dense =
            |values: Vec<f32>, var: &Var| Ok::<_, candle_core::Error>(Gradient::Dense(tensor(values, var.shape())?));
        if let Some((scale_at, shift_at)) = &parameters.norm {
            let Some(saved) = self.saved.get() else {
                bail!("embeddings: backward without a forward pass that was tracked")
            };
            let norm = |tables: Tables<'_>| tables.norm.map(|norm| norm.backward(saved, &mut grad));
            if let Some((scale, shift)) = parameters.read(norm)? {
                for (parameter, values) in [(Some(scale_at), scale), (shift_at.as_ref(), shift)] {
                    if let Some(var) = parameter.and_then(Parameter::var) {
                        gradients.push((var.clone(), dense(values, var)?));
                    }
                }
            }
        }
        if let Some(var) = parameters.segments.as_ref().and_then(Parameter::var) {
            let mut values = column_sums(&grad, width);
            values.resize(var.elem_count(), 0.0);
            gradients.push((var.clone(), dense(values, var)?));
        }
        if let Some(var) = parameters.positions.as_ref().and_then(Parameter::var) {
            let mut values = vec![0f32; var.elem_count()];
            for (row, &place) in grad.chunks_exact(width).zip(&*self.places) {
                let sums = &mut values[(parameters.first_position + place as usize) * width..][..width];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            gradients.push((var.clone(), dense(values, var)?));
        }
        if let Some(var) = parameters.words.var() {
            if parameters.scale != 1.0 {
                grad.iter_mut().for_each(|value| *value *= parameters.scale);
            }
            gradients.push((var.clone(), Gradient::Rows { rows: Arc::clone(&self.ids), values: grad }));
        }
        self.outbox.put(gradients)?;
        Ok(if handle.track_op() { Some(handle.zeros_like()?) } else { None })
    }
}

/// The embeddings of tokens, `[tokens, width]`. The tokens have been checked.
pub(crate) fn embeddings(
    parameters: &Parameters,
    ids: &[u32],
    places: &[u32],
    mask: Option<Mask>,
    pass: Pass,
) -> Result<Tensor> {
    let outbox = Arc::new(Outbox::default());
    let handle = tie(&if pass.track { parameters.vars() } else { Vec::new() }, &outbox)?;
    handle.apply_op1(Embeddings {
        parameters: parameters.clone(),
        ids: ids.into(),
        places: places.into(),
        mask,
        first_token: pass.first_token,
        keep: handle.track_op(),
        saved: OnceLock::new(),
        outbox,
    })
}
