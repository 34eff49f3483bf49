//! Attention against loops and against Candle in `f64`.

mod variants;

use candle_core::{D, DType, Result, Tensor};
use proptest::prelude::*;

use super::{assert_gradient, assert_near, by_candle, factors, matrix, values, wide};
use crate::kernels::attention::{Attention, Relative};
use crate::kernels::dropout::Mask;

#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) lengths: Vec<usize>,
    pub(super) heads: usize,
    /// As many as `heads` if 0.
    pub(super) key_heads: usize,
    /// Of a head.
    pub(super) width: usize,
    pub(super) causal: bool,
    pub(super) window: Option<usize>,
    /// Whether a bias of the distance is added.
    pub(super) relative: bool,
    pub(super) p: f64,
    pub(super) first_token: usize,
}

/// What the kernel makes of a case.
pub(super) struct Found {
    pub(super) out: Vec<f32>,
    pub(super) log_sums: Vec<f32>,
    pub(super) grad: Vec<f32>,
    pub(super) table_grad: Vec<f32>,
}

/// Distances beyond count as this one; few, so that tests meet greater ones.
const FARTHEST: usize = 11;
const BUCKETS: usize = 7;

/// The bucket of each distance: neither monotone nor symmetric.
fn buckets() -> Vec<u32> {
    (0..=2 * FARTHEST).map(|at| (at * 5 % BUCKETS) as u32).collect()
}

impl Case {
    pub(super) fn key_heads(&self) -> usize {
        if self.key_heads == 0 { self.heads } else { self.key_heads }
    }

    pub(super) fn hidden(&self) -> usize {
        self.heads * self.width
    }

    /// Width of a row of queries, keys and values.
    pub(super) fn columns(&self) -> usize {
        (self.heads + 2 * self.key_heads()) * self.width
    }

