//! Attention against loops and against Candle in `f64`.

use candle_core::{D, DType, Result, Tensor};
use proptest::prelude::*;

use super::{assert_gradient, assert_near, by_candle, factors, matrix, values, wide};
use crate::kernels::attention::Attention;
use crate::kernels::dropout::Mask;

#[derive(Debug, Clone)]
struct Case {
    lengths: Vec<usize>,
    heads: usize,
    /// Of a head.
    width: usize,
    p: f64,
    first_token: usize,
}

impl Case {
    fn hidden(&self) -> usize {
        self.heads * self.width
    }

    fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn mask(&self) -> Option<Mask> {
        Mask::new(self.p, 12).unwrap()
    }

    fn offsets(&self) -> Vec<u32> {
        let mut offsets = vec![0];
        self.lengths.iter().for_each(|&length| offsets.push(offsets[offsets.len() - 1] + length as u32));
        offsets
    }

    /// Result, log sums and gradient by the kernel. Nothing of what was in the outputs may remain.
    fn run(&self, qkv: &[f32], direction: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (offsets, tokens, hidden) = (self.offsets(), self.tokens(), self.hidden());
        let (heads, mask, first_token) = (self.heads, self.mask(), self.first_token);
        let attention = Attention { offsets: &offsets, heads, hidden, mask, first_token };
        let (mut out, mut log_sums) = (vec![f32::NAN; tokens * hidden], vec![f32::NAN; tokens * heads]);
        attention.forward(qkv, &mut out, &mut log_sums);
        let mut again = vec![f32::NAN; tokens * hidden];
        attention.forward(qkv, &mut again, &mut []);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&out), bits(&again), "{self:?}: without log sums");
        let mut grad = vec![f32::NAN; qkv.len()];
        attention.backward(qkv, &log_sums, direction, &mut grad);
        (out, log_sums, grad)
    }

    /// Factors of the probabilities of one query and head.
    fn factors(&self, token: usize, head: usize, length: usize) -> Vec<f32> {
        factors(self.mask(), (self.first_token + token) * self.heads + head, 1, length)
    }

    /// The definition, query by query: the result and the log sums.
    fn by_loops(&self, qkv: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (hidden, width) = (self.hidden(), self.width);
        let part = |token: usize, part: usize, head: usize| &qkv[(3 * token + part) * hidden + head * width..][..width];
        let (mut out, mut log_sums) = (Vec::new(), Vec::new());
        for pair in self.offsets().windows(2) {
            let keys = pair[0] as usize..pair[1] as usize;
            for token in keys.clone() {
                for head in 0..self.heads {
                    let query = part(token, 0, head);
                    let dot = |key| query.iter().zip(part(key, 1, head)).map(|(q, k)| q * k).sum::<f64>();
                    let exps: Vec<f64> = keys.clone().map(|key| (dot(key) / (width as f64).sqrt()).exp()).collect();
                    let total: f64 = exps.iter().sum();
                    let mut sum = vec![0f64; width];
                    let factors = self.factors(token, head, keys.len());
                    for (key, (exp, &factor)) in keys.clone().zip(exps.iter().zip(&factors)) {
                        let weight = exp / total * f64::from(factor);
                        sum.iter_mut().zip(part(key, 2, head)).for_each(|(sum, value)| *sum += weight * value);
                    }
                    out.extend(sum);
                    log_sums.push(total.ln());
                }
            }
        }
        (out, log_sums)
    }

    fn by_tensors(&self, qkv: &Tensor) -> Result<Tensor> {
        let (heads, width, hidden) = (self.heads, self.width, self.hidden());
        let mut rows = Vec::new();
        for pair in self.offsets().windows(2) {
            let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
            if length == 0 {
                continue;
            }
            let sequence = qkv.narrow(0, start, length)?;
            let part = |part: usize| {
                let rows = sequence.narrow(1, part * hidden, hidden)?.reshape((length, heads, width))?;
                rows.transpose(0, 1)?.contiguous()
            };
            let scores = (part(0)?.matmul(&part(1)?.transpose(1, 2)?.contiguous()?)? / (width as f64).sqrt())?;
            let weights = scores.exp()?;
            let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
            let places = (0..heads).flat_map(|head| (0..length).map(move |query| (start + query, head)));
            let factors: Vec<f32> = places.flat_map(|(token, head)| self.factors(token, head, length)).collect();
            let factors = matrix(&factors, &[heads, length, length]).to_dtype(DType::F64)?;
            let out = (weights * factors)?.matmul(&part(2)?)?;
            rows.push(out.transpose(0, 1)?.reshape((length, hidden))?);
        }
        Tensor::cat(&rows, 0)
    }

    /// The kernel against Candle in `f64`.
    fn check(&self) {
        let (tokens, hidden) = (self.tokens(), self.hidden());
        let (qkv, direction) = (values(tokens * 3 * hidden, 8), values(tokens * hidden, 9));
        let (out, log_sums, grad) = self.run(&qkv, &direction);
        if tokens == 0 {
            return;
        }
        let arguments = [matrix(&qkv, &[tokens, 3 * hidden])];
        let (expected, gradients) = by_candle(&arguments, &direction, |a| self.by_tensors(&a[0]));
        assert_near(&format!("{self:?}: result"), &out, &expected, 2e-6);
        assert_near(&format!("{self:?}: gradient"), &grad, &gradients[0], 1e-5);
        // Loops are slow where sequences are long.
        if self.lengths.iter().all(|&length| length < 64) {
            let (expected, expected_log_sums) = self.by_loops(&wide(&qkv));
            assert_near(&format!("{self:?}: result by loops"), &out, &expected, 2e-6);
            assert_near(&format!("{self:?}: log sums"), &log_sums, &expected_log_sums, 2e-6);
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
        Case { lengths, heads, width, p: if dropped { 0.3 } else { 0.0 }, first_token }.check();
    }
}

