//! The sum of word, position and segment embeddings, and the scattered gradients of the three tables.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::linear::column_sums;
use super::slices::{Floats, ROWS, contiguous, tensor};

struct Embedding {
    ids: Arc<[u32]>,
    positions: Arc<[u32]>,
}

/// `[rows, width]` zeros to which row `i` of `grad` is added at row `places[i]`, in the order of `i`.
fn scatter(grad: &[f32], places: &[u32], rows: usize, width: usize) -> Result<Tensor> {
    let mut out = vec![0f32; rows * width];
    for (row, &place) in grad.chunks_exact(width).zip(places) {
        let target = &mut out[place as usize * width..(place as usize + 1) * width];
        target.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    tensor(out, (rows, width))
}

impl CustomOp3 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(
        &self,
        words: &CpuStorage,
        words_layout: &Layout,
        positions: &CpuStorage,
        positions_layout: &Layout,
        segments: &CpuStorage,
        segments_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (vocabulary, width) = words_layout.shape().dims2()?;
        let (length, position_width) = positions_layout.shape().dims2()?;
        let (types, type_width) = segments_layout.shape().dims2()?;
        if position_width != width || type_width != width || types == 0 || width == 0 {
            bail!(
                "embedding: tables of widths {width}, {position_width} and {type_width}; they must be equal and not 0"
            )
        }
        if self.ids.len() != self.positions.len()
            || self.ids.iter().any(|&id| id as usize >= vocabulary)
            || self.positions.iter().any(|&position| position as usize >= length)
        {
            bail!("embedding: an id is not below {vocabulary} or a position is not below {length}")
        }
        let words = contiguous(self.name(), words, words_layout)?;
        let positions = contiguous(self.name(), positions, positions_layout)?;
        let segment = &contiguous(self.name(), segments, segments_layout)?[..width];
        let mut out = vec![0f32; self.ids.len() * width];
        out.par_chunks_mut(ROWS * width).zip(self.ids.par_chunks(ROWS).zip(self.positions.par_chunks(ROWS))).for_each(
            |(rows, (ids, places))| {
                for ((row, &id), &place) in rows.chunks_exact_mut(width).zip(ids).zip(places) {
                    let word = &words[id as usize * width..][..width];
                    let position = &positions[place as usize * width..][..width];
                    for (((target, word), position), segment) in row.iter_mut().zip(word).zip(position).zip(segment) {
                        *target = word + segment + position;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(out), Shape::from((self.ids.len(), width))))
    }

    fn bwd(
        &self,
        words: &Tensor,
        positions: &Tensor,
        segments: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = words.dim(1)?;
        let grad = grad.contiguous()?;
        let grad = Floats::of(self.name(), &grad)?;
        let words_grad = match words.track_op() {
            true => Some(scatter(&grad, &self.ids, words.dim(0)?, width)?),
            false => None,
        };
        let positions_grad = match positions.track_op() {
            true => Some(scatter(&grad, &self.positions, positions.dim(0)?, width)?),
            false => None,
        };
        let segments_grad = if segments.track_op() {
            let mut out = column_sums(&grad, width);
            out.resize(segments.elem_count(), 0.0);
            Some(tensor(out, segments.shape())?)
        } else {
            None
        };
        Ok((words_grad, positions_grad, segments_grad))
    }
}

/// `words[id] + positions[position] + segments[0]` for each token: tables `[·, width]` to `[T, width]`.
pub(crate) fn embedding(
    words: &Tensor,
    positions: &Tensor,
    segments: &Tensor,
    ids: &[u32],
    places: &[u32],
) -> Result<Tensor> {
    let op = Embedding { ids: ids.into(), positions: places.into() };
    words.contiguous()?.apply_op3(&positions.contiguous()?, &segments.contiguous()?, op)
}