    pub(super) fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// The table of the relative bias.
    pub(super) fn table(&self) -> Vec<f32> {
        if self.relative { values(BUCKETS * self.heads, 3) } else { Vec::new() }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.width as f64).sqrt()
    }

    fn mask(&self) -> Option<Mask> {
        Mask::new(self.p, 12).unwrap()
    }

    fn offsets(&self) -> Vec<u32> {
        let mut offsets = vec![0];
        self.lengths.iter().for_each(|&length| offsets.push(offsets[offsets.len() - 1] + length as u32));
        offsets
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        (!self.causal || key <= query) && self.window.is_none_or(|window| key.abs_diff(query) <= window)
    }

    /// The row of the bias' table.
    fn bucket(query: usize, key: usize) -> usize {
        let distance = (key as isize - query as isize).clamp(-(FARTHEST as isize), FARTHEST as isize);
        buckets()[(distance + FARTHEST as isize) as usize] as usize
    }

    /// Result, log sums and gradients by the kernel. Nothing of what was in the outputs may remain, but for the table's gradient,
    /// which is added.
    pub(super) fn run(&self, qkv: &[f32], direction: &[f32]) -> Found {
        let (offsets, table, buckets) = (self.offsets(), self.table(), buckets());
        let attention = Attention {
            offsets: &offsets,
            heads: self.heads,
            key_heads: self.key_heads(),
            width: self.width,
            scale: self.scale() as f32,
            causal: self.causal,
            window: self.window,
            relative: self.relative.then_some(Relative { table: &table, buckets: &buckets }),
            mask: self.mask(),
            first_token: self.first_token,
        };
        let size = self.tokens() * self.hidden();
        let (mut out, mut log_sums) = (vec![f32::NAN; size], vec![f32::NAN; self.tokens() * self.heads]);
        attention.forward(qkv, &mut out, &mut log_sums);
        let mut again = vec![f32::NAN; size];
        attention.forward(qkv, &mut again, &mut []);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&out), bits(&again), "{self:?}: without log sums");
        let (mut grad, mut frozen) = (vec![f32::NAN; qkv.len()], vec![f32::NAN; qkv.len()]);
        let mut table_grad = vec![1.0; table.len()];
        attention.backward(qkv, &log_sums, direction, &mut grad, Some(&mut table_grad));
        attention.backward(qkv, &log_sums, direction, &mut frozen, None);
        assert_eq!(bits(&grad), bits(&frozen), "{self:?}: without the table's gradient");
        table_grad.iter_mut().for_each(|grad| *grad -= 1.0);
        Found { out, log_sums, grad, table_grad }
    }

    /// Factors of the probabilities of one query and head.
    fn factors(&self, token: usize, head: usize, length: usize) -> Vec<f32> {
        factors(self.mask(), (self.first_token + token) * self.heads + head, 1, length)
    }

    /// The definition, query by query: the result and the log sums.
    pub(super) fn by_loops(&self, qkv: &[f64], table: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (width, key_heads) = (self.width, self.key_heads());
        let part = |token: usize, head: usize| &qkv[token * self.columns() + head * width..][..width];
        let (mut out, mut log_sums) = (Vec::new(), Vec::new());
        for pair in self.offsets().windows(2) {
            let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
            for query in 0..length {
                for head in 0..self.heads {
                    let key_head = head / (self.heads / key_heads);
                    let row = part(start + query, head);
                    let exp = |key: usize| {
                        let key_row = part(start + key, self.heads + key_head);
                        let mut score = row.iter().zip(key_row).map(|(q, k)| q * k).sum::<f64>() * self.scale();
                        if self.relative {
                            score += table[Self::bucket(query, key) * self.heads + head];
                        }
                        if self.sees(query, key) { score.exp() } else { 0.0 }
                    };
                    let exps: Vec<f64> = (0..length).map(exp).collect();
                    let total: f64 = exps.iter().sum();
                    let mut sum = vec![0f64; width];
                    let factors = self.factors(start + query, head, length);
                    for (key, (exp, &factor)) in exps.iter().zip(&factors).enumerate() {
                        let weight = exp / total * f64::from(factor);
                        let values = part(start + key, self.heads + key_heads + key_head);
                        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
                    }
                    out.extend(sum);
                    log_sums.push(total.ln());
                }
            }
        }
        (out, log_sums)
    }

    fn by_tensors(&self, qkv: &Tensor, table: &Tensor) -> Result<Tensor> {
        let (heads, key_heads, width) = (self.heads, self.key_heads(), self.width);
        let mut rows = Vec::new();
        for pair in self.offsets().windows(2) {
            let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
            if length == 0 {
                continue;
            }
            let sequence = qkv.narrow(0, start, length)?;
            // `[heads, length, width]`; a key head is there once for each query head that reads it.
            let part = |first: usize, count: usize| {
                let rows = sequence.narrow(1, first * width, count * width)?.reshape((length, count, 1, width))?;
                let rows = rows.broadcast_as((length, count, heads / count, width))?.reshape((length, heads, width))?;
                rows.transpose(0, 1)?.contiguous()
            };
            let (queries, keys) = (part(0, heads)?, part(heads, key_heads)?);
            let values = part(heads + key_heads, key_heads)?;
            let mut scores = (queries.matmul(&keys.transpose(1, 2)?.contiguous()?)? * self.scale())?;
            let pairs = || (0..length).flat_map(|query| (0..length).map(move |key| (query, key)));
            if self.relative {
                let places: Vec<u32> = pairs().map(|(query, key)| Self::bucket(query, key) as u32).collect();
                let bias = table.index_select(&Tensor::new(places, table.device())?, 0)?;
                scores = (scores + bias.t()?.reshape((heads, length, length))?)?;
            }
            let seen: Vec<f32> = pairs().map(|(query, key)| f32::from(u8::from(self.sees(query, key)))).collect();
            let weights = scores.exp()?.broadcast_mul(&matrix(&seen, &[1, length, length]).to_dtype(DType::F64)?)?;
            let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
            let places = (0..heads).flat_map(|head| (0..length).map(move |query| (start + query, head)));
            let factors: Vec<f32> = places.flat_map(|(token, head)| self.factors(token, head, length)).collect();
            let factors = matrix(&factors, &[heads, length, length]).to_dtype(DType::F64)?;
            let out = (weights * factors)?.matmul(&values)?;
            rows.push(out.transpose(0, 1)?.reshape((length, heads * width))?);
        }
        Tensor::cat(&rows, 0)
    }

    /// The kernel against Candle in `f64`.
    pub(super) fn check(&self) {
        let (tokens, hidden, columns) = (self.tokens(), self.hidden(), self.columns());
        let (qkv, direction) = (values(tokens * columns, 8), values(tokens * hidden, 9));
        let found = self.run(&qkv, &direction);
        if tokens == 0 {
            return;
        }
        let table = self.table();
        let arguments = [matrix(&qkv, &[tokens, columns]), matrix(&table, &[table.len() / self.heads, self.heads])];
        let (expected, gradients) = by_candle(&arguments, &direction, |a| self.by_tensors(&a[0], &a[1]));
        assert_near(&format!("{self:?}: result"), &found.out, &expected, 2e-6);
        assert_near(&format!("{self:?}: gradient"), &found.grad, &gradients[0], 1e-5);
        assert_near(&format!("{self:?}: the table's gradient"), &found.table_grad, &gradients[1], 1e-5);
        // Loops are slow where sequences are long.
        if self.lengths.iter().all(|&length| length < 64) {
            let (expected, expected_log_sums) = self.by_loops(&wide(&qkv), &wide(&table));
            assert_near(&format!("{self:?}: result by loops"), &found.out, &expected, 2e-6);
            assert_near(&format!("{self:?}: log sums"), &found.log_sums, &expected_log_sums, 2e-6);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_of_any_shape(
        lengths in prop::collection::vec(0usize..50, 0..5),
        heads in 1usize..5,
        width in prop::sample::select(vec![1usize, 2, 3, 8, 17, 32, 33, 64]),
        dropped: bool,
        first_token in 0usize..1000,
    ) {
        Case { lengths, heads, width, p: if dropped { 0.3 } else { 0.0 }, first_token, ..Case::default() }.check();
    }
}

#[test]
fn attention_of_the_longest_and_the_shortest() {
    for (heads, width, p) in [(1, 33, 0.0), (3, 1, 0.2), (2, 17, 0.2)] {
        Case { lengths: vec![1, 512, 1, 31, 32, 33], heads, width, p, first_token: 7, ..Case::default() }.check();
    }
    Case { lengths: vec![512], heads: 1, width: 64, p: 0.1, ..Case::default() }.check();
}

#[test]
fn gradients_are_those_of_central_differences() {
    for (lengths, heads, width, p) in
        [(vec![1], 1, 1, 0.0), (vec![3, 1, 4], 2, 3, 0.3), (vec![5, 2], 1, 17, 0.3), (vec![3], 1, 33, 0.0)]
    {
        let case = Case { lengths, heads, width, p, first_token: 5, ..Case::default() };
        let (qkv, direction) = (values(case.tokens() * 3 * case.hidden(), 1), values(case.tokens() * case.hidden(), 2));
        let Found { out, grad, .. } = case.run(&qkv, &direction);
        assert_near("result", &out, &case.by_loops(&wide(&qkv), &[]).0, 2e-6);
        assert_gradient(&format!("{case:?}"), &grad, &qkv, &direction, 1e-5, |qkv| case.by_loops(qkv, &[]).0);
    }
}

#[test]
fn a_batch_in_parts_drops_the_same() {
    let whole = Case { lengths: vec![4, 9, 3], heads: 2, width: 5, p: 0.4, ..Case::default() };
    let (qkv, direction) = (values(16 * 30, 1), values(16 * 10, 2));
    let Found { out, log_sums, grad, .. } = whole.run(&qkv, &direction);
    let rest = Case { lengths: vec![9, 3], first_token: 4, ..whole };
    let rest = rest.run(&qkv[4 * 30..], &direction[4 * 10..]);
    assert_eq!((&rest.out[..], &rest.log_sums[..]), (&out[4 * 10..], &log_sums[4 * 2..]));
    assert_eq!(rest.grad, grad[4 * 30..]);
}

#[test]
fn attention_survives_large_scores() {
    let case = Case { lengths: vec![6, 1], heads: 2, width: 2, ..Case::default() };
    let qkv: Vec<f32> = values(7 * 12, 1).iter().map(|value| value * 60.0).collect();
    let Found { out, log_sums, grad, .. } = case.run(&qkv, &values(7 * 4, 2));
    for values in [out, log_sums, grad] {
        assert!(values.iter().all(|value| value.is_finite()), "{values:?}");
    }
}

#[test]
fn what_is_not_a_number_stays_visible_in_its_sequence() {
    let case = Case { lengths: vec![3, 2], heads: 1, width: 4, ..Case::default() };
    for place in [0, 4, 8] {
        let mut qkv = values(5 * 12, 1);
        qkv[place] = f32::NAN;
        let Found { out, grad, .. } = case.run(&qkv, &values(5 * 4, 2));
        assert!(out[..3 * 4].iter().any(|value| value.is_nan()), "{place}: {out:?}");
        assert!(grad[..3 * 12].iter().any(|value| value.is_nan()), "{place}: {grad:?}");
        assert!(out[3 * 4..].iter().chain(&grad[3 * 12..]).all(|value| value.is_finite()), "{place}");
    }
}