#[test]
fn attention_of_the_longest_and_the_shortest() {
    for (heads, width, p) in [(1, 33, 0.0), (3, 1, 0.2), (2, 17, 0.2)] {
        Case { lengths: vec![1, 512, 1, 31, 32, 33], heads, width, p, first_token: 7 }.check();
    }
    Case { lengths: vec![512], heads: 1, width: 64, p: 0.1, first_token: 0 }.check();
}

#[test]
fn gradients_are_those_of_central_differences() {
    for (lengths, heads, width, p) in
        [(vec![1], 1, 1, 0.0), (vec![3, 1, 4], 2, 3, 0.3), (vec![5, 2], 1, 17, 0.3), (vec![3], 1, 33, 0.0)]
    {
        let case = Case { lengths, heads, width, p, first_token: 5 };
        let (qkv, direction) = (values(case.tokens() * 3 * case.hidden(), 1), values(case.tokens() * case.hidden(), 2));
        let (out, _, grad) = case.run(&qkv, &direction);
        assert_near("result", &out, &case.by_loops(&wide(&qkv)).0, 2e-6);
        assert_gradient(&format!("{case:?}"), &grad, &qkv, &direction, 1e-5, |qkv| case.by_loops(qkv).0);
    }
}

#[test]
fn a_batch_in_parts_drops_the_same() {
    let whole = Case { lengths: vec![4, 9, 3], heads: 2, width: 5, p: 0.4, first_token: 0 };
    let (qkv, direction) = (values(16 * 30, 1), values(16 * 10, 2));
    let (out, log_sums, grad) = whole.run(&qkv, &direction);
    let rest = Case { lengths: vec![9, 3], first_token: 4, ..whole };
    let (rest_out, rest_log_sums, rest_grad) = rest.run(&qkv[4 * 30..], &direction[4 * 10..]);
    assert_eq!((&rest_out[..], &rest_log_sums[..]), (&out[4 * 10..], &log_sums[4 * 2..]));
    assert_eq!(rest_grad, grad[4 * 30..]);
}

#[test]
fn attention_survives_large_scores() {
    let case = Case { lengths: vec![6, 1], heads: 2, width: 2, p: 0.0, first_token: 0 };
    let qkv: Vec<f32> = values(7 * 12, 1).iter().map(|value| value * 60.0).collect();
    let (out, log_sums, grad) = case.run(&qkv, &values(7 * 4, 2));
    for values in [out, log_sums, grad] {
        assert!(values.iter().all(|value| value.is_finite()), "{values:?}");
    }
}

#[test]
fn what_is_not_a_number_stays_visible_in_its_sequence() {
    let case = Case { lengths: vec![3, 2], heads: 1, width: 4, p: 0.0, first_token: 0 };
    for place in [0, 4, 8] {
        let mut qkv = values(5 * 12, 1);
        qkv[place] = f32::NAN;
        let (out, _, grad) = case.run(&qkv, &values(5 * 4, 2));
        assert!(out[..3 * 4].iter().any(|value| value.is_nan()), "{place}: {out:?}");
        assert!(grad[..3 * 12].iter().any(|value| value.is_nan()), "{place}: {grad:?}");
        assert!(out[3 * 4..].iter().chain(&grad[3 * 12..]).all(|value| value.is_finite()), "{place}");
    }
}
