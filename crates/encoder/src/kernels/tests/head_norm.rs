//! RMS norm of each head.

use candle_core::{D, Result, Tensor};
use proptest::prelude::*;

use super::{assert_gradient, assert_near, by_candle, by_threads, matrix, values, wide};
use crate::kernels::head_norm::HeadNorm;

const EPSILON: f32 = 1e-6;

#[derive(Debug, Clone, Copy)]
struct Case {
    tokens: usize,
    heads: usize,
    key_heads: usize,
    width: usize,
}

impl Case {
    fn columns(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.width
    }

    /// Rows without heads of nearly zeros, in which rounding would drown the result.
    fn raw(&self) -> Vec<f32> {
        values(self.tokens * self.columns(), 1).into_iter().map(|value| value + value.signum()).collect()
    }

    /// Result and the gradients of `raw` and of the two scales.
    fn run(&self, raw: &[f32], [query, key]: [&[f32]; 2], direction: &[f32]) -> [Vec<f32>; 4] {
        let Self { heads, key_heads, width, .. } = *self;
        let norm = HeadNorm { query, key, epsilon: EPSILON, heads, key_heads, width };
        let mut out = vec![f32::NAN; raw.len()];
        norm.forward(raw, &mut out);
        let mut grad = direction.to_vec();
        let (query_grad, key_grad) = norm.backward(raw, &mut grad);
        [out, grad, query_grad, key_grad]
    }

    fn by_tensors(&self, raw: &Tensor, query: &Tensor, key: &Tensor) -> Result<Tensor> {
        let part = |first: usize, count: usize| {
            raw.narrow(1, first * self.width, count * self.width)?.reshape((self.tokens, count, self.width))
        };
        let norm = |x: Tensor, scale: &Tensor| {
            let square = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(EPSILON))?;
            x.broadcast_div(&square.sqrt()?)?.broadcast_mul(scale)
        };
        let queries = norm(part(0, self.heads)?, query)?;
        let keys = norm(part(self.heads, self.key_heads)?, key)?;
        let values = part(self.heads + self.key_heads, self.key_heads)?;
        Tensor::cat(&[queries, keys, values], 1)?.reshape((self.tokens, self.columns()))
    }

    fn by_loops(&self, raw: &[f64], [query, key]: [&[f64]; 2]) -> Vec<f64> {
        let heads = raw.chunks_exact(self.width).enumerate().flat_map(|(at, head)| {
            let mean = head.iter().map(|value| value * value).sum::<f64>() / self.width as f64;
            let root = (mean + f64::from(EPSILON)).sqrt();
            let place = at % (self.heads + 2 * self.key_heads);
            let scaled = move |(value, (query, key)): (&f64, (&f64, &f64))| {
                if place < self.heads {
                    value / root * query
                } else if place < self.heads + self.key_heads {
                    value / root * key
                } else {
                    *value
                }
            };
            head.iter().zip(query.iter().zip(key)).map(scaled)
        });
        heads.collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn norm_of_heads_of_any_shape(
        tokens in 1usize..80,
        (heads, key_heads) in prop::sample::select(vec![(1usize, 1usize), (4, 4), (4, 2), (4, 1)]),
        width in prop::sample::select(vec![1usize, 4, 8, 16, 24, 33]),
    ) {
        let case = Case { tokens, heads, key_heads, width };
        let (raw, query, key) = (case.raw(), values(width, 2), values(width, 3));
        let direction = values(raw.len(), 4);
        let found = case.run(&raw, [&query, &key], &direction);
        let arguments = [matrix(&raw, &[tokens, case.columns()]), matrix(&query, &[width]), matrix(&key, &[width])];
        let (out, gradients) = by_candle(&arguments, &direction, |a| case.by_tensors(&a[0], &a[1], &a[2]));
        assert_near("result", &found[0], &out, 2e-6);
        assert_near("result by loops", &found[0], &case.by_loops(&wide(&raw), [&wide(&query), &wide(&key)]), 2e-6);
        for (found, expected) in found[1..].iter().zip(&gradients) {
            assert_near(&format!("{case:?}"), found, expected, 1e-5);
        }
    }
}

#[test]
fn gradients_are_those_of_central_differences() {
    let case = Case { tokens: 3, heads: 2, key_heads: 1, width: 5 };
    let (raw, query, key) = (case.raw(), values(5, 2), values(5, 3));
    let direction = values(raw.len(), 4);
    let [_, grad, query_grad, key_grad] = case.run(&raw, [&query, &key], &direction);
    let (wide_raw, wide_query, wide_key) = (wide(&raw), wide(&query), wide(&key));
    assert_gradient("raw", &grad, &raw, &direction, 1e-5, |raw| case.by_loops(raw, [&wide_query, &wide_key]));
    assert_gradient("query", &query_grad, &query, &direction, 1e-5, |q| case.by_loops(&wide_raw, [q, &wide_key]));
    assert_gradient("key", &key_grad, &key, &direction, 1e-5, |key| case.by_loops(&wide_raw, [&wide_query, key]));
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let case = Case { tokens: 170, heads: 4, key_heads: 2, width: 8 };
    let (raw, scales) = (case.raw(), [values(8, 2), values(8, 3)]);
    let direction = values(raw.len(), 4);
    by_threads(|| case.run(&raw, [&scales[0], &scales[1]], &direction));
    let none = Case { tokens: 0, ..case };
    let found = none.run(&[], [&scales[0], &scales[1]], &[]);
    assert_eq!(found, [vec![0f32; 0], vec![], vec![0.0; 8], vec![0.0; 8]]);
}
