//! Exponentials and sums against their definitions.

use proptest::prelude::*;

use super::{assert_near, values, wide};
use crate::kernels::linear::column_sums;
use crate::kernels::simd;

#[test]
fn exp_is_precise_and_lets_nan_through() {
    for i in -8700..=8800 {
        let x = i as f32 / 100.0;
        let (found, expected) = (f64::from(simd::exp(x)), f64::from(x).exp());
        assert!((found / expected - 1.0).abs() < 3e-7, "{x}: {found}, expected {expected}");
    }
    assert!(simd::exp(f32::NAN).is_nan());
    assert!(simd::exp(-1e9) < 2e-38 && simd::exp(f32::NEG_INFINITY) < 2e-38);
    assert!(simd::exp(1e9).is_finite());
}

#[test]
fn exp_is_the_same_bits_with_and_without_vector_instructions() {
    let x: Vec<f32> = (-900..=900).map(|i| i as f32 / 10.0).collect();
    let mut vector = x.clone();
    simd::vectorized(
        #[inline(always)]
        || vector.iter_mut().for_each(|value| *value = simd::exp(*value)),
    );
    let plain: Vec<f32> = x.iter().map(|&value| simd::exp(value)).collect();
    assert_eq!(vector, plain);
}

proptest! {
    #[test]
    fn sums_equal_their_definition(values in prop::collection::vec(-10f32..10.0, 0..200)) {
        let exact = |f: &dyn Fn(f64) -> f64| values.iter().map(|&value| f(f64::from(value))).sum::<f64>();
        prop_assert!((f64::from(simd::sum(&values)) - exact(&|x| x)).abs() < 1e-3);
        prop_assert!((f64::from(simd::dot(&values, &values)) - exact(&|x| x * x)).abs() < 1e-1);
        prop_assert_eq!(simd::max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut doubled = values.clone();
        simd::add(&mut doubled, &values);
        prop_assert!(doubled.iter().zip(&values).all(|(doubled, value)| *doubled == 2.0 * value));
    }

    #[test]
    fn column_sums_equal_their_definition(rows in 0usize..100, width in 1usize..70) {
        let whole: Vec<f32> = (0..rows * width).map(|i| (i % 17) as f32).collect();
        let sums = column_sums(&whole, width);
        prop_assert_eq!(sums.len(), width);
        for (column, sum) in sums.iter().enumerate() {
            prop_assert_eq!(*sum, whole.iter().skip(column).step_by(width).sum::<f32>());
        }

        let numbers = values(rows * width, 1);
        let mut expected = vec![0f64; width];
        for row in wide(&numbers).chunks_exact(width) {
            expected.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        assert_near("column sums", &column_sums(&numbers, width), &expected, 1e-5);
    }
}

#[test]
fn columns_of_nothing_have_no_sums() {
    assert!(column_sums(&[], 0).is_empty());
    assert_eq!(column_sums(&[], 3), [0.0; 3]);
}
