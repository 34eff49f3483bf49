//! Products of the composed network, in the arithmetic of training.

use candle_core::{DType, Result, Tensor};

use crate::kernels::gemm::Arithmetic;

/// `a · b` for matrices or batches of them. In [`Arithmetic::Bf16`] both sides are rounded to `bf16` and multiplied there, which GPUs
/// do several times faster, with sums inside of the product in `f32`; the result, and every gradient, comes back in `f32`, so that
/// weights, norms, softmax and losses stay in `f32` (mixed precision, Micikevicius et al. 2018; `bf16` has the range of `f32`, so that
/// losses need no scaling). Other types than `f32` are multiplied as they are.
pub(crate) fn product(a: &Tensor, b: &Tensor, arithmetic: Arithmetic) -> Result<Tensor> {
    if arithmetic != Arithmetic::Bf16 || a.dtype() != DType::F32 {
        return a.matmul(b);
    }
    a.to_dtype(DType::BF16)?.matmul(&b.to_dtype(DType::BF16)?)?.to_dtype(DType::F32)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn matrix(rows: usize, columns: usize, phase: f32) -> Var {
        let values: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 1.3 + phase).sin()).collect();
        Var::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn numbers(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn near(found: &Tensor, expected: &Tensor, share: f32) {
        let (found, expected) = (numbers(found), numbers(expected));
        let largest = expected.iter().fold(0f32, |a, b| a.max(b.abs()));
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= share * largest, "{a} and {b}");
        }
    }

    #[test]
    fn both_sides_are_rounded_and_the_rest_is_f32() {
        let (a, b) = (matrix(5, 40, 0.1), matrix(40, 7, 0.8));
        let round = |t: &Tensor| t.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
        let found = product(&a, &b, Arithmetic::Bf16).unwrap();
        assert_eq!(found.dtype(), DType::F32);
        // The result is rounded too: half a unit in the last of 8 digits.
        near(&found, &round(&a).matmul(&round(&b)).unwrap(), 1.0 / 256.0);
        assert_ne!(numbers(&found), numbers(&a.matmul(&b).unwrap()));
        assert_eq!(numbers(&product(&a, &b, Arithmetic::F32).unwrap()), numbers(&a.matmul(&b).unwrap()));
        let wide = a.to_dtype(DType::F64).unwrap();
        assert_eq!(product(&wide, &b.to_dtype(DType::F64).unwrap(), Arithmetic::Bf16).unwrap().dtype(), DType::F64);
    }

    #[test]
    fn gradients_come_back_in_f32() {
        let (a, b) = (matrix(6, 30, 0.3), matrix(30, 4, 0.5));
        let gradients = |arithmetic| {
            let store = product(&a, &b, arithmetic).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
            [&a, &b].map(|var| store.get(var).unwrap().clone())
        };
        for (found, expected) in gradients(Arithmetic::Bf16).iter().zip(gradients(Arithmetic::F32)) {
            assert_eq!(found.dtype(), DType::F32);
            near(found, &expected, 0.03);
        }
    }
}
