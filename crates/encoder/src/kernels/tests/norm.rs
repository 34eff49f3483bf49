//! Layer norm and RMS norm: their fused forms against loops and against Candle in `f64`.

use candle_core::{D, Result, Tensor, Var};
use proptest::prelude::*;

use super::{
    assert_gradient, assert_near, by_candle, by_threads, check, factors, matrix, numbers, random, values, wide,
};
use crate::bert::composed;
use crate::kernels::dropout::Mask;
use crate::kernels::norm::{Norm, NormKind, Summands, layer_norm, rms_norm};

const EPSILON: f32 = 1e-5;

/// `(sum - mean) / √(variance + ε) · scale + shift` of rows; for an RMS norm as if the mean were 0.
fn normalized(kind: NormKind, sum: &[f64], scale: &[f64], shift: &[f64]) -> Vec<f64> {
    let width = scale.len();
    let rows = sum.chunks_exact(width).flat_map(|row| {
        let mean = if kind == NormKind::Layer { row.iter().sum::<f64>() / width as f64 } else { 0.0 };
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

/// The norm of Candle's own operations; without a shift if that is empty.
fn by_tensors(kind: NormKind, x: &Tensor, scale: &Tensor, shift: Option<&Tensor>) -> Result<Tensor> {
    let zeros = scale.zeros_like()?;
    match kind {
        NormKind::Layer => composed::norm(x, scale, shift.unwrap_or(&zeros), f64::from(EPSILON)),
        NormKind::Rms => {
            let square = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(EPSILON))?;
            let out = x.broadcast_div(&square.sqrt()?)?.broadcast_mul(scale)?;
            out.broadcast_add(shift.unwrap_or(&zeros))
        }
    }
}

struct Case {
    kind: NormKind,
    shifted: bool,
    rows: usize,
    width: usize,
    residual: bool,
    mask: Option<Mask>,
    first_row: usize,
}

impl Case {
    /// Values and all gradients against Candle's in `f64`; and that all ways to the same numbers are the same bits.
    fn check(&self) {
        let Self { kind, rows, width, mask, first_row, .. } = *self;
        let shape = [rows, width];
        let (x, residual) = (values(rows * width, 1), spread(rows, width, 2));
        let x = if self.residual { x } else { residual.clone() };
        let (scale, shift) = (values(width, 3), values(width, 4));
        let norm = Norm { scale: &scale, shift: self.shifted.then_some(&shift[..]), kind, epsilon: EPSILON };
        let summands = Summands { x: &x, residual: self.residual.then_some(&residual[..]), mask, first_row };

        let (mut out, mut plain) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
        let saved = norm.forward_saving(summands, &mut out);
        norm.forward(summands, &mut plain);
        assert_eq!(out, plain, "forward");
        assert_eq!(out, norm.again(&saved)[..], "again");
        let sum = self.check_sum(&norm, summands, &out);

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
            by_tensors(kind, &sum, &a[2], self.shifted.then_some(&a[3]))
        };
        let (expected, gradients) = by_candle(&arguments, &direction, reference);
        let residuals = residual.iter().map(|&value| if self.residual { f64::from(value) } else { 0.0 });
        let summed: Vec<f64> = x
            .iter()
            .zip(&kept)
            .zip(residuals)
            .map(|((&x, &factor), residual)| f64::from(x * factor) + residual)
            .collect();
        assert_near("sum", &sum, &summed, 1e-6);
        assert_near("result", &out, &expected, 2e-6);
        assert_near("scale", &scale_grad, &gradients[2], 1e-5);
        assert_near("shift", &shift_grad, &gradients[3], 1e-5);
        if self.residual {
            assert_near("residual", &sum_grad, &gradients[1], 1e-5);
        }
        assert_near("x", &x_grad, &gradients[0], 1e-5);
    }

    /// The sum that `forward_sum` writes; its norm is `expected`, bit for bit, and so is what it keeps.
    fn check_sum(&self, norm: &Norm<'_>, summands: Summands<'_>, expected: &[f32]) -> Vec<f32> {
        let size = self.rows * self.width;
        let [mut sum, mut out, mut kept_sum, mut kept_out] = std::array::from_fn(|_| vec![f32::NAN; size]);
        assert!(norm.forward_sum(summands, &mut sum, &mut out, false).is_none());
        let saved = norm.forward_sum(summands, &mut kept_sum, &mut kept_out, true).expect("kept");
        assert_eq!((&out[..], &kept_out[..], &norm.again(&saved)[..]), (expected, expected, expected), "sum");
        let (mut grad, mut other) = (values(size, 5), values(size, 5));
        let gradients = norm.backward(&saved, &mut grad);
        let again = norm.forward_saving(summands, &mut out);
        assert_eq!((gradients, &grad), (norm.backward(&again, &mut other), &other), "gradients with the sum");
        assert_eq!(sum, kept_sum);
        sum
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn norm_of_any_shape(
        rows in 1usize..100, width in 1usize..70, switches: [bool; 4], first_row in 0usize..500,
    ) {
        let [rms, shifted, residual, dropped] = switches;
        let kind = if rms { NormKind::Rms } else { NormKind::Layer };
        let mask = Mask::new(if dropped { 0.3 } else { 0.0 }, 11).unwrap();
        Case { kind, shifted, rows, width, residual, mask, first_row }.check();
    }
}

#[test]
fn norm_of_no_rows() {
    let (scale, shift) = (values(7, 1), values(7, 2));
    for kind in [NormKind::Layer, NormKind::Rms] {
        let norm = Norm { scale: &scale, shift: Some(&shift), kind, epsilon: EPSILON };
        for residual in [None, Some(&[][..])] {
            let summands = Summands { x: &[], residual, mask: None, first_row: 0 };
            norm.forward(summands, &mut []);
            let saved = norm.forward_saving(summands, &mut []);
            assert!(norm.again(&saved).is_empty());
            assert_eq!(norm.backward(&saved, &mut []), (vec![0.0; 7], vec![0.0; 7]));
            assert!(norm.forward_sum(summands, &mut [], &mut [], true).is_some());
            let unshifted = Norm { shift: None, ..norm };
            assert_eq!(unshifted.backward(&saved, &mut []), (vec![0.0; 7], vec![]));
        }
    }
}

#[test]
fn gradients_are_those_of_central_differences() {
    let shapes = [(1, 1), (2, 2), (5, 3), (3, 17), (2, 33)];
    for (kind, (rows, width)) in
        [NormKind::Layer, NormKind::Rms].into_iter().flat_map(|kind| shapes.map(|at| (kind, at)))
    {
        let (x, scale, shift) = (spread(rows, width, 1), values(width, 2), values(width, 3));
        let norm = Norm { scale: &scale, shift: Some(&shift), kind, epsilon: EPSILON };
        let mut out = vec![f32::NAN; x.len()];
        let saved = norm.forward_saving(Summands { x: &x, residual: None, mask: None, first_row: 0 }, &mut out);
        let (wide_x, wide_scale, wide_shift) = (wide(&x), wide(&scale), wide(&shift));
        assert_near("result", &out, &normalized(kind, &wide_x, &wide_scale, &wide_shift), 2e-6);

        let direction = values(x.len(), 4);
        let mut x_grad = direction.clone();
        let (scale_grad, shift_grad) = norm.backward(&saved, &mut x_grad);
        let what = format!("{kind:?} {rows} x {width}");
        assert_gradient(&what, &x_grad, &x, &direction, 1e-5, |x| normalized(kind, x, &wide_scale, &wide_shift));
        assert_gradient(&what, &scale_grad, &scale, &direction, 1e-5, |scale| {
            normalized(kind, &wide_x, scale, &wide_shift)
        });
        assert_gradient(&what, &shift_grad, &shift, &direction, 1e-5, |shift| {
            normalized(kind, &wide_x, &wide_scale, shift)
        });
    }
}

#[test]
fn constant_rows_are_the_shift() {
    let (scale, shift) = (values(33, 1), values(33, 2));
    let norm = Norm { scale: &scale, shift: Some(&shift), kind: NormKind::Layer, epsilon: EPSILON };
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
            |a| layer_norm(&a[0], &a[1], Some(&a[2]), f64::from(EPSILON)),
            |a| composed::norm(&a[0], &a[1], &a[2], f64::from(EPSILON)),
        );
        let x = matrix(&spread(rows, width, 5), &[rows, width]);
        check(
            &[x.clone(), random(&[width], 6)],
            |a| layer_norm(&a[0], &a[1], None, f64::from(EPSILON)),
            |a| by_tensors(NormKind::Layer, &a[0], &a[1], None),
        );
        check(
            &[x, random(&[width], 6)],
            |a| rms_norm(&a[0], &a[1], f64::from(EPSILON)),
            |a| by_tensors(NormKind::Rms, &a[0], &a[1], None),
        );
    }
    let (x, scale, shift) = (random(&[40, 8], 1), random(&[8], 2), random(&[8], 3));
    let plain = layer_norm(&x, &scale, Some(&shift), 1e-5).unwrap();
    let tracked = layer_norm(&Var::from_tensor(&x).unwrap(), &scale, Some(&shift), 1e-5).unwrap();
    assert_eq!(numbers(&plain), numbers(&tracked));
    assert_eq!(layer_norm(&random(&[0, 8], 1), &scale, Some(&shift), 1e-5).unwrap().dims(), [0, 8]);
    assert!(layer_norm(&x, &random(&[9], 2), Some(&shift), 1e-5).is_err());
    assert!(layer_norm(&x, &scale, Some(&random(&[1, 8], 2)), 1e-5).is_err());
    assert!(layer_norm(&random(&[3, 0], 1), &random(&[0], 2), Some(&random(&[0], 3)), 1e-5).is_err());
    assert!(rms_norm(&x, &random(&[9], 2), 1e-5).is_err());
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let (rows, width) = (200, 24);
    for kind in [NormKind::Layer, NormKind::Rms] {
        let (x, scale, shift) = (values(rows * width, 1), values(width, 2), values(width, 3));
        let norm = Norm { scale: &scale, shift: Some(&shift), kind, epsilon: EPSILON };
        by_threads(|| {
            let [mut sum, mut out] = std::array::from_fn(|_| vec![f32::NAN; x.len()]);
            let summands = Summands { x: &x, residual: Some(&x), mask: None, first_row: 0 };
            let saved = norm.forward_sum(summands, &mut sum, &mut out, true).expect("kept");
            let mut grad = values(x.len(), 4);
            let (scale_grad, shift_grad) = norm.backward(&saved, &mut grad);
            [sum, out, grad, scale_grad, shift_grad]
        });
    }
}
