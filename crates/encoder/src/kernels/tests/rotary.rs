//! Rotary position embeddings.

use candle_core::{D, Result, Tensor};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::{assert_near, by_candle, by_threads, matrix, numbers, values};
use crate::kernels::rotary::{Rotary, Scaling};

const LLAMA: Scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };

/// A factor for each pair of heads of up to 24 numbers.
fn factors() -> Scaling {
    Scaling::Factors((0..12).map(|pair| 1.0 + pair as f32 * 0.7).collect())
}

/// The definition in `f64`: frequencies of `width / 2` pairs.
fn frequencies(width: usize, theta: f64, scaling: &Scaling) -> Vec<f64> {
    let plain = (0..width / 2).map(|pair| theta.powf(-((2 * pair) as f64) / width as f64));
    plain
        .enumerate()
        .map(|(pair, frequency)| match *scaling {
            Scaling::Factors(ref factors) => frequency / f64::from(factors[pair]),
            Scaling::None => frequency,
            Scaling::Linear(factor) => frequency / f64::from(factor),
            Scaling::Llama3 { factor, low, high, original } => {
                let [factor, low, high, original] = [factor, low, high, original].map(f64::from);
                let waves = original * frequency / std::f64::consts::TAU;
                // From `1 / factor` below `low` waves to 1 above `high`.
                let share = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (share + (1.0 - share) / factor)
            }
        })
        .collect()
}

fn offsets(lengths: &[usize]) -> Vec<u32> {
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// `x·cos + rotate_half(x)·sin`, as `transformers` writes it, of the first `heads` heads.
fn by_tensors(x: &Tensor, lengths: &[usize], heads: usize, width: usize, frequencies: &[f64]) -> Result<Tensor> {
    let (tokens, columns) = x.dims2()?;
    let places = lengths.iter().flat_map(|&length| 0..length);
    let angles: Vec<f64> = places
        .flat_map(|place| [frequencies, frequencies].concat().into_iter().map(move |f| place as f64 * f))
        .collect();
    let angles = Tensor::from_vec(angles, (tokens, 1, width), x.device())?;
    let turned = x.narrow(1, 0, heads * width)?.reshape((tokens, heads, width))?;
    let (first, second) = (turned.narrow(D::Minus1, 0, width / 2)?, turned.narrow(D::Minus1, width / 2, width / 2)?);
    let half = Tensor::cat(&[second.neg()?, first], D::Minus1)?;
    let out = (turned.broadcast_mul(&angles.cos()?)? + half.broadcast_mul(&angles.sin()?)?)?;
    let rest = x.narrow(1, heads * width, columns - heads * width)?;
    Tensor::cat(&[out.reshape((tokens, heads * width))?, rest], 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn turns_of_any_shape(
        lengths in prop::collection::vec(prop::sample::select(vec![1usize, 2, 17, 33, 70]), 1..4),
        heads in 1usize..5,
        rest in 0usize..3,
        width in prop::sample::select(vec![2usize, 4, 8, 16, 24]),
        scaling in prop::sample::select(vec![Scaling::None, Scaling::Linear(4.0), LLAMA, factors()]),
    ) {
        let (offsets, tokens, columns) = (offsets(&lengths), lengths.iter().sum::<usize>(), (heads + rest) * width);
        let rotary = Rotary::new(width, 10_000.0, &scaling);
        let (x, direction) = (values(tokens * columns, 1), values(tokens * columns, 2));
        let (mut out, mut grad) = (x.clone(), direction.clone());
        rotary.turn(&mut out, &offsets, heads, columns, false);
        rotary.turn(&mut grad, &offsets, heads, columns, true);
        let frequencies = frequencies(width, 10_000.0, &scaling);
        let reference = |a: &[Tensor]| by_tensors(&a[0], &lengths, heads, width, &frequencies);
        let (expected, gradients) = by_candle(&[matrix(&x, &[tokens, columns])], &direction, reference);
        // Angles of up to 70 in `f32`.
        assert_near("result", &out, &expected, 1e-5);
        assert_near("gradient", &grad, &gradients[0], 1e-5);
        // Back again.
        rotary.turn(&mut out, &offsets, heads, columns, true);
        let x: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
        assert_near("inverse", &out, &x, 1e-6);
    }
}

#[test]
fn products_depend_on_the_distance_only() {
    let width = 16;
    let rotary = Rotary::new(width, 10_000.0, &Scaling::None);
    let (query, key) = (values(width, 1), values(width, 2));
    let product = |at: usize, from: usize| {
        let turned = |row: &[f32], place: usize| {
            let mut rows = row.repeat(64);
            rotary.turn(&mut rows, &[0, 64], 1, width, false);
            matrix(&rows[place * width..(place + 1) * width], &[width])
        };
        numbers(&(turned(&query, at) * turned(&key, from)).unwrap()).iter().sum::<f64>()
    };
    for (at, from) in [(9, 2), (30, 23), (63, 56)] {
        assert!((product(at, from) - product(7, 0)).abs() < 1e-4, "{at}, {from}");
    }
    assert!((product(9, 2) - product(2, 9)).abs() > 1e-2);
}

/// `fixtures/make_rotary.py` says which version of `transformers` computed them.
#[derive(Deserialize)]
struct Fixture {
    positions: Vec<usize>,
    cases: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    width: usize,
    parameters: Value,
    /// `[positions, width / 2]`.
    cos: Vec<Vec<f64>>,
    sin: Vec<Vec<f64>>,
}

#[test]
fn angles_are_those_of_transformers() {
    let Fixture { positions, cases } = serde_json::from_str(include_str!("../../../fixtures/rotary.json")).unwrap();
    for Expected { width, parameters, cos, sin } in cases {
        let number = |name: &str| parameters[name].as_f64().unwrap() as f32;
        let scaling = match parameters["rope_type"].as_str().unwrap() {
            "default" => Scaling::None,
            "linear" => Scaling::Linear(number("factor")),
            _ => Scaling::Llama3 {
                factor: number("factor"),
                low: number("low_freq_factor"),
                high: number("high_freq_factor"),
                original: number("original_max_position_embeddings"),
            },
        };
        let rotary = Rotary::new(width, number("rope_theta"), &scaling);
        // (1, 0) becomes (cos, sin).
        let unit = [vec![1.0f32; width / 2], vec![0.0; width / 2]].concat();
        let mut rows = unit.repeat(512);
        rotary.turn(&mut rows, &[0, 512], 1, width, false);
        for (&position, expected) in positions.iter().zip(cos.iter().zip(&sin)) {
            let expected = [&expected.0[..], expected.1].concat();
            // Frequencies may differ in their last bit.
            let tolerance = 1e-6 + position as f64 * 2e-7;
            let what = format!("{parameters}, position {position}");
            assert_near(&what, &rows[position * width..][..width], &expected, tolerance);
        }
    }
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let lengths = [40, 1, 33, 70];
    let rotary = Rotary::new(8, 10_000.0, &Scaling::None);
    let x = values(144 * 32, 1);
    by_threads(|| {
        let mut out = x.clone();
        rotary.turn(&mut out, &offsets(&lengths), 3, 32, false);
        [out]
    });
    rotary.turn(&mut [], &[0], 3, 32, false);
    Rotary::new(0, 10_000.0, &Scaling::None).turn(&mut [], &[0], 0, 0, true);
}
