//! The linear layer of networks on top of an encoder.

use candle_core::{DType, Result, Tensor, Var};
use proptest::prelude::*;

use super::{check, random};
use crate::kernels::activation::Activation;
use crate::kernels::linear::linear;
use crate::network::composed;

const ACTIVATIONS: [Option<Activation>; 4] =
    [None, Some(Activation::Gelu), Some(Activation::GeluTanh), Some(Activation::Relu)];

fn reference(a: &[Tensor], activation: Option<Activation>) -> Result<Tensor> {
    let z = a[0].matmul(&a[1].t()?)?.broadcast_add(&a[2])?;
    activation.map_or(Ok(z.clone()), |activation| composed::activate(&z, activation))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn linear_with_every_activation(rows in 1usize..80, inputs in 1usize..70, outputs in 1usize..70, which in 0usize..4) {
        let activation = ACTIVATIONS[which];
        check(
            &[random(&[rows, inputs], 1), random(&[outputs, inputs], 2), random(&[outputs], 3)],
            |a| linear(&a[0], &a[1], &a[2], activation),
            |a| reference(a, activation),
        );
    }
}

#[test]
fn linear_of_many_panels() {
    for activation in ACTIVATIONS {
        check(
            &[random(&[131, 70], 1), random(&[203, 70], 2), random(&[203], 3)],
            |a| linear(&a[0], &a[1], &a[2], activation),
            |a| reference(a, activation),
        );
    }
}

#[test]
fn linear_of_no_rows_has_gradients_of_zero() {
    for activation in ACTIVATIONS {
        let vars = [&[0, 3][..], &[5, 3], &[5]].map(|shape| Var::from_tensor(&random(shape, 1)).unwrap());
        let out = linear(&vars[0], &vars[1], &vars[2], activation).unwrap();
        assert_eq!(out.dims(), [0, 5]);
        let gradients = out.sum_all().unwrap().backward().unwrap();
        for var in &vars {
            let gradient = gradients.get(var).unwrap();
            assert_eq!(gradient.dims(), var.dims());
            assert!(super::numbers(gradient).iter().all(|&value| value == 0.0));
        }
    }
}

#[test]
fn linear_refuses_what_does_not_fit() {
    let (x, w, b) = (random(&[4, 3], 1), random(&[5, 3], 2), random(&[5], 3));
    assert!(linear(&x, &random(&[5, 4], 2), &b, None).is_err());
    assert!(linear(&x, &w, &random(&[4], 3), None).is_err());
    assert!(linear(&random(&[3], 1), &w, &b, None).is_err());
    assert!(linear(&random(&[4, 0], 1), &random(&[5, 0], 2), &b, None).is_err());
    assert!(linear(&x.to_dtype(DType::F64).unwrap(), &w, &b, None).is_err());
}

#[test]
fn linear_reads_transposed_arguments() {
    check(
        &[random(&[9, 33], 1), random(&[9, 13], 2), random(&[13], 3)],
        |a| linear(&a[0].t()?, &a[1].t()?, &a[2], None),
        |a| reference(&[a[0].t()?.contiguous()?, a[1].t()?.contiguous()?, a[2].clone()], None),
    );
}
