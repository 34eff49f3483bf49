//! The layer norm: its fused form against loops and against Candle in `f64`.

use candle_core::{Result, Tensor, Var};
use proptest::prelude::*;

use super::{assert_gradient, assert_near, by_candle, check, factors, matrix, numbers, random, values, wide};
use crate::bert::composed;
use crate::kernels::dropout::Mask;
use crate::kernels::norm::{Norm, Summands, layer_norm};

const EPSILON: f32 = 1e-5;

/// `(sum - mean) / √(variance + ε) · scale + shift` of rows.
fn normalized(sum: &[f64], scale: &[f64], shift: &[f64]) -> Vec<f64> {
    let width = scale.len();
    let rows = sum.chunks_exact(width).flat_map(|row| {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / width as f64;
        let inverse = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        row.iter()
            .zip(scale.iter().zip(shift))
            .map(move |(value, (scale, shift))| (value - mean) * inverse * scale + shift)
    });
    rows.collect()
}

/// Random rows that are never nearly constant, in which rounding would drown the result.
fn spread(rows: usize, width: usize, seed: u64) -> Vec<f32> {
    let random = values(rows * width, seed);
    random
        .into_iter()
        .enumerate()
        .map(|(at, value)| value + if (at % width).is_multiple_of(2) { 2.5 } else { -2.5 })
        .collect()
}

struct Case {
    rows: usize,
    width: usize,
    residual: bool,
    mask: Option<Mask>,
    first_row: usize,
}

