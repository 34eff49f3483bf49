//! Passes over a parameter, its gradient and what is remembered of it, in place.

use std::cell::Cell;

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Tensor, Var};

/// Values a thread takes at a time: four slices of 64 KiB stay in its cache.
const CHUNK: usize = 1 << 14;

/// A parameter in main memory, its gradient, and what is remembered of it.
#[derive(Debug)]
pub struct Flat<'a> {
    pub parameter: &'a mut [f32],
    pub gradient: &'a [f32],
    /// The rows of a table that the gradient is of, ascending, each once; `None` for all of it.
    pub rows: Option<&'a [u32]>,
    /// The parameter's shape.
    pub shape: &'a [usize],
    pub buffers: &'a mut [Vec<f32>],
}

/// A stretch of a parameter, with the same stretch of everything else.
pub(crate) struct Piece<'a, const N: usize> {
    pub parameter: &'a mut [f32],
    pub gradient: &'a [f32],
    pub buffers: [&'a mut [f32]; N],
}

impl<'a> Flat<'a> {
    /// Everything that the gradient touches, in pieces that do not depend on the number of threads. There are `N` buffers, all of the
    /// parameter's shape.
    pub(super) fn pieces<const N: usize>(self) -> Vec<Piece<'a, N>> {
        let width = self.shape.last().copied().unwrap_or(1);
        let buffers: &mut [Vec<f32>; N] = self.buffers.try_into().expect("as many buffers as the algorithm names");
        cut(self.parameter, self.gradient, self.rows, width, buffers.each_mut().map(|buffer| &mut buffer[..]))
    }
}

/// Cuts a parameter, its gradient and buffers of its shape: at `rows` of this width, or at fixed places.
pub(crate) fn cut<'a, const N: usize>(
    mut parameter: &'a mut [f32],
    gradient: &'a [f32],
    rows: Option<&[u32]>,
    width: usize,
    mut buffers: [&'a mut [f32]; N],
) -> Vec<Piece<'a, N>> {
    let size = rows.map_or(CHUNK, |_| width.max(1));
    let mut pieces = Vec::with_capacity(gradient.len().div_ceil(size));
    let mut done = 0;
    for (number, gradient) in gradient.chunks(size).enumerate() {
        let start = rows.map_or(number, |rows| rows[number] as usize) * size;
        let mut take = |rest: &mut &'a mut [f32]| {
            let (piece, after) = std::mem::take(rest)[start - done..].split_at_mut(gradient.len());
            *rest = after;
            piece
        };
        let parameter = take(&mut parameter);
        pieces.push(Piece { parameter, gradient, buffers: buffers.each_mut().map(&mut take) });
        done = start + gradient.len();
    }
    pieces
}

/// The sum of squares, in `f64`, of what `term` makes of the values at each place of slices of one length.
pub(super) fn squares<const N: usize>(slices: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f64 {
    // Eight running sums: one alone would wait for every addition before the next.
    let mut sums = [0.0; 8];
    let cuts = slices.map(|slice| slice.as_chunks::<8>());
    let square = |values: [f32; N]| f64::from(term(values)).powi(2);
    for number in 0..cuts.first().map_or(0, |(blocks, _)| blocks.len()) {
        let blocks = cuts.map(|(blocks, _)| &blocks[number]);
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum += square(blocks.map(|block| block[k]));
        }
    }
    let rest = 0..cuts.first().map_or(0, |(_, rest)| rest.len());
    sums.iter().sum::<f64>() + rest.map(|i| square(cuts.map(|(_, rest)| rest[i]))).sum::<f64>()
}

/// Hands a parameter's and a tensor's values to `pass`, both `f32` in main memory.
pub(crate) fn in_place<F>(var: &Var, values: &Tensor, pass: F) -> candle_core::Result<()>
where
    F: FnOnce(&mut [f32], &[f32]),
{
    let values = values.to_dtype(DType::F32)?.contiguous()?;
    var.inplace_op2(&values, &Pass(Cell::new(Some(pass))))
}

/// Candle hands the storage to an operation by shared reference, hence the cell.
struct Pass<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32], &[f32])> InplaceOp2 for Pass<F> {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(parameter), CpuStorage::F32(values)) = (s1, s2) else {
            candle_core::bail!("passes in place work on f32 only")
        };
        let (Some((p_from, p_to)), Some((v_from, v_to))) = (l1.contiguous_offsets(), l2.contiguous_offsets()) else {
            candle_core::bail!("passes in place work on contiguous tensors only")
        };
        if let Some(pass) = self.0.take() {
            pass(&mut parameter[p_from..p_to], &values[v_from..v_to]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn squares_are_those_of_a_plain_loop(a in prop::collection::vec(-9_i8..9, 0..40), factor in -3_i8..3) {
            let a: Vec<f32> = a.into_iter().map(f32::from).collect();
            let b: Vec<f32> = a.iter().map(|x| x * f32::from(factor) + 1.0).collect();
            let expected: f32 = a.iter().zip(&b).map(|(x, y)| (x - y).powi(2)).sum();
            prop_assert_eq!(squares([&a, &b], |[x, y]| x - y), f64::from(expected));
        }

        #[test]
        fn pieces_hold_what_the_gradient_touches(
            picked in prop::collection::vec(any::<bool>(), 1..40), width in 1_usize..5, by_rows in any::<bool>(),
        ) {
            let rows: Vec<u32> = (0..).zip(&picked).filter(|(_, picked)| **picked).map(|(row, _)| row).collect();
            let places: Vec<usize> = match by_rows {
                true => rows.iter().flat_map(|&row| row as usize * width..(row as usize + 1) * width).collect(),
                false => (0..picked.len() * width).collect(),
            };
            let mut parameter: Vec<f32> = (0..picked.len() * width).map(|i| i as f32).collect();
            let mut buffer = parameter.clone();
            let gradient: Vec<f32> = places.iter().map(|&i| i as f32).collect();
            for piece in cut(&mut parameter, &gradient, by_rows.then_some(&rows), width, [&mut buffer]) {
                prop_assert_eq!(&*piece.parameter, piece.gradient);
                prop_assert_eq!(&*piece.buffers[0], piece.gradient);
                piece.parameter.fill(-1.0);
            }
            for (i, value) in parameter.iter().enumerate() {
                prop_assert_eq!(*value == -1.0, places.contains(&i));
            }
        }
    }
}
