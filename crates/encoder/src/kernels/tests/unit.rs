//! Rows of unit length.

use candle_core::{D, DType, Device, Tensor, Var};
use proptest::prelude::*;

use super::{by_threads, check, numbers, random};
use crate::kernels::unit::unit_rows;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn rows_of_unit_length(rows in 1usize..80, width in 1usize..70) {
        check(
            &[random(&[rows, width], 1)],
            |a| unit_rows(&a[0]),
            |a| a[0].broadcast_div(&a[0].sqr()?.sum_keepdim(D::Minus1)?.sqrt()?),
        );
    }
}

#[test]
fn a_row_of_zeros_stays_one_and_has_no_gradient() {
    let x = Var::from_vec(vec![0f32, 0.0, 0.6, 0.8], (2, 2), &Device::Cpu).unwrap();
    let out = unit_rows(&x).unwrap();
    assert_eq!(out.to_vec2::<f32>().unwrap()[0], [0.0, 0.0]);
    let gradients = (&out * Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap()).unwrap();
    let gradients = gradients.sum_all().unwrap().backward().unwrap();
    assert_eq!(numbers(gradients.get(&x).unwrap())[..2], [0.0, 0.0]);
}

#[test]
fn other_types_and_empty_matrices_have_unit_rows_too() {
    let x = random(&[5, 7], 1);
    let wide = unit_rows(&x.to_dtype(DType::F64).unwrap()).unwrap();
    super::assert_close("f64", &unit_rows(&x).unwrap(), &wide, 1e-6);
    for shape in [(0, 3), (3, 0)] {
        let empty = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(unit_rows(&empty).unwrap().dims2().unwrap(), shape);
    }
    assert!(unit_rows(&random(&[3], 1)).is_err());
}

#[test]
fn unit_rows_do_not_depend_on_threads() {
    by_threads(|| {
        let x = Var::from_tensor(&random(&[131, 20], 3)).unwrap();
        let out = unit_rows(&x).unwrap();
        let gradients = (&out * random(&[131, 20], 4)).unwrap().sum_all().unwrap().backward().unwrap();
        [&out, gradients.get(&x).unwrap()].map(|found| found.flatten_all().unwrap().to_vec1().unwrap())
    });
}