impl Case {
    /// Values and all gradients against Candle's in `f64`; and that all ways to the same numbers are the same bits.
    fn check(&self) {
        let Self { rows, width, mask, first_row, .. } = *self;
        let shape = [rows, width];
        let (x, residual) = (values(rows * width, 1), spread(rows, width, 2));
        let x = if self.residual { x } else { residual.clone() };
        let (scale, shift) = (values(width, 3), values(width, 4));
        let norm = Norm { scale: &scale, shift: &shift, epsilon: EPSILON };
        let summands = Summands { x: &x, residual: self.residual.then_some(&residual[..]), mask, first_row };

        let (mut out, mut plain) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
        let saved = norm.forward_saving(summands, &mut out);
        norm.forward(summands, &mut plain);
        assert_eq!(out, plain, "forward");
        assert_eq!(out, norm.again(&saved)[..], "again");

        let direction = values(rows * width, 5);
        let mut sum_grad = direction.clone();
        let (scale_grad, shift_grad) = norm.backward(&saved, &mut sum_grad);

        let kept = factors(mask, first_row, rows, width);
        let x_grad: Vec<f32> = sum_grad.iter().zip(&kept).map(|(grad, factor)| grad * factor).collect();
        let factors = matrix(&kept, &shape);
        let arguments =
            [matrix(&x, &shape), matrix(&residual, &shape), matrix(&scale, &[width]), matrix(&shift, &[width])];
        let reference = |a: &[Tensor]| -> Result<Tensor> {
            let dropped = (&a[0] * factors.to_dtype(a[0].dtype())?)?;
            let sum = if self.residual { (dropped + &a[1])? } else { dropped };
            composed::norm(&sum, &a[2], &a[3], f64::from(EPSILON))
        };
        let (expected, gradients) = by_candle(&arguments, &direction, reference);
        assert_near("result", &out, &expected, 2e-6);
        assert_near("scale", &scale_grad, &gradients[2], 1e-5);
        assert_near("shift", &shift_grad, &gradients[3], 1e-5);
        if self.residual {
            assert_near("residual", &sum_grad, &gradients[1], 1e-5);
        }
        assert_near("x", &x_grad, &gradients[0], 1e-5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn norm_of_any_shape(
        rows in 1usize..100, width in 1usize..70, residual: bool, dropped: bool, first_row in 0usize..500,
    ) {
        let mask = Mask::new(if dropped { 0.3 } else { 0.0 }, 11).unwrap();
        Case { rows, width, residual, mask, first_row }.check();
    }
}

#[test]
fn norm_of_no_rows() {
    let (scale, shift) = (values(7, 1), values(7, 2));
    let norm = Norm { scale: &scale, shift: &shift, epsilon: EPSILON };
    for residual in [None, Some(&[][..])] {
        let summands = Summands { x: &[], residual, mask: None, first_row: 0 };
        norm.forward(summands, &mut []);
        let saved = norm.forward_saving(summands, &mut []);
        assert!(norm.again(&saved).is_empty());
        assert_eq!(norm.backward(&saved, &mut []), (vec![0.0; 7], vec![0.0; 7]));
    }
}

#[test]
fn gradients_are_those_of_central_differences() {
    for (rows, width) in [(1, 1), (2, 2), (5, 3), (3, 17), (2, 33)] {
        let (x, scale, shift) = (spread(rows, width, 1), values(width, 2), values(width, 3));
        let norm = Norm { scale: &scale, shift: &shift, epsilon: EPSILON };
        let mut out = vec![f32::NAN; x.len()];
        let saved = norm.forward_saving(Summands { x: &x, residual: None, mask: None, first_row: 0 }, &mut out);
        let (wide_x, wide_scale, wide_shift) = (wide(&x), wide(&scale), wide(&shift));
        assert_near("result", &out, &normalized(&wide_x, &wide_scale, &wide_shift), 2e-6);

        let direction = values(x.len(), 4);
        let mut x_grad = direction.clone();
        let (scale_grad, shift_grad) = norm.backward(&saved, &mut x_grad);
        let what = format!("{rows} x {width}");
        assert_gradient(&what, &x_grad, &x, &direction, 1e-5, |x| normalized(x, &wide_scale, &wide_shift));
        assert_gradient(&what, &scale_grad, &scale, &direction, 1e-5, |scale| normalized(&wide_x, scale, &wide_shift));
        assert_gradient(&what, &shift_grad, &shift, &direction, 1e-5, |shift| normalized(&wide_x, &wide_scale, shift));
    }
}

#[test]
fn constant_rows_are_the_shift() {
    let (scale, shift) = (values(33, 1), values(33, 2));
    let norm = Norm { scale: &scale, shift: &shift, epsilon: EPSILON };
    let mut out = vec![f32::NAN; 66];
    norm.forward(Summands { x: &[0.5; 66], residual: Some(&[-2.0; 66]), mask: None, first_row: 0 }, &mut out);
    assert_eq!(out, [&shift[..], &shift].concat());
}

#[test]
fn layer_norm_in_the_graph() {
    for (rows, width) in [(70, 19), (1, 32), (33, 64), (4, 2)] {
        let x = matrix(&spread(rows, width, 5), &[rows, width]);
        check(
            &[x, random(&[width], 6), random(&[width], 7)],
            |a| layer_norm(&a[0], &a[1], &a[2], f64::from(EPSILON)),
            |a| composed::norm(&a[0], &a[1], &a[2], f64::from(EPSILON)),
        );
    }
    let (x, scale, shift) = (random(&[40, 8], 1), random(&[8], 2), random(&[8], 3));
    let plain = layer_norm(&x, &scale, &shift, 1e-5).unwrap();
    let tracked = layer_norm(&Var::from_tensor(&x).unwrap(), &scale, &shift, 1e-5).unwrap();
    assert_eq!(numbers(&plain), numbers(&tracked));
    assert_eq!(layer_norm(&random(&[0, 8], 1), &scale, &shift, 1e-5).unwrap().dims(), [0, 8]);
    assert!(layer_norm(&x, &random(&[9], 2), &shift, 1e-5).is_err());
    assert!(layer_norm(&x, &scale, &random(&[1, 8], 2), 1e-5).is_err());
    assert!(layer_norm(&random(&[3, 0], 1), &random(&[0], 2), &random(&[0], 3), 1e-5).is_err());
}
