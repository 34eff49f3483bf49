//! Dropout: its rate, its independence, its gradient.

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use super::{check, factors, matrix, numbers, random, values};
use crate::kernels::dropout::{Mask, dropout, masked};

#[test]
fn dropout_keeps_the_rate_and_the_mean() {
    let x = Tensor::ones((512, 384), DType::F32, &Device::Cpu).unwrap();
    for p in [0.1, 0.5, 0.9] {
        let out = numbers(&dropout(&x, p, 5).unwrap());
        let count = out.len() as f64;
        let dropped = out.iter().filter(|&&value| value == 0.0).count() as f64 / count;
        let mean = out.iter().sum::<f64>() / count;
        // Five standard deviations of a binomial share.
        let spread = 5.0 * (p * (1.0 - p) / count).sqrt();
        assert!((dropped - p).abs() < spread, "p {p}: {dropped} dropped");
        assert!((mean - 1.0).abs() < spread / (1.0 - p), "p {p}: mean {mean}");
        // Neighbours along rows and columns are independent.
        for step in [1, 384] {
            let both = out.windows(step + 1).filter(|w| w[0] == 0.0 && w[step] == 0.0).count() as f64 / count;
            assert!((both - p * p).abs() < 2.0 * spread, "p {p}, step {step}: {both}");
        }
    }
    assert_eq!(numbers(&dropout(&x, 0.0, 5).unwrap()), numbers(&x));
    assert!(dropout(&x, 1.0, 5).is_err() && dropout(&x, -0.1, 5).is_err() && dropout(&x, f64::NAN, 5).is_err());
}

#[test]
fn masks_of_neighbouring_seeds_are_independent() {
    // Places of one network have seeds that differ in their last bits.
    let count = 256 * 384;
    let kept = |seed| factors(Mask::new(0.5, seed).unwrap(), 0, 256, 384);
    let first = kept(1024);
    for seed in 1025..1030 {
        let both = first.iter().zip(&kept(seed)).filter(|(a, b)| **a == 0.0 && **b == 0.0).count() as f64;
        let spread = 5.0 * (0.25 * 0.75 / count as f64).sqrt();
        assert!((both / count as f64 - 0.25).abs() < spread, "seed {seed}: {both} of {count}");
    }
}

#[test]
fn dropout_has_the_gradient_of_its_mask() {
    let factors = matrix(&factors(Mask::new(0.4, 3).unwrap(), 0, 40, 7), &[40, 7]);
    check(&[random(&[40, 7], 1)], |a| dropout(&a[0], 0.4, 3), |a| &a[0] * factors.to_dtype(a[0].dtype())?);
}

#[test]
fn dropout_takes_any_shape() {
    for shape in [&[][..], &[0], &[5], &[0, 4], &[4, 0], &[2, 3, 5]] {
        assert_eq!(dropout(&random(shape, 1), 0.5, 3).unwrap().dims(), shape);
    }
}

proptest! {
    #[test]
    fn masked_is_the_product_with_the_factors(
        rows in 0usize..100, width in 1usize..70, first_row in 0usize..1000, p in 0.01f64..0.99, seed: u64,
    ) {
        let mask = Mask::new(p, seed).unwrap().unwrap();
        let x = values(rows * width, 1);
        let mut out = vec![f32::NAN; x.len()];
        masked(&x, &mut out, width, mask, first_row);
        let factors = factors(Some(mask), first_row, rows, width);
        let expected: Vec<f32> = x.iter().zip(&factors).map(|(x, factor)| x * factor).collect();
        prop_assert_eq!(&out, &expected);
        let kept = (1.0 / (1.0 - p)) as f32;
        prop_assert!(factors.iter().all(|&factor| factor == 0.0 || factor == kept));

        // A row's factors do not depend on where the batch begins.
        if rows > 3 {
            let mut rest = vec![f32::NAN; (rows - 3) * width];
            masked(&x[3 * width..], &mut rest, width, mask, first_row + 3);
            prop_assert_eq!(&rest, &expected[3 * width..]);
        }
        // What applies a mask in place is the same.
        for (row, (values, expected)) in x.chunks_exact(width).zip(expected.chunks_exact(width)).enumerate() {
            let mut values = values.to_vec();
            mask.row((first_row + row) as u64).apply(&mut values);
            prop_assert_eq!(&values[..], expected);
        }
    }
}

#[test]
fn a_mask_of_no_columns_is_no_work() {
    masked(&[], &mut [], 0, Mask::new(0.5, 1).unwrap().unwrap(), 0);
}
